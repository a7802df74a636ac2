// The linear layer: y = x W^T + b, and the gradients dx = dy W, dW = dy^T x and db.
//
// Rows of x and of W are both contiguous along what y sums over, so there vectors run along the
// sum, and nothing is turned: a tile keeps a vector of partial sums for each pair of rows. From one
// stretch of columns to the next they stay in scratch; at the end they are added up across their
// lanes, where bias and ReLU come in. Rows of W are copied side by side, since a parameter lies
// anywhere and vectors that straddle two lines of a cache take twice as long to load.
//
// Both gradients have whole rows of W or x on their right, which vectors go along. A panel of
// them, two vectors wide, is copied side by side. The left factor is broadcast from dy, which is
// copied first, ReLU's mask applied, so that what a tile of rows needs comes in the order in which
// it needs it.
//
// The order of each sum is given by the shapes alone.
#pragma once

#include "pointwise.hpp"
#include "runtime.hpp"
#include "vec.hpp"

namespace {

#if CR_VECTOR_BYTES == 64
constexpr int kDotRows = 4, kDotOutputs = 6;  // of a tile: rows of x and of W
constexpr int kOuterRows = 13;                // of a tile with two vectors of columns
#else
constexpr int kDotRows = 3, kDotOutputs = 4;
constexpr int kOuterRows = 6;
#endif
constexpr int64_t kDotBytes = 4096;    // of a row at a time: a tile's part of W fits L1
constexpr int64_t kDotExamples = 64;   // of a unit of work
constexpr int64_t kDotTiles = 4;       // most tiles of outputs of a unit of work
constexpr int64_t kOuterDepth = 128;   // of a sum at a time: a panel fits L1
constexpr int64_t kOuterPanels = 4;    // most panels of a unit of work
constexpr int kLinearSums = 0, kLinearLeft = 1, kLinearPanel = 2;  // slots of scratch

// `total` in about equal runs of at most `most`.
struct Runs {
  int64_t total, most;
  int64_t count() const { return (total + most - 1) / most; }
  int64_t first(int64_t i) const { return total * i / count(); }
};

// ---- forward ----------------------------------------------------------------------------------

// sums[r][c] (+)= the lanes of x[r] w[c] over `count` columns, R rows by C outputs. w is packed:
// a vector of each output in turn, zeros behind the last column.
template <class T, int R, int C>
void dot_tile(const T* x, int64_t apart, const T* __restrict w, int64_t count, bool add, T* sums,
              int64_t sums_apart) {
  constexpr int L = lanes<T>;
  Vec<T> sum[R][C] = {};
  if (add)
    CR_UNROLL for (int r = 0; r < R; ++r)
      CR_UNROLL for (int c = 0; c < C; ++c) sum[r][c] = load(sums + r * sums_apart + c * L);
  const auto step = [&](auto get) CR_LAMBDA {
    Vec<T> row[R];
    CR_UNROLL for (int r = 0; r < R; ++r) row[r] = get(x + r * apart);
    CR_UNROLL for (int c = 0; c < C; ++c) {
      const Vec<T> other = load(w + c * L);
      CR_UNROLL for (int r = 0; r < R; ++r) sum[r][c] += row[r] * other;
    }
  };
  for (; count >= L; count -= L, x += L, w += C * L)
    step([](const T* at) CR_LAMBDA { return load(at); });
  if (count > 0) step([=](const T* at) CR_LAMBDA { return load_part(at, count); });
  CR_UNROLL for (int r = 0; r < R; ++r)
    CR_UNROLL for (int c = 0; c < C; ++c) store(sums + r * sums_apart + c * L, sum[r][c]);
}

// Lane i: the sum of the lanes of a[i].
template <class T>
CR_INLINE Vec<T> add_across(Vec<T> (&a)[lanes<T>]) {
  CR_UNROLL for (int n = lanes<T> / 2; n > 0; n /= 2)
    CR_UNROLL for (int i = 0; i < n; ++i)
      a[i] = shuffle<Apart<1, false>, T>(a[2 * i], a[2 * i + 1]) +
             shuffle<Apart<1, true>, T>(a[2 * i], a[2 * i + 1]);
  return a[0];
}

template <class T>
struct LinearForward {
  static constexpr int64_t L = lanes<T>;
  int64_t n, d, f;
  const T *x, *w, *bias;
  bool relu;
  T* y;
  Runs examples, tiles, units;  // units of tiles

  void operator()(int64_t task) const {
    const int64_t block = task / units.count(), unit = task % units.count();
    const int64_t first = examples.first(block), rows = examples.first(block + 1) - first;
    const int64_t begin = units.first(unit), end = units.first(unit + 1);
    const int64_t from = tiles.first(begin), outputs = tiles.first(end) - from;
    const int64_t apart = outputs * L;
    T* sums = scratch_of<T>(kLinearSums, rows * apart);
    constexpr int64_t stretch = kDotBytes / int64_t(sizeof(T));
    T* packed = scratch_of<T>(kLinearPanel, stretch * kDotOutputs);
    const Runs groups{rows, kDotRows};
    int64_t k = 0;
    do {
      const int64_t count = least(stretch, d - k);
      for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t c = tiles.first(tile);
        with_count<kDotOutputs>(tiles.first(tile + 1) - c, [&](auto C) CR_LAMBDA {
          constexpr int some = decltype(C)::value;
          for (int64_t i = 0; i < count; i += L)
            CR_UNROLL for (int j = 0; j < some; ++j)
              store(packed + (i * some + j * L), load_part(w + (c + j) * d + k + i, count - i));
          for (int64_t g = 0; g < groups.count(); ++g) {
            const int64_t r = groups.first(g);
            with_count<kDotRows>(groups.first(g + 1) - r, [&](auto R) CR_LAMBDA {
              dot_tile<T, decltype(R)::value, some>(x + (first + r) * d + k, d, packed, count,
                                                    k > 0, sums + r * apart + (c - from) * L,
                                                    apart);
            });
          }
        });
      }
      k += stretch;
    } while (k < d);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < outputs; c += L) {
        const int64_t some = least(L, outputs - c);
        Vec<T> part[L] = {};
        for (int64_t i = 0; i < some; ++i) part[i] = load(sums + r * apart + (c + i) * L);
        Vec<T> value = add_across<T>(part);
        if (bias) value += load_part(bias + from + c, some);
        if (relu) value = positive_part<T>(value);
        store_part(y + (first + r) * f + from + c, value, some);
      }
  }
};

// y = x w^T + bias, with ReLU max(that, 0). x (n, d), w (f, d), bias (f,) or null; y (n, f), of
// the caller and apart.
template <class T>
void linear_forward(int64_t n, int64_t d, int64_t f, const T* x, const T* w, const T* bias,
                    bool relu, T* y, int threads) {
  if (n == 0 || f == 0) return;
  LinearForward<T> work{n, d, f, x, w, bias, relu, y, {n, kDotExamples}, {f, kDotOutputs}, {}};
  int64_t size = kDotTiles;  // fewer where there would not be enough units of work
  const int64_t blocks = work.examples.count(), tiles = work.tiles.count();
  while (size > 1 && blocks * ((tiles + size - 1) / size) < 8 * threads) --size;
  work.units = {tiles, size};
  parallel(blocks * work.units.count(), threads, work);
}

// ---- gradients --------------------------------------------------------------------------------

// out[r][v] (+)= the sum over i of left[i][r] right[i][v], for R rows and V vectors, of which
// there are `columns` lanes.
template <class T, int V, int R>
void outer_tile(const T* left, const T* __restrict right, int64_t count, bool add, T* out,
                int64_t apart, int64_t columns) {
  constexpr int L = lanes<T>;
  Vec<T> sum[R][V] = {};
  for (; count > 0; --count, left += R, right += V * L) {
    Vec<T> value[V];
    CR_UNROLL for (int v = 0; v < V; ++v) value[v] = load(right + v * L);
    CR_UNROLL for (int r = 0; r < R; ++r) {
      const Vec<T> factor = broadcast(left[r]);
      CR_UNROLL for (int v = 0; v < V; ++v) sum[r][v] += factor * value[v];
    }
  }
  CR_UNROLL for (int r = 0; r < R; ++r)
    CR_UNROLL for (int v = 0; v < V; ++v) {
      T* to = out + r * apart + v * L;
      const int64_t some = columns - v * L;
      store_part(to, add ? load_part(to, some) + sum[r][v] : sum[r][v], some);
    }
}

// out (rows, columns) = left^T right; left (depth, rows) packed, each tile of rows by itself, right
// (depth, columns).
template <class T>
struct OuterProduct {
  static constexpr int64_t L = lanes<T>, width = 2 * L;
  int64_t depth, columns;
  Runs tiles;  // of rows
  const T *left, *right;
  T* out;
  Runs units;  // of panels

  void operator()(int64_t unit) const {
    const int64_t first = units.first(unit), last = units.first(unit + 1);
    int64_t k = 0;
    do {
      const int64_t count = least(kOuterDepth, depth - k);
      for (int64_t p = first; p < last; ++p) {
        const int64_t some = least(width, columns - p * width);
        if (some > L)
          panel<2>(p * width, some, k, count);
        else
          panel<1>(p * width, some, k, count);
      }
      k += kOuterDepth;
    } while (k < depth);
  }

  template <int V>
  void panel(int64_t column, int64_t some, int64_t k, int64_t count) const {
    T* copy = scratch_of<T>(kLinearPanel, kOuterDepth * width);
    const T* from = right + k * columns + column;
    for (int64_t i = 0; i < count; ++i, from += columns)
      CR_UNROLL for (int v = 0; v < V; ++v)
        store(copy + (i * V + v) * L, load_part(from + v * L, some - v * L));
    for (int64_t t = 0; t < tiles.count(); ++t) {
      const int64_t r = tiles.first(t);
      with_count<kOuterRows>(tiles.first(t + 1) - r, [&](auto R) CR_LAMBDA {
        constexpr int rows = decltype(R)::value;
        outer_tile<T, V, rows>(left + r * depth + k * rows, copy, count, k > 0,
                               out + r * columns + column, columns, some);
      });
    }
  }
};

// Gradients of linear_forward by dy (n, f); y: its output with ReLU, else null. dx (n, d), null to
// skip it; dw (f, d); dbias (f,), null for none. All of the caller and apart.
template <class T>
void linear_backward(int64_t n, int64_t d, int64_t f, const T* x, const T* w, const T* dy,
                     const T* y, T* dx, T* dw, T* dbias, int threads) {
  constexpr int64_t L = lanes<T>;
  const int64_t panels = (d + 2 * L - 1) / (2 * L);
  const int64_t size = greatest<int64_t>(1, least(kOuterPanels, panels / (8 * threads)));
  T* by_output = scratch_of<T>(kLinearLeft, 2 * n * f);
  T* by_example = by_output + n * f;
  const OuterProduct<T> to_w{n, d, {f, kOuterRows}, by_output, x, dw, {panels, size}};
  const OuterProduct<T> to_x{f, d, {n, kOuterRows}, by_example, w, dx, {panels, size}};
  auto pack_outputs = [&](int64_t tile) {  // and sum them up
    const int64_t first = to_w.tiles.first(tile), some = to_w.tiles.first(tile + 1) - first;
    double sum[kOuterRows] = {};
    T* to = by_output + first * n;
    for (int64_t i = 0; i < n; ++i, to += some) {
      for (int64_t j = 0; j < some; j += L) {
        const int64_t at = i * f + first + j, count = some - j;
        Vec<T> v = load_part(dy + at, count);
        if (y) v = load_part(y + at, count) > Vec<T>{} ? v : Vec<T>{};
        store_part(to + j, v, count);
      }
      for (int64_t j = 0; j < some; ++j) sum[j] += static_cast<double>(to[j]);
    }
    if (dbias)
      for (int64_t j = 0; j < some; ++j) dbias[first + j] = static_cast<T>(sum[j]);
  };
  auto pack_examples = [&](int64_t tile) {
    const int64_t first = to_x.tiles.first(tile), some = to_x.tiles.first(tile + 1) - first;
    T* to = by_example + first * f;
    for (int64_t i = 0; i < some; ++i)
      for (int64_t j = 0; j < f; ++j) {
        const int64_t at = (first + i) * f + j;
        to[j * some + i] = y == nullptr || y[at] > T(0) ? dy[at] : T(0);
      }
  };
  const int64_t outputs = to_w.tiles.count(), examples = dx ? to_x.tiles.count() : 0;
  auto pack = [&](int64_t tile) {
    tile < outputs ? pack_outputs(tile) : pack_examples(tile - outputs);
  };
  parallel(outputs + examples, threads, pack);
  const int64_t units = to_w.units.count();
  auto multiply = [&](int64_t unit) { unit < units ? to_w(unit) : to_x(unit - units); };
  parallel(dx ? 2 * units : units, threads, multiply);
}

}  // namespace
