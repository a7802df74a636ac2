// Softmax cross-entropy, and softmax regression in one pass over its data.
//
// With m = max_c s_c, z = sum_c exp(s_c - m), p_c = exp(s_c - m) / z and label smoothing e,
//
//   loss  = mean_n [log z - (1 - e) (s_y - m) - e mean_c (s_c - m)]
//   dloss / ds_c = (p_c - (1 - e) [c = y] - e / C) / N.
//
// Few classes: the examples are the lanes of vectors, classes one after the other. Many: the
// classes of an example are. The logarithms of several z are taken as that of their product.
//
// Regression, s = x W^T: a block of examples is brought into the second-level cache once, used for
// its scores, and used again for its share of dW = ds^T x. Both products run over vectors of
// features, so that nothing has to be summed across lanes but the scores, once for all features.
// Where examples are the columns of X a block is transposed on the way, in registers. A block is
// taken panel by panel (ranges of features), so that the panel of W stays in the first-level cache.
//
// Both products prefetch what comes next, since reading and computing take about equally long and
// would otherwise take turns. Of columns, a block is many pieces of a few cache lines, which
// memory delivers at about half the rate of a contiguous array.
//
// Sums run over groups of examples that depend on the shape alone; blocks do not change the order
// of a sum.
#pragma once

#include <unistd.h>

#include "pointwise.hpp"
#include "runtime.hpp"
#include "vec.hpp"

namespace {

enum LossScratch { kLossLanes = 8, kLossPartial, kLossWeights, kLossBlock, kLossSums };

// ---- exp ------------------------------------------------------------------------------------

// exp(x) = 2^n exp(r), n = round(x / log 2), |r| <= log(2) / 2, log 2 in two parts, of which the
// first is short enough for its product with n to be exact; exp(r) = 1 + r + r^2 q(r), q
// interpolated at Chebyshev nodes (relative error 1e-8 and 2e-17).
template <class T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  typedef int32_t Int;
  static constexpr int mantissa = 23, bias = 127, terms = 5;
  static constexpr float low = -104, high = 89;  // exp is 0 below and inf above
  static constexpr float shift = 12582912;       // 1.5 2^23: adding it rounds to an integer
  static constexpr float log2_high = 0.693359375f, log2_low = -2.12194440e-4f;
  static constexpr float q[terms] = {0.5f, 0.16666576845993976311f, 0.041666554437685938899f,
                                     0.0083632029715758549465f, 0.0013926213466332443037f};
};
template <>
struct ExpConstants<double> {
  typedef int64_t Int;
  static constexpr int mantissa = 52, bias = 1023, terms = 10;
  static constexpr double low = -746, high = 710;
  static constexpr double shift = 6755399441055744;
  static constexpr double log2_high = 6.93145751953125e-1, log2_low = 1.42860682030941723212e-6;
  static constexpr double q[terms] = {
      0.5,
      0.16666666666666667456,
      0.041666666666623991516,
      0.0083333333333300513464,
      0.0013888888917281793308,
      0.00019841269863105968748,
      0.000024801521190217727651,
      2.7557268378684192873e-6,
      2.7620138719733995569e-7,
      2.5100424157005066788e-8};
};

// Within about an ulp, subnormal results included; NaN stays NaN.
template <class T>
CR_INLINE Vec<T> exponential(Vec<T> x) {
  typedef ExpConstants<T> K;
  typedef typename K::Int Int;
  typedef Int Ints __attribute__((vector_size(CR_VECTOR_BYTES)));
  const Vec<T> low = broadcast(K::low), high = broadcast(K::high), shift = broadcast(K::shift);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Vec<T> shifted = x * static_cast<T>(1.4426950408889634074) + shift;
  const Vec<T> whole = shifted - shift;
  const Vec<T> r = (x - whole * K::log2_high) - whole * K::log2_low;
  Vec<T> q = broadcast(K::q[K::terms - 1]);
  CR_UNROLL for (int i = K::terms - 2; i >= 0; --i) q = q * r + K::q[i];
  const Vec<T> value = (q * (r * r) + r) + T(1);
  // 2^n in two factors: a subnormal result is rounded once, by the second
  const Ints n = (Ints)shifted - (Ints)shift;
  const Ints half = n >> 1, rest = n - half;
  const Vec<T> first = (Vec<T>)((half + Int(K::bias)) << K::mantissa);
  const Vec<T> second = (Vec<T>)((rest + Int(K::bias)) << K::mantissa);
  return value * first * second;
}

template <class T>
CR_INLINE Vec<T> larger_or_nan(Vec<T> a, Vec<T> b) {
  return (b > a) | (b != b) ? b : a;
}

template <class T, class F>
CR_INLINE T fold(Vec<T> v, F&& f) {  // halves onto halves
  constexpr int L = lanes<T>;
  if constexpr (L >= 16) v = f(v, shuffle<Apart<8, true>, T>(v, v));
  if constexpr (L >= 8) v = f(v, shuffle<Apart<4, true>, T>(v, v));
  if constexpr (L >= 4) v = f(v, shuffle<Apart<2, true>, T>(v, v));
  return f(v, shuffle<Apart<1, true>, T>(v, v))[0];
}
template <class T>
CR_INLINE T fold_sum(Vec<T> v) {
  return fold<T>(v, [](Vec<T> a, Vec<T> b) CR_LAMBDA { return a + b; });
}

// ---- cross-entropy --------------------------------------------------------------------------

struct LossSum {  // sum of log z - linear, over examples
  double linear = 0, logs = 0, product = 1;
  CR_INLINE void add(double z, double part) {
    linear += part;
    product *= z;
    if (!(product < 1e200)) {  // z is at least 1; also NaN
      logs += __builtin_log(product);
      product = 1;
    }
  }
  double value() const { return logs + __builtin_log(product) - linear; }
};

template <class T>
struct Targets {
  const int64_t* y;
  double smoothing;
  int64_t classes, examples;
  T share() const { return static_cast<T>(1.0 / static_cast<double>(examples)); }
  T taken() const { return static_cast<T>((1.0 - smoothing) / static_cast<double>(examples)); }
  T spread() const {
    return static_cast<T>(smoothing / static_cast<double>(classes * examples));
  }
  double linear(double picked, double sum) const {
    const double part = (1.0 - smoothing) * picked;
    return smoothing > 0 ? part + smoothing * sum / static_cast<double>(classes) : part;
  }
};

// Scores s[c stride + lane] of examples n to n + count, count <= L, become their gradient.
template <class T>
void softmax_lanes(const Targets<T>& t, int64_t n, int64_t count, T* s, int64_t stride,
                   LossSum& loss) {
  Vec<T> most = load(s);
  for (int64_t c = 1; c < t.classes; ++c) most = larger_or_nan<T>(most, load(s + c * stride));
  T picked[lanes<T>] = {};
  for (int64_t i = 0; i < count; ++i) picked[i] = s[t.y[n + i] * stride + i];
  Vec<T> z = {}, sum = {};
  for (int64_t c = 0; c < t.classes; ++c) {
    const Vec<T> below = load(s + c * stride) - most, e = exponential<T>(below);
    store(s + c * stride, e);
    sum += below;
    z += e;
  }
  const Vec<T> scale = broadcast(t.share()) / z, spread = broadcast(t.spread());
  for (int64_t c = 0; c < t.classes; ++c) {
    const Vec<T> p = load(s + c * stride) * scale;
    store(s + c * stride, t.smoothing > 0 ? p - spread : p);
  }
  for (int64_t i = 0; i < count; ++i) {
    s[t.y[n + i] * stride + i] -= t.taken();
    loss.add(z[i], t.linear(static_cast<double>(picked[i] - most[i]), sum[i]));
  }
}

// Scores of example n to their gradient.
template <class T>
void softmax_row(const Targets<T>& t, int64_t n, const T* s, T* ds, LossSum& loss) {
  constexpr int64_t L = lanes<T>;
  const T least_of_all = -static_cast<T>(__builtin_inf());
  Vec<T> lanes_most = broadcast(least_of_all);
  map_chunk<T>(0, t.classes, [&](int64_t i, int64_t size) CR_LAMBDA {
    lanes_most = larger_or_nan<T>(lanes_most, load_part(s + i, size, least_of_all));
  });
  const T top = fold<T>(
      lanes_most, [](Vec<T> a, Vec<T> b) CR_LAMBDA { return larger_or_nan<T>(a, b); });
  const T picked = s[t.y[n]] - top;
  const Vec<T> most = broadcast(top);
  Vec<T> z = {}, sum = {};
  map_chunk<T>(0, t.classes, [&](int64_t i, int64_t size) CR_LAMBDA {
    Vec<T> below = load_part(s + i, size, least_of_all) - most;
    const Vec<T> e = exponential<T>(below);
    store_part(ds + i, e, size);
    z += e;
    for (int64_t l = size; l < L; ++l) below[l] = T(0);
    sum += below;
  });
  const T total = fold_sum<T>(z);
  const Vec<T> scale = broadcast(t.share() / total), spread = broadcast(t.spread());
  map_chunk<T>(0, t.classes, [&](int64_t i, int64_t size) CR_LAMBDA {
    const Vec<T> p = load_part(ds + i, size) * scale;
    store_part(ds + i, t.smoothing > 0 ? p - spread : p, size);
  });
  ds[t.y[n]] -= t.taken();
  loss.add(total, t.linear(picked, fold_sum<T>(sum)));
}

template <class T>
void softmax_rows(const Targets<T>& t, const T* scores, T* dscores, int64_t first, int64_t last,
                  LossSum& loss) {
  constexpr int64_t L = lanes<T>;
  const int64_t classes = t.classes;
  if (classes >= 2 * L) {
    for (int64_t n = first; n < last; ++n)
      softmax_row(t, n, scores + n * classes, dscores + n * classes, loss);
    return;
  }
  T* columns = scratch_of<T>(kLossLanes, classes * L);
  for (int64_t n = first; n < last; n += L) {
    const int64_t count = least(L, last - n);
    const T* from = scores + n * classes;
    T* to = dscores + n * classes;
    for (int64_t i = 0; i < L; ++i)
      for (int64_t c = 0; c < classes; ++c)
        columns[c * L + i] = i < count ? from[i * classes + c] : T(0);
    softmax_lanes(t, n, count, columns, L, loss);
    for (int64_t i = 0; i < count; ++i)
      for (int64_t c = 0; c < classes; ++c) to[i * classes + c] = columns[c * L + i];
  }
}

// Returns the mean loss, 0 for no examples. scores (n, classes) is read; dscores (n, classes), of
// the caller and apart, becomes the gradient by the scores; y (n,): labels from 0 to classes - 1,
// checked by the caller; classes >= 1; smoothing from 0 to 1.
template <class T>
double cross_entropy(int64_t n, int64_t classes, const T* scores, const int64_t* y,
                     double smoothing, T* dscores, int threads) {
  if (n == 0) return 0;
  const Targets<T> t{y, smoothing, classes, n};
  const int64_t rows = round_up(kChunk / classes + 1, lanes<T>);
  double* partial = scratch_of<double>(kLossPartial, (n + rows - 1) / rows);
  auto chunk = [&](int64_t first, int64_t last) {
    LossSum loss;
    softmax_rows(t, scores, dscores, first, last, loss);
    partial[first / rows] = loss.value();
  };
  parallel_chunks(n, rows, threads, chunk);
  double total = 0;
  for (int64_t i = 0; i < (n + rows - 1) / rows; ++i) total += partial[i];
  return total / static_cast<double>(n);
}

// ---- regression: register tiles -------------------------------------------------------------

#if CR_VECTOR_BYTES == 64
constexpr int kLossClasses = 13;  // of a tile of two rows, or of two vectors of features
#else
constexpr int kLossClasses = 6;
#endif
constexpr int64_t kLossGroups = 16;      // of examples
constexpr int64_t kPanelBytes = 2048;    // of an example in a panel
constexpr int64_t kLossMostRows = 256;   // examples in a block

// Lines of memory to prefetch: `lines` in a row, then on to the next of rows `step` bytes apart.
// Addresses may lie outside of the array; they are only prefetched.
struct Ahead {
  uintptr_t row;
  int64_t lines, step, line = 0;
  CR_INLINE void fetch() {
    const uintptr_t at = row + 64 * static_cast<uintptr_t>(line);
    __builtin_prefetch(reinterpret_cast<const void*>(at), 0, 2);
    if (++line == lines) line = 0, row += static_cast<uintptr_t>(step);
  }
};

// sums[r][k][lane] += x[r] * w[k] over a panel, r < R, k < K
template <class T, int R, int K>
void score_tile(const T* x, int64_t stride, int64_t width, const T* w, int64_t w_stride, T* sums,
                int64_t sums_stride, Ahead& ahead) {
  constexpr int L = lanes<T>;
  Ahead next = ahead;
  Vec<T> sum[R][K];
  CR_UNROLL for (int r = 0; r < R; ++r)
    CR_UNROLL for (int k = 0; k < K; ++k) sum[r][k] = load(sums + r * sums_stride + k * L);
  for (int64_t i = 0; i < width; i += L) {
    next.fetch();
    next.fetch();
    Vec<T> value[R];
    CR_UNROLL for (int r = 0; r < R; ++r) value[r] = load(x + r * stride + i);
    CR_UNROLL for (int k = 0; k < K; ++k) {
      const Vec<T> weight = load(w + k * w_stride + i);
      CR_UNROLL for (int r = 0; r < R; ++r) sum[r][k] += value[r] * weight;
    }
  }
  CR_UNROLL for (int r = 0; r < R; ++r)
    CR_UNROLL for (int k = 0; k < K; ++k) store(sums + r * sums_stride + k * L, sum[r][k]);
  ahead = next;
}

// dw[k] += ds[j][k] x[j] over the examples of a block, for V vectors of features
template <class T, int V, int K>
void gradient_tile(const T* x, int64_t stride, int64_t rows, const T* ds, int64_t classes, T* dw,
                   int64_t w_stride, Ahead& ahead) {
  constexpr int L = lanes<T>;
  Ahead next = ahead;
  Vec<T> sum[V][K];
  CR_UNROLL for (int k = 0; k < K; ++k)
    CR_UNROLL for (int v = 0; v < V; ++v) sum[v][k] = load(dw + k * w_stride + v * L);
  for (int64_t j = 0; j < rows; ++j, x += stride, ds += classes) {
    next.fetch();
    Vec<T> value[V];
    CR_UNROLL for (int v = 0; v < V; ++v) value[v] = load(x + v * L);
    CR_UNROLL for (int k = 0; k < K; ++k) {
      const Vec<T> d = broadcast(ds[k]);
      CR_UNROLL for (int v = 0; v < V; ++v) sum[v][k] += d * value[v];
    }
  }
  CR_UNROLL for (int k = 0; k < K; ++k)
    CR_UNROLL for (int v = 0; v < V; ++v) store(dw + k * w_stride + v * L, sum[v][k]);
  ahead = next;
}

// f(first, Count<K>) for tiles of K classes, which are at most kLossClasses.
template <int K>
struct Count {
  static constexpr int value = K;
};
template <int K, class F>
CR_INLINE void with_count(int64_t count, F&& f) {
  if constexpr (K > 0) {
    if (count == K)
      f(Count<K>());
    else
      with_count<K - 1>(count, f);
  }
}
template <class F>
CR_INLINE void each_class_tile(int64_t classes, F&& f) {
  const int64_t tiles = (classes + kLossClasses - 1) / kLossClasses;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t first = classes * i / tiles, count = classes * (i + 1) / tiles - first;
    with_count<kLossClasses>(count, [&](auto k) CR_LAMBDA { f(first, k); });
  }
}

// out[j stride + i] = a[i][j], L x L
template <class T>
CR_INLINE void transpose_square(Vec<T> (&a)[lanes<T>], T* out, int64_t stride) {
  constexpr int L = lanes<T>;
  Vec<T> b[L];
  CR_UNROLL for (int stage = 1; stage < L; stage *= 2) {  // a perfect shuffle each
    CR_UNROLL for (int i = 0; i < L / 2; ++i) {
      b[2 * i] = shuffle<Together<T, 1, false>, T>(a[i], a[i + L / 2]);
      b[2 * i + 1] = shuffle<Together<T, 1, true>, T>(a[i], a[i + L / 2]);
    }
    CR_UNROLL for (int i = 0; i < L; ++i) a[i] = b[i];
  }
  CR_UNROLL for (int j = 0; j < L; ++j) store(out + j * stride, a[j]);
}

// ---- regression: blocks ---------------------------------------------------------------------

template <class T>
struct Regression {
  static constexpr int64_t L = lanes<T>, kPanel = kPanelBytes / sizeof(T);
  int64_t n, d, classes;
  bool columns;   // X is (d, n), else (n, d)
  const T *x, *w; // w (classes, width), padded with zeros
  const int64_t* y;
  int64_t width;  // round_up(d, L)
  int64_t rows;   // examples in a block
  int64_t groups;
  T* partial;     // (groups, classes, width)
  double* losses;

  struct Block {
    int64_t first, count, padded;  // examples; padded: round_up(count, L)
    T* copy;                       // of panels, each (rows, kPanel)
    T* sums;                       // (count, classes, L): lanes of scores
    T* scores;                     // (classes, padded), and their gradient
    T* ds;                         // (count, classes): the gradient again
  };
  struct Panel {
    const T* x;
    int64_t stride;                // between examples
    int64_t feature, width;        // the first of them and how many, with zeros behind d
  };

  int64_t panels() const { return (width + kPanel - 1) / kPanel; }
  // Of columns all panels are copied; of rows the last, if it ends within a vector.
  Panel panel(const Block& b, int64_t p) const {
    const int64_t feature = p * kPanel, size = least(kPanel, width - feature);
    if (!columns && feature + size <= d) return {x + b.first * d + feature, d, feature, size};
    return {b.copy + p * rows * kPanel, kPanel, feature, size};
  }

  void copy_columns(const Block& b, const Panel& panel, T* to) const {
    for (int64_t i = 0; i < panel.width; i += L)
      for (int64_t j = 0; j < b.count; j += L) {
        const int64_t feature = panel.feature + i;
        const T* from = x + feature * n + b.first + j;
        Vec<T> square[L];
        if (feature + L <= d && b.first + j + L <= n) {
          CR_UNROLL for (int r = 0; r < L; ++r) square[r] = load(from + r * n);
        } else {
          for (int64_t r = 0; r < L; ++r)
            square[r] = feature + r < d ? load_part(from + r * n, b.count - j) : Vec<T>{};
        }
        transpose_square<T>(square, to + j * kPanel + i, kPanel);
      }
  }
  void copy_rows(const Block& b, const Panel& panel, T* to) const {
    const int64_t real = d - panel.feature;
    for (int64_t j = 0; j < b.count; ++j) {
      T* row = to + j * kPanel;
      const T* from = x + (b.first + j) * d + panel.feature;
      std::memcpy(row, from, static_cast<size_t>(real) * sizeof(T));
      for (int64_t i = real; i < panel.width; ++i) row[i] = T(0);
    }
  }

  // What to prefetch. While a panel is used for scores: the next panel, of the same block or the
  // first of the next block. While it is used for the gradient, about half as much fits: the
  // second half of it, or of all of it where an example is a row, in the next block.
  Ahead ahead_columns(const Block& b, int64_t first, int64_t feature) const {
    const int64_t size = sizeof(T);
    return {reinterpret_cast<uintptr_t>(x) + static_cast<uintptr_t>((feature * n + first) * size),
            (b.count * size + 63) / 64, n * size};
  }
  Ahead ahead_rows(int64_t first, int64_t feature) const {
    const int64_t size = sizeof(T);
    return {reinterpret_cast<uintptr_t>(x) + static_cast<uintptr_t>((first * d + feature) * size),
            kPanelBytes / 64, d * size};
  }

  void scores(const Block& b) const {
    const int64_t row = classes * L;
    std::memset(b.sums, 0, static_cast<size_t>(b.count * row) * sizeof(T));
    for (int64_t p = 0; p < panels(); ++p) {
      const Panel from = panel(b, p);
      T* copy = b.copy + p * rows * kPanel;
      if (columns)
        copy_columns(b, from, copy);
      else if (from.x == copy)
        copy_rows(b, from, copy);
      const bool last = p + 1 == panels();
      const int64_t next_first = last ? b.first + b.count : b.first;
      const int64_t next_feature = last ? 0 : from.feature + kPanel;
      Ahead ahead = ahead_columns(b, next_first, next_feature);
      for (int64_t j = 0; j < b.count; j += 2) {
        if (!columns) ahead = ahead_rows(next_first + j, next_feature);
        each_class_tile(classes, [&](int64_t k, auto tile) CR_LAMBDA {
          constexpr int K = decltype(tile)::value;
          const T *value = from.x + j * from.stride, *weight = w + k * width + from.feature;
          T* to = b.sums + j * row + k * L;
          Ahead here{reinterpret_cast<uintptr_t>(weight), 1, 0};  // nothing new
          Ahead& next = k == 0 ? ahead : here;
          if (j + 1 < b.count)
            score_tile<T, 2, K>(value, from.stride, from.width, weight, width, to, row, next);
          else
            score_tile<T, 1, K>(value, from.stride, from.width, weight, width, to, row, next);
        });
      }
    }
    for (int64_t c = 0; c < classes; ++c)
      for (int64_t j = 0; j < b.padded; ++j)
        b.scores[c * b.padded + j] =
            j < b.count ? fold_sum<T>(load(b.sums + j * row + c * L)) : T(0);
  }

  void gradient(const Block& b, T* dw) const {
    const int64_t behind = b.first + b.count;
    Ahead ahead = ahead_rows(behind + b.count / 2, 0);
    ahead.lines = int64_t(1) << 40;  // whole examples, which lie one after the other
    for (int64_t p = 0; p < panels(); ++p) {
      const Panel from = panel(b, p);
      if (columns) ahead = ahead_columns(b, behind, from.feature + kPanel / 2);
      for (int64_t i = 0; i < from.width; i += 2 * L)
        each_class_tile(classes, [&](int64_t k, auto tile) CR_LAMBDA {
          constexpr int K = decltype(tile)::value;
          const T *value = from.x + i, *ds = b.ds + k;
          T* to = dw + k * width + from.feature + i;
          Ahead here{reinterpret_cast<uintptr_t>(to), 1, 0};
          Ahead& next = k == 0 ? ahead : here;
          if (i + L < from.width)
            gradient_tile<T, 2, K>(value, from.stride, b.count, ds, classes, to, width, next);
          else
            gradient_tile<T, 1, K>(value, from.stride, b.count, ds, classes, to, width, next);
        });
    }
  }

  void block(int64_t first, int64_t count, T* dw, LossSum& loss) const {
    Block b{first, count, round_up(count, L), nullptr, nullptr, nullptr, nullptr};
    b.copy = scratch_of<T>(kLossBlock, panels() * rows * kPanel);
    b.sums = scratch_of<T>(kLossLanes, (2 + L) * classes * b.padded);
    b.scores = b.sums + classes * L * b.padded;
    b.ds = b.scores + classes * b.padded;
    scores(b);
    const Targets<T> targets{y, 0, classes, n};
    for (int64_t j = 0; j < count; j += L)
      softmax_lanes(targets, first + j, least(L, count - j), b.scores + j, b.padded, loss);
    for (int64_t j = 0; j < count; ++j)
      for (int64_t c = 0; c < classes; ++c) b.ds[j * classes + c] = b.scores[c * b.padded + j];
    gradient(b, dw);
  }

  void operator()(int64_t group) const {
    T* dw = partial + group * classes * width;
    std::memset(dw, 0, static_cast<size_t>(classes * width) * sizeof(T));
    LossSum loss;
    const int64_t last = n * (group + 1) / groups;
    for (int64_t first = n * group / groups, count; first < last; first += count) {
      count = rows;
      if (columns) {  // blocks that begin where cache lines do
        const int64_t line = 64 / int64_t(sizeof(T));
        count -= int64_t(reinterpret_cast<uintptr_t>(x + first) / sizeof(T)) % line;
      }
      count = least(count, last - first);
      block(first, count, dw, loss);
    }
    losses[group] = loss.value();
  }
};

// Examples in a block: a quarter of the second-level cache of them, if it is known.
template <class T>
int64_t regression_rows(int64_t width, int64_t classes) {
#ifdef _SC_LEVEL2_CACHE_SIZE
  const long found = sysconf(_SC_LEVEL2_CACHE_SIZE);
#else
  const long found = 0;
#endif
  const int64_t cache = found >= 65536 ? found : 1 << 20;
  const int64_t row = static_cast<int64_t>(sizeof(T)) * (width + classes * lanes<T>);
  const int64_t line = 64 / static_cast<int64_t>(sizeof(T));  // at least the lanes of a vector
  return greatest(line, least(kLossMostRows, cache / 4 / row / line * line));
}

// Mean softmax cross-entropy of the scores x w^T, 0 for no examples, and its gradient by w.
//   x (n, d), or with `columns` (d, n): an example a row or a column; read once
//   w (classes, d); y (n,): labels from 0 to classes - 1, checked by the caller
//   dw (classes, d), overwritten, of the caller and apart
template <class T>
double softmax_regression(int64_t n, int64_t d, int64_t classes, const T* x, bool columns,
                          const T* w, const int64_t* y, T* dw, int threads) {
  if (n == 0 || d == 0) {
    for (int64_t i = 0; i < classes * d; ++i) dw[i] = T(0);
    return n == 0 ? 0 : __builtin_log(static_cast<double>(classes));
  }
  Regression<T> work{n, d, classes, columns, x, nullptr, y, round_up(d, lanes<T>), 0, 0,
                     nullptr, nullptr};
  const int64_t size = classes * work.width;
  work.rows = regression_rows<T>(work.width, classes);
  // few groups for few examples, since each costs a gradient
  work.groups = greatest<int64_t>(1, least(kLossGroups, n / 64));
  T* padded = scratch_of<T>(kLossWeights, size);
  for (int64_t c = 0; c < classes; ++c)
    for (int64_t i = 0; i < work.width; ++i)
      padded[c * work.width + i] = i < d ? w[c * d + i] : T(0);
  work.w = padded;
  work.losses = scratch_of<double>(kLossSums, work.groups);
  work.partial = scratch_of<T>(kLossPartial, work.groups * size);
  parallel(work.groups, threads, work);
  auto add = [&](int64_t c) {
    for (int64_t i = 0; i < d; i += lanes<T>) {
      Vec<T> sum = {};
      for (int64_t g = 0; g < work.groups; ++g)
        sum += load(work.partial + g * size + c * work.width + i);
      store_part(dw + c * d + i, sum, d - i);
    }
  };
  parallel(classes, threads, add);
  double loss = 0;
  for (int64_t g = 0; g < work.groups; ++g) loss += work.losses[g];
  return loss / static_cast<double>(n);
}

}  // namespace
