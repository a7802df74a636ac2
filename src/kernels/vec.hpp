// Vectors of the width this file is compiled for. Everything lives in an unnamed namespace: the
// same source is compiled once for each instruction set, and the linker must never merge code
// of two of them. For the same reason nothing from the standard library with external linkage
// (std::vector, std::min, ...) may be used in the files that include this one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifndef CR_VECTOR_BYTES
#define CR_VECTOR_BYTES 16
#endif

#define CR_INLINE inline __attribute__((always_inline))
#define CR_UNROLL _Pragma("GCC unroll 32")

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

}  // namespace
