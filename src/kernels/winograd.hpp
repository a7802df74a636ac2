// 3x3 convolution with stride 1 by Winograd's minimal filtering F(2x2, 3x3).
//
// A 4x4 tile d of the input gives a 2x2 tile of the output with 16 multiplications instead of 36:
//
//   y = A' [ (G g G') * (B' d B) ] A,      * elementwise
//
//        | 1  0 -1  0 |        | 1    0    0  |        | 1  1  1  0 |
//   B' = | 0  1  1  0 |    G = | 1/2  1/2 1/2 |   A' = | 0  1 -1 -1 |
//        | 0 -1  1  0 |        | 1/2 -1/2 1/2 |
//        | 0  1  0 -1 |        | 0    0    1  |
//
// Summed over channels this is 16 matrix products, one for each place in the tile. The gradients
// are the transposes: dx is the same with the filters turned round, and
// dg = G' [ (A dy A') * (B' d B) ] G, again 16 products, now summed over tiles.
// Lavin and Gray, "Fast algorithms for convolutional neural networks", arXiv:1509.09308.
//
// Vectors run over tiles (or over filters, for dg), so the transforms are plain additions. An
// infinite input would become NaN in its neighbours (inf - inf), so the caller looks first
// whether all numbers are of moderate size.
#pragma once

#include "conv_backward.hpp"

namespace {

constexpr int kPlaces = 16;
constexpr int64_t kForwardTiles = 64;   // of a unit of work: its two buffers stay in L2
constexpr int64_t kGradientTiles = 128;

// 3x3 images of c channels to f channels, as tiles.
struct Tiling {
  int64_t c, f, oh, ow;   // channels in and out, output size
  int64_t th, tw, tiles;  // 2x2 tiles of an image
  Split split;            // its padded copy
};

inline Tiling make_tiling(int64_t c, int64_t h, int64_t w, int64_t f, int64_t oh, int64_t ow,
                          int64_t top, int64_t left) {
  Tiling t{c, f, oh, ow, (oh + 1) / 2, (ow + 1) / 2, 0, Split{c, h, w, 1, 1, top, left, 0, 0, 0}};
  t.tiles = t.th * t.tw;
  t.split.rows = 2 * t.th + 2;
  t.split.cols = 2 * t.tw + 2;
  t.split.plane = t.split.rows * t.split.cols;
  return t;
}

// Elements between the places of (count, width) numbers each: not a power of two, which would put
// all places into the same few lines of a cache, and with room to write over the end.
template <class T>
constexpr int64_t places_apart(int64_t count, int64_t width) {
  return count * width + lanes<T> + 64 / int64_t(sizeof(T));
}

struct TileRun {  // tiles side by side: image, row and column of the first, how many, where to
  int64_t image, i, j, to, count;
};

// The runs of `count` tiles from tile `first` of a few images on; returns their number.
inline int64_t tile_runs(const Tiling& t, int64_t first, int64_t count, TileRun* run) {
  int64_t runs = 0;
  int64_t image = first / t.tiles, i = first % t.tiles / t.tw, j = first % t.tw;
  for (int64_t done = 0; done < count;) {
    const int64_t some = least(t.tw - j, count - done);
    run[runs++] = {image, i, j, done, some};
    done += some;
    j = 0;
    if (++i == t.th) i = 0, ++image;
  }
  return runs;
}

// B' d B of N tiles side by side, or of fewer: the rest is overwritten later. Columns 2 j and
// 2 j + 1 are taken apart only after the rows have been combined.
template <class T, int N>
CR_INLINE void input_transform(const T* from, int64_t cols, T* to, int64_t place_apart) {
  using Vector = typename Shuffle<T, N>::Vector;
  const Shuffle<T, N> in;
  Vector t[4][4];
  CR_UNROLL for (int s = 0; s < 4; ++s) {
    const T* at = from + s / 2 * 2 + s % 2 * N;  // columns 0, N, 2, N + 2
    Vector d[4];
    CR_UNROLL for (int r = 0; r < 4; ++r) d[r] = *reinterpret_cast<const Vector*>(at + r * cols);
    t[0][s] = d[0] - d[2];
    t[1][s] = d[1] + d[2];
    t[2][s] = d[2] - d[1];
    t[3][s] = d[1] - d[3];
  }
  CR_UNROLL for (int r = 0; r < 4; ++r) {
    const Vector a = __builtin_shuffle(t[r][0], t[r][1], in.even);
    const Vector b = __builtin_shuffle(t[r][0], t[r][1], in.odd);
    const Vector c = __builtin_shuffle(t[r][2], t[r][3], in.even);
    const Vector d = __builtin_shuffle(t[r][2], t[r][3], in.odd);
    const Vector out[4] = {a - c, b + c, c - b, b - d};
    CR_UNROLL for (int s = 0; s < 4; ++s)
      *reinterpret_cast<Vector*>(to + (4 * r + s) * place_apart) = out[s];
  }
}

template <class T, int N>
void transform_runs(const Tiling& t, const T* copies, int64_t apart, const TileRun* run,
                    int64_t runs, T* out, int64_t width) {
  for (int64_t c = 0; c < t.c; ++c)
    for (int64_t r = 0; r < runs; ++r) {
      const T* from = copies + run[r].image * apart + c * t.split.plane +
                      2 * (run[r].i * t.split.cols + run[r].j);
      for (int64_t v = 0; v < run[r].count; v += N)
        input_transform<T, N>(from + 2 * v, t.split.cols, out + c * width + run[r].to + v,
                              places_apart<T>(t.c, width));
    }
}

// B' d B of `count` tiles from `first` on: out[place][c][width].
template <class T>
void transform_tiles(const Tiling& t, const T* copies, int64_t apart, int64_t first,
                     int64_t count, T* out, int64_t width) {
  constexpr int L = lanes<T>;
  TileRun run[kGradientTiles];
  const int64_t runs = tile_runs(t, first, count, run);
  if (t.tw <= 4 && L > 4)
    transform_runs<T, 4>(t, copies, apart, run, runs, out, width);
  else if (t.tw <= 8 && L > 8)
    transform_runs<T, 8>(t, copies, apart, run, runs, out, width);
  else
    transform_runs<T, L>(t, copies, apart, run, runs, out, width);
}

// G g G' of each filter pair: out[place], packed for tiles of filters over c taps. `turned`: the
// filters of dx, weight[f][c] read as [c][f] and turned by half a circle.
template <class T>
void transform_weights(const T* weight, int64_t f, int64_t c, bool turned, T* plain, T* packed,
                       int threads) {
  const int64_t size = f * c;
  auto filter = [=](int64_t i) {
    for (int64_t j = 0; j < c; ++j) {
      const T* g = turned ? weight + (j * f + i) * 9 : weight + (i * c + j) * 9;
      T h[4][3];
      for (int s = 0; s < 3; ++s) {
        const T a = turned ? g[8 - s] : g[s], b = turned ? g[5 - s] : g[3 + s];
        const T d = turned ? g[2 - s] : g[6 + s];
        h[0][s] = a;
        h[1][s] = (a + b + d) / 2;
        h[2][s] = (a - b + d) / 2;
        h[3][s] = d;
      }
      for (int r = 0; r < 4; ++r) {
        const T a = h[r][0], b = h[r][1], d = h[r][2];
        T* to = plain + i * c + j;
        to[(4 * r + 0) * size] = a;
        to[(4 * r + 1) * size] = (a + b + d) / 2;
        to[(4 * r + 2) * size] = (a - b + d) / 2;
        to[(4 * r + 3) * size] = d;
      }
    }
  };
  parallel(f, threads, filter);
  auto place = [=](int64_t q) {
    pack_weights(plain + q * size, f, c, kTileFilters, packed + q * size);
  };
  parallel(kPlaces, threads, place);
}

template <class T, int N>
CR_INLINE void store_chunk(T* to, const T* from) {
  using Chunk = typename ChunkOf<T, N>::type;
  *reinterpret_cast<Chunk*>(to) = *reinterpret_cast<const Chunk*>(from);
}

// Output rows of `count` tiles: 2 * count values, the last one dropped where the width is odd.
template <class T>
CR_INLINE void store_row(T* to, const T* from, int64_t count) {
  if (count == 16)
    store_chunk<T, 16>(to, from);
  else if (count == 8)
    store_chunk<T, 8>(to, from);
  else
    for (int64_t v = 0; v < count; ++v) to[v] = from[v];
}

// A' m A of one vector of tiles of one filter, then bias and what is fused.
template <class T>
CR_INLINE void output_transform(const T* m, int64_t place_apart, T bias, Vec<T> (&y)[4]) {
  Vec<T> t[2][4];
  CR_UNROLL for (int s = 0; s < 4; ++s) {
    const Vec<T> a = load(m + s * place_apart), b = load(m + (4 + s) * place_apart);
    const Vec<T> c = load(m + (8 + s) * place_apart), d = load(m + (12 + s) * place_apart);
    t[0][s] = a + b + c;
    t[1][s] = b - c - d;
  }
  CR_UNROLL for (int r = 0; r < 2; ++r) {
    y[2 * r] = t[r][0] + t[r][1] + t[r][2] + broadcast(bias);
    y[2 * r + 1] = t[r][1] - t[r][2] - t[r][3] + broadcast(bias);
  }
}

template <class T>
void output_tiles(const Tiling& t, const T* products, int64_t width, int64_t first, int64_t count,
                  const T* bias, bool relu, T* y, uint8_t* winner) {
  constexpr int64_t L = lanes<T>;
  TileRun run[kGradientTiles];
  const int64_t runs = tile_runs(t, first, count, run);
  const int64_t place_apart = places_apart<T>(t.f, width), plane = t.oh * t.ow;
  const Shuffle<T> to;
  for (int64_t f = 0; f < t.f; ++f) {
    T rows[2][2 * (kGradientTiles + 16)];
    T pooled[kGradientTiles + 16];
    uint8_t taken[kGradientTiles + 16];
    for (int64_t v = 0; v < count; v += L) {
      Vec<T> out[4];
      output_transform<T>(products + f * width + v, place_apart, bias ? bias[f] : T(0), out);
      if (winner) {
        relu_pool_windows<T>(out, pooled + v, taken + v, L);
        continue;
      }
      if (relu) CR_UNROLL for (int q = 0; q < 4; ++q) out[q] = rectified<T>(out[q]);
      CR_UNROLL for (int r = 0; r < 2; ++r) {
        store(rows[r] + 2 * v, __builtin_shuffle(out[2 * r], out[2 * r + 1], to.low));
        store(rows[r] + 2 * v + L, __builtin_shuffle(out[2 * r], out[2 * r + 1], to.high));
      }
    }
    for (int64_t r = 0; r < runs; ++r) {
      const TileRun& p = run[r];
      if (winner) {  // even sizes only: a tile is a window
        const int64_t at = (p.image * t.f + f) * t.tiles + p.i * t.tw + p.j;
        store_row(y + at, pooled + p.to, p.count);
        std::memcpy(winner + at, taken + p.to, static_cast<size_t>(p.count));
        continue;
      }
      T* top = y + (p.image * t.f + f) * plane + 2 * p.i * t.ow + 2 * p.j;
      const int64_t values = least(2 * p.count, t.ow - 2 * p.j);
      store_row(top, rows[0] + 2 * p.to, values);
      if (2 * p.i + 1 < t.oh) store_row(top + t.ow, rows[1] + 2 * p.to, values);
    }
  }
}

// A few images of x (C channels) to y (F channels).
template <class T>
void winograd_images(const Tiling& t, const T* copies, int64_t apart, int64_t images,
                     const T* weight, const T* bias, bool relu, T* y, uint8_t* winner) {
  constexpr int64_t L = lanes<T>;
  const int64_t width = kForwardTiles, most = kTileFilters;
  const int64_t blocks = (t.f + most - 1) / most;
  const int64_t in_apart = places_apart<T>(t.c, width), out_apart = places_apart<T>(t.f, width);
  T* inputs = scratch_of<T>(kTransposed, kPlaces * in_apart + kPad);
  T* products = scratch_of<T>(kProducts, kPlaces * out_apart + kPad);
  int64_t* linear = scratch_of<int64_t>(kOffsets, t.c);
  for (int64_t c = 0; c < t.c; ++c) linear[c] = c * width;
  for (int64_t first = 0; first < images * t.tiles; first += width) {
    const int64_t count = least(width, images * t.tiles - first);
    transform_tiles(t, copies, apart, first, count, inputs, width);
    for (int64_t q = 0; q < kPlaces; ++q)
      for (int64_t b = 0; b < blocks; ++b) {
        const Block block = filter_block(t.f, most, b);
        const T* w = weight + q * t.f * t.c + block.first * t.c;
        T* out = products + q * out_apart + block.first * width;
        int64_t start[kTilePixels];
        for (int64_t v = 0; v < count; v += kTilePixels * L) {
          for (int i = 0; i < kTilePixels; ++i) start[i] = v + i * L;
          const Tile<T> tile{inputs + q * in_apart, linear, t.c, start};
          plain_dispatch<T, kTilePixels, kTileFilters>(block.count, tile, w, nullptr, out + v,
                                                       width, kTilePixels * L, false);
        }
      }
    output_tiles(t, products, width, first, count, bias, relu, y, winner);
  }
}

template <class T>
struct WinogradForward {
  Shape s;
  Tiling t;
  int64_t unit;  // images at a time
  const T *x, *weight, *bias;
  T* y;
  uint8_t* winner;
  bool relu;
  void operator()(int64_t part) const {
    const int64_t first = part * unit, images = least(unit, s.n - first);
    const int64_t apart = t.split.size() + kPad;
    T* copies = scratch_of<T>(kImage, unit * apart);
    for (int64_t n = 0; n < images; ++n)
      split_image(t.split, x + (first + n) * s.c * s.h * s.w, copies + n * apart);
    const int64_t out = first * s.f * (winner ? t.tiles : s.oh * s.ow);
    winograd_images(t, copies, apart, images, weight, bias, relu, y + out,
                    winner ? winner + out : nullptr);
  }
};

// Whether the transforms pay and apply.
inline bool winograd_fits(const Shape& s) {
  return s.kh == 3 && s.kw == 3 && s.sh == 1 && s.sw == 1 && s.ph <= 2 && s.pw <= 2 &&
         s.c >= 16 && s.f >= 16 && s.oh * s.ow >= 16;
}

template <class T>
void winograd_forward(const Shape& s, const T* x, const T* weight, const T* bias, T* y,
                      uint8_t* winner, bool relu, int threads) {
  WinogradForward<T> work{s, make_tiling(s.c, s.h, s.w, s.f, s.oh, s.ow, s.ph, s.pw), 0, x,
                          nullptr, bias, y, winner, relu};
  work.unit = greatest<int64_t>(1, kForwardTiles / work.t.tiles);
  const int64_t size = kPlaces * s.f * s.c;
  T* memory = scratch_of<T>(kWeights, 2 * size + kPad);
  transform_weights(weight, s.f, s.c, false, memory, memory + size, threads);
  work.weight = memory + size;
  parallel((s.n + work.unit - 1) / work.unit, threads, work);
}

// A dy A' of a tile, vectors over filters: out[place] for one block of filters.
template <class T, int V>
CR_INLINE void gradient_transform(const T* const (&pixel)[4], const bool (&there)[4], T* out,
                                  int64_t place_apart) {
  constexpr int L = lanes<T>;
  CR_UNROLL for (int v = 0; v < V; ++v) {
    Vec<T> d[4];
    CR_UNROLL for (int q = 0; q < 4; ++q) d[q] = there[q] ? load(pixel[q] + v * L) : Vec<T>{};
    Vec<T> t[4][2];
    CR_UNROLL for (int s = 0; s < 2; ++s) {
      t[0][s] = d[s];
      t[1][s] = d[s] + d[2 + s];
      t[2][s] = d[s] - d[2 + s];
      t[3][s] = -d[2 + s];
    }
    CR_UNROLL for (int r = 0; r < 4; ++r) {
      T* to = out + 4 * r * place_apart + v * L;
      store(to, t[r][0]);
      store(to + place_apart, t[r][0] + t[r][1]);
      store(to + 2 * place_apart, t[r][0] - t[r][1]);
      store(to + 3 * place_apart, -t[r][1]);
    }
  }
}

template <class T>
struct WinogradBackward {
  Shape s;
  Tiling t, back;  // of x to y, and of dy to dx
  int64_t unit, groups, width;
  const T *x, *dy, *y, *weight;
  const uint8_t* winner;
  T* dx;
  T* partial;     // [groups][place][C][width]
  double* dbias;  // [groups][F]

  void operator()(int64_t group) const {
    T* sums = partial + group * kPlaces * s.c * width;
    double* bias_sums = dbias + group * s.f;
    std::memset(sums, 0, kPlaces * s.c * width * sizeof(T));
    for (int64_t f = 0; f < s.f; ++f) bias_sums[f] = 0;
    const int64_t first = s.n * group / groups, last = s.n * (group + 1) / groups;
    for (int64_t n = first; n < last; n += unit)
      images(n, least(unit, last - n), sums, bias_sums);
  }

  void images(int64_t first, int64_t count, T* sums, double* bias_sums) const {
    const int64_t pixels = s.oh * s.ow;
    const int64_t apart = t.split.size() + kPad, back_apart = back.split.size() + kPad;
    T* copies = scratch_of<T>(kCopies, unit * apart);
    T* back_copies = scratch_of<T>(kImage, dx ? unit * back_apart : 1);
    T* turned = scratch_of<T>(kPlane, unit * pixels * width + kPad);
    for (int64_t i = 0; i < count; ++i) {
      const T* up = upstream(s, dy, y, winner, first + i);
      sum_planes(up, s.f, pixels, bias_sums);
      split_image(t.split, x + (first + i) * s.c * s.h * s.w, copies + i * apart);
      if (dx) split_image(back.split, up, back_copies + i * back_apart);
      transpose(up, s.f, pixels, turned + i * pixels * width, width);
    }
    if (dx)
      winograd_images<T>(back, back_copies, back_apart, count, weight, nullptr, false,
                         dx + first * s.c * s.h * s.w, nullptr);
    for (int64_t u = 0; u < count * t.tiles; u += kGradientTiles)
      products(copies, apart, turned, u, least(kGradientTiles, count * t.tiles - u), sums);
  }

  void products(const T* copies, int64_t apart, const T* turned, int64_t first, int64_t count,
                T* sums) const {
    constexpr int64_t L = lanes<T>;
    const int64_t pixels = s.oh * s.ow;
    const int64_t in_apart = places_apart<T>(s.c, kGradientTiles);
    const int64_t place_apart = places_apart<T>(width, kGradientTiles);
    T* inputs = scratch_of<T>(kTransposed, kPlaces * in_apart + kPad);
    T* gradients = scratch_of<T>(kProducts, kPlaces * place_apart + kPad);
    transform_tiles(t, copies, apart, first, count, inputs, kGradientTiles);
    TileRun run[kGradientTiles];
    const int64_t runs = tile_runs(t, first, count, run);
    for (int64_t r = 0; r < runs; ++r)
      for (int64_t v = 0; v < run[r].count; ++v)
        tile_gradient(turned + run[r].image * pixels * width, run[r].i, run[r].j + v,
                      run[r].to + v, gradients, place_apart);
    int64_t offset[kTileTaps];
    for (int64_t q = 0; q < kPlaces; ++q)
      for (int64_t c = 0; c < s.c; c += kTileTaps) {
        const int64_t some = least<int64_t>(kTileTaps, s.c - c);
        for (int64_t i = 0; i < some; ++i) offset[i] = q * in_apart + (c + i) * kGradientTiles;
        for (int64_t f = 0; f < width; f += 2 * L) {
          // one "image" of one row of tiles; blocks of filters are kGradientTiles apart
          const int64_t step = least(2 * L, width - f);
          const Batch<T> batch{inputs, gradients + q * place_apart + f * kGradientTiles, 1, 0, 0,
                               count, 1, count, width};
          T* to = sums + (q * s.c + c) * width + f;
          if (step == 2 * L)
            weight_dispatch<T, kTileTaps, 2>(some, batch, offset, 0, to);
          else
            weight_dispatch<T, kTileTaps, 1>(some, batch, offset, 0, to);
        }
      }
  }

  // out[place][block of filters][tile][filter]
  void tile_gradient(const T* turned, int64_t i, int64_t j, int64_t tile, T* out,
                     int64_t place_apart) const {
    constexpr int64_t L = lanes<T>;
    const int64_t pixels = s.oh * s.ow;
    bool there[4];
    int64_t at[4];
    for (int q = 0; q < 4; ++q) {
      const int64_t row = 2 * i + q / 2, col = 2 * j + q % 2;
      there[q] = row < s.oh && col < s.ow;
      at[q] = there[q] ? row * s.ow + col : 0;
    }
    for (int64_t f = 0; f < width; f += 2 * L) {
      const int64_t step = least(2 * L, width - f);
      const T* block = turned + f * pixels;
      const T* pixel[4];
      for (int q = 0; q < 4; ++q) pixel[q] = block + at[q] * step;
      T* to = out + f * kGradientTiles + tile * step;
      if (step == 2 * L)
        gradient_transform<T, 2>(pixel, there, to, place_apart);
      else
        gradient_transform<T, 1>(pixel, there, to, place_apart);
    }
  }
};

template <class T>
struct WinogradReduce {  // dg = G' u G, one channel at a time
  const WinogradBackward<T>& work;
  T* dweight;
  void operator()(int64_t c) const {
    constexpr int64_t L = lanes<T>;
    const int64_t width = work.width, apart = work.s.c * width, group_apart = kPlaces * apart;
    for (int64_t f = 0; f < width; f += L) {
      Vec<T> u[4][4], t[3][4];
      CR_UNROLL for (int q = 0; q < kPlaces; ++q) {
        const T* from = work.partial + q * apart + c * width + f;
        Vec<T> sum = {};
        for (int64_t g = 0; g < work.groups; ++g) sum += load(from + g * group_apart);
        u[q / 4][q % 4] = sum;
      }
      CR_UNROLL for (int s = 0; s < 4; ++s) {
        const Vec<T> half = (u[1][s] + u[2][s]) / T(2);
        t[0][s] = u[0][s] + half;
        t[1][s] = (u[1][s] - u[2][s]) / T(2);
        t[2][s] = half + u[3][s];
      }
      CR_UNROLL for (int r = 0; r < 3; ++r) {
        const Vec<T> half = (t[r][1] + t[r][2]) / T(2);
        const Vec<T> g[3] = {t[r][0] + half, (t[r][1] - t[r][2]) / T(2), half + t[r][3]};
        for (int s = 0; s < 3; ++s)
          for (int64_t i = 0; i < least(L, work.s.f - f); ++i)
            dweight[(((f + i) * work.s.c + c) * 3 + r) * 3 + s] = g[s][i];
      }
    }
  }
};

template <class T>
void winograd_backward(const Shape& s, const T* x, const T* weight, const T* dy, const T* y,
                       const uint8_t* winner, T* dx, T* dweight, T* dbias, int threads) {
  WinogradBackward<T> work{};
  work.s = s;
  work.t = make_tiling(s.c, s.h, s.w, s.f, s.oh, s.ow, s.ph, s.pw);
  work.back = make_tiling(s.f, s.oh, s.ow, s.c, s.h, s.w, 2 - s.ph, 2 - s.pw);
  work.unit = greatest<int64_t>(1, kGradientTiles / work.t.tiles);
  work.width = round_up(s.f, lanes<T>);
  work.groups = least<int64_t>(s.n, 8);
  work.x = x, work.dy = dy, work.y = y, work.winner = winner, work.dx = dx;
  const int64_t size = kPlaces * s.f * s.c;
  const int64_t partial = work.groups * kPlaces * s.c * work.width;
  T* memory = scratch_of<T>(kWeights, 2 * size + partial + kPad);
  if (dx) transform_weights(weight, s.c, s.f, true, memory, memory + size, threads);
  work.weight = memory + size;
  work.partial = memory + 2 * size;
  double* bias_sums = scratch_of<double>(kBiasSums, work.groups * s.f);
  work.dbias = bias_sums;
  parallel(work.groups, threads, work);
  WinogradReduce<T> reduce{work, dweight};
  parallel(s.c, threads, reduce);
  for (int64_t f = 0; dbias && f < s.f; ++f) {
    double total = 0;
    for (int64_t g = 0; g < work.groups; ++g) total += bias_sums[g * s.f + f];
    dbias[f] = static_cast<T>(total);
  }
}

// ---- which of the two ---------------------------------------------------------------------------

constexpr int64_t kLookAt = 1 << 16;  // elements

template <class T>
struct Look {
  const T* from;
  int64_t count;
  bool* immoderate;  // of each part
  void operator()(int64_t part) const {
    constexpr int64_t L = lanes<T>;
    const int64_t first = part * kLookAt, last = least(count, first + kLookAt);
    const Vec<T> most = broadcast(T(1e15));
    auto wrong = most < most;
    int64_t i = first;
    for (; i + L <= last; i += L) {
      const Vec<T> v = load(from + i);
      wrong |= ~((v < most) & (-v < most));  // also where v is NaN
    }
    bool any = false;
    for (int k = 0; k < L; ++k) any |= wrong[k] != 0;
    for (; i < last; ++i) any |= !(from[i] < T(1e15) && -from[i] < T(1e15));
    immoderate[part] = any;
  }
};

// Whether all values are so small that no sum of the transforms can overflow: then the transforms
// neither make nor lose infinities.
template <class T>
bool moderate(const T* from, int64_t count, int threads) {
  const int64_t parts = (count + kLookAt - 1) / kLookAt;
  bool* wrong = scratch_of<bool>(kOffsets, parts + 1);
  Look<T> look{from, count, wrong};
  parallel(parts, threads, look);
  for (int64_t i = 0; i < parts; ++i)
    if (wrong[i]) return false;
  return true;
}

template <class T>
void convolution_forward(const Shape& s, const T* x, const T* weight, const T* bias, T* y,
                         uint8_t* winner, bool relu, bool winograd, int threads) {
  if (winograd && winograd_fits(s) && (!winner || (s.oh % 2 == 0 && s.ow % 2 == 0)) &&
      moderate(weight, s.f * s.c * 9, threads) && moderate(x, s.n * s.c * s.h * s.w, threads))
    winograd_forward(s, x, weight, bias, y, winner, relu, threads);
  else
    conv_forward(s, x, weight, bias, y, winner, relu, threads);
}

template <class T>
bool convolution_backward(const Shape& s, const T* x, const T* weight, const T* dy, const T* y,
                          const uint8_t* winner, T* dx, T* dweight, T* dbias, bool winograd,
                          int threads) {
  const int64_t out = winner ? (s.oh / 2) * (s.ow / 2) : s.oh * s.ow;
  if (!winograd || !winograd_fits(s) || !moderate(weight, s.f * s.c * 9, threads) ||
      !moderate(x, s.n * s.c * s.h * s.w, threads) || !moderate(dy, s.n * s.f * out, threads))
    return conv_backward(s, x, weight, dy, y, winner, dx, dweight, dbias, threads);
  winograd_backward(s, x, weight, dy, y, winner, dx, dweight, dbias, threads);
  return true;
}

}  // namespace
