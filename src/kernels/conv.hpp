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
constexpr int kTilePixels = 2, kTileFilters = 13, kTileTaps = 12;
constexpr int kNarrowPixels = 6, kNarrowFilters = 4;
#else
constexpr int kTilePixels = 2, kTileFilters = 6, kTileTaps = 5;
constexpr int kNarrowPixels = 3, kNarrowFilters = 4;
#endif
constexpr int kMostPixels = kNarrowPixels;
constexpr int kPad = 64;  // elements of slack behind every scratch array

enum Scratch { kImage = 0, kPanel, kUpstream, kTransposed, kPlane, kWeights, kOffsets, kPartial,
               kCopies, kBiasSums, kProducts };

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
// A grid of gh x gw output pixels over a split image.
template <class T>
struct Grid {
  int64_t gh, gw, row;          // pixels; row: distance between rows in the split image
  const int64_t* offset;        // of each tap
  int64_t taps;
  const T* weight;              // packed
  const T* bias;
  int64_t filters;
};

template <class T, int N>
struct ChunkOf {
  typedef T type __attribute__((vector_size(N * sizeof(T)), aligned(sizeof(T)), may_alias));
};

struct Run {  // of pixels that lie side by side in a row
  int64_t from, to, count;
};

template <class T, int N>
void pack_runs(const T* x, const int64_t* offset, int64_t taps, const Run* run, int64_t runs,
               T* panel, int64_t width) {
  using Chunk = typename ChunkOf<T, N>::type;
  for (int64_t k = 0; k < taps; ++k) {
    const T* from = x + offset[k];
    T* to = panel + k * width;
    // A chunk may run over the end of its run: what comes after it is written later.
    for (int64_t r = 0; r < runs; ++r)
      for (int64_t v = 0; v < run[r].count; v += N)
        *reinterpret_cast<Chunk*>(to + run[r].to + v) =
            *reinterpret_cast<const Chunk*>(from + run[r].from + v);
  }
}

// Copy `count` pixels from `pixel` on, for each tap, to rows of `width`, in ascending order, with
// kPad elements of slack behind the last.
template <class T>
void pack_pixels(const Grid<T>& g, const T* x, int64_t pixel, int64_t count, T* panel,
                 int64_t width) {
  Run run[kMostPixels * lanes<T>];
  int64_t runs = 0, i = pixel / g.gw, j = pixel % g.gw;
  for (int64_t done = 0; done < count; ++i, j = 0) {
    const int64_t some = least(g.gw - j, count - done);
    run[runs++] = {i * g.row + j, done, some};
    done += some;
  }
  const int64_t* offset = g.offset;
  if (g.gw <= 4)
    pack_runs<T, 4>(x, offset, g.taps, run, runs, panel, width);
  else if (g.gw <= 8)
    pack_runs<T, 8>(x, offset, g.taps, run, runs, panel, width);
  else
    pack_runs<T, 16>(x, offset, g.taps, run, runs, panel, width);
}

// V vectors of pixels times up to F filters at a time.
template <class T, int V, int F>
void tiled_image(const Grid<T>& g, const T* x, T* y, bool relu) {
  constexpr int64_t L = lanes<T>, width = V * L;
  const int64_t pixels = g.gh * g.gw, blocks = (g.filters + F - 1) / F;
  int64_t start[V];
  const bool direct = g.gw % L == 0;
  Tile<T> tile{x, g.offset, g.taps, start};
  T* panel = nullptr;
  if (!direct) {
    panel = scratch_of<T>(kPanel, g.taps * width + kPad);
    int64_t* linear = scratch_of<int64_t>(kOffsets, g.taps);
    for (int64_t k = 0; k < g.taps; ++k) linear[k] = k * width;
    for (int v = 0; v < V; ++v) start[v] = v * L;
    tile = {panel, linear, g.taps, start};
  }
  const auto block_of = [&](int64_t b, int64_t p) {
    const Block block = filter_block(g.filters, F, b);
    plain_dispatch<T, V, F>(block.count, tile, g.weight + block.first * g.taps,
                            g.bias ? g.bias + block.first : nullptr,
                            y + block.first * pixels + p, pixels, pixels - p, relu);
  };
  if (direct) {
    for (int64_t b = 0; b < blocks; ++b)  // its weights stay in the first-level cache
      for (int64_t p = 0; p < pixels; p += width) {
        for (int v = 0; v < V; ++v) {
          const int64_t at = least(p + v * L, pixels - L);
          start[v] = at / g.gw * g.row + at % g.gw;
        }
        block_of(b, p);
      }
  } else {
    for (int64_t p = 0; p < pixels; p += width) {
      pack_pixels(g, x, p, least(width, pixels - p), panel, width);
      for (int64_t b = 0; b < blocks; ++b) block_of(b, p);
    }
  }
}

// With few filters a tile takes more pixels, to have enough sums under way at once.
constexpr int64_t most_filters(int64_t filters) {
  return filters <= kNarrowFilters ? kNarrowFilters : kTileFilters;
}

template <class T>
void plain_image(const Grid<T>& g, const T* x, T* y, bool relu) {
  if (g.filters <= kNarrowFilters)
    tiled_image<T, kNarrowPixels, kNarrowFilters>(g, x, y, relu);
  else
    tiled_image<T, kTilePixels, kTileFilters>(g, x, y, relu);
}

// ---- ReLU and 2x2 max pooling of planes that are still in the cache ---------------------------

template <class T>
struct Shuffle {  // of two neighbouring vectors, pairs of values apart and together
  using Index = decltype(Vec<T>{} < Vec<T>{});
  Index even, odd, low, high;
  Shuffle() {
    constexpr int L = lanes<T>;
    for (int i = 0; i < L; ++i) {
      even[i] = 2 * i;
      odd[i] = 2 * i + 1;
      low[i] = i / 2 + (i % 2) * L;
      high[i] = L / 2 + i / 2 + (i % 2) * L;
    }
  }
};

// The first of the four that is largest, as a number 0 to 3; NaN counts as largest.
template <class T>
CR_INLINE void relu_pool_windows(const Vec<T> (&pixel)[4], T* y, uint8_t* winner, int64_t count) {
  using Index = typename Shuffle<T>::Index;
  using Bytes = typename ChunkOf<uint8_t, lanes<T>>::type;
  Vec<T> best = pixel[0];
  Index which = {};
  CR_UNROLL for (int v = 1; v < 4; ++v) {
    const Index better = (pixel[v] > best) | ((pixel[v] != pixel[v]) & (best == best));
    best = better ? pixel[v] : best;
    which = better ? Index{} + v : which;
  }
  which = best > Vec<T>{} ? which : Index{} + 4;  // NaN and what ReLU stops pass nothing back
  store_some<T>(y, rectified<T>(best), count);
  const Bytes bytes = __builtin_convertvector(which, Bytes);
  std::memcpy(winner, &bytes, static_cast<size_t>(least<int64_t>(count, lanes<T>)));
}

template <class T>
void relu_pool(const T* x, int64_t planes, int64_t h, int64_t w, T* y, uint8_t* winner) {
  constexpr int64_t L = lanes<T>;
  const int64_t gh = h / 2, gw = w / 2;
  const Shuffle<T> to;
  for (int64_t c = 0; c < planes; ++c)
    for (int64_t i = 0; i < gh; ++i) {
      const T* top = x + (c * h + 2 * i) * w;
      const T* bottom = top + w;
      const int64_t out = (c * gh + i) * gw;
      for (int64_t j = 0; j < gw; j += L) {  // reads past the row; x has slack behind it
        const Vec<T> a = load(top + 2 * j), b = load(top + 2 * j + L);
        const Vec<T> d = load(bottom + 2 * j), e = load(bottom + 2 * j + L);
        const Vec<T> pixel[4] = {__builtin_shuffle(a, b, to.even), __builtin_shuffle(a, b, to.odd),
                                 __builtin_shuffle(d, e, to.even), __builtin_shuffle(d, e, to.odd)};
        relu_pool_windows<T>(pixel, y + out + j, winner + out + j, gw - j);
      }
    }
}

// The inverse: gradients go to the pixels that were taken, zeros elsewhere.
template <class T>
void unpool(const T* dy, const uint8_t* winner, int64_t planes, int64_t h, int64_t w, T* dx) {
  constexpr int64_t L = lanes<T>;
  using Index = typename Shuffle<T>::Index;
  using Bytes = typename ChunkOf<uint8_t, lanes<T>>::type;
  const int64_t gh = h / 2, gw = w / 2;
  const Shuffle<T> to;
  if (h % 2 || w % 2) std::memset(dx, 0, planes * h * w * sizeof(T));
  for (int64_t c = 0; c < planes; ++c)
    for (int64_t i = 0; i < gh; ++i) {
      T* top = dx + (c * h + 2 * i) * w;
      T* bottom = top + w;
      const T* g = dy + (c * gh + i) * gw;
      const uint8_t* taken = winner + (c * gh + i) * gw;
      int64_t j = 0;
      for (; j + L <= gw; j += L) {
        Bytes bytes;
        std::memcpy(&bytes, taken + j, sizeof bytes);
        const Index which = __builtin_convertvector(bytes, Index);
        const Vec<T> d = load(g + j), zero = {};
        const Vec<T> a = which == 0 ? d : zero, b = which == 1 ? d : zero;
        const Vec<T> e = which == 2 ? d : zero, f = which == 3 ? d : zero;
        store(top + 2 * j, __builtin_shuffle(a, b, to.low));
        store(top + 2 * j + L, __builtin_shuffle(a, b, to.high));
        store(bottom + 2 * j, __builtin_shuffle(e, f, to.low));
        store(bottom + 2 * j + L, __builtin_shuffle(e, f, to.high));
      }
      for (; j < gw; ++j) {
        top[2 * j] = taken[j] == 0 ? g[j] : T(0);
        top[2 * j + 1] = taken[j] == 1 ? g[j] : T(0);
        bottom[2 * j] = taken[j] == 2 ? g[j] : T(0);
        bottom[2 * j + 1] = taken[j] == 3 ? g[j] : T(0);
      }
    }
}

// ---- forward --------------------------------------------------------------------------------

inline Split split_for(const Shape& s) {
  Split split{s.c, s.h, s.w, s.sh, s.sw, s.ph, s.pw, 0, 0, 0};
  split.rows = s.oh + (s.kh - 1) / s.sh;
  split.cols = s.ow + (s.kw - 1) / s.sw;
  split.plane = split.rows * split.cols;
  return split;
}

inline void tap_offsets(const Shape& s, const Split& p, int64_t* offset) {
  for (int64_t c = 0; c < s.c; ++c)
    for (int64_t r = 0; r < s.kh; ++r)
      for (int64_t t = 0; t < s.kw; ++t)
        *offset++ = ((c * p.mh + r % p.mh) * p.mw + t % p.mw) * p.plane + r / p.mh * p.cols +
                    t / p.mw;
}

template <class T>
struct Forward {
  Shape s;
  Split split;
  Grid<T> grid;
  const T* x;
  T* y;
  uint8_t* winner;  // of fused pooling, or null
  bool relu;
  void operator()(int64_t n) const {
    T* image = scratch_of<T>(kImage, split.size() + kPad);
    split_image(split, x + n * s.c * s.h * s.w, image);
    if (winner) {
      const int64_t size = s.f * (s.oh / 2) * (s.ow / 2);
      T* full = scratch_of<T>(kPlane, s.f * s.oh * s.ow + kPad);
      plain_image(grid, image, full, false);
      relu_pool(full, s.f, s.oh, s.ow, y + n * size, winner + n * size);
    } else {
      plain_image(grid, image, y + n * s.f * s.oh * s.ow, relu);
    }
  }
};

// y (N, F, OH, OW), or with `winner` (N, F, OH / 2, OW / 2): ReLU and 2x2 max pooling follow, and
// winner, of the shape of y, says which pixel of the window was taken, 4 if ReLU stopped it.
template <class T>
void conv_forward(const Shape& s, const T* x, const T* weight, const T* bias, T* y,
                  uint8_t* winner, bool relu, int threads) {
  const int64_t taps = s.c * s.kh * s.kw;
  Forward<T> work{s, split_for(s), {}, x, y, winner, relu};
  T* packed = scratch_of<T>(kWeights, s.f * taps + kPad);
  pack_weights(weight, s.f, taps, most_filters(s.f), packed);
  int64_t* offset = scratch_of<int64_t>(kPartial, taps);
  tap_offsets(s, work.split, offset);
  work.grid = {s.oh, s.ow, work.split.cols, offset, taps, packed, bias, s.f};
  parallel(s.n, threads, work);
}

// ---- backward -------------------------------------------------------------------------------

// dy of an image, through pooling and ReLU where they were fused: (F, OH, OW).
template <class T>
const T* upstream(const Shape& s, const T* dy, const T* y, const uint8_t* winner, int64_t n) {
  const int64_t size = s.f * s.oh * s.ow;
  if (winner) {
    const int64_t pooled = s.f * (s.oh / 2) * (s.ow / 2);
    T* full = scratch_of<T>(kUpstream, size + kPad);
    unpool(dy + n * pooled, winner + n * pooled, s.f, s.oh, s.ow, full);
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

// a (F, P) to blocks of two vectors of filters (the last may be one): [block][pixel][filter],
// zeros for F <= f < width; width is a multiple of the vector
template <class T>
void transpose(const T* __restrict a, int64_t filters, int64_t pixels, T* __restrict out,
               int64_t width) {
  constexpr int64_t L = lanes<T>;
  for (int64_t f = 0; f < width; f += L) {
    const int64_t first = f / (2 * L) * 2 * L, step = least(2 * L, width - first);
    T* to = out + first * pixels + (f - first);
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
      for (int64_t j = 0; j < cols; ++j) store(to + (p + j) * step, load(block[j]));
    }
  }
}

// sums[f] += the sum of plane f
template <class T>
void sum_planes(const T* planes, int64_t count, int64_t pixels, double* sums) {
  constexpr int64_t L = lanes<T>;
  for (int64_t f = 0; f < count; ++f) {
    Vec<T> sum = {};
    const T* from = planes + f * pixels;
    int64_t p = 0;
    for (; p + L <= pixels; p += L) sum += load(from + p);
    double total = 0;
    for (int i = 0; i < L; ++i) total += sum[i];
    for (; p < pixels; ++p) total += from[p];
    sums[f] += total;
  }
}

// Several images side by side, for dweight: their split copies and their transposed dy.
template <class T>
struct Batch {
  const T *x, *dy;
  int64_t images, x_apart, dy_apart;
  int64_t row, gh, gw;  // of the grid of output pixels over the split copy
  int64_t width;        // filters, rounded up to whole vectors
};

// sum[k][v] += x[k][pixel] * dy[pixel][v] over the pixels of a batch
template <class T, int K, int V>
void weight_tile(const Batch<T>& batch, const int64_t* offset, int64_t first, T* sums) {
  constexpr int L = lanes<T>;
  const int64_t width = batch.width, gw = batch.gw;
  Vec<T> sum[K][V];
  CR_UNROLL for (int k = 0; k < K; ++k)
    CR_UNROLL for (int v = 0; v < V; ++v) sum[k][v] = load(sums + k * width + v * L);
  for (int64_t n = 0; n < batch.images; ++n) {
    const T* x = batch.x + n * batch.x_apart;
    const T* from[K];
    CR_UNROLL for (int k = 0; k < K; ++k) from[k] = x + offset[k];
    const T* d = batch.dy + n * batch.dy_apart + first * batch.gh * gw;
    for (int64_t i = 0; i < batch.gh; ++i) {
      const int64_t begin = i * batch.row;
      for (int64_t j = begin; j < begin + gw; ++j, d += V * L) {
        Vec<T> value[V];
        CR_UNROLL for (int v = 0; v < V; ++v) value[v] = load(d + v * L);
        CR_UNROLL for (int k = 0; k < K; ++k) {
          const Vec<T> s = broadcast(from[k][j]);
          CR_UNROLL for (int v = 0; v < V; ++v) sum[k][v] += s * value[v];
        }
      }
    }
  }
  CR_UNROLL for (int k = 0; k < K; ++k)
    CR_UNROLL for (int v = 0; v < V; ++v) store(sums + k * width + v * L, sum[k][v]);
}

template <class T, int K, int V>
CR_INLINE void weight_dispatch(int64_t taps, const Batch<T>& batch, const int64_t* offset,
                               int64_t first, T* sums) {
  if constexpr (K > 0) {
    if (taps == K)
      weight_tile<T, K, V>(batch, offset, first, sums);
    else
      weight_dispatch<T, K - 1, V>(taps, batch, offset, first, sums);
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
constexpr int64_t kBatchBytes = 256 << 10;  // of images whose sums are taken together
constexpr int64_t kMaxPhases = 64;

template <class T>
struct Backward {
  Shape s;
  Split split;             // of x, for dweight
  const int64_t* offset;
  int64_t taps, width, groups, phase_count;
  int64_t batch_size;      // images whose sums are taken in one go
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
    for (int64_t n = first; n < last; n += batch_size)
      batch(n, least(batch_size, last - n), sums, bias_sums);
  }

  void batch(int64_t first, int64_t images, T* sums, double* bias_sums) const {
    const int64_t pixels = s.oh * s.ow;
    const int64_t x_apart = split.size() + kPad, dy_apart = pixels * width;
    T* copies = scratch_of<T>(kCopies, batch_size * x_apart);
    T* turned = scratch_of<T>(kTransposed, batch_size * dy_apart + kPad);
    for (int64_t i = 0; i < images; ++i) {
      const int64_t n = first + i;
      const T* up = upstream(s, dy, y, winner, n);
      sum_planes(up, s.f, pixels, bias_sums);
      split_image(split, x + n * s.c * s.h * s.w, copies + i * x_apart);
      transpose(up, s.f, pixels, turned + i * dy_apart, width);
      if (dx) inputs(n, up);
    }
    const Batch<T> all{copies, turned, images, x_apart, dy_apart, split.cols, s.oh, s.ow, width};
    constexpr int64_t L = lanes<T>;
    for (int64_t k = 0; k < taps; k += kTileTaps) {
      const int64_t some = least<int64_t>(kTileTaps, taps - k);
      int64_t v = 0;
      for (; v + 2 * L <= width; v += 2 * L)
        weight_dispatch<T, kTileTaps, 2>(some, all, offset + k, v, sums + k * width + v);
      for (; v < width; v += L)
        weight_dispatch<T, kTileTaps, 1>(some, all, offset + k, v, sums + k * width + v);
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
        const Grid<T> grid{p.gh, p.gw, p.split.cols, p.offset, p.taps, p.weight, nullptr, s.c};
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
  pack_weights(plain, s.c, p.taps, most_filters(s.c), packed);
  p.offset = offset;
  p.weight = packed;
  return p;
}

constexpr int64_t kReduceTaps = 16;

// dweight (F, taps) from the groups' sums, in the order of the groups.
template <class T>
struct Reduce {
  const Backward<T>& work;
  T* dweight;
  void operator()(int64_t part) const {
    constexpr int64_t L = lanes<T>;
    const int64_t first = part * kReduceTaps, taps = least(kReduceTaps, work.taps - first);
    const int64_t apart = work.taps * work.width;
    T* sums = work.partial + first * work.width;  // into those of the first group
    for (int64_t g = 1; g < work.groups; ++g)
      for (int64_t i = 0; i < taps * work.width; i += L)
        store(sums + i, load(sums + i) + load(sums + g * apart + i));
    for (int64_t f = 0; f < work.s.f; ++f)
      for (int64_t k = 0; k < taps; ++k)
        dweight[f * work.taps + first + k] = work.groups ? sums[k * work.width + f] : T(0);
  }
};

// y: output of a fused ReLU, or null. winner: of fused pooling (dy is then the pooled gradient),
// or null. dx: null to skip it.
template <class T>
bool conv_backward(const Shape& s, const T* x, const T* weight, const T* dy, const T* y,
                   const uint8_t* winner, T* dx, T* dweight, T* dbias, int threads) {
  const int64_t phase_count = s.sh * s.sw;
  if (phase_count > kMaxPhases) return false;
  Backward<T> work{};
  work.s = s;
  work.split = split_for(s);
  work.taps = s.c * s.kh * s.kw;
  work.width = round_up(s.f, lanes<T>);
  work.groups = least(s.n, kGroups);
  const int64_t bytes = (work.split.size() + s.oh * s.ow * work.width) * sizeof(T);
  work.batch_size = greatest<int64_t>(1, least<int64_t>(8, kBatchBytes / bytes));
  work.x = x, work.dy = dy, work.y = y, work.winner = winner, work.dx = dx;
  const int64_t weights = s.f * work.taps;
  int64_t* offset = scratch_of<int64_t>(kPartial, 2 * work.taps + s.f * s.kh * s.kw + kPad);
  tap_offsets(s, work.split, offset);
  work.offset = offset;
  const int64_t partial = work.groups * work.taps * work.width;
  T* memory = scratch_of<T>(kWeights, 2 * weights + partial + kPad);
  work.partial = memory + 2 * weights;
  double* bias_sums = scratch_of<double>(kBiasSums, work.groups * s.f);
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
  Reduce<T> reduce{work, dweight};
  parallel((work.taps + kReduceTaps - 1) / kReduceTaps, threads, reduce);
  for (int64_t f = 0; dbias && f < s.f; ++f) {
    double total = 0;
    for (int64_t g = 0; g < work.groups; ++g) total += bias_sums[g * s.f + f];
    dbias[f] = static_cast<T>(total);
  }
  return true;
}

}  // namespace
