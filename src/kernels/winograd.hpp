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
// Images are first transposed: a vector holds one pixel of as many channels as it has lanes, and
// these blocks of channels lie one behind the other. So the transforms are plain additions of
// whole vectors whatever the size of an image, and both gradients use the same copy of dy.
//
// An infinite input would become NaN in its neighbours (inf - inf), so the copies are watched:
// where a number is not of moderate size the caller does everything again in the direct way.
#pragma once

#include "conv_backward.hpp"

namespace {

constexpr int kPlaces = 16;
constexpr int64_t kForwardTiles = 64;   // of a unit of work: its two buffers stay in L2
constexpr int64_t kGradientTiles = 64;
constexpr int kTileRows = kTileFilters;  // of a product that stays in registers, by two vectors

// ---- transposed images ------------------------------------------------------------------------

// Images as [block of channels][row][column][channel], surrounded by zeros.
struct Padded {
  int64_t channels, h, w;    // of the image
  int64_t top, left;         // where it begins
  int64_t rows, cols;        // with what surrounds it
  int64_t blocks, apart;     // of channels; elements from one block to the next
  int64_t size() const { return blocks * apart; }
};

template <class T>
Padded make_padded(int64_t channels, int64_t h, int64_t w, int64_t top, int64_t left, int64_t rows,
                   int64_t cols) {
  const int64_t blocks = (channels + lanes<T> - 1) / lanes<T>;
  return {channels, h, w, top, left, rows, cols, blocks, rows * cols * lanes<T>};
}

// Sums of squares of all that is looked at: they show any number whose sums could overflow.
template <class T>
struct Watch {
  Vec<T> squares[2] = {};
  CR_INLINE void look(Vec<T> v, int which) { squares[which & 1] += v * v; }
  bool moderate() const {
    const Vec<T> sum = squares[0] + squares[1];
    bool all = true;
    for (int i = 0; i < lanes<T>; ++i) all &= sum[i] < T(1e30);  // not where it is NaN
    return all;
  }
};

// The inverse of a store: L rows of `count` values, the rest of them zero, as columns.
template <class T>
CR_INLINE void load_square(const T* from, int64_t apart, int64_t rows, int64_t count,
                           Vec<T> (&a)[lanes<T>]) {
  constexpr int L = lanes<T>;
  if (rows >= L && count >= L) {
    CR_UNROLL for (int i = 0; i < L; ++i) {
      a[i] = load(from + i * apart);
      prefetch(from + i * apart, L * apart);
    }
  } else {
    for (int64_t i = 0; i < L; ++i)
      a[i] = i < rows ? load_part(from + i * apart, count) : Vec<T>{};
  }
}

// x (C, H, W) to its padded copy. Where a row ends inside of a vector, position says where each
// pixel goes.
template <class T>
void transpose_in(const Padded& p, const int64_t* position, const T* x, T* out, Watch<T>& watch) {
  constexpr int64_t L = lanes<T>;
  const int64_t pixels = p.h * p.w;
  for (int64_t b = 0; b < p.blocks; ++b) {
    T* to = out + b * p.apart;
    const Vec<T> zero = {};
    for (int64_t i = 0; i < p.rows; ++i) {
      const int64_t inside = i >= p.top && i < p.top + p.h ? p.w : 0;
      T* row = to + i * p.cols * L;
      const int64_t before = inside ? p.left : p.cols;
      for (int64_t j = 0; j < before; ++j) store(row + j * L, zero);
      for (int64_t j = p.left + inside; inside && j < p.cols; ++j) store(row + j * L, zero);
    }
    const T* from = x + b * L * pixels;
    for (int64_t first = 0; first < pixels; first += L) {
      const int64_t at = greatest<int64_t>(0, least(first, pixels - L));
      Vec<T> a[L];
      load_square(from + at, pixels, p.channels - b * L, pixels - at, a);
      CR_UNROLL for (int i = 0; i < L; ++i) watch.look(a[i], i);
      turn_square<T>(a);
      const int64_t* place = position + at;
      if (pixels >= L)
        CR_UNROLL for (int i = 0; i < L; ++i) store(to + place[i], a[i]);
      else
        for (int64_t i = 0; i < pixels; ++i) store(to + place[i], a[i]);
    }
  }
}

template <class T>
void fill_positions(const Padded& p, int64_t* position) {
  for (int64_t i = 0; i < p.h; ++i)
    for (int64_t j = 0; j < p.w; ++j)
      *position++ = ((p.top + i) * p.cols + p.left + j) * lanes<T>;
}

// [block][pixel][channel] to planes of channels; `keep` stores the first of a vector's values.
template <class T, class Keep>
CR_INLINE void transpose_out(const T* from, int64_t channels, int64_t pixels, Keep keep) {
  constexpr int64_t L = lanes<T>;
  for (int64_t c = 0; c < channels; c += L, from += pixels * L)
    for (int64_t first = 0; first < pixels; first += L) {
      const int64_t at = greatest<int64_t>(0, least(first, pixels - L)), some = pixels - at;
      Vec<T> a[L];
      CR_UNROLL for (int i = 0; i < L; ++i) a[i] = load(from + (at + i) * L);
      turn_square<T>(a);
      if (channels - c >= L && some >= L)
        CR_UNROLL for (int i = 0; i < L; ++i) keep((c + i) * pixels + at, a[i], L);
      else
        for (int64_t i = 0; i < least(L, channels - c); ++i)
          keep((c + i) * pixels + at, a[i], some);
    }
}

// ---- tiles --------------------------------------------------------------------------------------

struct TileRun {  // tiles side by side: image, row and column of the first, how many, where to
  int64_t image, i, j, to, count;
};

// The runs of `count` tiles from tile `first` of images of th x tw tiles; returns their number.
inline int64_t tile_runs(int64_t th, int64_t tw, int64_t first, int64_t count, TileRun* run) {
  int64_t runs = 0;
  int64_t image = first / (th * tw), i = first % (th * tw) / tw, j = first % tw;
  for (int64_t done = 0; done < count;) {
    const int64_t some = least(tw - j, count - done);
    run[runs++] = {image, i, j, done, some};
    done += some;
    j = 0;
    if (++i == th) i = 0, ++image;
  }
  return runs;
}

// Elements between the places of `blocks` blocks of channels and `width` tiles: not a power of two,
// which would put all places into the same few lines of a cache.
template <class T>
constexpr int64_t places_apart(int64_t blocks, int64_t width) {
  return (blocks * width + 1) * lanes<T> + 64 / int64_t(sizeof(T));
}

template <class T>
CR_INLINE void input_column(const T* from, int64_t row, Vec<T> (&t)[4]) {
  Vec<T> d[4];
  CR_UNROLL for (int r = 0; r < 4; ++r) d[r] = load(from + r * row);
  t[0] = d[0] - d[2];
  t[1] = d[1] + d[2];
  t[2] = d[2] - d[1];
  t[3] = d[1] - d[3];
}

// B' d B of the tiles of some runs: out[place][block][width][channel]. Neighbours share columns.
template <class T>
void input_transform(const Padded& p, const T* copies, int64_t apart, const TileRun* run,
                     int64_t runs, T* out, int64_t width) {
  constexpr int64_t L = lanes<T>;
  const int64_t place_apart = places_apart<T>(p.blocks, width), row = p.cols * L;
  for (int64_t b = 0; b < p.blocks; ++b)
    for (int64_t n = 0; n < runs; ++n) {
      const T* from = copies + run[n].image * apart + b * p.apart +
                      2 * (run[n].i * p.cols + run[n].j) * L;
      T* to = out + (b * width + run[n].to) * L;
      Vec<T> t[4][4];  // [column][row]
      input_column(from, row, t[0]);
      input_column(from + L, row, t[1]);
      for (int64_t v = 0; v < run[n].count; ++v, from += 2 * L, to += L) {
        input_column(from + 2 * L, row, t[2]);
        input_column(from + 3 * L, row, t[3]);
        CR_UNROLL for (int r = 0; r < 4; ++r) {
          T* place = to + 4 * r * place_apart;
          store(place, t[0][r] - t[2][r]);
          store(place + place_apart, t[1][r] + t[2][r]);
          store(place + 2 * place_apart, t[2][r] - t[1][r]);
          store(place + 3 * place_apart, t[1][r] - t[3][r]);
          t[0][r] = t[2][r];
          t[1][r] = t[3][r];
        }
      }
    }
}

// Where the filters `block` L to (block + 1) L of a (taps, filters) matrix begin, packed as blocks
// of two vectors (the last may be one) over all taps.
template <class T>
CR_INLINE int64_t packed_at(int64_t block, int64_t blocks, int64_t taps, int64_t* step) {
  constexpr int64_t L = lanes<T>;
  const int64_t pair = block / 2 * 2;
  *step = least<int64_t>(2, blocks - pair) * L;
  return pair * L * taps + (block - pair) * L;
}

// G g G' of each pair of f filters and c channels: out[place], packed over c taps. `turned`: the
// filters of dx, weight[f][c] read as [c][f] and turned by half a circle.
template <class T>
void transform_weights(const T* weight, int64_t f, int64_t c, bool turned, T* out, int threads) {
  constexpr int64_t L = lanes<T>;
  const int64_t blocks = (f + L - 1) / L, size = blocks * L * c;
  auto channel = [=](int64_t j) {
    for (int64_t b = 0; b < blocks; ++b) {
      T g[9][L] = {};
      const int64_t apart = turned ? 9 : 9 * c;
      const T* from = weight + (turned ? j * f * 9 : j * 9) + b * L * apart;
      for (int64_t i = 0; i < least(L, f - b * L); ++i)
        for (int k = 0; k < 9; ++k) g[turned ? 8 - k : k][i] = from[i * apart + k];
      Vec<T> h[4][3];
      CR_UNROLL for (int s = 0; s < 3; ++s) {
        const Vec<T> a = load(g[s]), m = load(g[3 + s]), d = load(g[6 + s]);
        h[0][s] = a;
        h[1][s] = (a + m + d) / T(2);
        h[2][s] = (a - m + d) / T(2);
        h[3][s] = d;
      }
      int64_t step;
      T* to = out + packed_at<T>(b, blocks, c, &step);
      to += j * step;
      CR_UNROLL for (int r = 0; r < 4; ++r) {
        const Vec<T> a = h[r][0], m = h[r][1], d = h[r][2];
        store(to + (4 * r + 0) * size, a);
        store(to + (4 * r + 1) * size, (a + m + d) / T(2));
        store(to + (4 * r + 2) * size, (a - m + d) / T(2));
        store(to + (4 * r + 3) * size, d);
      }
    }
  };
  parallel(c, threads, channel);
}

// out[v][tile][filter] = the sum over channels of in[block][tile][channel] times
// weight[channel][v][filter], for R tiles and V vectors of filters.
template <class T, int V, int R>
void product_tile(const T* in, int64_t in_apart, int64_t channels, const T* __restrict weight,
                  T* out, int64_t out_apart) {
  constexpr int L = lanes<T>;
  Vec<T> sum[R][V] = {};
  for (; channels > 0; channels -= L, in += in_apart)
    for (int64_t j = 0; j < least<int64_t>(L, channels); ++j, weight += V * L) {
      Vec<T> w[V];
      CR_UNROLL for (int v = 0; v < V; ++v) w[v] = load(weight + v * L);
      CR_UNROLL for (int r = 0; r < R; ++r) {
        const Vec<T> x = broadcast(in[r * L + j]);
        CR_UNROLL for (int v = 0; v < V; ++v) sum[r][v] += x * w[v];
      }
    }
  CR_UNROLL for (int v = 0; v < V; ++v)
    CR_UNROLL for (int r = 0; r < R; ++r) store(out + v * out_apart + r * L, sum[r][v]);
}

template <class T, int V, int R>
CR_INLINE void product_dispatch(int64_t rows, const T* in, int64_t in_apart, int64_t channels,
                                const T* weight, T* out, int64_t out_apart) {
  if constexpr (R > 0) {
    if (rows == R)
      product_tile<T, V, R>(in, in_apart, channels, weight, out, out_apart);
    else
      product_dispatch<T, V, R - 1>(rows, in, in_apart, channels, weight, out, out_apart);
  }
}

// The products of all places: inputs[place][block of channels][width][channel] to
// products[place][block of filters][width][filter].
template <class T>
void products(const T* inputs, int64_t channels, const T* weight, int64_t filters, int64_t count,
              int64_t width, T* out) {
  constexpr int64_t L = lanes<T>;
  const int64_t in_blocks = (channels + L - 1) / L, out_blocks = (filters + L - 1) / L;
  const int64_t in_place = places_apart<T>(in_blocks, width);
  const int64_t out_place = places_apart<T>(out_blocks, width);
  const int64_t groups = (count + kTileRows - 1) / kTileRows;
  for (int64_t q = 0; q < kPlaces; ++q)
    for (int64_t b = 0; b < out_blocks; b += 2) {
      const T* w = weight + (q * out_blocks + b) * L * channels;
      for (int64_t g = 0; g < groups; ++g) {
        const Block rows = filter_block(count, kTileRows, g);
        const T* in = inputs + q * in_place + rows.first * L;
        T* to = out + q * out_place + (b * width + rows.first) * L;
        if (b + 2 <= out_blocks)
          product_dispatch<T, 2, kTileRows>(rows.count, in, width * L, channels, w, to, width * L);
        else
          product_dispatch<T, 1, kTileRows>(rows.count, in, width * L, channels, w, to, width * L);
      }
    }
}

// ---- forward, and dx ----------------------------------------------------------------------------

// What becomes of the outputs of C channels to F filters; oh x ow of them in th x tw tiles.
template <class T>
struct Outputs {
  int64_t f, oh, ow, th, tw;
  const T* bias;    // of whole vectors, or null
  bool relu, pool;  // pool: ReLU and 2x2 max pooling; then oh and ow are even
  int64_t blocks() const { return (f + lanes<T> - 1) / lanes<T>; }
  int64_t pixels() const { return pool ? th * tw : oh * ow; }
};

// A' m A of some runs of tiles, then bias and what is fused, to out[image][block][pixel][filter];
// with pooling `taken` says in the same order which pixel of each window is the largest.
template <class T>
void output_transform(const Outputs<T>& o, const T* products, int64_t width, const TileRun* run,
                      int64_t runs, T* out, T* taken) {
  constexpr int64_t L = lanes<T>;
  const int64_t place_apart = places_apart<T>(o.blocks(), width), apart = o.pixels() * L;
  for (int64_t b = 0; b < o.blocks(); ++b) {
    const Vec<T> bias = o.bias ? load(o.bias + b * L) : Vec<T>{};
    for (int64_t n = 0; n < runs; ++n) {
      const TileRun& p = run[n];
      const T* m = products + (b * width + p.to) * L;
      const int64_t plane = (p.image * o.blocks() + b) * apart;
      for (int64_t j = p.j; j < p.j + p.count; ++j, m += L) {
        Vec<T> t[2][4], y[4];
        CR_UNROLL for (int s = 0; s < 4; ++s) {
          const T* at = m + s * place_apart;
          const Vec<T> a = load(at), c = load(at + 4 * place_apart);
          const Vec<T> d = load(at + 8 * place_apart), e = load(at + 12 * place_apart);
          t[0][s] = a + c + d;
          t[1][s] = c - d - e;
        }
        CR_UNROLL for (int r = 0; r < 2; ++r) {
          y[2 * r] = t[r][0] + t[r][1] + t[r][2] + bias;
          y[2 * r + 1] = t[r][1] - t[r][2] - t[r][3] + bias;
        }
        if (o.pool) {
          const int64_t at = plane + (p.i * o.tw + j) * L;
          Vec<T> best;
          const auto which = largest<T>(y, best);
          store(out + at, best);
          store(taken + at, Vec<T>(which));
          continue;
        }
        if (o.relu) CR_UNROLL for (int q = 0; q < 4; ++q) y[q] = rectified<T>(y[q]);
        T* to = out + plane + (2 * p.i * o.ow + 2 * j) * L;
        const bool right = 2 * j + 1 < o.ow;
        store(to, y[0]);
        if (right) store(to + L, y[1]);
        if (2 * p.i + 1 < o.oh) {
          store(to + o.ow * L, y[2]);
          if (right) store(to + (o.ow + 1) * L, y[3]);
        }
      }
    }
  }
}

// A few padded images to y (F, OH, OW) each, and to `winner` with pooling.
template <class T>
void winograd_images(const Padded& p, const T* copies, int64_t images, const T* weight,
                     const Outputs<T>& o, T* y, uint8_t* winner) {
  constexpr int64_t L = lanes<T>, width = kForwardTiles;
  T* inputs = scratch_of<T>(kTransposed, kPlaces * places_apart<T>(p.blocks, width));
  T* sums = scratch_of<T>(kProducts, kPlaces * places_apart<T>(o.blocks(), width));
  const int64_t size = o.blocks() * o.pixels() * L, tiles = o.th * o.tw;
  T* pixels = scratch_of<T>(kPlane, (o.pool ? 2 : 1) * images * size + L * L);
  T* taken = pixels + images * size;
  for (int64_t first = 0; first < images * tiles; first += width) {
    const int64_t count = least(width, images * tiles - first);
    TileRun run[width];
    const int64_t runs = tile_runs(o.th, o.tw, first, count, run);
    input_transform(p, copies, p.size(), run, runs, inputs, width);
    products(inputs, p.channels, weight, o.f, count, width, sums);
    output_transform(o, sums, width, run, runs, pixels, taken);
  }
  for (int64_t n = 0; n < images; ++n) {
    const int64_t at = n * o.f * o.pixels();
    transpose_out(pixels + n * size, o.f, o.pixels(),
                  [=](int64_t i, Vec<T> v, int64_t count) { store_part(y + at + i, v, count); });
    if (winner)
      transpose_out(taken + n * size, o.f, o.pixels(), [=](int64_t i, Vec<T> v, int64_t count) {
        store_bytes<T>(winner + at + i, (typename Shuffle<T>::Index)v, count);
      });
  }
}

// Whether the transforms pay and apply.
inline bool winograd_fits(const Shape& s) {
  return s.kh == 3 && s.kw == 3 && s.sh == 1 && s.sw == 1 && s.ph <= 2 && s.pw <= 2 &&
         s.c >= 16 && s.f >= 16 && s.oh * s.ow >= 16;
}

template <class T>
struct WinogradForward {
  Shape s;
  Padded padded;
  Outputs<T> outputs;
  int64_t unit;  // images at a time
  const int64_t* position;
  const T *x, *weight;
  T* y;
  uint8_t* winner;
  bool* moderate;  // of each unit
  void operator()(int64_t part) const {
    const int64_t first = part * unit, images = least(unit, s.n - first);
    T* copies = scratch_of<T>(kImage, unit * padded.size());
    Watch<T> watch;
    for (int64_t n = 0; n < images; ++n)
      transpose_in(padded, position, x + (first + n) * s.c * s.h * s.w, copies + n * padded.size(),
                   watch);
    moderate[part] = watch.moderate();
    if (!moderate[part]) return;
    const int64_t out = first * s.f * outputs.pixels();
    winograd_images(padded, copies, images, weight, outputs, y + out,
                    winner ? winner + out : nullptr);
  }
};

template <class T>
bool all_moderate(const T* from, int64_t count) {
  constexpr int64_t L = lanes<T>;
  Watch<T> watch;
  for (int64_t i = 0; i < count; i += L) watch.look(load_part(from + i, count - i), int(i / L));
  return watch.moderate();
}

inline bool all_of(const bool* each, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (!each[i]) return false;
  return true;
}

// False: a number is too large, and what was written is of no use.
template <class T>
bool winograd_forward(const Shape& s, const T* x, const T* weight, const T* bias, T* y,
                      uint8_t* winner, bool relu, int threads) {
  constexpr int64_t L = lanes<T>;
  const int64_t th = (s.oh + 1) / 2, tw = (s.ow + 1) / 2;
  const Outputs<T> outputs{s.f, s.oh, s.ow, th, tw, nullptr, relu, winner != nullptr};
  WinogradForward<T> work{
      s, make_padded<T>(s.c, s.h, s.w, s.ph, s.pw, 2 * th + 2, 2 * tw + 2), outputs,
      greatest<int64_t>(1, kForwardTiles / (th * tw)), nullptr, x, nullptr, y, winner, nullptr};
  if (!all_moderate(weight, s.f * s.c * 9)) return false;
  const int64_t whole = outputs.blocks() * L, size = kPlaces * whole * s.c;
  T* memory = scratch_of<T>(kWeights, size + whole);
  transform_weights(weight, s.f, s.c, false, memory, threads);
  work.weight = memory;
  if (bias) {
    for (int64_t f = 0; f < whole; ++f) memory[size + f] = f < s.f ? bias[f] : T(0);
    work.outputs.bias = memory + size;
  }
  int64_t* position = scratch_of<int64_t>(kPartial, s.h * s.w);
  fill_positions<T>(work.padded, position);
  work.position = position;
  const int64_t parts = (s.n + work.unit - 1) / work.unit;
  work.moderate = scratch_of<bool>(kBiasSums, parts);
  parallel(parts, threads, work);
  return all_of(work.moderate, parts);
}

}  // namespace
