// The gradients of a 3x3 convolution by minimal filtering; see winograd.hpp.
#pragma once

#include "winograd.hpp"

namespace {

constexpr int kGradientRows = 8;  // channels of a tile of dweight, by two vectors of filters

// A dy A' of the tiles of some runs: out[place][pair of blocks][tile][filter].
template <class T>
void gradient_transform(const Padded& p, const T* copies, const TileRun* run, int64_t runs, T* out,
                        int64_t width) {
  constexpr int64_t L = lanes<T>;
  const int64_t place_apart = places_apart<T>(p.blocks, width), row = p.cols * L;
  for (int64_t b = 0; b < p.blocks; ++b) {
    int64_t step;
    T* block = out + packed_at<T>(b, p.blocks, width, &step);
    for (int64_t n = 0; n < runs; ++n) {
      const T* from = copies + run[n].image * p.size() + b * p.apart +
                      ((p.top + 2 * run[n].i) * p.cols + p.left + 2 * run[n].j) * L;
      T* to = block + run[n].to * step;
      for (int64_t v = 0; v < run[n].count; ++v, from += 2 * L, to += step) {
        Vec<T> t[4][2];
        CR_UNROLL for (int s = 0; s < 2; ++s) {
          const Vec<T> a = load(from + s * L), c = load(from + row + s * L);
          t[0][s] = a;
          t[1][s] = a + c;
          t[2][s] = a - c;
          t[3][s] = -c;
        }
        CR_UNROLL for (int r = 0; r < 4; ++r) {
          T* place = to + 4 * r * place_apart;
          store(place, t[r][0]);
          store(place + place_apart, t[r][0] + t[r][1]);
          store(place + 2 * place_apart, t[r][0] - t[r][1]);
          store(place + 3 * place_apart, -t[r][1]);
        }
      }
    }
  }
}

// sums[channel][v][filter] += in[tile][channel] * gradient[tile][v][filter], summed over tiles
template <class T, int V>
void gradient_tile(const T* in, int64_t in_apart, const T* gradient, int64_t tiles, T* sums,
                   int64_t width) {
  constexpr int L = lanes<T>, R = kGradientRows;
  Vec<T> sum[R][V];
  CR_UNROLL for (int r = 0; r < R; ++r)
    CR_UNROLL for (int v = 0; v < V; ++v) sum[r][v] = load(sums + r * width + v * L);
  for (int64_t i = 0; i < tiles; ++i, in += L, gradient += V * L) {
    Vec<T> g[V];
    CR_UNROLL for (int v = 0; v < V; ++v) g[v] = load(gradient + v * L);
    CR_UNROLL for (int r = 0; r < R; ++r) {
      const Vec<T> x = broadcast(in[r / L * in_apart + r % L]);
      CR_UNROLL for (int v = 0; v < V; ++v) sum[r][v] += x * g[v];
    }
  }
  CR_UNROLL for (int r = 0; r < R; ++r)
    CR_UNROLL for (int v = 0; v < V; ++v) store(sums + r * width + v * L, sum[r][v]);
}

template <class T>
struct WinogradBackward {
  Shape s;
  Padded padded, upstream_padded;  // x and dy
  Outputs<T> outputs;              // dx
  int64_t unit, groups, rows, width;  // rows, width: channels and filters in whole blocks
  const int64_t *position, *upstream_position;
  const T *x, *dy, *y, *weight;
  const uint8_t* winner;
  T* dx;
  T* partial;      // [groups][place][rows][width]
  double* dbias;   // [groups][width]
  bool* moderate;  // of each group

  void operator()(int64_t group) const {
    T* sums = partial + group * kPlaces * rows * width;
    double* bias_sums = dbias + group * width;
    std::memset(sums, 0, kPlaces * rows * width * sizeof(T));
    for (int64_t f = 0; f < width; ++f) bias_sums[f] = 0;
    const int64_t first = s.n * group / groups, last = s.n * (group + 1) / groups;
    moderate[group] = true;
    for (int64_t n = first; n < last && moderate[group]; n += unit)
      moderate[group] = images(n, least(unit, last - n), sums, bias_sums);
  }

  bool images(int64_t first, int64_t count, T* sums, double* bias_sums) const {
    T* copies = scratch_of<T>(kCopies, unit * padded.size());
    T* upstream_copies = scratch_of<T>(kImage, unit * upstream_padded.size());
    Watch<T> watch;
    for (int64_t i = 0; i < count; ++i) {
      T* copy = upstream_copies + i * upstream_padded.size();
      transpose_in(upstream_padded, upstream_position, upstream(s, dy, y, winner, first + i), copy,
                   watch);
      add_pixels(copy, bias_sums);
      transpose_in(padded, position, x + (first + i) * s.c * s.h * s.w, copies + i * padded.size(),
                   watch);
    }
    if (!watch.moderate()) return false;
    if (dx)
      winograd_images(upstream_padded, upstream_copies, count, weight, outputs,
                      dx + first * s.c * s.h * s.w, static_cast<uint8_t*>(nullptr));
    const int64_t th = (s.oh + 1) / 2, tw = (s.ow + 1) / 2, tiles = count * th * tw;
    for (int64_t u = 0; u < tiles; u += kGradientTiles) {
      const int64_t some = least(kGradientTiles, tiles - u);
      TileRun run[kGradientTiles];
      add_tiles(copies, upstream_copies, run, tile_runs(th, tw, u, some, run), some, sums);
    }
    return true;
  }

  // The sums over the pixels of an image, taken in rows.
  void add_pixels(const T* copy, double* sums) const {
    const Padded& p = upstream_padded;
    constexpr int64_t L = lanes<T>;
    for (int64_t b = 0; b < p.blocks; ++b)
      for (int64_t i = 0; i < p.h; ++i) {
        const T* from = copy + b * p.apart + ((p.top + i) * p.cols + p.left) * L;
        Vec<T> sum = {};
        for (int64_t j = 0; j < p.w; ++j) sum += load(from + j * L);
        const Wide<T> wide(sum);
        CR_UNROLL for (int part = 0; part < Wide<T>::parts; ++part) {
          double* to = sums + b * L + part * lanes<double>;
          store(to, load(to) + wide.part[part]);
        }
      }
  }

  void add_tiles(const T* copies, const T* upstream_copies, const TileRun* run, int64_t runs,
                 int64_t count, T* sums) const {
    constexpr int64_t L = lanes<T>, tiles = kGradientTiles;
    const int64_t in_apart = places_apart<T>(padded.blocks, tiles);
    const int64_t gradient_apart = places_apart<T>(upstream_padded.blocks, tiles);
    // slack, as kGradientRows may be more channels than there are
    T* inputs = scratch_of<T>(kTransposed, kPlaces * in_apart + kGradientRows * tiles * L);
    T* gradients = scratch_of<T>(kProducts, kPlaces * gradient_apart);
    input_transform(padded, copies, padded.size(), run, runs, inputs, tiles);
    gradient_transform(upstream_padded, upstream_copies, run, runs, gradients, tiles);
    for (int64_t q = 0; q < kPlaces; ++q)
      for (int64_t f = 0; f < width; f += 2 * L) {
        const T* gradient = gradients + q * gradient_apart + f * tiles;
        for (int64_t c = 0; c < rows; c += kGradientRows) {
          const T* in = inputs + q * in_apart + c / L * tiles * L + c % L;
          T* to = sums + (q * rows + c) * width + f;
          if (f + 2 * L <= width)
            gradient_tile<T, 2>(in, tiles * L, gradient, count, to, width);
          else
            gradient_tile<T, 1>(in, tiles * L, gradient, count, to, width);
        }
      }
  }
};

template <class T>
struct WinogradReduce {  // dg = G' u G, one channel at a time
  const WinogradBackward<T>& work;
  T* dweight;
  void operator()(int64_t c) const {
    constexpr int64_t L = lanes<T>;
    const int64_t width = work.width, apart = work.rows * width, group_apart = kPlaces * apart;
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
      T g[9][L];
      CR_UNROLL for (int r = 0; r < 3; ++r) {
        const Vec<T> half = (t[r][1] + t[r][2]) / T(2);
        store(g[3 * r], t[r][0] + half);
        store(g[3 * r + 1], (t[r][1] - t[r][2]) / T(2));
        store(g[3 * r + 2], half + t[r][3]);
      }
      for (int64_t i = 0; i < least(L, work.s.f - f); ++i)
        for (int k = 0; k < 9; ++k) dweight[((f + i) * work.s.c + c) * 9 + k] = g[k][i];
    }
  }
};

// False: a number is too large, and what was written is of no use.
template <class T>
bool winograd_backward(const Shape& s, const T* x, const T* weight, const T* dy, const T* y,
                       const uint8_t* winner, T* dx, T* dweight, T* dbias, int threads) {
  constexpr int64_t L = lanes<T>;
  if (!all_moderate(weight, s.f * s.c * 9)) return false;
  const int64_t th = (s.oh + 1) / 2, tw = (s.ow + 1) / 2;         // of y
  const int64_t back_th = (s.h + 1) / 2, back_tw = (s.w + 1) / 2;  // of dx
  const int64_t top = 2 - s.ph, left = 2 - s.pw;
  WinogradBackward<T> work{};
  work.s = s;
  work.padded = make_padded<T>(s.c, s.h, s.w, s.ph, s.pw, 2 * th + 2, 2 * tw + 2);
  // the tiles of y lie in the same copy, from its first pixel on
  work.upstream_padded =
      make_padded<T>(s.f, s.oh, s.ow, top, left, greatest(2 * back_th + 2, top + 2 * th),
                     greatest(2 * back_tw + 2, left + 2 * tw));
  work.outputs = {s.c, s.h, s.w, back_th, back_tw, nullptr, false, false};
  work.unit = greatest<int64_t>(1, kForwardTiles / (th * tw));
  work.rows = round_up(work.padded.blocks * L, kGradientRows);
  work.width = work.upstream_padded.blocks * L;
  work.groups = least<int64_t>(s.n, 8);
  work.x = x, work.dy = dy, work.y = y, work.winner = winner, work.dx = dx;
  const int64_t size = kPlaces * s.f * work.padded.blocks * L;
  const int64_t partial = work.groups * kPlaces * work.rows * work.width;
  T* memory = scratch_of<T>(kWeights, size + partial);
  if (dx) transform_weights(weight, s.c, s.f, true, memory, threads);
  work.weight = memory;
  work.partial = memory + size;
  double* bias_sums = scratch_of<double>(kBiasSums, work.groups * (work.width + 1));
  work.dbias = bias_sums;
  work.moderate = reinterpret_cast<bool*>(bias_sums + work.groups * work.width);
  int64_t* position = scratch_of<int64_t>(kPartial, s.h * s.w + s.oh * s.ow);
  fill_positions<T>(work.padded, position);
  fill_positions<T>(work.upstream_padded, position + s.h * s.w);
  work.position = position;
  work.upstream_position = position + s.h * s.w;
  parallel(work.groups, threads, work);
  if (!all_of(work.moderate, work.groups)) return false;
  WinogradReduce<T> reduce{work, dweight};
  parallel(s.c, threads, reduce);
  for (int64_t f = 0; dbias && f < s.f; ++f) {
    double total = 0;
    for (int64_t g = 0; g < work.groups; ++g) total += bias_sums[g * work.width + f];
    dbias[f] = static_cast<T>(total);
  }
  return true;
}

// ---- which of the two ---------------------------------------------------------------------------

template <class T>
void convolution_forward(const Shape& s, const T* x, const T* weight, const T* bias, T* y,
                         uint8_t* winner, bool relu, bool winograd, int threads) {
  const bool fits = winograd_fits(s) && (!winner || (s.oh % 2 == 0 && s.ow % 2 == 0));
  if (!winograd || !fits ||
      !winograd_forward(s, x, weight, bias, y, winner, relu, threads))
    conv_forward(s, x, weight, bias, y, winner, relu, threads);
}

template <class T>
bool convolution_backward(const Shape& s, const T* x, const T* weight, const T* dy, const T* y,
                          const uint8_t* winner, T* dx, T* dweight, T* dbias, bool winograd,
                          int threads) {
  return (winograd && winograd_fits(s) &&
          winograd_backward(s, x, weight, dy, y, winner, dx, dweight, dbias, threads)) ||
         conv_backward(s, x, weight, dy, y, winner, dx, dweight, dbias, threads);
}

}  // namespace
