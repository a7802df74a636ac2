// Optimizer steps that pass each array of a parameter once, and what is asked of gradients.
//
// The rules are those of chainrule.optim, where their formulas stand, with scalars computed in
// float64 and rounded to T once, as NumPy does with Python numbers. All arrays have `count`
// elements and belong to the caller; parameter and state are updated in place, the gradient g is
// only read, and no two may overlap. Weight decay comes first: `coupled` adds coupled p to the
// gradient, `decoupled` multiplies p by 1 - lr decoupled; 0 means none.
#pragma once

#include "pointwise.hpp"
#include "runtime.hpp"
#include "vec.hpp"

namespace {

constexpr int kSumPartial = 9;  // slot of the calling thread's scratch

// f(i, n, g): n elements from i on, with the decayed gradient of them.
template <class T, class F>
void update_chunks(int64_t count, T* p, const T* g, double lr, double coupled, double decoupled,
                   int threads, F f) {
  const Vec<T> add = broadcast(static_cast<T>(coupled));
  const Vec<T> shrink = broadcast(static_cast<T>(1.0 - lr * decoupled));
  auto chunk = [=](int64_t first, int64_t last) {
    map_chunk<T>(first, last, [=](int64_t i, int64_t n) CR_LAMBDA {
      Vec<T> value = load_part(p + i, n), slope = load_part(g + i, n);
      if (decoupled != 0) value *= shrink;
      if (coupled != 0) slope += value * add;  // with 0 an infinite p would give NaN
      store_part(p + i, value - f(i, n, slope), n);
    });
  };
  parallel_chunks(count, kChunk, threads, chunk);
}

// p <- p - lr g
template <class T>
void sgd_update(int64_t count, T* p, const T* g, double lr, double coupled, int threads) {
  const Vec<T> rate = broadcast(static_cast<T>(lr));
  update_chunks(count, p, g, lr, coupled, 0, threads,
                [=](int64_t, int64_t, Vec<T> slope) CR_LAMBDA { return slope * rate; });
}

// v <- mu v + g, p <- p - lr v, or with nesterov p <- p - lr (g + mu v); with lr_in_velocity
// v <- mu v + lr g, p <- p - v, or p <- p - (lr g + mu v).
template <class T>
void momentum_update(int64_t count, T* p, const T* g, T* v, double lr, double momentum,
                     bool nesterov, bool lr_in_velocity, double coupled, int threads) {
  const Vec<T> mu = broadcast(static_cast<T>(momentum));
  const Vec<T> inner = broadcast(static_cast<T>(lr_in_velocity ? lr : 1.0));
  const Vec<T> outer = broadcast(static_cast<T>(lr_in_velocity ? 1.0 : lr));
  update_chunks(count, p, g, lr, coupled, 0, threads,
                [=](int64_t i, int64_t n, Vec<T> slope) CR_LAMBDA {
                  const Vec<T> added = slope * inner;
                  const Vec<T> velocity = load_part(v + i, n) * mu + added;
                  store_part(v + i, velocity, n);
                  return (nesterov ? added + velocity * mu : velocity) * outer;
                });
}

// c <- alpha c + (1 - alpha) g^2, p <- p - lr g / sqrt(c + eps), or with eps_inside_root false
// p <- p - lr g / (sqrt(c) + eps).
template <class T>
void rmsprop_update(int64_t count, T* p, const T* g, T* cache, double lr, double alpha, double eps,
                    bool eps_inside_root, double coupled, int threads) {
  const Vec<T> keep = broadcast(static_cast<T>(alpha));
  const Vec<T> mix = broadcast(static_cast<T>(1.0 - alpha));
  const Vec<T> rate = broadcast(static_cast<T>(lr));
  const Vec<T> inside = broadcast(static_cast<T>(eps_inside_root ? eps : 0.0));
  const Vec<T> outside = broadcast(static_cast<T>(eps_inside_root ? 0.0 : eps));
  update_chunks(count, p, g, lr, coupled, 0, threads,
                [=](int64_t i, int64_t n, Vec<T> slope) CR_LAMBDA {
                  const Vec<T> c = load_part(cache + i, n) * keep + slope * slope * mix;
                  store_part(cache + i, c, n);
                  return slope * rate / (square_root<T>(c + inside) + outside);
                });
}

// c <- c + g^2, p <- p - lr g / (sqrt(c) + eps)
template <class T>
void adagrad_update(int64_t count, T* p, const T* g, T* cache, double lr, double eps,
                    double coupled, int threads) {
  const Vec<T> rate = broadcast(static_cast<T>(lr));
  const Vec<T> outside = broadcast(static_cast<T>(eps));
  update_chunks(count, p, g, lr, coupled, 0, threads,
                [=](int64_t i, int64_t n, Vec<T> slope) CR_LAMBDA {
                  const Vec<T> c = load_part(cache + i, n) + slope * slope;
                  store_part(cache + i, c, n);
                  return slope * rate / (square_root<T>(c) + outside);
                });
}

// m <- beta1 m + (1 - beta1) g, v <- beta2 v + (1 - beta2) g^2,
// p <- p - lr / (1 - beta1^step) m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
// step counts from 1. Adam: coupled decay; AdamW: decoupled.
template <class T>
void adam_update(int64_t count, T* p, const T* g, T* m, T* v, double lr, double beta1,
                 double beta2, double eps, int64_t step, double coupled, double decoupled,
                 int threads) {
  const double t = static_cast<double>(step);
  const Vec<T> keep1 = broadcast(static_cast<T>(beta1));
  const Vec<T> mix1 = broadcast(static_cast<T>(1.0 - beta1));
  const Vec<T> keep2 = broadcast(static_cast<T>(beta2));
  const Vec<T> mix2 = broadcast(static_cast<T>(1.0 - beta2));
  const Vec<T> rate = broadcast(static_cast<T>(lr / (1.0 - __builtin_pow(beta1, t))));
  const Vec<T> root =
      broadcast(static_cast<T>(__builtin_sqrt(1.0 - __builtin_pow(beta2, t))));
  const Vec<T> small = broadcast(static_cast<T>(eps));
  update_chunks(count, p, g, lr, coupled, decoupled, threads,
                [=](int64_t i, int64_t n, Vec<T> slope) CR_LAMBDA {
                  const Vec<T> mean = load_part(m + i, n) * keep1 + slope * mix1;
                  const Vec<T> square = load_part(v + i, n) * keep2 + slope * slope * mix2;
                  store_part(m + i, mean, n);
                  store_part(v + i, square, n);
                  return mean * rate / (square_root<T>(square) / root + small);
                });
}

// average <- average + (1 - decay) (p - average); p is only read.
template <class T>
void average_update(int64_t count, T* average, const T* p, double decay, int threads) {
  const Vec<T> share = broadcast(static_cast<T>(1.0 - decay));
  auto chunk = [=](int64_t first, int64_t last) {
    map_chunk<T>(first, last, [=](int64_t i, int64_t n) CR_LAMBDA {
      const Vec<T> old = load_part(average + i, n);
      store_part(average + i, old + (load_part(p + i, n) - old) * share, n);
    });
  };
  parallel_chunks(count, kChunk, threads, chunk);
}

// Sum of the squares of an array, in float64, and whether all elements are finite; the sum alone
// does not say it, since squares of float64 can overflow.
struct SquareSum {
  double sum;
  bool finite;
};
template <class T>
SquareSum square_sum(int64_t count, const T* x, int threads) {
  constexpr int P = Wide<T>::parts;
  const int64_t chunks = (count + kChunk - 1) / kChunk;
  double* partial = scratch_of<double>(kSumPartial, 2 * chunks);
  auto chunk = [=](int64_t first, int64_t last) {
    Vec<double> sum[P] = {};
    Vec<T> odd = {};  // x - x: 0, or NaN where x is not finite
    map_chunk<T>(first, last, [&](int64_t i, int64_t n) CR_LAMBDA {
      const Vec<T> v = load_part(x + i, n);
      const Wide<T> wide(v);
      odd += v - v;
      CR_UNROLL for (int q = 0; q < P; ++q) sum[q] += wide.part[q] * wide.part[q];
    });
    double total = 0, odds = 0;
    for (int q = 0; q < P; ++q) total += across(sum[q]);
    for (int i = 0; i < lanes<T>; ++i) odds += odd[i];
    double* to = partial + first / kChunk * 2;
    to[0] = total, to[1] = odds;
  };
  parallel_chunks(count, kChunk, threads, chunk);
  double total = 0, odds = 0;
  for (int64_t i = 0; i < chunks; ++i) total += partial[2 * i], odds += partial[2 * i + 1];
  return {total, odds == 0};
}

}  // namespace
