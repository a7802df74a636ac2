// Element by element: ReLU; and what the other kernels share: sums in float64, loops in chunks.
#pragma once

#include "runtime.hpp"
#include "vec.hpp"

namespace {

using chainrule::parallel;
using chainrule::scratch_of;

// ---- sums in float64 ------------------------------------------------------------------------

CR_INLINE double across(Vec<double> v) {
  double sum = 0;
  for (int i = 0; i < lanes<double>; ++i) sum += v[i];
  return sum;
}

template <int first, class V, int... I>
CR_INLINE Vec<double> widen(V v, Indices<I...>) {
  return __builtin_convertvector(__builtin_shufflevector(v, v, (first + I)...), Vec<double>);
}

// The lanes of a Vec<T> as float64.
template <class T>
struct Wide;
template <>
struct Wide<double> {
  static constexpr int parts = 1;
  Vec<double> part[1];
  CR_INLINE explicit Wide(Vec<double> v) : part{v} {}
};
template <>
struct Wide<float> {
  static constexpr int parts = 2;
  Vec<double> part[2];
  CR_INLINE explicit Wide(Vec<float> v)
      : part{widen<0>(v, CountTo<lanes<double>>::type()),
             widen<lanes<double>>(v, CountTo<lanes<double>>::type())} {}
};

template <class T>
CR_INLINE Vec<T> square_root(Vec<T> v) {  // a loop over std::sqrt stays scalar, because of errno
#if CR_VECTOR_BYTES == 64 && defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)  // masked: GCC 12 warns of an uninitialised value in the plain form
    return (Vec<T>)_mm512_maskz_sqrt_ps(0xffff, (__m512)v);
  else
    return (Vec<T>)_mm512_maskz_sqrt_pd(0xff, (__m512d)v);
#elif CR_VECTOR_BYTES == 32 && defined(__AVX__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm256_sqrt_ps((__m256)v);
  else
    return (Vec<T>)_mm256_sqrt_pd((__m256d)v);
#elif CR_VECTOR_BYTES == 16 && defined(__SSE2__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm_sqrt_ps((__m128)v);
  else
    return (Vec<T>)_mm_sqrt_pd((__m128d)v);
#else
  for (int i = 0; i < lanes<T>; ++i)
    v[i] = sizeof(T) == 4 ? T(__builtin_sqrtf(float(v[i]))) : T(__builtin_sqrt(double(v[i])));
  return v;
#endif
}

// ---- chunks ---------------------------------------------------------------------------------

constexpr int64_t kChunk = 16384;  // elements a task takes: larger than what starting it costs

// body(first, last) over [0, count) in chunks that do not depend on the number of threads.
template <class F>
void parallel_chunks(int64_t count, int64_t chunk, int threads, F& body) {
  auto task = [&](int64_t i) { body(i * chunk, least((i + 1) * chunk, count)); };
  parallel((count + chunk - 1) / chunk, threads, task);
}

// f(vectors...) of the elements of arrays, which may be the same; a chunk's last vector is partial.
template <class T, class F>
CR_INLINE void map_chunk(int64_t first, int64_t last, F&& f) {
  int64_t i = first;
  for (; i + lanes<T> <= last; i += lanes<T>) f(i, static_cast<int64_t>(lanes<T>));
  if (i < last) f(i, last - i);
}

// ---- ReLU -----------------------------------------------------------------------------------

template <class T>
CR_INLINE Vec<T> positive_part(Vec<T> v) {  // NaN stays NaN
  return v < Vec<T>{} ? Vec<T>{} : v;
}

// y = max(x, 0). x, y: count elements, of the caller; y may be x.
template <class T>
void relu_forward(int64_t count, const T* x, T* y, int threads) {
  const bool past = x != y && past_caches(y, count);
  auto chunk = [=](int64_t first, int64_t last) {
    map_chunk<T>(first, last, [=](int64_t i, int64_t n) {
      store_part(y + i, positive_part<T>(load_part(x + i, n)), n, past);
    });
    arrived(past);
  };
  parallel_chunks(count, kChunk, threads, chunk);
}

// dx = dy where x > 0, else 0. x may as well be the output of relu_forward, which is positive at
// the same places. All: count elements, of the caller; dx may be dy.
template <class T>
void relu_backward(int64_t count, const T* x, const T* dy, T* dx, int threads) {
  const bool past = dx != dy && past_caches(dx, count);
  auto chunk = [=](int64_t first, int64_t last) {
    map_chunk<T>(first, last, [=](int64_t i, int64_t n) {
      const Vec<T> d = load_part(dy + i, n);
      store_part(dx + i, load_part(x + i, n) > Vec<T>{} ? d : Vec<T>{}, n, past);
    });
    arrived(past);
  };
  parallel_chunks(count, kChunk, threads, chunk);
}

}  // namespace
