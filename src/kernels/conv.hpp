// Convolution without im2col.
//
// Each image is copied once into a zero-padded scratch, split by phase: with an effective stride
// s, padded row u goes to plane u % s, row u / s, and columns likewise. Then the input of tap
// (c, r, t) at output pixel (i, j) lies at offset[c, r, t] + i * width + j, whatever kernel,
// stride and padding are, and neighbouring outputs read neighbouring values.
//
// Forward: a tile of V vectors of pixels times F filters stays in registers for the sum over all
// taps. Where an output row is not a multiple of the vector, the pixels of a tile are first
// packed side by side.
// dx: the same with the filters turned round, once for each phase of the stride.
// dweight: dy is transposed to [pixel][filter]; a tile of taps times vectors of filters stays in
// registers for the sum over the pixels of an image.
//
// Sums over images are taken in a fixed number of groups and added in a fixed order, so results
// do not depend on the number of threads.
#pragma once

#include "runtime.hpp"
#include "vec.hpp"

namespace {

using chainrule::parallel;
using chainrule::scratch_of;

#if CR_VECTOR_BYTES == 64
constexpr int kTilePixels = 2, kTileFilters = 13, kPoolFilters = 6, kTileTaps = 12;
#else
constexpr int kTilePixels = 2, kTileFilters = 6, kPoolFilters = 2, kTileTaps = 5;
#endif
constexpr int kPad = 64;  // elements of slack behind every scratch array

enum Scratch { kImage = 0, kPanel, kUpstream, kTransposed, kPlane, kWeights, kOffsets, kPartial };

struct Shape {
  int64_t n, c, h, w, f;          // images, channels, height, width, filters
  int64_t kh, kw, sh, sw, ph, pw; // window, stride, padding
  int64_t oh, ow;                 // output height and width
};

// The phase-split copy of one image, as seen by a grid of gh x gw output positions.
struct Split {
  int64_t c, h, w;           // the image
  int64_t mh, mw;            // effective stride: number of phases
  int64_t top, left;         // padding; negative crops
  int64_t rows, cols, plane; // of one phase plane
  int64_t size() const { return c * mh * mw * plane; }
};

template <class T>
void split_image(const Split& s, const T* __restrict x, T* __restrict out) {
  for (int64_t c = 0; c < s.c; ++c)
    for (int64_t a = 0; a < s.mh; ++a)
      for (int64_t i = 0; i < s.rows; ++i) {
        const int64_t row = i * s.mh + a - s.top;
        const bool inside = row >= 0 && row < s.h;
        const T* __restrict from = x + (c * s.h + (inside ? row : 0)) * s.w;
        for (int64_t b = 0; b < s.mw; ++b) {
          T* __restrict to = out + ((c * s.mh + a) * s.mw + b) * s.plane + i * s.cols;
          // columns j with 0 <= j * mw + b - left < w
          const int64_t shift = s.left - b;
          int64_t first = shift <= 0 ? 0 : (shift + s.mw - 1) / s.mw;
          int64_t last = s.w + shift <= 0 ? 0 : (s.w + shift - 1) / s.mw + 1;
          first = least(first, s.cols);
          last = inside ? least(last, s.cols) : first;
          if (last < first) last = first;
          for (int64_t j = 0; j < first; ++j) to[j] = T(0);
          if (s.mw == 1)
            std::memcpy(to + first, from + first - shift, (last - first) * sizeof(T));
          else
            for (int64_t j = first; j < last; ++j) to[j] = from[j * s.mw - shift];
          for (int64_t j = last; j < s.cols; ++j) to[j] = T(0);
        }
      }
}

// ---- the register tile ----------------------------------------------------------------------

template <class T, int V, int F>
CR_INLINE void accumulate(const T* const (&x)[V], const int64_t* offset, int64_t taps,
                          const T* __restrict weight, Vec<T> (&sum)[V][F]) {
  for (int64_t k = 0; k < taps; ++k, weight += F) {
    const int64_t at = offset[k];
    Vec<T> value[V];
    CR_UNROLL for (int v = 0; v < V; ++v) value[v] = load(x[v] + at);
    CR_UNROLL for (int f = 0; f < F; ++f) {
      const Vec<T> w = broadcast(weight[f]);
      CR_UNROLL for (int v = 0; v < V; ++v) sum[v][f] += value[v] * w;
    }
  }
}

enum class Epilogue { none, relu };

template <class T>
CR_INLINE Vec<T> rectified(Vec<T> v) {  // NaN stays NaN
  return v < Vec<T>{} ? Vec<T>{} : v;
}

template <class T>
CR_INLINE void store_some(T* to, Vec<T> value, int64_t count) {
  if (count >= lanes<T>) {
    store(to, value);
  } else if (count > 0) {
    T part[lanes<T>];
    store(part, value);
    std::memcpy(to, part, static_cast<size_t>(count) * sizeof(T));
  }
}

// Where a tile finds its pixels: directly in the split image, or packed side by side.
template <class T>
struct Tile {
  const T* x;             // image or panel
  const int64_t* offset;  // of each tap
  int64_t taps;
  const int64_t* start;   // of each vector of pixels
};

template <class T, int V, int F>
void plain_tile(const Tile<T>& tile, const T* weight, const T* bias, T* y, int64_t plane,
                int64_t count, bool relu) {
  Vec<T> sum[V][F];
  CR_UNROLL for (int f = 0; f < F; ++f) {
    const Vec<T> b = bias ? broadcast(bias[f]) : Vec<T>{};
    CR_UNROLL for (int v = 0; v < V; ++v) sum[v][f] = b;
  }
  const T* x[V];
  CR_UNROLL for (int v = 0; v < V; ++v) x[v] = tile.x + tile.start[v];
  accumulate<T, V, F>(x, tile.offset, tile.taps, weight, sum);
  if (relu) CR_UNROLL for (int f = 0; f < F; ++f)
      CR_UNROLL for (int v = 0; v < V; ++v) sum[v][f] = rectified<T>(sum[v][f]);
  if (count >= V * lanes<T>) {
    CR_UNROLL for (int f = 0; f < F; ++f)
      CR_UNROLL for (int v = 0; v < V; ++v) store(y + f * plane + v * lanes<T>, sum[v][f]);
  } else {
    for (int f = 0; f < F; ++f)
      for (int v = 0; v < V; ++v)
        store_some<T>(y + f * plane + v * lanes<T>, sum[v][f], count - v * lanes<T>);
  }
}

// Convolution, ReLU and 2x2 max pooling: vectors 0..3 hold the four pixels of each window.
template <class T, int F>
void pool_tile(const Tile<T>& tile, const T* weight, const T* bias, T* y, uint8_t* winner,
               int64_t plane, int64_t count) {
  Vec<T> sum[4][F];
  CR_UNROLL for (int f = 0; f < F; ++f) {
    const Vec<T> b = bias ? broadcast(bias[f]) : Vec<T>{};
    CR_UNROLL for (int v = 0; v < 4; ++v) sum[v][f] = b;
  }
  const T* x[4];
  CR_UNROLL for (int v = 0; v < 4; ++v) x[v] = tile.x + tile.start[v];
  accumulate<T, 4, F>(x, tile.offset, tile.taps, weight, sum);
  using Mask = decltype(sum[0][0] > sum[0][0]);
  CR_UNROLL for (int f = 0; f < F; ++f) {
    Vec<T> best = sum[0][f];
    Mask which = {};
    CR_UNROLL for (int v = 1; v < 4; ++v) {
      const Mask better = (sum[v][f] > best) | ((sum[v][f] != sum[v][f]) & (best == best));
      best = better ? sum[v][f] : best;
      which = better ? Mask{} + v : which;
    }
    which = best > Vec<T>{} ? which : Mask{} + 4;  // ReLU passes nothing back: no winner
    best = rectified<T>(best);
    store_some<T>(y + f * plane, best, count);
    uint8_t bytes[lanes<T>];
    CR_UNROLL for (int i = 0; i < lanes<T>; ++i) bytes[i] = static_cast<uint8_t>(which[i]);
    std::memcpy(winner + f * plane, bytes, static_cast<size_t>(least<int64_t>(count, lanes<T>)));
  }
}

// ---- one image ------------------------------------------------------------------------------

struct Block {  // a run of filters that one tile computes
  int64_t first, count;
};
CR_INLINE Block filter_block(int64_t filters, int64_t most, int64_t index) {
  const int64_t blocks = (filters + most - 1) / most;
  const int64_t size = filters / blocks, larger = filters % blocks;
  return {index * size + least(index, larger), size + (index < larger)};
}

// weight (F, taps) to, for each block of filters, [tap][filter]
template <class T>
void pack_weights(const T* weight, int64_t filters, int64_t taps, int64_t most, T* packed) {
  const int64_t blocks = (filters + most - 1) / most;
  for (int64_t b = 0; b < blocks; ++b) {
    const Block block = filter_block(filters, most, b);
    T* to = packed + block.first * taps;
    for (int64_t f = 0; f < block.count; ++f)
      for (int64_t k = 0; k < taps; ++k)
        to[k * block.count + f] = weight[(block.first + f) * taps + k];
  }
}

template <class T, int V, int F>
CR_INLINE void plain_dispatch(int64_t filters, const Tile<T>& tile, const T* w, const T* b, T* y,
                              int64_t plane, int64_t count, bool relu) {
  if constexpr (F > 0) {
    if (filters == F)
      plain_tile<T, V, F>(tile, w, b, y, plane, count, relu);
    else
      plain_dispatch<T, V, F - 1>(filters, tile, w, b, y, plane, count, relu);
  }
}
template <class T, int F>
CR_INLINE void pool_dispatch(int64_t filters, const Tile<T>& tile, const T* w, const T* b, T* y,
                             uint8_t* winner, int64_t plane, int64_t count) {
  if constexpr (F > 0) {
    if (filters == F)
      pool_tile<T, F>(tile, w, b, y, winner, plane, count);
    else
      pool_dispatch<T, F - 1>(filters, tile, w, b, y, winner, plane, count);
  }
}

// A grid of gh x gw pixels over a split image; group q of taps belongs to pixel q of a pooling
// window (one group without pooling).
template <class T>
struct Grid {
  int64_t gh, gw, row;          // pixels; row: distance between rows in the split image
  const int64_t* offset;        // [groups][taps]
  int64_t groups, taps;
  const T* weight;              // packed
  const T* bias;
  int64_t filters;
};

// Copy `count` pixels from `pixel` on, for each tap of group q, to rows of `width`.
template <class T>
void pack_pixels(const Grid<T>& g, const T* x, int64_t q, int64_t pixel, int64_t count, T* panel,
                 int64_t width) {
  const int64_t* offset = g.offset + q * g.taps;
  for (int64_t k = 0; k < g.taps; ++k) {
    const T* from = x + offset[k];
    T* to = panel + k * width;
    int64_t i = pixel / g.gw, j = pixel % g.gw;
    for (int64_t done = 0; done < count;) {
      const int64_t run = least(g.gw - j, count - done);
      const T* source = from + i * g.row + j;
      for (int64_t v = 0; v < run; ++v) to[done + v] = source[v];
      done += run;
      j = 0;
      ++i;
    }
  }
}

template <class T>
void plain_image(const Grid<T>& g, const T* x, T* y, bool relu) {
  constexpr int64_t L = lanes<T>, most = kTileFilters;
  const int64_t pixels = g.gh * g.gw, blocks = (g.filters + most - 1) / most;
  int64_t start[kTilePixels];
  if (g.gw % L == 0) {
    for (int64_t b = 0; b < blocks; ++b) {
      const Block block = filter_block(g.filters, most, b);
      const T* weight = g.weight + block.first * g.taps;
      const T* bias = g.bias ? g.bias + block.first : nullptr;
      for (int64_t p = 0; p < pixels; p += kTilePixels * L) {
        for (int v = 0; v < kTilePixels; ++v) {
          const int64_t at = least(p + v * L, pixels - L);
          start[v] = at / g.gw * g.row + at % g.gw;
        }
        const Tile<T> tile{x, g.offset, g.taps, start};
        plain_dispatch<T, kTilePixels, kTileFilters>(block.count, tile, weight, bias,
                                                     y + block.first * pixels + p, pixels,
                                                     pixels - p, relu);
      }
    }
    return;
  }
  constexpr int64_t width = kTilePixels * L;
  T* panel = scratch_of<T>(kPanel, g.taps * width + kPad);
  int64_t* linear = scratch_of<int64_t>(kOffsets, g.taps);
  for (int64_t k = 0; k < g.taps; ++k) linear[k] = k * width;
  for (int v = 0; v < kTilePixels; ++v) start[v] = v * L;
  const Tile<T> tile{panel, linear, g.taps, start};
  for (int64_t p = 0; p < pixels; p += width) {
    pack_pixels(g, x, 0, p, least(width, pixels - p), panel, width);
    for (int64_t b = 0; b < blocks; ++b) {
      const Block block = filter_block(g.filters, most, b);
      plain_dispatch<T, kTilePixels, kTileFilters>(
          block.count, tile, g.weight + block.first * g.taps,
          g.bias ? g.bias + block.first : nullptr, y + block.first * pixels + p, pixels,
          pixels - p, relu);
    }
  }
}

template <class T>
void pool_image(const Grid<T>& g, const T* x, T* y, uint8_t* winner) {
  constexpr int64_t L = lanes<T>, most = kPoolFilters;
  const int64_t pixels = g.gh * g.gw, blocks = (g.filters + most - 1) / most;
  int64_t start[4];
  // The offsets of a window's four pixels differ by constants only if each tap moves alike,
  // which phase splitting does not give; so the four groups are packed.
  constexpr int64_t width = 4 * L;
  T* panel = scratch_of<T>(kPanel, g.taps * width + kPad);
  int64_t* linear = scratch_of<int64_t>(kOffsets, g.taps);
  for (int64_t k = 0; k < g.taps; ++k) linear[k] = k * width;
  for (int v = 0; v < 4; ++v) start[v] = v * L;
  const Tile<T> tile{panel, linear, g.taps, start};
  for (int64_t p = 0; p < pixels; p += L) {
    for (int64_t q = 0; q < 4; ++q)
      pack_pixels(g, x, q, p, least(L, pixels - p), panel + q * L, width);
    for (int64_t b = 0; b < blocks; ++b) {
      const Block block = filter_block(g.filters, most, b);
      pool_dispatch<T, kPoolFilters>(block.count, tile, g.weight + block.first * g.taps,
                                     g.bias ? g.bias + block.first : nullptr,
                                     y + block.first * pixels + p,
                                     winner + block.first * pixels + p, pixels, pixels - p);
    }
  }
}

// ---- forward --------------------------------------------------------------------------------

inline Split split_for(const Shape& s, int64_t m, int64_t gh, int64_t gw) {
  Split split{s.c, s.h, s.w, m * s.sh, m * s.sw, s.ph, s.pw, 0, 0, 0};
  split.rows = gh + ((m - 1) * s.sh + s.kh - 1) / split.mh;
  split.cols = gw + ((m - 1) * s.sw + s.kw - 1) / split.mw;
  split.plane = split.rows * split.cols;
  return split;
}

// offset[q][(c, r, t)] of pixel q of an m x m window
inline void tap_offsets(const Shape& s, const Split& p, int64_t m, int64_t* offset) {
  for (int64_t a = 0; a < m; ++a)
    for (int64_t b = 0; b < m; ++b)
      for (int64_t c = 0; c < s.c; ++c)
        for (int64_t r = 0; r < s.kh; ++r)
          for (int64_t t = 0; t < s.kw; ++t) {
            const int64_t u = a * s.sh + r, v = b * s.sw + t;
            *offset++ = ((c * p.mh + u % p.mh) * p.mw + v % p.mw) * p.plane +
                        u / p.mh * p.cols + v / p.mw;
          }
}

// Buffers of one call, allocated by the caller thread and read by all.
template <class T>
struct Forward {
  Shape s;
  Split split;
  Grid<T> grid;
  const T* x;
  T* y;
  uint8_t* winner;
  bool relu, pool;
  void operator()(int64_t n) const {
    T* image = scratch_of<T>(kImage, split.size() + kPad);
    split_image(split, x + n * s.c * s.h * s.w, image);
    const int64_t out = n * s.f * grid.gh * grid.gw;
    if (pool)
      pool_image(grid, image, y + out, winner + out);
    else
      plain_image(grid, image, y + out, relu);
  }
};

template <class T>
void conv_forward(const Shape& s, const T* x, const T* weight, const T* bias, T* y,
                  uint8_t* winner, bool relu, bool pool, int threads) {
  const int64_t taps = s.c * s.kh * s.kw, m = pool ? 2 : 1;
  const int64_t gh = pool ? s.oh / 2 : s.oh, gw = pool ? s.ow / 2 : s.ow;
  Forward<T> work{s, split_for(s, m, gh, gw), {}, x, y, winner, relu, pool};
  T* packed = scratch_of<T>(kWeights, s.f * taps + kPad);
  pack_weights(weight, s.f, taps, pool ? kPoolFilters : kTileFilters, packed);
  int64_t* offset = scratch_of<int64_t>(kPartial, m * m * taps);
  tap_offsets(s, work.split, m, offset);
  work.grid = {gh, gw, work.split.cols, offset, m * m, taps, packed, bias, s.f};
  parallel(s.n, threads, work);
}

// ---- backward -------------------------------------------------------------------------------

// dy of an image, through pooling and ReLU where they were fused: (F, OH, OW).
template <class T>
const T* upstream(const Shape& s, const T* dy, const T* y, const uint8_t* winner, int64_t n) {
  const int64_t plane = s.oh * s.ow, size = s.f * plane;
  if (winner) {
    const int64_t gh = s.oh / 2, gw = s.ow / 2;
    T* full = scratch_of<T>(kUpstream, size + kPad);
    if (s.oh % 2 || s.ow % 2) std::memset(full, 0, size * sizeof(T));
    const T* from = dy + n * s.f * gh * gw;
    const uint8_t* which = winner + n * s.f * gh * gw;
    for (int64_t f = 0; f < s.f; ++f)
      for (int64_t i = 0; i < gh; ++i) {
        T* __restrict top = full + f * plane + 2 * i * s.ow;
        T* __restrict bottom = top + s.ow;
        const T* __restrict g = from + (f * gh + i) * gw;
        const uint8_t* __restrict w = which + (f * gh + i) * gw;
        for (int64_t j = 0; j < gw; ++j) {
          top[2 * j] = w[j] == 0 ? g[j] : T(0);
          top[2 * j + 1] = w[j] == 1 ? g[j] : T(0);
          bottom[2 * j] = w[j] == 2 ? g[j] : T(0);
          bottom[2 * j + 1] = w[j] == 3 ? g[j] : T(0);
        }
      }
    return full;
  }
  if (y) {
    T* full = scratch_of<T>(kUpstream, size + kPad);
    const T* __restrict g = dy + n * size;
    const T* __restrict out = y + n * size;
    for (int64_t i = 0; i < size; ++i) full[i] = out[i] > T(0) ? g[i] : T(0);
    return full;
  }
  return dy + n * size;
}

// a (F, P) to out (P, width), zeros for F <= f < width; width is a multiple of the vector
template <class T>
void transpose(const T* __restrict a, int64_t filters, int64_t pixels, T* __restrict out,
               int64_t width) {
  constexpr int64_t L = lanes<T>;
  for (int64_t f = 0; f < width; f += L)
    for (int64_t p = 0; p < pixels; p += L) {
      T block[L][L];
      const int64_t rows = greatest<int64_t>(0, least(L, filters - f));
      const int64_t cols = least(L, pixels - p);
      if (rows == L && cols == L) {
        for (int64_t i = 0; i < L; ++i)
          for (int64_t j = 0; j < L; ++j) block[j][i] = a[(f + i) * pixels + p + j];
      } else {
        for (int64_t j = 0; j < cols; ++j)
          for (int64_t i = 0; i < L; ++i)
            block[j][i] = i < rows ? a[(f + i) * pixels + p + j] : T(0);
      }
      for (int64_t j = 0; j < cols; ++j) store(out + (p + j) * width + f, load(block[j]));
    }
}

// sum[k][v] += x[k][pixel] * dy[pixel][v] over the pixels of a grid
template <class T, int K, int V>
void weight_tile(const T* x, const int64_t* offset, int64_t row, const T* dy, int64_t width,
                 int64_t gh, int64_t gw, T* sums) {
  constexpr int L = lanes<T>;
  Vec<T> sum[K][V];
  CR_UNROLL for (int k = 0; k < K; ++k)
    CR_UNROLL for (int v = 0; v < V; ++v) sum[k][v] = load(sums + k * width + v * L);
  for (int64_t i = 0; i < gh; ++i) {
    const T* from[K];
    CR_UNROLL for (int k = 0; k < K; ++k) from[k] = x + offset[k] + i * row;
    const T* d = dy + i * gw * width;
    for (int64_t j = 0; j < gw; ++j, d += width) {
      Vec<T> value[V];
      CR_UNROLL for (int v = 0; v < V; ++v) value[v] = load(d + v * L);
      CR_UNROLL for (int k = 0; k < K; ++k) {
        const Vec<T> s = broadcast(from[k][j]);
        CR_UNROLL for (int v = 0; v < V; ++v) sum[k][v] += s * value[v];
      }
    }
  }
  CR_UNROLL for (int k = 0; k < K; ++k)
    CR_UNROLL for (int v = 0; v < V; ++v) store(sums + k * width + v * L, sum[k][v]);
}

template <class T, int K, int V>
CR_INLINE void weight_dispatch(int64_t taps, const T* x, const int64_t* offset, int64_t row,
                               const T* dy, int64_t width, int64_t gh, int64_t gw, T* sums) {
  if constexpr (K > 0) {
    if (taps == K)
      weight_tile<T, K, V>(x, offset, row, dy, width, gh, gw, sums);
    else
      weight_dispatch<T, K - 1, V>(taps, x, offset, row, dy, width, gh, gw, sums);
  }
}

template <class T>
struct Phase {  // one phase of the stride, for dx
  int64_t first_h, first_w, gh, gw;  // first row and column of dx, how many
  int64_t taps;                      // 0: no window reaches these pixels
  Split split;
  const int64_t* offset;
  const T* weight;
};

constexpr int64_t kGroups = 16;   // of images, for sums over them
constexpr int64_t kMaxPhases = 64;

template <class T>
struct Backward {
  Shape s;
  Split split;             // of x, for dweight
  const int64_t* offset;
  int64_t taps, width, groups, phase_count;
  const T *x, *dy, *y;
  const uint8_t* winner;
  T* dx;
  T* partial;              // [groups][taps][width]
  double* dbias;           // [groups][F]
  Phase<T> phases[kMaxPhases];

  void operator()(int64_t group) const {
    T* sums = partial + group * taps * width;
    double* bias_sums = dbias + group * s.f;
    std::memset(sums, 0, taps * width * sizeof(T));
    for (int64_t f = 0; f < s.f; ++f) bias_sums[f] = 0;
    const int64_t first = s.n * group / groups, last = s.n * (group + 1) / groups;
    for (int64_t n = first; n < last; ++n) image(n, sums, bias_sums);
  }

  void image(int64_t n, T* sums, double* bias_sums) const {
    const T* up = upstream(s, dy, y, winner, n);
    const int64_t pixels = s.oh * s.ow;
    for (int64_t f = 0; f < s.f; ++f) {
      constexpr int64_t L = lanes<T>;
      Vec<T> sum = {};
      const T* from = up + f * pixels;
      int64_t p = 0;
      for (; p + L <= pixels; p += L) sum += load(from + p);
      double total = 0;
      for (int i = 0; i < L; ++i) total += sum[i];
      for (; p < pixels; ++p) total += from[p];
      bias_sums[f] += total;
    }
    weights(n, up, sums);
    if (dx) inputs(n, up);
  }

  void weights(int64_t n, const T* up, T* sums) const {
    constexpr int64_t L = lanes<T>;
    T* image = scratch_of<T>(kImage, split.size() + kPad);
    split_image(split, x + n * s.c * s.h * s.w, image);
    T* turned = scratch_of<T>(kTransposed, s.oh * s.ow * width + kPad);
    transpose(up, s.f, s.oh * s.ow, turned, width);
    for (int64_t k = 0; k < taps; k += kTileTaps) {
      const int64_t some = least<int64_t>(kTileTaps, taps - k);
      int64_t v = 0;
      for (; v + 2 * L <= width; v += 2 * L)
        weight_dispatch<T, kTileTaps, 2>(some, image, offset + k, split.cols, turned + v, width,
                                         s.oh, s.ow, sums + k * width + v);
      for (; v < width; v += L)
        weight_dispatch<T, kTileTaps, 1>(some, image, offset + k, split.cols, turned + v, width,
                                         s.oh, s.ow, sums + k * width + v);
    }
  }

  void inputs(int64_t n, const T* up) const {
    T* to = dx + n * s.c * s.h * s.w;
    for (int64_t q = 0; q < phase_count; ++q) {
      const Phase<T>& p = phases[q];
      if (p.gh == 0 || p.gw == 0) continue;
      const bool whole = s.sh == 1 && s.sw == 1;
      T* out = whole ? to : scratch_of<T>(kPlane, s.c * p.gh * p.gw + kPad);
      if (p.taps == 0) {
        std::memset(out, 0, s.c * p.gh * p.gw * sizeof(T));
      } else {
        T* image = scratch_of<T>(kImage, p.split.size() + kPad);
        split_image(p.split, up, image);
        const Grid<T> grid{p.gh, p.gw, p.split.cols, p.offset, 1, p.taps, p.weight, nullptr, s.c};
        plain_image(grid, image, out, false);
      }
      if (!whole)
        for (int64_t c = 0; c < s.c; ++c)
          for (int64_t i = 0; i < p.gh; ++i)
            for (int64_t j = 0; j < p.gw; ++j)
              to[(c * s.h + p.first_h + i * s.sh) * s.w + p.first_w + j * s.sw] =
                  out[(c * p.gh + i) * p.gw + j];
    }
  }
};

// Taps of the turned filters that reach the pixels of phase (a, b) of the stride:
// dx[c, i] = sum over f, d of dy[f, i + base - d] * weight[f, c, a + d * stride].
template <class T>
Phase<T> make_phase(const Shape& s, int64_t a, int64_t b, const T* weight, int64_t* offset,
                    T* packed, T* plain) {
  Phase<T> p{};
  // pixel h of dx lies at padded row h + ph = a (mod sh)
  p.first_h = ((a - s.ph) % s.sh + s.sh) % s.sh;
  p.first_w = ((b - s.pw) % s.sw + s.sw) % s.sw;
  p.gh = p.first_h < s.h ? (s.h - p.first_h - 1) / s.sh + 1 : 0;
  p.gw = p.first_w < s.w ? (s.w - p.first_w - 1) / s.sw + 1 : 0;
  const int64_t base_h = (p.first_h + s.ph - a) / s.sh, base_w = (p.first_w + s.pw - b) / s.sw;
  const int64_t nh = a < s.kh ? (s.kh - a - 1) / s.sh + 1 : 0;
  const int64_t nw = b < s.kw ? (s.kw - b - 1) / s.sw + 1 : 0;
  p.taps = s.f * nh * nw;
  // row i reads dy rows i + base_h - (nh - 1) .. i + base_h
  p.split = Split{s.f, s.oh, s.ow, 1, 1, nh - 1 - base_h, nw - 1 - base_w, 0, 0, 0};
  p.split.rows = p.gh + (nh ? nh - 1 : 0);
  p.split.cols = p.gw + (nw ? nw - 1 : 0);
  p.split.plane = p.split.rows * p.split.cols;
  int64_t k = 0;
  for (int64_t f = 0; f < s.f; ++f)
    for (int64_t r = 0; r < nh; ++r)
      for (int64_t t = 0; t < nw; ++t, ++k) {
        offset[k] = f * p.split.plane + r * p.split.cols + t;
        const int64_t row = a + (nh - 1 - r) * s.sh, col = b + (nw - 1 - t) * s.sw;
        for (int64_t c = 0; c < s.c; ++c)
          plain[c * p.taps + k] = weight[((f * s.c + c) * s.kh + row) * s.kw + col];
      }
  pack_weights(plain, s.c, p.taps, kTileFilters, packed);
  p.offset = offset;
  p.weight = packed;
  return p;
}

// y: output of a fused ReLU, or null. winner: of fused pooling (dy is then the pooled gradient),
// or null. dx: null to skip it.
template <class T>
bool conv_backward(const Shape& s, const T* x, const T* weight, const T* dy, const T* y,
                   const uint8_t* winner, T* dx, T* dweight, T* dbias, int threads) {
  const int64_t phase_count = s.sh * s.sw;
  if (phase_count > kMaxPhases) return false;
  Backward<T> work{};
  work.s = s;
  work.split = split_for(s, 1, s.oh, s.ow);
  work.taps = s.c * s.kh * s.kw;
  work.width = round_up(s.f, lanes<T>);
  work.groups = least(s.n, kGroups);
  work.x = x, work.dy = dy, work.y = y, work.winner = winner, work.dx = dx;
  const int64_t weights = s.f * work.taps;
  int64_t* offset = scratch_of<int64_t>(kPartial, 2 * work.taps + s.f * s.kh * s.kw + kPad);
  tap_offsets(s, work.split, 1, offset);
  work.offset = offset;
  const int64_t partial = work.groups * work.taps * work.width;
  T* memory = scratch_of<T>(kWeights, 2 * weights + partial + kPad);
  work.partial = memory + 2 * weights;
  double* bias_sums = scratch_of<double>(kPlane + 8, work.groups * s.f);
  work.dbias = bias_sums;
  if (dx) {
    int64_t* phase_offset = offset + work.taps;
    T* packed = memory;
    for (int64_t a = 0; a < s.sh; ++a)
      for (int64_t b = 0; b < s.sw; ++b) {
        Phase<T>& p = work.phases[work.phase_count++];
        p = make_phase(s, a, b, weight, phase_offset, packed, memory + weights);
        phase_offset += p.taps;
        packed += p.taps * s.c;
      }
  }
  parallel(work.groups, threads, work);
  for (int64_t f = 0; f < s.f; ++f) {
    for (int64_t k = 0; k < work.taps; ++k) {
      T total = 0;
      for (int64_t g = 0; g < work.groups; ++g)
        total += work.partial[(g * work.taps + k) * work.width + f];
      dweight[f * work.taps + k] = total;
    }
    if (dbias) {
      double total = 0;
      for (int64_t g = 0; g < work.groups; ++g) total += bias_sums[g * s.f + f];
      dbias[f] = static_cast<T>(total);
    }
  }
  return true;
}

}  // namespace
