// Softmax regression: the scores s = x W^T, their loss, and its gradient dW = ds^T x.
//
// Both products have few columns, the classes, so what they cost is reading x; x is used as it
// lies, and each product is one of two register tiles, whichever has its vectors along the axis
// that is contiguous, or along the classes:
//
//                      scores                          gradient
//   x (n, d), rows     across: classes in lanes        along: features in lanes
//   x (d, n), columns  along: examples in lanes        across: classes in lanes
//
// Rows go block by block, and a block stays in the second-level cache from its scores to its
// gradient, so that x comes from memory once. A block of columns would be thousands of pieces of
// a few cache lines, each on a page of its own; memory and address translation deliver those so
// slowly that reading the rows of x twice from end to end is quicker. That is done unless all
// features of a stretch of columns that is long enough fit the cache.
//
// Sums run over groups of examples that depend on the shape alone; blocks do not change the order
// of a sum.
#pragma once

#include <unistd.h>

#include "loss.hpp"
#include "runtime.hpp"
#include "vec.hpp"

namespace {

// ---- register tiles -------------------------------------------------------------------------

#if CR_VECTOR_BYTES == 64
constexpr int kLossClasses = 13;  // of a tile with two vectors along x
constexpr int kLossAcross = 12;   // examples or features of a tile with two vectors of classes
#else
constexpr int kLossClasses = 6;
constexpr int kLossAcross = 6;
#endif
constexpr int64_t kLossGroups = 16;            // of examples
constexpr int64_t kLossPanel = 16;             // rows of columns that are read side by side
constexpr int64_t kLossAhead = 512;            // bytes to prefetch ahead in each of them
constexpr int64_t kLossScoreBytes = 1 << 20;   // of scores and their gradient

// out[c apart + l] += sum over i < count of x[i stride + l] m[i m_stride + c], c < K, l < V L.
// `left`: lanes of x that there are, if V is 1. What lies `ahead` elements further is prefetched,
// for rows of x that are read from end to end.
template <class T, int V, int K>
void along_tile(const T* x, int64_t stride, int64_t count, int64_t left, const T* m,
                int64_t m_stride, T* out, int64_t apart, int64_t ahead) {
  constexpr int L = lanes<T>;
  Vec<T> sum[K][V];
  CR_UNROLL for (int k = 0; k < K; ++k)
    CR_UNROLL for (int v = 0; v < V; ++v) sum[k][v] = load(out + k * apart + v * L);
  for (int64_t i = 0; i < count; ++i, x += stride, m += m_stride) {
    Vec<T> value[V];
    CR_UNROLL for (int v = 0; v < V; ++v) {
      __builtin_prefetch(x + ahead + v * L, 0, 2);
      value[v] = V == 1 ? load_part(x, left) : load(x + v * L);
    }
    CR_UNROLL for (int k = 0; k < K; ++k) {
      const Vec<T> w = broadcast(m[k]);
      CR_UNROLL for (int v = 0; v < V; ++v) sum[k][v] += value[v] * w;
    }
  }
  CR_UNROLL for (int k = 0; k < K; ++k)
    CR_UNROLL for (int v = 0; v < V; ++v) store(out + k * apart + v * L, sum[k][v]);
}

// out[k apart + c] += sum over i < count of x[k stride + i] m[i apart + c], k < K, c < V L.
template <class T, int V, int K>
void across_tile(const T* x, int64_t stride, int64_t count, const T* m, T* out, int64_t apart) {
  constexpr int L = lanes<T>;
  Vec<T> sum[K][V];
  const T* from[K];
  CR_UNROLL for (int k = 0; k < K; ++k) {
    from[k] = x + k * stride;
    CR_UNROLL for (int v = 0; v < V; ++v) sum[k][v] = load(out + k * apart + v * L);
  }
  for (int64_t i = 0; i < count; ++i, m += apart) {
    Vec<T> value[V];
    CR_UNROLL for (int v = 0; v < V; ++v) value[v] = load(m + v * L);
    CR_UNROLL for (int k = 0; k < K; ++k) {
      const Vec<T> s = broadcast(from[k][i]);
      CR_UNROLL for (int v = 0; v < V; ++v) sum[k][v] += s * value[v];
    }
  }
  CR_UNROLL for (int k = 0; k < K; ++k)
    CR_UNROLL for (int v = 0; v < V; ++v) store(out + k * apart + v * L, sum[k][v]);
}

// A product over lanes along x, `width` of them: out (classes, apart), m (count, m_stride).
template <class T>
void along(const T* x, int64_t stride, int64_t count, int64_t width, const T* m, int64_t m_stride,
           int64_t classes, T* out, int64_t apart, int64_t ahead) {
  constexpr int64_t L = lanes<T>;
  const int64_t tiles = (classes + kLossClasses - 1) / kLossClasses;
  for (int64_t l = 0; l < width;) {
    const bool two = l + 2 * L <= width;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t c = classes * i / tiles;
      with_count<kLossClasses>(classes * (i + 1) / tiles - c, [&](auto k) CR_LAMBDA {
        constexpr int K = decltype(k)::value;
        if (two)
          along_tile<T, 2, K>(x + l, stride, count, 2 * L, m + c, m_stride, out + c * apart + l,
                              apart, ahead);
        else
          along_tile<T, 1, K>(x + l, stride, count, width - l, m + c, m_stride,
                              out + c * apart + l, apart, ahead);
      });
    }
    l += two ? 2 * L : L;
  }
}

// A product over lanes of classes: out (rows, padded), m (count, padded).
template <class T>
void across(const T* x, int64_t stride, int64_t rows, int64_t count, const T* m, T* out,
            int64_t padded) {
  constexpr int64_t L = lanes<T>;
  for (int64_t r = 0; r < rows; r += kLossAcross)
    with_count<kLossAcross>(least<int64_t>(kLossAcross, rows - r), [&](auto k) CR_LAMBDA {
      constexpr int K = decltype(k)::value;
      for (int64_t c = 0; c < padded;) {
        const T* from = x + r * stride;
        T* to = out + r * padded + c;
        const bool two = c + 2 * L <= padded;
        if (two)
          across_tile<T, 2, K>(from, stride, count, m + c, to, padded);
        else
          across_tile<T, 1, K>(from, stride, count, m + c, to, padded);
        c += two ? 2 * L : L;
      }
    });
}

// ---- blocks of examples ---------------------------------------------------------------------

template <class T>
struct Regression {
  static constexpr int64_t L = lanes<T>;
  int64_t n, d, classes;
  bool columns;     // X is (d, n), else (n, d)
  const T *x, *w;   // w (d, padded): turned, with zeros behind the classes
  const int64_t* y;
  int64_t padded;   // round_up(classes, L)
  int64_t width;    // round_up(d, L)
  int64_t most;     // examples in a block
  int64_t groups;
  T* partial;       // of each group: columns (d, padded), rows (classes, width)
  double* losses;

  int64_t size() const { return columns ? d * padded : classes * width; }

  // s (classes, apart) becomes ds (count, padded).
  void softmax(int64_t first, int64_t count, T* s, int64_t apart, T* ds, LossSum& loss) const {
    const Targets<T> targets{y, 0, classes, n};
    for (int64_t j = 0; j < count; j += L)
      softmax_lanes(targets, first + j, least(L, count - j), s + j, apart, loss);
    for (int64_t j = 0; j < count; ++j)
      for (int64_t c = 0; c < padded; ++c)
        ds[j * padded + c] = c < classes ? s[c * apart + j] : T(0);
  }

  void column_block(int64_t first, int64_t count, T* s, int64_t apart, T* ds, T* dw,
                    LossSum& loss) const {
    std::memset(s, 0, static_cast<size_t>(classes * apart) * sizeof(T));
    for (int64_t i = 0; i < d; i += kLossPanel)
      along(x + i * n + first, n, least(kLossPanel, d - i), count, w + i * padded, padded,
            classes, s, apart, kLossAhead / int64_t(sizeof(T)));
    softmax(first, count, s, apart, ds, loss);
    across(x + first, n, d, count, ds, dw, padded);
  }

  void row_block(int64_t first, int64_t count, T* s, int64_t apart, T* ds, T* dw,
                 LossSum& loss) const {
    std::memset(ds, 0, static_cast<size_t>(count * padded) * sizeof(T));
    across(x + first * d, d, count, d, w, ds, padded);
    for (int64_t j = 0; j < count; ++j)
      for (int64_t c = 0; c < classes; ++c) s[c * apart + j] = ds[j * padded + c];
    softmax(first, count, s, apart, ds, loss);
    along(x + first * d, d, count, d, ds, padded, classes, dw, width, 0);
  }

  void operator()(int64_t group) const {
    T* dw = partial + group * size();
    std::memset(dw, 0, static_cast<size_t>(size()) * sizeof(T));
    // whole vectors, and not a power of two apart
    const int64_t apart = round_up(most, L) + 64 / int64_t(sizeof(T));
    T* s = scratch_of<T>(kLossLanes, classes * apart + padded * most);
    T* ds = s + classes * apart;
    LossSum loss;
    const int64_t last = n * (group + 1) / groups;
    for (int64_t first = n * group / groups, count; first < last; first += count) {
      count = least(most, last - first);
      if (columns)
        column_block(first, count, s, apart, ds, dw, loss);
      else
        row_block(first, count, s, apart, ds, dw, loss);
    }
    losses[group] = loss.value();
  }
};

// Examples in a block.
template <class T>
int64_t regression_block(const Regression<T>& r) {
#ifdef _SC_LEVEL2_CACHE_SIZE
  const long found = sysconf(_SC_LEVEL2_CACHE_SIZE);
#else
  const long found = 0;
#endif
  const int64_t size = sizeof(T), cache = found >= 65536 ? found : 1 << 20;
  const int64_t fit = cache / 4 / (size * r.d);
  if (!r.columns) return round_up(greatest<int64_t>(fit, 1), kLossAcross);
  const int64_t line = 64 / size, whole = 4096 / size;
  if (fit >= whole) return fit / line * line;
  return greatest(line, kLossScoreBytes / (size * (r.classes + r.padded)) / line * line);
}

// Mean softmax cross-entropy of the scores x w^T, 0 for no examples, and its gradient by w.
//   x (n, d), or with `columns` (d, n): an example a row or a column
//   w (classes, d); y (n,): labels from 0 to classes - 1, checked by the caller
//   dw (classes, d), overwritten, of the caller and apart
template <class T>
double softmax_regression(int64_t n, int64_t d, int64_t classes, const T* x, bool columns,
                          const T* w, const int64_t* y, T* dw, int threads) {
  if (n == 0 || d == 0) {
    for (int64_t i = 0; i < classes * d; ++i) dw[i] = T(0);
    return n == 0 ? 0 : __builtin_log(static_cast<double>(classes));
  }
  constexpr int64_t L = lanes<T>;
  Regression<T> work{n, d, classes, columns, x, nullptr, y, round_up(classes, L),
                     round_up(d, L), 0, 0, nullptr, nullptr};
  work.most = least(regression_block(work), n);
  // few groups for few examples, since each costs a gradient
  work.groups = greatest<int64_t>(1, least(kLossGroups, n / 64));
  T* turned = scratch_of<T>(kLossWeights, d * work.padded);
  for (int64_t i = 0; i < d; ++i)
    for (int64_t c = 0; c < work.padded; ++c)
      turned[i * work.padded + c] = c < classes ? w[c * d + i] : T(0);
  work.w = turned;
  work.losses = scratch_of<double>(kLossSums, work.groups);
  work.partial = scratch_of<T>(kLossPartial, work.groups * work.size());
  parallel(work.groups, threads, work);
  auto add = [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += L) {
      Vec<T> sum = {};
      for (int64_t g = 0; g < work.groups; ++g) sum += load(work.partial + g * work.size() + i);
      store(work.partial + i, sum);
    }
  };
  parallel_chunks(work.size(), round_up(kChunk, L), threads, add);
  for (int64_t c = 0; c < classes; ++c)
    for (int64_t i = 0; i < d; ++i)
      dw[c * d + i] = work.partial[columns ? i * work.padded + c : c * work.width + i];
  double loss = 0;
  for (int64_t g = 0; g < work.groups; ++g) loss += work.losses[g];
  return loss / static_cast<double>(n);
}

}  // namespace
