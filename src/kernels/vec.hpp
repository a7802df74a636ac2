// Vectors of the width this file is compiled for. Everything lives in an unnamed namespace: the
// same source is compiled once for each instruction set, and the linker must never merge code
// of two of them. For the same reason nothing from the standard library with external linkage
// (std::vector, std::min, ...) may be used in the files that include this one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef CR_VECTOR_BYTES
#define CR_VECTOR_BYTES 16
#endif

#define CR_INLINE inline __attribute__((always_inline))
#define CR_UNROLL _Pragma("GCC unroll 32")
#define CR_LAMBDA __attribute__((always_inline))  // behind the parameters of a lambda

namespace {

template <class T>
constexpr int lanes = CR_VECTOR_BYTES / sizeof(T);

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(CR_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};
template <class T>
using Vec = typename VectorOf<T>::type;

template <class T>
CR_INLINE Vec<T> load(const T* from) {
  return *reinterpret_cast<const Vec<T>*>(from);
}
template <class T>
CR_INLINE void store(T* to, Vec<T> value) {
  *reinterpret_cast<Vec<T>*>(to) = value;
}

// ---- past the caches --------------------------------------------------------------------------
// An ordinary store reads the line it writes to first, which for an array that fits no cache is
// traffic for nothing. Vectors stored past the caches do not; a task that does so ends with
// `arrived`, which orders them before whatever tells others that it is done.

constexpr int64_t kPastCaches = 12 << 20;  // bytes; at 8 MB what reads the array next gets slower

// Whether to store an array of `count` elements that way. All its vectors have to be aligned:
// those are that begin a multiple of the vector's length from `to` on.
template <class T>
bool past_caches(const T* to, int64_t count) {
  return count * int64_t(sizeof(T)) >= kPastCaches &&
         reinterpret_cast<uintptr_t>(to) % CR_VECTOR_BYTES == 0;
}
template <class T>
CR_INLINE void store(T* to, Vec<T> value, bool past) {
  if (!past) return store(to, value);
#if CR_VECTOR_BYTES == 64 && defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), (__m512i)value);
#elif CR_VECTOR_BYTES == 32 && defined(__AVX__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), (__m256i)value);
#elif CR_VECTOR_BYTES == 16 && defined(__SSE2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), (__m128i)value);
#else
  store(to, value);
#endif
}
CR_INLINE void arrived(bool past) {
#if defined(__x86_64__)
  if (past) _mm_sfence();
#else
  (void)past;
#endif
}

// What lies a page further on is wanted soon: the processor's own prefetching ends with the page.
template <class T>
CR_INLINE void prefetch(const T* from, int64_t ahead = 4096 / sizeof(T)) {
  __builtin_prefetch(from + ahead);
}

template <class T>
CR_INLINE Vec<T> broadcast(T value) {
  return value - Vec<T>{};  // not {} + value, which would turn -0 into 0 at the cost of an addition
}

template <class I>
CR_INLINE I least(I a, I b) {
  return b < a ? b : a;
}
template <class I>
CR_INLINE I greatest(I a, I b) {
  return a < b ? b : a;
}
constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// ---- parts of vectors -----------------------------------------------------------------------

#if CR_VECTOR_BYTES == 64 && defined(__AVX512F__)
#define CR_MASKS 1
template <class T>
CR_INLINE Vec<T> load_masked(const T* from, uint32_t mask, Vec<T> rest = Vec<T>{}) {
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_mask_loadu_ps((__m512)rest, static_cast<__mmask16>(mask), from);
  else
    return (Vec<T>)_mm512_mask_loadu_pd((__m512d)rest, static_cast<__mmask8>(mask), from);
}
template <class T>
CR_INLINE void store_masked(T* to, Vec<T> value, uint32_t mask) {
  if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>(mask), (__m512)value);
  else
    _mm512_mask_storeu_pd(to, static_cast<__mmask8>(mask), (__m512d)value);
}
// Bits first to last - 1, of at most 32.
CR_INLINE uint32_t mask_of(int64_t first, int64_t last) {
  const auto below = [](int64_t bit) {
    return (uint64_t{1} << (bit < 0 ? 0 : bit > 32 ? 32 : bit)) - 1;
  };
  return static_cast<uint32_t>(below(last) & ~below(first));
}
#endif

// The first `count` lanes from memory, the others `fill`.
template <class T>
CR_INLINE Vec<T> load_part(const T* from, int64_t count, T fill = T(0)) {
  if (count >= lanes<T>) return load(from);
#ifdef CR_MASKS
  return load_masked(from, mask_of(0, count), broadcast(fill));
#else
  T part[lanes<T>];
  for (int i = 0; i < lanes<T>; ++i) part[i] = fill;
  if (count > 0) std::memcpy(part, from, static_cast<size_t>(count) * sizeof(T));
  return load(part);
#endif
}

template <class T>
CR_INLINE void store_part(T* to, Vec<T> value, int64_t count, bool past = false) {
  if (count >= lanes<T>) return store(to, value, past);
#ifdef CR_MASKS
  store_masked(to, value, mask_of(0, count));
#else
  if (count <= 0) return;
  T part[lanes<T>];
  store(part, value);
  std::memcpy(to, part, static_cast<size_t>(count) * sizeof(T));
#endif
}

// ---- numbers as template arguments ---------------------------------------------------------

// f(Count<K>) for the K that count is, 0 < count <= K.
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

// ---- shuffles -------------------------------------------------------------------------------

template <int... I>
struct Indices {};
template <int N, int... I>
struct CountTo : CountTo<N - 1, N - 1, I...> {};
template <int... I>
struct CountTo<0, I...> {
  typedef Indices<I...> type;
};

template <class Map, class T, int... I>
CR_INLINE Vec<T> shuffle_lanes(Vec<T> a, Vec<T> b, Indices<I...>) {
  return __builtin_shufflevector(a, b, Map::at(I)...);
}
template <class Map, class T>
CR_INLINE Vec<T> shuffle(Vec<T> a, Vec<T> b) {
  return shuffle_lanes<Map, T>(a, b, typename CountTo<lanes<T>>::type());
}

// Of the 2L lanes of (a, b), the first (second) of every two runs of B.
template <int B, bool second>
struct Apart {
  static constexpr int at(int i) { return i / B * 2 * B + i % B + (second ? B : 0); }
};
// Runs of B in turn from a and b: the first (last) L lanes of 2L.
template <class T, int B, bool last>
struct Together {
  static constexpr int at(int i) {
    const int to = i + (last ? lanes<T> : 0), run = to / (2 * B), rest = to % (2 * B);
    return rest < B ? run * B + rest : lanes<T> + run * B + rest - B;
  }
};

// a[i][j] and a[j][i] change places, L x L
template <class T>
CR_INLINE void turn_square(Vec<T> (&a)[lanes<T>]) {
  constexpr int L = lanes<T>;
  Vec<T> b[L];
  CR_UNROLL for (int stage = 1; stage < L; stage *= 2) {  // a perfect shuffle each
    CR_UNROLL for (int i = 0; i < L / 2; ++i) {
      b[2 * i] = shuffle<Together<T, 1, false>, T>(a[i], a[i + L / 2]);
      b[2 * i + 1] = shuffle<Together<T, 1, true>, T>(a[i], a[i + L / 2]);
    }
    CR_UNROLL for (int i = 0; i < L; ++i) a[i] = b[i];
  }
}

// out[j stride + i] = a[i][j]; a is used up
template <class T>
CR_INLINE void transpose_square(Vec<T> (&a)[lanes<T>], T* out, int64_t stride) {
  turn_square<T>(a);
  CR_UNROLL for (int j = 0; j < lanes<T>; ++j) store(out + j * stride, a[j]);
}

}  // namespace
