// What the kernels of every instruction set share: threads and scratch memory.
//
// The templates below are in an unnamed namespace although this is no part of a kernel: they are
// compiled with the flags of each instruction set, so the linker must not merge them either.
#pragma once

#include <cstddef>
#include <cstdint>

namespace chainrule {

// Call task(context, i) for i in [0, count), on up to `threads` threads. Which thread takes which
// i is not fixed, so a result must not depend on it. Where the pool is in use, by another thread
// or by a task of this one, the caller does the work alone.
void parallel_for(int64_t count, int threads, void (*task)(void*, int64_t), void* context);

// Memory for std::free, 64-byte aligned, on huge pages where it is large. Throws std::bad_alloc.
void* allocate(size_t size);

// Memory of this thread that keeps its content until the next call with the same slot; grows
// only, 64-byte aligned, with room to read a vector past the end.
constexpr int kSlots = 16;
void* scratch(int slot, size_t bytes);

namespace {

template <class T>
T* scratch_of(int slot, int64_t count) {
  return static_cast<T*>(scratch(slot, static_cast<size_t>(count) * sizeof(T)));
}

template <class F>
void parallel(int64_t count, int threads, F& body) {
  parallel_for(
      count, threads, [](void* context, int64_t i) { (*static_cast<F*>(context))(i); }, &body);
}

}  // namespace
}  // namespace chainrule
