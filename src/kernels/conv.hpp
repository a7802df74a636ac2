// Convolution without im2col.
//
// Each image is copied once into a zero-padded scratch, split by phase: with an effective stride
// s, padded row u goes to plane u % s, row u / s, and columns likewise. Then the input of tap
// (c, r, t) at output pixel (i, j) lies at offset[c, r, t] + i * width + j, whatever kernel,
// stride and padding are, and neighbouring outputs read neighbouring values.
//
// A tile of V vectors of pixels times F filters stays in registers for the sum over all taps. Where
// an output row is not a multiple of the vector, the pixels of a tile are first packed side by
// side.
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

template <class T, int N>
struct ChunkOf {
  typedef T type __attribute__((vector_size(N * sizeof(T)), aligned(sizeof(T)), may_alias));
};

template <class T, int N = lanes<T>>
struct Shuffle {  // of two neighbouring vectors, pairs of values apart and together
  using Vector = typename ChunkOf<T, N>::type;
  using Index = decltype(Vector{} < Vector{});
  Index even, odd, low, high;
  Shuffle() {
    for (int i = 0; i < N; ++i) {
      even[i] = 2 * i;
      odd[i] = 2 * i + 1;
      low[i] = i / 2 + (i % 2) * N;
      high[i] = N / 2 + i / 2 + (i % 2) * N;
    }
  }
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
CR_INLINE void copy_row(const T* from, T* to, int64_t count) {
  constexpr int64_t L = lanes<T>;
  if (count < L) {
    for (int64_t j = 0; j < count; ++j) to[j] = from[j];
    return;
  }
  for (int64_t j = 0; j + L < count; j += L) store(to + j, load(from + j));
  store(to + count - L, load(from + count - L));
}

// to[j] = from[2 j]; reads no further than from[2 count - 2]
template <class T>
CR_INLINE void copy_every_other(const T* from, T* to, int64_t count) {
  constexpr int64_t L = lanes<T>;
  if (count >= L) {
    const Shuffle<T> in;
    auto last = in.even;  // of a second vector that begins one value earlier
    for (int64_t i = L / 2; i < L; ++i) last[i] += 1;
    for (int64_t j = 0; j + L < count; j += L)
      store(to + j, __builtin_shuffle(load(from + 2 * j), load(from + 2 * j + L), in.even));
    const int64_t j = count - L;
    store(to + j, __builtin_shuffle(load(from + 2 * j), load(from + 2 * j + L - 1), last));
    return;
  }
  for (int64_t j = 0; j < count; ++j) to[j] = from[2 * j];
}

template <class T>
void split_image(const Split& s, const T* __restrict x, T* __restrict out) {
  for (int64_t b = 0; b < s.mw; ++b) {
    // columns j with 0 <= j * mw + b - left < w
    const int64_t shift = s.left - b;
    const int64_t first = least(s.cols, shift <= 0 ? 0 : (shift + s.mw - 1) / s.mw);
    const int64_t end = s.w + shift <= 0 ? 0 : (s.w + shift - 1) / s.mw + 1;
    const int64_t last = greatest(first, least(s.cols, end));
    for (int64_t c = 0; c < s.c; ++c)
      for (int64_t a = 0; a < s.mh; ++a) {
        T* __restrict to = out + ((c * s.mh + a) * s.mw + b) * s.plane;
        for (int64_t i = 0; i < s.rows; ++i, to += s.cols) {
          const int64_t row = i * s.mh + a - s.top;
          if (row < 0 || row >= s.h) {
            for (int64_t j = 0; j < s.cols; ++j) to[j] = T(0);
            continue;
          }
          const T* __restrict from = x + (c * s.h + row) * s.w;
          for (int64_t j = 0; j < first; ++j) to[j] = T(0);
          if (s.mw == 1)
            copy_row(from + first - shift, to + first, last - first);
          else if (s.mw == 2)
            copy_every_other(from + 2 * first - shift, to + first, last - first);
          else
            for (int64_t j = first; j < last; ++j) to[j] = from[j * s.mw - shift];
          for (int64_t j = last; j < s.cols; ++j) to[j] = T(0);
        }
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
        store_part(y + f * plane + v * lanes<T>, sum[v][f], count - v * lanes<T>);
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

// The first of the four that is largest, as a number 0 to 3, or 4 where ReLU makes it 0; NaN counts
// as largest, but passes nothing back. `best` is what comes out.
template <class T>
CR_INLINE typename Shuffle<T>::Index largest(const Vec<T> (&pixel)[4], Vec<T>& best) {
  using Index = typename Shuffle<T>::Index;
  best = pixel[0];
  Index which = {};
  CR_UNROLL for (int v = 1; v < 4; ++v) {
    const Index better = (pixel[v] > best) | ((pixel[v] != pixel[v]) & (best == best));
    best = better ? pixel[v] : best;
    which = better ? Index{} + v : which;
  }
  which = best > Vec<T>{} ? which : Index{} + 4;
  best = rectified<T>(best);
  return which;
}

template <class T>
CR_INLINE void store_bytes(uint8_t* to, typename Shuffle<T>::Index which, int64_t count) {
  using Bytes = typename ChunkOf<uint8_t, lanes<T>>::type;
  const Bytes bytes = __builtin_convertvector(which, Bytes);
  std::memcpy(to, &bytes, static_cast<size_t>(least<int64_t>(count, lanes<T>)));
}

template <class T>
CR_INLINE void relu_pool_windows(const Vec<T> (&pixel)[4], T* y, uint8_t* winner, int64_t count) {
  Vec<T> best;
  const auto which = largest<T>(pixel, best);
  store_part(y, best, count);
  store_bytes<T>(winner, which, count);
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

// The inverse, of windows from j on as long as there are N: gradients go to the pixels that were
// taken, zeros elsewhere. Returns where it stopped.
template <class T, int N>
CR_INLINE int64_t unpool_windows(const T* dy, const uint8_t* winner, int64_t j, int64_t count,
                                 T* top, T* bottom) {
  using Vector = typename Shuffle<T, N>::Vector;
  using Index = typename Shuffle<T, N>::Index;
  using Bytes = typename ChunkOf<uint8_t, N>::type;
  const Shuffle<T, N> to;
  for (; j + N <= count; j += N) {
    Bytes bytes;
    std::memcpy(&bytes, winner + j, sizeof bytes);
    const Index which = __builtin_convertvector(bytes, Index);
    const Vector d = *reinterpret_cast<const Vector*>(dy + j), zero = {};
    const Vector a = which == 0 ? d : zero, b = which == 1 ? d : zero;
    const Vector e = which == 2 ? d : zero, f = which == 3 ? d : zero;
    *reinterpret_cast<Vector*>(top + 2 * j) = __builtin_shuffle(a, b, to.low);
    *reinterpret_cast<Vector*>(top + 2 * j + N) = __builtin_shuffle(a, b, to.high);
    *reinterpret_cast<Vector*>(bottom + 2 * j) = __builtin_shuffle(e, f, to.low);
    *reinterpret_cast<Vector*>(bottom + 2 * j + N) = __builtin_shuffle(e, f, to.high);
  }
  return j;
}

template <class T>
void unpool(const T* dy, const uint8_t* winner, int64_t planes, int64_t h, int64_t w, T* dx) {
  constexpr int L = lanes<T>;
  const int64_t gh = h / 2, gw = w / 2;
  if (h % 2 || w % 2) std::memset(dx, 0, planes * h * w * sizeof(T));
  for (int64_t c = 0; c < planes; ++c)
    for (int64_t i = 0; i < gh; ++i) {
      T* top = dx + (c * h + 2 * i) * w;
      T* bottom = top + w;
      const T* g = dy + (c * gh + i) * gw;
      const uint8_t* taken = winner + (c * gh + i) * gw;
      int64_t j = unpool_windows<T, L>(g, taken, 0, gw, top, bottom);
      if constexpr (L >= 8) j = unpool_windows<T, L / 2>(g, taken, j, gw, top, bottom);
      if constexpr (L >= 16) j = unpool_windows<T, L / 4>(g, taken, j, gw, top, bottom);
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

}  // namespace
