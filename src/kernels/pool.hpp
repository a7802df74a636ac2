// Pooling over windows of images.
//
// Max pooling keeps which element of its window won, row-major, and its backward pass sends the
// gradient there. The first of equal maxima wins and the first NaN wins over all numbers. Padding
// counts as -inf: where nothing in a window exceeds -inf, its element 0 has won, and if that lies
// in the padding the gradient goes nowhere.
//
// 2x2 windows side by side have their own path, which parts even and odd columns by shuffles
// (GCC's own vectorisation of it is several times slower). Otherwise rows are copied once into a
// ring of kh rows, padded and split into the sw phases of the stride, so that element t of
// neighbouring windows is a run of neighbours: phase t % sw from t / sw on.
#pragma once

#include "pointwise.hpp"
#include "runtime.hpp"
#include "vec.hpp"

namespace {

constexpr int kPoolScratch = 8;  // slot of this thread's scratch; conv.hpp uses 0 to 7

struct PoolShape {
  int64_t planes, h, w;            // images times channels, height, width
  int64_t kh, kw, sh, sw, ph, pw;  // window, stride, padding
  int64_t oh, ow;                  // output height and width
  bool two_by_two() const {
    return kh == 2 && kw == 2 && sh == 2 && sw == 2 && ph == 0 && pw == 0;
  }
  // Where the rows of output row `row` (counted over all planes) begin in x, 2x2 windows.
  int64_t pair(int64_t row) const { return (row / oh * h + row % oh * 2) * w; }
};

template <class T>
using LaneMask = decltype(Vec<T>{} > Vec<T>{});

template <class T>
struct Best {  // of the elements of a window seen so far, for a vector of windows
  Vec<T> value;
  LaneMask<T> which;
  CR_INLINE void see(Vec<T> v, LaneMask<T> index) {
    const LaneMask<T> better = (v > value) | ((v != v) & (value == value));
    value = better ? v : value;
    which = better ? index : which;
  }
};

// Winners in the type they are kept in: to and from the lanes of a mask.
template <class T, class W>
struct WinnerOf {
  typedef W type __attribute__((vector_size(lanes<T> * sizeof(W)), aligned(sizeof(W)), may_alias));
};
template <class T, class W>
CR_INLINE void store_winners(W* to, LaneMask<T> which, int64_t count) {
  typedef typename WinnerOf<T, W>::type V;
  const V value = __builtin_convertvector(which, V);
  if (count >= lanes<T>)
    *reinterpret_cast<V*>(to) = value;
  else if (count > 0)
    std::memcpy(to, &value, static_cast<size_t>(count) * sizeof(W));
}
template <class T, class W>
CR_INLINE LaneMask<T> load_winners(const W* from, int64_t count) {
  typedef typename WinnerOf<T, W>::type V;
  V value = {};
  if (count >= lanes<T>)
    value = *reinterpret_cast<const V*>(from);
  else if (count > 0)
    std::memcpy(&value, from, static_cast<size_t>(count) * sizeof(W));
  return __builtin_convertvector(value, LaneMask<T>);
}

// ---- 2x2, stride 2 --------------------------------------------------------------------------

template <class T>
CR_INLINE Best<T> best_of_four(Vec<T> a, Vec<T> b, Vec<T> c, Vec<T> d) {
  Best<T> best{a, {}};
  best.see(b, LaneMask<T>{} + 1);
  best.see(c, LaneMask<T>{} + 2);
  best.see(d, LaneMask<T>{} + 3);
  return best;
}

// Images of even height and width 2B, where B < L divides L: L windows are 4L values in a row.
template <class T, int B>
struct NarrowPairs {
  CR_INLINE static Best<T> forward(const T* x) {
    constexpr int L = lanes<T>;
    const Vec<T> v0 = load(x), v1 = load(x + L), v2 = load(x + 2 * L), v3 = load(x + 3 * L);
    const Vec<T> even0 = shuffle<Apart<1, false>, T>(v0, v1);
    const Vec<T> even1 = shuffle<Apart<1, false>, T>(v2, v3);
    const Vec<T> odd0 = shuffle<Apart<1, true>, T>(v0, v1);
    const Vec<T> odd1 = shuffle<Apart<1, true>, T>(v2, v3);
    return best_of_four<T>(
        shuffle<Apart<B, false>, T>(even0, even1), shuffle<Apart<B, false>, T>(odd0, odd1),
        shuffle<Apart<B, true>, T>(even0, even1), shuffle<Apart<B, true>, T>(odd0, odd1));
  }
  CR_INLINE static void backward(Vec<T> dy, LaneMask<T> which, T* dx, bool past) {
    constexpr int L = lanes<T>;
    Vec<T> part[4];
    CR_UNROLL for (int q = 0; q < 4; ++q) part[q] = which == q ? dy : Vec<T>{};
    const Vec<T> even0 = shuffle<Together<T, B, false>, T>(part[0], part[2]);
    const Vec<T> even1 = shuffle<Together<T, B, true>, T>(part[0], part[2]);
    const Vec<T> odd0 = shuffle<Together<T, B, false>, T>(part[1], part[3]);
    const Vec<T> odd1 = shuffle<Together<T, B, true>, T>(part[1], part[3]);
    store(dx, shuffle<Together<T, 1, false>, T>(even0, odd0), past);
    store(dx + L, shuffle<Together<T, 1, true>, T>(even0, odd0), past);
    store(dx + 2 * L, shuffle<Together<T, 1, false>, T>(even1, odd1), past);
    store(dx + 3 * L, shuffle<Together<T, 1, true>, T>(even1, odd1), past);
  }
};

// Windows first to last, counted over all planes.
template <class T, int B>
void narrow_forward(Indices<B>, const T* x, T* y, uint8_t* winner, int64_t first, int64_t last) {
  constexpr int64_t L = lanes<T>;
  for (int64_t i = first; i < last; i += L) {
    const int64_t count = least(L, last - i);
    T buffer[4 * L] = {};
    const T* from = x + 4 * i;
    if (count < L) {
      std::memcpy(buffer, from, static_cast<size_t>(4 * count) * sizeof(T));
      from = buffer;
    }
    const Best<T> best = NarrowPairs<T, B>::forward(from);
    store_part(y + i, best.value, count);
    store_winners<T>(winner + i, best.which, count);
  }
}
template <class T, int B>
void narrow_backward(Indices<B>, const T* dy, const uint8_t* winner, T* dx, int64_t first,
                     int64_t last, bool past) {
  constexpr int64_t L = lanes<T>;
  for (int64_t i = first; i < last; i += L) {
    const int64_t count = least(L, last - i);
    T buffer[4 * L];
    NarrowPairs<T, B>::backward(load_part(dy + i, count), load_winners<T>(winner + i, count),
                                count < L ? buffer : dx + 4 * i, past && count == L);
    if (count < L)
      std::memcpy(dx + 4 * i, buffer, static_cast<size_t>(4 * count) * sizeof(T));
  }
  arrived(past);
}

// f(B) as a template argument for the width that narrow images have; false if they are not.
template <class T, int B, class F>
bool if_narrow(const PoolShape& s, F&& f) {
  if constexpr (B == lanes<T>) {
    return false;
  } else {
    if (s.ow != B) return if_narrow<T, 2 * B>(s, f);
    f(Indices<B>());
    return true;
  }
}

// A vector that begins in a row of windows and goes past its end computes and stores lanes that
// the next rows then overwrite; only towards the end of a task's own rows are vectors cut.
template <class T>
void pairs_forward(const PoolShape& s, const T* x, T* y, uint8_t* winner, int64_t first,
                   int64_t last) {
  constexpr int64_t L = lanes<T>;
  const T* end = x + s.planes * s.h * s.w;
  for (int64_t row = first; row < last; ++row) {
    const T* top = x + s.pair(row);
    for (int64_t j = 0; j < s.ow; j += L) {
      const T *upper = top + 2 * j, *lower = upper + s.w;
      for (int64_t k = 0; k < 2; ++k) prefetch(upper + k * L), prefetch(lower + k * L);
      const int64_t at = row * s.ow + j;
      Vec<T> v[4];
      if (end - lower >= 2 * L) {
        v[0] = load(upper), v[1] = load(upper + L), v[2] = load(lower), v[3] = load(lower + L);
      } else {
        const int64_t count = 2 * least(L, s.ow - j);
        v[0] = load_part(upper, count), v[1] = load_part(upper + L, count - L);
        v[2] = load_part(lower, count), v[3] = load_part(lower + L, count - L);
      }
      const Best<T> best = best_of_four<T>(
          shuffle<Apart<1, false>, T>(v[0], v[1]), shuffle<Apart<1, true>, T>(v[0], v[1]),
          shuffle<Apart<1, false>, T>(v[2], v[3]), shuffle<Apart<1, true>, T>(v[2], v[3]));
      const int64_t count = at + L <= last * s.ow ? L : least(L, s.ow - j);
      store_part(y + at, best.value, count);
      store_winners<T>(winner + at, best.which, count);
    }
  }
}

template <class T>
void pairs_backward(const PoolShape& s, const T* dy, const uint8_t* winner, T* dx, int64_t first,
                    int64_t last) {
  constexpr int64_t L = lanes<T>;
  const int64_t outputs = s.planes * s.oh * s.ow;
  T* end = dx + s.pair(last);
  for (int64_t row = first; row < last; ++row) {
    T* top = dx + s.pair(row);
    for (int half = 0; half < 2; ++half) {
      T* to = top + half * s.w;
      for (int64_t j = 0; j < s.ow; j += L) {
        const int64_t at = row * s.ow + j, inside = least(L, s.ow - j);
        const int64_t count = at + L <= outputs ? L : inside;
        const Vec<T> d = load_part(dy + at, count);
        const LaneMask<T> which = load_winners<T>(winner + at, count);
        const Vec<T> left = which == 2 * half ? d : Vec<T>{};
        const Vec<T> right = which == 2 * half + 1 ? d : Vec<T>{};
        const Vec<T> low = shuffle<Together<T, 1, false>, T>(left, right);
        const Vec<T> high = shuffle<Together<T, 1, true>, T>(left, right);
        const int64_t room = end - (to + 2 * j) >= 2 * L ? 2 * L : 2 * inside;
        store_part(to + 2 * j, low, room);
        store_part(to + 2 * j + L, high, room - L);
      }
      if (s.w % 2) to[s.w - 1] = T(0);
    }
    if (s.h % 2 && row % s.oh == s.oh - 1)
      std::memset(top + 2 * s.w, 0, static_cast<size_t>(s.w) * sizeof(T));
  }
}

// The same for images of even sizes whose rows of windows are whole vectors.
template <class T>
void whole_pairs_backward(const PoolShape& s, const T* dy, const uint8_t* winner, T* dx,
                          int64_t first, int64_t last, bool past) {
  constexpr int64_t L = lanes<T>;
  for (int64_t row = first; row < last; ++row) {
    T* to = dx + s.pair(row);
    for (int64_t at = row * s.ow; at < (row + 1) * s.ow; at += L, to += 2 * L) {
      const Vec<T> d = load(dy + at);
      const LaneMask<T> which = load_winners<T>(winner + at, L);
      Vec<T> part[4];
      CR_UNROLL for (int q = 0; q < 4; ++q) part[q] = which == q ? d : Vec<T>{};
      CR_UNROLL for (int half = 0; half < 2; ++half) {
        const Vec<T> left = part[2 * half], right = part[2 * half + 1];
        store(to + half * s.w, shuffle<Together<T, 1, false>, T>(left, right), past);
        store(to + half * s.w + L, shuffle<Together<T, 1, true>, T>(left, right), past);
      }
    }
  }
  arrived(past);
}

// ---- any window -----------------------------------------------------------------------------

// The padded, phase-split rows that one output row needs.
template <class T>
struct RowRing {
  const PoolShape& s;
  const T* x;  // the plane
  T fill;
  T* memory;
  int64_t phase = round_up(s.ow, lanes<T>) + (s.kw - 1) / s.sw;  // length of one phase
  int64_t next = 0;                                              // padded row not copied yet

  int64_t size() const { return s.kh * s.sw * phase; }
  T* row(int64_t u) const { return memory + u % s.kh * s.sw * phase; }
  const T* element(int64_t i, int64_t r, int64_t t) const {
    return row(i * s.sh + r) + t % s.sw * phase + t / s.sw;
  }
  void advance(int64_t i) {  // to the rows of output row i
    next = greatest(next, i * s.sh);
    for (; next < i * s.sh + s.kh; ++next) copy(next - s.ph, row(next));
  }
  void copy(int64_t from, T* to) const {
    const bool inside = from >= 0 && from < s.h;
    const T* source = x + (inside ? from : 0) * s.w;
    for (int64_t b = 0; b < s.sw; ++b, to += phase) {
      // q with 0 <= q sw + b - pw < w
      const int64_t shift = s.pw - b;
      int64_t first = shift <= 0 ? 0 : (shift + s.sw - 1) / s.sw;
      int64_t last = s.w + shift <= 0 ? 0 : (s.w + shift - 1) / s.sw + 1;
      first = least(first, phase);
      last = inside ? greatest(first, least(last, phase)) : first;
      for (int64_t q = 0; q < first; ++q) to[q] = fill;
      for (int64_t q = first; q < last; ++q) to[q] = source[q * s.sw - shift];
      for (int64_t q = last; q < phase; ++q) to[q] = fill;
    }
  }
};

template <class T, class W>
void max_plane(const PoolShape& s, const T* x, T* y, W* winner) {
  RowRing<T> ring{s, x, -static_cast<T>(__builtin_inf()), nullptr};
  ring.memory = scratch_of<T>(kPoolScratch, ring.size());
  for (int64_t i = 0; i < s.oh; ++i) {
    ring.advance(i);
    for (int64_t j = 0; j < s.ow; j += lanes<T>) {
      Best<T> best{broadcast(ring.fill), {}};
      LaneMask<T> index = {};
      for (int64_t r = 0; r < s.kh; ++r)
        for (int64_t t = 0; t < s.kw; ++t, index += 1)
          best.see(load(ring.element(i, r, t) + j), index);
      const int64_t at = i * s.ow + j;
      store_part(y + at, best.value, s.ow - j);
      store_winners<T>(winner + at, best.which, s.ow - j);
    }
  }
}

template <class T, class W>
void max_plane_backward(const PoolShape& s, const T* dy, const W* winner, T* dx) {
  std::memset(dx, 0, static_cast<size_t>(s.h * s.w) * sizeof(T));
  int32_t* row_of = scratch_of<int32_t>(kPoolScratch, 2 * s.kh * s.kw);
  int32_t* column_of = row_of + s.kh * s.kw;
  for (int64_t k = 0; k < s.kh * s.kw; ++k) {
    row_of[k] = static_cast<int32_t>(k / s.kw);
    column_of[k] = static_cast<int32_t>(k % s.kw);
  }
  for (int64_t i = 0; i < s.oh; ++i)
    for (int64_t j = 0; j < s.ow; ++j) {
      const int64_t at = i * s.ow + j, k = winner[at];
      const int64_t row = i * s.sh - s.ph + row_of[k], column = j * s.sw - s.pw + column_of[k];
      if (row >= 0 && row < s.h && column >= 0 && column < s.w) dx[row * s.w + column] += dy[at];
    }
}

// ---- entry points ---------------------------------------------------------------------------

// x (planes, h, w); y, winner (planes, oh, ow), all of the caller and apart. W is uint8_t for
// windows of at most 255 elements, else int32_t. winner: r kw + t of the winning element.
template <class T, class W>
void max_pool_forward(const PoolShape& s, const T* x, T* y, W* winner, int threads) {
  const int64_t outputs = s.planes * s.oh * s.ow;
  if (outputs == 0) return;
  if constexpr (sizeof(W) == 1) {
    if (s.two_by_two()) {
      const bool even = s.h % 2 == 0 && s.w % 2 == 0;
      if (even && if_narrow<T, 1>(s, [&](auto width) {
            auto chunk = [&](int64_t first, int64_t last) {
              narrow_forward(width, x, y, winner, first, last);
            };
            parallel_chunks(outputs, kChunk, threads, chunk);
          }))
        return;
      auto rows = [&](int64_t first, int64_t last) {
        pairs_forward(s, x, y, winner, first, last);
      };
      const int64_t chunk = greatest<int64_t>(1, kChunk / s.ow);
      return parallel_chunks(s.planes * s.oh, chunk, threads, rows);
    }
  }
  auto plane = [&](int64_t p) {
    max_plane(s, x + p * s.h * s.w, y + p * s.oh * s.ow, winner + p * s.oh * s.ow);
  };
  parallel(s.planes, threads, plane);
}

// dy, winner (planes, oh, ow); dx (planes, h, w) is overwritten. All of the caller and apart.
template <class T, class W>
void max_pool_backward(const PoolShape& s, const T* dy, const W* winner, T* dx, int threads) {
  const int64_t outputs = s.planes * s.oh * s.ow;
  if (s.planes * s.h * s.w == 0) return;
  if constexpr (sizeof(W) == 1) {
    if (s.two_by_two() && outputs > 0) {
      const bool even = s.h % 2 == 0 && s.w % 2 == 0;
      const bool past = even && past_caches(dx, 4 * outputs);
      if (even && if_narrow<T, 1>(s, [&](auto width) {
            auto chunk = [&](int64_t first, int64_t last) {
              narrow_backward(width, dy, winner, dx, first, last, past);
            };
            parallel_chunks(outputs, kChunk, threads, chunk);
          }))
        return;
      const bool whole = even && s.ow % lanes<T> == 0;
      auto rows = [&](int64_t first, int64_t last) {
        if (whole)
          whole_pairs_backward(s, dy, winner, dx, first, last, past);
        else
          pairs_backward(s, dy, winner, dx, first, last);
      };
      const int64_t chunk = greatest<int64_t>(1, kChunk / s.ow);
      return parallel_chunks(s.planes * s.oh, chunk, threads, rows);
    }
  }
  auto plane = [&](int64_t p) {
    max_plane_backward(s, dy + p * s.oh * s.ow, winner + p * s.oh * s.ow, dx + p * s.h * s.w);
  };
  parallel(s.planes, threads, plane);
}

// y = sum over each window / (kh kw), padding counted as zeros. Shapes as max_pool_forward.
template <class T>
void avg_pool_forward(const PoolShape& s, const T* x, T* y, int threads) {
  const Vec<T> count = broadcast(static_cast<T>(s.kh * s.kw));
  auto plane = [&](int64_t p) {
    RowRing<T> ring{s, x + p * s.h * s.w, T(0), nullptr};
    ring.memory = scratch_of<T>(kPoolScratch, ring.size());
    for (int64_t i = 0; i < s.oh; ++i) {
      ring.advance(i);
      for (int64_t j = 0; j < s.ow; j += lanes<T>) {
        Vec<T> sum = {};
        for (int64_t r = 0; r < s.kh; ++r)
          for (int64_t t = 0; t < s.kw; ++t) sum += load(ring.element(i, r, t) + j);
        store_part(y + (p * s.oh + i) * s.ow + j, sum / count, s.ow - j);
      }
    }
  };
  parallel(s.planes, threads, plane);
}

// dx (planes, h, w), overwritten: dy / (kh kw) at every pixel of each window, added up.
template <class T>
void avg_pool_backward(const PoolShape& s, const T* dy, T* dx, int threads) {
  const T count = static_cast<T>(s.kh * s.kw);
  auto plane = [&](int64_t p) {
    T* image = dx + p * s.h * s.w;
    std::memset(image, 0, static_cast<size_t>(s.h * s.w) * sizeof(T));
    T* share = scratch_of<T>(kPoolScratch, s.ow);
    for (int64_t i = 0; i < s.oh; ++i) {
      for (int64_t j = 0; j < s.ow; ++j) share[j] = dy[(p * s.oh + i) * s.ow + j] / count;
      for (int64_t r = 0; r < s.kh; ++r) {
        const int64_t row = i * s.sh - s.ph + r;
        if (row < 0 || row >= s.h) continue;
        for (int64_t t = 0; t < s.kw; ++t) {
          // j with 0 <= j sw + t - pw < w
          const int64_t shift = s.pw - t;
          const int64_t first = shift <= 0 ? 0 : (shift + s.sw - 1) / s.sw;
          const int64_t last = least(s.ow, s.w + shift <= 0 ? 0 : (s.w + shift - 1) / s.sw + 1);
          T* to = image + row * s.w - shift;
          for (int64_t j = first; j < last; ++j) to[j * s.sw] += share[j];
        }
      }
    }
  };
  parallel(s.planes, threads, plane);
}

}  // namespace
