// Batch normalisation, alone or followed by ReLU.
//
//   y = (x - mean) scale + shift,  scale = weight / sqrt(var + eps),  shift = bias
//
// over x (N, C, S), where S is the product of the axes behind the channels, 1 for (N, C). The
// backward pass reads x again instead of a normalised copy of it, and of a fused ReLU it finds
// the sign again instead of reading the output.
//
// Statistics are float64 whatever T is. Where S is a vector or more, a channel is summed plane by
// plane in one pass over sums of d = x - K and of d^2, K the mean of its first plane: then
// var >= (K - mean)^2 / N, so that the difference of sums loses at most a factor N of accuracy,
// whatever the mean. Shorter planes are taken as the columns of a matrix (N, C S), a block of
// channels at a time, and pass twice. A channel or block stays in cache from one pass to the next.
//
// Sums run over groups of images that depend on the shape alone.
#pragma once

#include "pointwise.hpp"
#include "runtime.hpp"
#include "vec.hpp"

namespace {

constexpr int kNormPartial = 9;               // slot of the calling thread's scratch
constexpr int64_t kNormGroup = 32768;         // elements of a group of planes
constexpr int64_t kNormStrand = 4096;         // elements summed in the lanes of one vector pair
constexpr int64_t kNormColumns = 4;           // vectors of columns in a block
constexpr int64_t kNormRows = 128;            // rows whose sums are added up on their own
constexpr int64_t kNormEnoughChannels = 8;    // to occupy all threads with a channel each

struct NormShape {
  int64_t n, c, s;  // images, channels, elements of a plane
};

// What a call works on. stats (3, c): mean, biased variance, 1 / sqrt(var + eps).
template <class T>
struct Norm {
  NormShape shape;
  bool batch, relu;  // statistics of this batch; ReLU behind
  double eps;
  const T *x, *weight, *bias;
  double* stats;
  T* y;              // forward: the output
  const T* dy;       // backward
  T *dx, *dweight, *dbias;

  double mean(int64_t c) const { return stats[c]; }
  double inv_std(int64_t c) const { return stats[2 * shape.c + c]; }
  double count() const { return static_cast<double>(shape.n * shape.s); }

  void keep_moments(int64_t c, double mean, double var) const {
    if (var < 0) var = 0;  // rounding; NaN stays
    stats[c] = mean;
    stats[shape.c + c] = var;
    stats[2 * shape.c + c] = 1 / __builtin_sqrt(var + eps);
  }
};

// y = (x - m) scale + shift, with the mean rounded to m and the remainder moved to the shift, so
// that a mean far larger than the deviation costs nothing. Not inlined, so that forward and
// backward round alike.
template <class T>
struct NormLine {
  T m, scale, shift;
  double rest;  // mean - m
};
template <class T>
__attribute__((noinline)) NormLine<T> norm_line(const Norm<T>& k, int64_t c) {
  const double mean = k.mean(c), scale = k.weight[c] * k.inv_std(c);
  NormLine<T> line;
  line.m = static_cast<T>(mean);
  line.rest = mean - line.m;
  if (!(line.rest - line.rest == 0)) line.rest = 0;  // an infinite mean
  double moved = line.rest == 0 ? 0 : line.rest * scale;
  if (!(moved - moved == 0)) moved = 0;
  line.scale = static_cast<T>(scale);
  line.shift = static_cast<T>(k.bias[c] - moved);
  return line;
}

template <class T>
CR_INLINE Vec<T> norm_apply(Vec<T> x, Vec<T> m, Vec<T> scale, Vec<T> shift) {
  return (x - m) * scale + shift;
}

// dx = a dy + b (x - m) + c, from sum_g = sum dy and sum_gx = sum dy (x - m); sets the gradients
// of weight and bias. With xhat = (x - mean) / std and M values a channel,
// dx = weight / std (dy - sum dy / M - xhat sum(dy xhat) / M).
template <class T>
struct NormSlope {
  T a, b, c;
};
template <class T>
NormSlope<T> norm_slope(const Norm<T>& k, int64_t c, const NormLine<T>& line, double sum_g,
                        double sum_gx) {
  const double inv_std = k.inv_std(c), a = k.weight[c] * inv_std;
  const double dweight = (line.rest == 0 ? sum_gx : sum_gx - line.rest * sum_g) * inv_std;
  k.dweight[c] = static_cast<T>(dweight);
  k.dbias[c] = static_cast<T>(sum_g);
  if (!k.batch) return {static_cast<T>(a), T(0), T(0)};
  const double b = -a * inv_std * (dweight / k.count());
  const double moved = line.rest == 0 ? 0 : b * line.rest;
  return {static_cast<T>(a), static_cast<T>(b), static_cast<T>(-a * (sum_g / k.count()) - moved)};
}

// ---- planes of a vector or more -------------------------------------------------------------

// f(offset, keep): the vectors of a plane, and which lanes count. Where the plane is not a
// multiple of the vector the last one overlaps the one before.
template <class T, class F>
CR_INLINE void each_vector(int64_t s, F&& f) {
  constexpr int64_t L = lanes<T>;
  using Mask = decltype(Vec<T>{} > Vec<T>{});
  int64_t i = 0;
  for (; i + 2 * L <= s; i += 2 * L) {
    f(i, 0, ~Mask{}, false);
    f(i + L, 1, ~Mask{}, false);
  }
  if (i + L <= s) {
    f(i, 0, ~Mask{}, false);
    i += L;
  }
  if (i < s) {
    Mask keep;
    for (int l = 0; l < L; ++l) keep[l] = l >= L - (s - i) ? -1 : 0;
    f(s - L, 1, keep, true);
  }
}

template <class T>
struct TwoSums {  // of a plane, in two strands each
  Vec<double> first[2][Wide<T>::parts] = {}, second[2][Wide<T>::parts] = {};
  CR_INLINE void into(double& a, double& b) const {
    Vec<double> u = {}, v = {};
    CR_UNROLL for (int q = 0; q < Wide<T>::parts; ++q) {
      u += first[0][q] + first[1][q];
      v += second[0][q] + second[1][q];
    }
    a += across(u);
    b += across(v);
  }
};

template <class T>
double plane_mean(const T* x, int64_t s) {
  TwoSums<T> sums;
  each_vector<T>(s, [&](int64_t i, int strand, auto keep, bool cut) CR_LAMBDA {
    Vec<T> v = load(x + i);
    if (cut) v = keep ? v : Vec<T>{};
    const Wide<T> wide(v);
    CR_UNROLL for (int q = 0; q < Wide<T>::parts; ++q) sums.first[strand][q] += wide.part[q];
  });
  double sum = 0, none = 0;
  sums.into(sum, none);
  sum /= static_cast<double>(s);
  return sum - sum == 0 ? sum : 0;  // a shift by an infinity would make NaN of the others
}

template <class T>
struct NormPlanes {
  Norm<T> k;
  int64_t size, groups;  // images in a group
  int64_t flush;         // images after which lanes are added up
  double* partial;       // (c, groups, 2)
  bool past;             // store y or dx past the caches

  explicit NormPlanes(const Norm<T>& norm) : k(norm) {
    size = greatest<int64_t>(1, kNormGroup / k.shape.s);
    groups = (k.shape.n + size - 1) / size;
    flush = greatest<int64_t>(1, kNormStrand / k.shape.s);
    partial = scratch_of<double>(kNormPartial, 2 * k.shape.c * groups);
    past = k.shape.s % lanes<T> == 0 && past_caches(k.y ? k.y : k.dx, begin(k.shape.n, 0));
  }
  int64_t begin(int64_t n, int64_t c) const { return (n * k.shape.c + c) * k.shape.s; }
  int64_t end_of(int64_t g) const { return least(k.shape.n, (g + 1) * size); }
  double* partial_of(int64_t c, int64_t g) const { return partial + 2 * (c * groups + g); }

  void forward_sums(int64_t c, int64_t g) const {
    const double shift = plane_mean(k.x + begin(0, c), k.shape.s);
    const int64_t next = begin(1, 0);  // the same channel of the next image
    double total[2] = {0, 0};
    TwoSums<T> sums;
    for (int64_t n = g * size; n < end_of(g); ++n) {
      const T* x = k.x + begin(n, c);
      each_vector<T>(k.shape.s, [&](int64_t i, int strand, auto keep, bool cut) CR_LAMBDA {
        const Vec<T> v = load(x + i);
        prefetch(x + i, next);
        const Wide<T> wide(v);
        const Wide<T> mask(keep ? broadcast(T(1)) : Vec<T>{});
        CR_UNROLL for (int q = 0; q < Wide<T>::parts; ++q) {
          Vec<double> d = wide.part[q] - broadcast(shift);
          if (cut) d = mask.part[q] > Vec<double>{} ? d : Vec<double>{};
          sums.first[strand][q] += d;
          sums.second[strand][q] += d * d;
        }
      });
      if ((n + 1) % flush == 0 || n + 1 == end_of(g)) {
        sums.into(total[0], total[1]);
        sums = TwoSums<T>();
      }
    }
    std::memcpy(partial_of(c, g), total, sizeof total);
  }
  void total(int64_t c, double (&sum)[2]) const {
    sum[0] = sum[1] = 0;
    for (int64_t g = 0; g < groups; ++g)
      for (int q = 0; q < 2; ++q) sum[q] += partial_of(c, g)[q];
  }
  void moments(int64_t c) const {
    double sum[2];
    total(c, sum);
    const double off = sum[0] / k.count();
    k.keep_moments(c, plane_mean(k.x + begin(0, c), k.shape.s) + off,
                   sum[1] / k.count() - off * off);
  }
  void apply(int64_t c, int64_t g) const {
    const NormLine<T> line = norm_line(k, c);
    const Vec<T> m = broadcast(line.m), scale = broadcast(line.scale);
    const Vec<T> shift = broadcast(line.shift);
    for (int64_t n = g * size; n < end_of(g); ++n) {
      const T* x = k.x + begin(n, c);
      T* y = k.y + begin(n, c);
      each_vector<T>(k.shape.s, [&](int64_t i, int, auto, bool) CR_LAMBDA {
        const Vec<T> v = norm_apply<T>(load(x + i), m, scale, shift);
        store(y + i, k.relu ? positive_part<T>(v) : v, past);
      });
    }
    arrived(past);
  }

  void backward_sums(int64_t c, int64_t g) const {
    const NormLine<T> line = norm_line(k, c);
    const Vec<T> m = broadcast(line.m), scale = broadcast(line.scale);
    const Vec<T> shift = broadcast(line.shift);
    const int64_t next = begin(1, 0);
    double total[2] = {0, 0};
    TwoSums<T> sums;
    for (int64_t n = g * size; n < end_of(g); ++n) {
      const T *x = k.x + begin(n, c), *dy = k.dy + begin(n, c);
      each_vector<T>(k.shape.s, [&](int64_t i, int strand, auto keep, bool cut) CR_LAMBDA {
        const Vec<T> v = load(x + i);
        Vec<T> d = load(dy + i);
        prefetch(x + i, next);
        prefetch(dy + i, next);
        if (k.relu) d = norm_apply<T>(v, m, scale, shift) > Vec<T>{} ? d : Vec<T>{};
        Vec<T> product = d * (v - m);
        if (cut) d = keep ? d : Vec<T>{}, product = keep ? product : Vec<T>{};
        const Wide<T> wide(d), wide_product(product);
        CR_UNROLL for (int q = 0; q < Wide<T>::parts; ++q) {
          sums.first[strand][q] += wide.part[q];
          sums.second[strand][q] += wide_product.part[q];
        }
      });
      if ((n + 1) % flush == 0 || n + 1 == end_of(g)) {
        sums.into(total[0], total[1]);
        sums = TwoSums<T>();
      }
    }
    std::memcpy(partial_of(c, g), total, sizeof total);
  }
  void inputs(int64_t c, int64_t g) const {
    double sum[2];
    total(c, sum);
    const NormLine<T> line = norm_line(k, c);
    const NormSlope<T> slope = norm_slope(k, c, line, sum[0], sum[1]);
    const Vec<T> m = broadcast(line.m), scale = broadcast(line.scale);
    const Vec<T> shift = broadcast(line.shift);
    const Vec<T> slope_a = broadcast(slope.a), slope_b = broadcast(slope.b);
    const Vec<T> slope_c = broadcast(slope.c);
    for (int64_t n = g * size; n < end_of(g); ++n) {
      const T *x = k.x + begin(n, c), *dy = k.dy + begin(n, c);
      T* dx = k.dx + begin(n, c);
      each_vector<T>(k.shape.s, [&](int64_t i, int, auto, bool) CR_LAMBDA {
        const Vec<T> v = load(x + i);
        Vec<T> d = load(dy + i);
        if (k.relu) d = norm_apply<T>(v, m, scale, shift) > Vec<T>{} ? d : Vec<T>{};
        d *= slope_a;
        if (k.batch) d += (v - m) * slope_b + slope_c;
        store(dx + i, d, past);
      });
    }
    arrived(past);
  }
};

// ---- planes shorter than a vector -----------------------------------------------------------

template <class T>
struct NormBlock {  // the columns of a block of channels, V vectors at most
  static constexpr int64_t L = lanes<T>, V = kNormColumns;
  const Norm<T>& k;
  int64_t first, channels;  // channels
  int64_t row, from, width; // length of a row of x, where the block begins in it, its columns

  NormBlock(const Norm<T>& norm, int64_t index) : k(norm) {
    const int64_t most = V * L / k.shape.s;
    first = index * most;
    channels = least(most, k.shape.c - first);
    row = k.shape.c * k.shape.s;
    from = first * k.shape.s;
    width = channels * k.shape.s;
  }
  static int64_t count(const NormShape& s) { return (s.c + V * L / s.s - 1) / (V * L / s.s); }

  int64_t vectors() const { return (width + L - 1) / L; }
  CR_INLINE Vec<T> get(const T* array, int64_t n, int64_t v) const {
    const int64_t at = n * row + from + v * L;
    const bool inside = at + L <= k.shape.n * row;  // lanes of other columns do no harm
    return inside ? load(array + at) : load_part(array + at, width - v * L);
  }
  CR_INLINE void put(T* array, int64_t n, int64_t v, Vec<T> value) const {
    store_part(array + n * row + from + v * L, value, width - v * L);
  }

  // sums[q][channel] = sum over its elements of f(n, v, add), add(q, Wide)
  template <int Q, class F>
  CR_INLINE void column_sums(double (&sums)[Q][V * L], F&& f) const {
    constexpr int P = Wide<T>::parts;
    double columns[Q][V * L] = {};
    for (int64_t v = 0; v < vectors(); ++v)
      for (int64_t begin = 0; begin < k.shape.n; begin += kNormRows) {
        Vec<double> sum[Q][P] = {};
        for (int64_t n = begin; n < least(begin + kNormRows, k.shape.n); ++n)
          f(n, v, [&](int q, const Wide<T>& wide) CR_LAMBDA {
            CR_UNROLL for (int p = 0; p < P; ++p) sum[q][p] += wide.part[p];
          });
        CR_UNROLL for (int q = 0; q < Q; ++q)
          CR_UNROLL for (int p = 0; p < P; ++p) {
            double* to = columns[q] + v * L + p * lanes<double>;
            store(to, load(to) + sum[q][p]);
          }
      }
    for (int q = 0; q < Q; ++q)
      for (int64_t c = 0; c < channels; ++c) {
        double sum = 0;
        for (int64_t i = 0; i < k.shape.s; ++i) sum += columns[q][c * k.shape.s + i];
        sums[q][c] = sum;
      }
  }
  template <class U, class F>
  void spread(U* columns, F&& f) const {  // a value for each channel to each of its columns
    for (int64_t i = 0; i < V * L; ++i) columns[i] = U(0);
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t i = 0; i < k.shape.s; ++i) columns[c * k.shape.s + i] = f(c);
  }

  void moments() const {
    double sums[1][V * L], mean[V * L], mean_of[V * L];
    column_sums(sums, [&](int64_t n, int64_t v, auto add) CR_LAMBDA {
      add(0, Wide<T>(get(k.x, n, v)));
    });
    for (int64_t c = 0; c < channels; ++c) mean[c] = sums[0][c] / k.count();
    spread(mean_of, [&](int64_t c) { return mean[c]; });
    column_sums(sums, [&](int64_t n, int64_t v, auto add) CR_LAMBDA {
      Wide<T> wide(get(k.x, n, v));
      CR_UNROLL for (int p = 0; p < Wide<T>::parts; ++p) {
        const Vec<double> d = wide.part[p] - load(mean_of + v * L + p * lanes<double>);
        wide.part[p] = d * d;
      }
      add(0, wide);
    });
    for (int64_t c = 0; c < channels; ++c)
      k.keep_moments(first + c, mean[c], sums[0][c] / k.count());
  }

  struct Lines {
    T m[V * L], scale[V * L], shift[V * L];
  };
  void lines(Lines& to, NormLine<T>* line) const {
    for (int64_t c = 0; c < channels; ++c) line[c] = norm_line(k, first + c);
    spread(to.m, [&](int64_t c) { return line[c].m; });
    spread(to.scale, [&](int64_t c) { return line[c].scale; });
    spread(to.shift, [&](int64_t c) { return line[c].shift; });
  }
  CR_INLINE Vec<T> value(const Lines& l, Vec<T> x, int64_t v) const {
    return norm_apply<T>(x, load(l.m + v * L), load(l.scale + v * L), load(l.shift + v * L));
  }
  CR_INLINE Vec<T> upstream_at(const Lines& l, Vec<T> x, int64_t n, int64_t v) const {
    const Vec<T> d = get(k.dy, n, v);
    return !k.relu ? d : value(l, x, v) > Vec<T>{} ? d : Vec<T>{};
  }

  void apply() const {
    Lines l;
    NormLine<T> line[V * L];
    lines(l, line);
    for (int64_t n = 0; n < k.shape.n; ++n)
      for (int64_t v = 0; v < vectors(); ++v) {
        const Vec<T> y = value(l, get(k.x, n, v), v);
        put(k.y, n, v, k.relu ? positive_part<T>(y) : y);
      }
  }

  void backward() const {
    Lines l;
    NormLine<T> line[V * L];
    NormSlope<T> slope[V * L];
    lines(l, line);
    double sums[2][V * L];
    column_sums(sums, [&](int64_t n, int64_t v, auto add) CR_LAMBDA {
      const Vec<T> x = get(k.x, n, v), d = upstream_at(l, x, n, v);
      add(0, Wide<T>(d));
      add(1, Wide<T>(d * (x - load(l.m + v * L))));
    });
    for (int64_t c = 0; c < channels; ++c)
      slope[c] = norm_slope(k, first + c, line[c], sums[0][c], sums[1][c]);
    T slope_a[V * L], slope_b[V * L], slope_c[V * L];
    spread(slope_a, [&](int64_t c) { return slope[c].a; });
    spread(slope_b, [&](int64_t c) { return slope[c].b; });
    spread(slope_c, [&](int64_t c) { return slope[c].c; });
    for (int64_t n = 0; n < k.shape.n; ++n)
      for (int64_t v = 0; v < vectors(); ++v) {
        const Vec<T> x = get(k.x, n, v);
        Vec<T> d = upstream_at(l, x, n, v) * load(slope_a + v * L);
        if (k.batch)
          d += (x - load(l.m + v * L)) * load(slope_b + v * L) + load(slope_c + v * L);
        put(k.dx, n, v, d);
      }
  }
};

// ---- entry points ---------------------------------------------------------------------------

// y = batch_norm(x), with `relu` max(batch_norm(x), 0).
//   x, y (n, c, s); y of the caller, not x. weight, bias (c,).
//   running_mean, running_var (c,): normalise with these; both null: with those of the batch,
//   which then holds a value per channel at least.
//   stats (3, c), of the caller: mean, biased variance and 1 / sqrt(variance + eps) of what was
//   used; the backward pass wants it, and the running statistics follow from it.
template <class T>
void batch_norm_forward(const NormShape& shape, const T* x, const T* weight, const T* bias,
                        const T* running_mean, const T* running_var, double eps, bool relu,
                        double* stats, T* y, int threads) {
  const bool batch = running_mean == nullptr;
  const Norm<T> k{shape, batch, relu, eps, x, weight, bias, stats, y,
                  nullptr, nullptr, nullptr, nullptr};
  if (!batch)
    for (int64_t c = 0; c < shape.c; ++c) k.keep_moments(c, running_mean[c], running_var[c]);
  if (shape.n * shape.c * shape.s == 0) return;
  if (shape.s < lanes<T>) {
    auto block = [&](int64_t i) {
      const NormBlock<T> columns(k, i);
      if (batch) columns.moments();
      columns.apply();
    };
    return parallel(NormBlock<T>::count(shape), threads, block);
  }
  const NormPlanes<T> planes(k);
  if (shape.c >= kNormEnoughChannels) {
    auto channel = [&](int64_t c) {
      if (batch) {
        for (int64_t g = 0; g < planes.groups; ++g) planes.forward_sums(c, g);
        planes.moments(c);
      }
      for (int64_t g = 0; g < planes.groups; ++g) planes.apply(c, g);
    };
    return parallel(shape.c, threads, channel);
  }
  auto sums = [&](int64_t i) { planes.forward_sums(i / planes.groups, i % planes.groups); };
  auto apply = [&](int64_t i) { planes.apply(i / planes.groups, i % planes.groups); };
  if (batch) {
    parallel(shape.c * planes.groups, threads, sums);
    for (int64_t c = 0; c < shape.c; ++c) planes.moments(c);
  }
  parallel(shape.c * planes.groups, threads, apply);
}

// Gradients of batch_norm_forward with the same shape, x, weight, bias, stats and relu; `batch` is
// whether it used the batch's statistics (then they count as functions of x).
//   dy (n, c, s); dx (n, c, s), dweight, dbias (c,) are overwritten, of the caller and apart.
template <class T>
void batch_norm_backward(const NormShape& shape, const T* x, const T* weight, const T* bias,
                         const double* stats, const T* dy, bool batch, bool relu, T* dx,
                         T* dweight, T* dbias, int threads) {
  const Norm<T> k{shape, batch, relu, 0, x, weight, bias, const_cast<double*>(stats), nullptr,
                  dy, dx, dweight, dbias};
  if (shape.n * shape.c * shape.s == 0) {
    for (int64_t c = 0; c < shape.c; ++c) dweight[c] = dbias[c] = T(0);
    return;
  }
  if (shape.s < lanes<T>) {
    auto block = [&](int64_t i) { NormBlock<T>(k, i).backward(); };
    return parallel(NormBlock<T>::count(shape), threads, block);
  }
  const NormPlanes<T> planes(k);
  if (shape.c >= kNormEnoughChannels) {
    auto channel = [&](int64_t c) {
      for (int64_t g = 0; g < planes.groups; ++g) planes.backward_sums(c, g);
      for (int64_t g = 0; g < planes.groups; ++g) planes.inputs(c, g);
    };
    return parallel(shape.c, threads, channel);
  }
  auto sums = [&](int64_t i) { planes.backward_sums(i / planes.groups, i % planes.groups); };
  auto inputs = [&](int64_t i) { planes.inputs(i / planes.groups, i % planes.groups); };
  parallel(shape.c * planes.groups, threads, sums);
  parallel(shape.c * planes.groups, threads, inputs);
}

}  // namespace
