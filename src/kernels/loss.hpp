// Softmax cross-entropy.
//
// With m = max_c s_c, z = sum_c exp(s_c - m), p_c = exp(s_c - m) / z and label smoothing e,
//
//   loss  = mean_n [log z - (1 - e) (s_y - m) - e mean_c (s_c - m)]
//   dloss / ds_c = (p_c - (1 - e) [c = y] - e / C) / N.
//
// Few classes: the examples are the lanes of vectors, classes one after the other. Many: the
// classes of an example are. The logarithms of several z are taken as that of their product.
#pragma once

#include "pointwise.hpp"
#include "runtime.hpp"
#include "vec.hpp"

namespace {

enum LossScratch { kLossLanes = 8, kLossPartial, kLossWeights, kLossSums };

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

}  // namespace
