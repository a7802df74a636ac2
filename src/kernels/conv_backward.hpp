// The gradients of a convolution.
//
// dx: the forward tile with the filters turned round, once for each phase of the stride.
// dweight: dy is transposed to [pixel][filter]; a tile of taps times vectors of filters stays in
// registers for the sum over the pixels of an image.
//
// Sums over images are taken in a fixed number of groups and added in a fixed order, so results
// do not depend on the number of threads.
#pragma once

#include "conv.hpp"
#include "pointwise.hpp"

namespace {

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

// L rows of `count` values, zeros behind them and instead of more than `rows` rows.
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
      const int64_t rows = filters - f, cols = least(L, pixels - p);
      const T* from = a + f * pixels + p;
      Vec<T> square[L];
      load_square(from, pixels, rows, cols, square);
      if (cols == L) {
        transpose_square<T>(square, to + p * step, step);
      } else {
        T turned[L * L];
        transpose_square<T>(square, turned, L);
        for (int64_t j = 0; j < cols; ++j) store(to + (p + j) * step, load(turned + j * L));
      }
    }
  }
}

// The windows of L filters of a pooled gradient, transposed: keep(window, q, vector) gets what
// passes to pixel q of a window, `sums` all of it; `look` sees dy.
template <class T, class Look, class Keep>
CR_INLINE void transpose_windows(const T* dy, const uint8_t* winner, int64_t filters,
                                 int64_t windows, double* sums, Look look, Keep keep) {
  constexpr int64_t L = lanes<T>;
  using Index = typename Shuffle<T>::Index;
  using Bytes = typename ChunkOf<uint8_t, L>::type;
  for (int64_t first = 0; first < windows; first += L) {
    const int64_t at = greatest<int64_t>(0, least(first, windows - L));
    const int64_t some = least(L, windows - at);
    Vec<T> d[L], which[L];
    load_square(dy + at, windows, filters, some, d);
    for (int64_t i = 0; i < L; ++i) {
      Bytes bytes = {};
      if (i < filters)
        std::memcpy(&bytes, winner + i * windows + at, some == L ? L : static_cast<size_t>(some));
      which[i] = (Vec<T>)__builtin_convertvector(bytes, Index);
    }
    CR_UNROLL for (int i = 0; i < L; ++i) look(d[i], i);
    turn_square<T>(d);
    turn_square<T>(which);
    Vec<T> sum = {};
    for (int64_t w = 0; w < some; ++w) {
      const Index from = (Index)which[w];
      CR_UNROLL for (int q = 0; q < 4; ++q) keep(at + w, q, from == q ? d[w] : Vec<T>{});
      if (at + w >= first) sum += from < 4 ? d[w] : Vec<T>{};  // others were there before
    }
    const Wide<T> wide(sum);
    CR_UNROLL for (int part = 0; part < Wide<T>::parts; ++part) {
      double* to = sums + part * lanes<double>;
      store(to, load(to) + wide.part[part]);
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
    const Wide<T> wide(sum);
    double total = across(wide.part[0]);
    if constexpr (Wide<T>::parts == 2) total += across(wide.part[1]);
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
    const T* d = batch.dy + n * batch.dy_apart + first * batch.gh * gw;
    for (int64_t i = 0; i < batch.gh; ++i) {
      const T* row = batch.x + n * batch.x_apart + i * batch.row + gw;
      const T* from[K];  // the ends of rows
      CR_UNROLL for (int k = 0; k < K; ++k) {
        from[k] = row + offset[k];
        __asm__("" : "+r"(from[k]));  // a register each, or GCC derives one from the other
      }
      for (int64_t j = -gw; j < 0; ++j, d += V * L) {
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
  int64_t nh, nw, top, left;         // rows and columns of taps; padding of dy that they need
  int64_t width;                     // of the grid that is computed: gw, or whole vectors
  int64_t taps;                      // 0: no window reaches these pixels
  int64_t at;                        // of its pixels in the scratch of all phases
  const int64_t* offset;
  const T* weight;
};

// to[2 j] = even[j], to[2 j + 1] = odd[j], for `count` elements of `to`. Reads whole vectors.
template <class T>
CR_INLINE void interleave(const T* even, const T* odd, T* to, int64_t count) {
  constexpr int64_t L = lanes<T>;
  const Shuffle<T> in;
  for (int64_t j = 0; 2 * j < count; j += L) {
    const Vec<T> a = load(even + j), b = load(odd + j);
    store_part(to + 2 * j, __builtin_shuffle(a, b, in.low), count - 2 * j);
    store_part(to + 2 * j + L, __builtin_shuffle(a, b, in.high), count - 2 * j - L);
  }
}

constexpr int64_t kGroups = 16;   // of images, for sums over them
constexpr int64_t kBatchBytes = 256 << 10;  // of images whose sums are taken together
constexpr int64_t kMaxPhases = 64;

template <class T>
struct Backward {
  Shape s;
  Split split;             // of x, for dweight
  Split upstream_split;    // of dy, for dx
  const int64_t* offset;
  int64_t taps, width, groups, phase_count;
  int64_t batch_size;      // images whose sums are taken in one go
  const T *x, *dy, *y;
  const uint8_t* winner;
  T* dx;
  T* partial;              // [groups][taps][width]
  double* dbias;           // [groups][width]
  Phase<T> phases[kMaxPhases];
  int64_t phase_pixels;    // of all phases, for a channel

  void operator()(int64_t group) const {
    T* sums = partial + group * taps * width;
    double* bias_sums = dbias + group * width;
    std::memset(sums, 0, taps * width * sizeof(T));
    for (int64_t f = 0; f < width; ++f) bias_sums[f] = 0;
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
      split_image(split, x + n * s.c * s.h * s.w, copies + i * x_apart);
      if (winner && !dx) {
        scatter_windows(n, turned + i * dy_apart, bias_sums);
        continue;
      }
      const T* up = upstream(s, dy, y, winner, n);
      sum_planes(up, s.f, pixels, bias_sums);
      transpose(up, s.f, pixels, turned + i * dy_apart, width);
      if (dx) inputs(n, up);
    }
    const Batch<T> all{copies, turned, images, x_apart, dy_apart, split.cols, s.oh, s.ow, width};
    constexpr int64_t L = lanes<T>;
    for (int64_t b = 0; b < (taps + kTileTaps - 1) / kTileTaps; ++b) {
      const Block block = filter_block(taps, kTileTaps, b);
      T* to = sums + block.first * width;
      int64_t v = 0;
      for (; v + 2 * L <= width; v += 2 * L)
        weight_dispatch<T, kTileTaps, 2>(block.count, all, offset + block.first, v, to + v);
      for (; v < width; v += L)
        weight_dispatch<T, kTileTaps, 1>(block.count, all, offset + block.first, v, to + v);
    }
  }

  // What `transpose` makes of `upstream`, straight from the pooled gradient.
  void scatter_windows(int64_t n, T* turned, double* bias_sums) const {
    constexpr int64_t L = lanes<T>;
    const int64_t pixels = s.oh * s.ow, gh = s.oh / 2, gw = s.ow / 2, windows = gh * gw;
    int64_t* corner = scratch_of<int64_t>(kOffsets, windows);
    for (int64_t i = 0; i < windows; ++i) corner[i] = 2 * (i / gw * s.ow + i % gw);
    if (s.oh % 2 || s.ow % 2) std::memset(turned, 0, pixels * width * sizeof(T));
    for (int64_t f = 0; f < width; f += L) {
      const int64_t block = f / (2 * L) * 2 * L, step = least(2 * L, width - block);
      T* to = turned + block * pixels + (f - block);
      const int64_t at = (n * s.f + f) * windows, row = s.ow;
      transpose_windows(
          dy + at, winner + at, s.f - f, windows, bias_sums + f, [](Vec<T>, int) {},
          [=](int64_t w, int q, Vec<T> value) {
            store(to + (corner[w] + q / 2 * row + q % 2) * step, value);
          });
    }
  }

  // All phases read one padded copy of dy.
  void inputs(int64_t n, const T* up) const {
    T* to = dx + n * s.c * s.h * s.w;
    T* image = scratch_of<T>(kImage, upstream_split.size() + kPad);
    split_image(upstream_split, up, image);
    const bool direct = phase_count == 1 && phases[0].width == s.w;
    T* pixels = direct ? to : scratch_of<T>(kPlane, s.c * phase_pixels + kPad);
    for (int64_t q = 0; q < phase_count; ++q) {
      const Phase<T>& p = phases[q];
      if (p.gh == 0 || p.gw == 0) continue;
      T* out = pixels + s.c * p.at;
      if (p.taps == 0) {
        std::memset(out, 0, s.c * p.gh * p.width * sizeof(T));
      } else {
        const Grid<T> grid{p.gh,     p.width,  upstream_split.cols, p.offset, p.taps,
                           p.weight, nullptr, s.c};
        plain_image(grid, image, out, false);
      }
    }
    if (!direct)
      for (int64_t a = 0; a < s.sh; ++a) merge(phases + a * s.sw, pixels, to);
  }

  // Rows of dx from those of their phases.
  void merge(const Phase<T>* p, const T* pixels, T* to) const {
    for (int64_t c = 0; c < s.c; ++c)
      for (int64_t i = 0; i < p[0].gh; ++i) {
        T* row = to + (c * s.h + p[0].first_h + i * s.sh) * s.w;
        const T* from[kMaxPhases];
        for (int64_t b = 0; b < s.sw; ++b)
          from[b] = pixels + s.c * p[b].at + (c * p[b].gh + i) * p[b].width;
        if (s.sw == 1)
          copy_row(from[0], row, s.w);
        else if (s.sw == 2)  // one phase begins in column 0, the other in column 1
          interleave(from[p[0].first_w], from[p[1].first_w], row, s.w);
        else
          for (int64_t b = 0; b < s.sw; ++b)
            for (int64_t j = 0; j < p[b].gw; ++j) row[p[b].first_w + j * s.sw] = from[b][j];
      }
  }
};

// The phases of dx. Taps of the turned filters that reach the pixels of phase (a, b):
// dx[c, i] = sum over f, d of dy[f, i + base - d] * weight[f, c, a + d * stride].
template <class T>
void make_phases(Backward<T>& work) {
  const Shape& s = work.s;
  constexpr int64_t L = lanes<T>;
  Split& split = work.upstream_split;
  split = Split{s.f, s.oh, s.ow, 1, 1, 0, 0, 1, 1, 1};
  bool any = false;
  for (int64_t a = 0; a < s.sh; ++a)
    for (int64_t b = 0; b < s.sw; ++b) {
      Phase<T>& p = work.phases[work.phase_count++];
      // pixel h of dx lies at padded row h + ph = a (mod sh)
      p.first_h = ((a - s.ph) % s.sh + s.sh) % s.sh;
      p.first_w = ((b - s.pw) % s.sw + s.sw) % s.sw;
      p.gh = p.first_h < s.h ? (s.h - p.first_h - 1) / s.sh + 1 : 0;
      p.gw = p.first_w < s.w ? (s.w - p.first_w - 1) / s.sw + 1 : 0;
      p.nh = a < s.kh ? (s.kh - a - 1) / s.sh + 1 : 0;
      p.nw = b < s.kw ? (s.kw - b - 1) / s.sw + 1 : 0;
      p.taps = s.f * p.nh * p.nw;
      // row i reads dy rows i + base_h - (nh - 1) .. i + base_h
      p.top = p.nh - 1 - (p.first_h + s.ph - a) / s.sh;
      p.left = p.nw - 1 - (p.first_w + s.pw - b) / s.sw;
      // Packing pixels costs as much as computing a few channels; a few pixels too many do not.
      const int64_t whole = round_up(p.gw, L);
      p.width = s.c <= kNarrowFilters && 4 * whole <= 5 * p.gw ? whole : p.gw;
      p.at = work.phase_pixels;
      work.phase_pixels += p.gh * p.width;
      if (p.taps == 0) continue;
      split.top = any ? greatest(split.top, p.top) : p.top;
      split.left = any ? greatest(split.left, p.left) : p.left;
      any = true;
    }
  for (int64_t q = 0; q < work.phase_count; ++q) {
    const Phase<T>& p = work.phases[q];
    if (p.taps == 0) continue;
    split.rows = greatest(split.rows, split.top - p.top + p.gh + p.nh - 1);
    split.cols = greatest(split.cols, split.left - p.left + p.width + p.nw - 1);
  }
  split.plane = split.rows * split.cols;
}

// Where phase q finds its taps, and their weights.
template <class T>
void make_taps(Backward<T>& work, int64_t q, const T* weight, int64_t* offset, T* packed,
               T* plain) {
  const Shape& s = work.s;
  const Split& split = work.upstream_split;
  Phase<T>& p = work.phases[q];
  const int64_t a = q / s.sw, b = q % s.sw;
  int64_t k = 0;
  for (int64_t f = 0; f < s.f; ++f)
    for (int64_t r = 0; r < p.nh; ++r)
      for (int64_t t = 0; t < p.nw; ++t, ++k) {
        offset[k] = f * split.plane + (r + split.top - p.top) * split.cols + t + split.left - p.left;
        const int64_t row = a + (p.nh - 1 - r) * s.sh, col = b + (p.nw - 1 - t) * s.sw;
        for (int64_t c = 0; c < s.c; ++c)
          plain[c * p.taps + k] = weight[((f * s.c + c) * s.kh + row) * s.kw + col];
      }
  pack_weights(plain, s.c, p.taps, most_filters(s.c), packed);
  p.offset = offset;
  p.weight = packed;
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
  double* bias_sums = scratch_of<double>(kBiasSums, work.groups * work.width);
  work.dbias = bias_sums;
  if (dx) {
    int64_t* phase_offset = offset + work.taps;
    T* packed = memory;
    make_phases(work);
    for (int64_t q = 0; q < work.phase_count; ++q) {
      make_taps(work, q, weight, phase_offset, packed, memory + weights);
      phase_offset += work.phases[q].taps;
      packed += work.phases[q].taps * s.c;
    }
  }
  parallel(work.groups, threads, work);
  Reduce<T> reduce{work, dweight};
  parallel((work.taps + kReduceTaps - 1) / kReduceTaps, threads, reduce);
  for (int64_t f = 0; dbias && f < s.f; ++f) {
    double total = 0;
    for (int64_t g = 0; g < work.groups; ++g) total += bias_sums[g * work.width + f];
    dbias[f] = static_cast<T>(total);
  }
  return true;
}

}  // namespace
