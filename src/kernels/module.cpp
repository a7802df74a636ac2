// The Python module: arrays are checked, taken without copies and handed to the kernels with the
// interpreter's lock released.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <vector>

#include "table.hpp"
#include "workspace.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using chainrule::Blocks;
using chainrule::ConvShape;
using chainrule::Functions;
using chainrule::Kernels;
using chainrule::Loan;

// ---- arrays ---------------------------------------------------------------------------------

template <class T, int N>
using In = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T, int N>
using Out = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;

// Kernels trust their arguments, so what would make them read or write elsewhere is refused here.
void require(bool holds, const char* what) {
  if (!holds) throw nb::value_error(what);
}

// That an array, unless it is None, has this shape and is aligned.
template <class Array, size_t N>
void require_shape(const Array& array, const char* name, const int64_t (&shape)[N]) {
  if (!array.is_valid()) return;
  bool same = array.ndim() == N;
  for (size_t i = 0; same && i < N; ++i) same = static_cast<int64_t>(array.shape(i)) == shape[i];
  if (!same) throw nb::value_error((std::string(name) + " has the wrong shape").c_str());
  if (reinterpret_cast<uintptr_t>(array.data()) % array.itemsize() != 0)
    throw nb::value_error((std::string(name) + " is not aligned").c_str());
}

template <class Array>
auto data_or_null(const Array& array) -> decltype(array.data()) {
  return array.is_valid() ? array.data() : nullptr;
}

template <class T>
const Functions<T>& functions(const Kernels& kernels) {
  if constexpr (sizeof(T) == sizeof(float))
    return kernels.float32;
  else
    return kernels.float64;
}

// ---- convolution ----------------------------------------------------------------------------

template <class T>
ConvShape conv_shape(const In<T, 4>& x, const In<T, 4>& weight, int64_t stride_h,
                     int64_t stride_w, int64_t pad_h, int64_t pad_w) {
  const auto extent = [](size_t size) { return static_cast<int64_t>(size); };
  ConvShape s{};
  s.n = extent(x.shape(0)), s.c = extent(x.shape(1));
  s.h = extent(x.shape(2)), s.w = extent(x.shape(3));
  s.f = extent(weight.shape(0)), s.kh = extent(weight.shape(2)), s.kw = extent(weight.shape(3));
  s.sh = stride_h, s.sw = stride_w, s.ph = pad_h, s.pw = pad_w;
  require(s.c > 0 && s.f > 0 && s.kh > 0 && s.kw > 0, "no extent may be 0 but that of the batch");
  require(s.sh > 0 && s.sw > 0 && s.ph >= 0 && s.pw >= 0, "stride or padding out of range");
  require(s.h + 2 * s.ph >= s.kh && s.w + 2 * s.pw >= s.kw, "x is smaller than the filters");
  s.oh = (s.h + 2 * s.ph - s.kh) / s.sh + 1, s.ow = (s.w + 2 * s.pw - s.kw) / s.sw + 1;
  require_shape(x, "x", {s.n, s.c, s.h, s.w});
  require_shape(weight, "weight", {s.f, s.c, s.kh, s.kw});
  return s;
}

template <class T>
void conv_forward(const Kernels& kernels, In<T, 4> x, In<T, 4> weight, In<T, 1> bias,
                  Out<T, 4> y, Out<uint8_t, 4> winner, int64_t stride_h, int64_t stride_w,
                  int64_t pad_h, int64_t pad_w, bool relu, bool winograd, int threads) {
  const ConvShape s = conv_shape<T>(x, weight, stride_h, stride_w, pad_h, pad_w);
  const bool pool = winner.is_valid();
  const int64_t gh = pool ? s.oh / 2 : s.oh, gw = pool ? s.ow / 2 : s.ow;
  require(gh > 0 && gw > 0, "the convolution is smaller than the pooling window");
  require_shape(bias, "bias", {s.f});
  require_shape(y, "y", {s.n, s.f, gh, gw});
  require_shape(winner, "winner", {s.n, s.f, gh, gw});
  functions<T>(kernels).conv_forward(s, x.data(), weight.data(), data_or_null(bias), y.data(),
                                     data_or_null(winner), relu, winograd, threads);
}

template <class T>
bool conv_backward(const Kernels& kernels, In<T, 4> dy, In<T, 4> x, In<T, 4> weight, In<T, 4> y,
                   In<uint8_t, 4> winner, Out<T, 4> dx, Out<T, 4> dweight, Out<T, 1> dbias,
                   int64_t stride_h, int64_t stride_w, int64_t pad_h, int64_t pad_w,
                   bool winograd, int threads) {
  const ConvShape s = conv_shape<T>(x, weight, stride_h, stride_w, pad_h, pad_w);
  const bool pool = winner.is_valid();
  const int64_t gh = pool ? s.oh / 2 : s.oh, gw = pool ? s.ow / 2 : s.ow;
  require_shape(dy, "dy", {s.n, s.f, gh, gw});
  require_shape(y, "y", {s.n, s.f, s.oh, s.ow});
  require_shape(winner, "winner", {s.n, s.f, gh, gw});
  require_shape(dx, "dx", {s.n, s.c, s.h, s.w});
  require_shape(dweight, "dweight", {s.f, s.c, s.kh, s.kw});
  require_shape(dbias, "dbias", {s.f});
  return functions<T>(kernels).conv_backward(
      s, x.data(), weight.data(), dy.data(), data_or_null(y), data_or_null(winner),
      data_or_null(dx), dweight.data(), data_or_null(dbias), winograd, threads);
}

// ---- linear -----------------------------------------------------------------------------------

struct LinearShape {
  int64_t n, d, f;
};

template <class T>
LinearShape linear_shape(const In<T, 2>& x, const In<T, 2>& weight) {
  const auto of = [](size_t size) { return static_cast<int64_t>(size); };
  const LinearShape s{of(x.shape(0)), of(x.shape(1)), of(weight.shape(0))};
  require_shape(x, "x", {s.n, s.d});
  require_shape(weight, "weight", {s.f, s.d});
  return s;
}

template <class T>
void linear_forward(const Kernels& kernels, In<T, 2> x, In<T, 2> weight, In<T, 1> bias, bool relu,
                    Out<T, 2> y, int threads) {
  const LinearShape s = linear_shape<T>(x, weight);
  require_shape(bias, "bias", {s.f});
  require_shape(y, "y", {s.n, s.f});
  functions<T>(kernels).linear_forward(s.n, s.d, s.f, x.data(), weight.data(), data_or_null(bias),
                                       relu, y.data(), threads);
}

template <class T>
void linear_backward(const Kernels& kernels, In<T, 2> dy, In<T, 2> x, In<T, 2> weight, In<T, 2> y,
                     Out<T, 2> dx, Out<T, 2> dweight, Out<T, 1> dbias, int threads) {
  const LinearShape s = linear_shape<T>(x, weight);
  require_shape(dy, "dy", {s.n, s.f});
  require_shape(y, "y", {s.n, s.f});
  require_shape(dx, "dx", {s.n, s.d});
  require_shape(dweight, "dweight", {s.f, s.d});
  require_shape(dbias, "dbias", {s.f});
  functions<T>(kernels).linear_backward(s.n, s.d, s.f, x.data(), weight.data(), dy.data(),
                                        data_or_null(y), data_or_null(dx), dweight.data(),
                                        data_or_null(dbias), threads);
}

// ---- pooling, element by element, batch normalisation ------------------------------------------

template <class T>
using AnyIn = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
template <class T>
using AnyOut = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

// The number of elements, which all arrays have.
template <class First, class... Rest>
int64_t same_size(const First& first, const Rest&... rest) {
  require(((rest.size() == first.size()) && ...), "the arrays differ in size");
  const auto aligned = [](const auto& array) {
    return reinterpret_cast<uintptr_t>(array.data()) % array.itemsize() == 0;
  };
  require(aligned(first) && (aligned(rest) && ...), "an array is not aligned");
  return static_cast<int64_t>(first.size());
}

template <class Large, class Small>
chainrule::WindowShape window_shape(const Large& x, const Small& y, int64_t kh, int64_t kw,
                                    int64_t sh, int64_t sw, int64_t ph, int64_t pw) {
  const auto of = [](const auto& array, size_t i) { return static_cast<int64_t>(array.shape(i)); };
  require(kh > 0 && kw > 0 && kh * kw <= 255 && sh > 0 && sw > 0, "window or stride out of range");
  require(ph >= 0 && pw >= 0 && 2 * ph <= kh && 2 * pw <= kw, "padding out of range");
  require(of(x, 2) + 2 * ph >= kh && of(x, 3) + 2 * pw >= kw, "x is smaller than the window");
  const int64_t oh = (of(x, 2) + 2 * ph - kh) / sh + 1, ow = (of(x, 3) + 2 * pw - kw) / sw + 1;
  require_shape(y, "y", {of(x, 0), of(x, 1), oh, ow});
  return {of(x, 0) * of(x, 1), of(x, 2), of(x, 3), kh, kw, sh, sw, ph, pw, oh, ow};
}

template <class T>
void max_pool_forward(const Kernels& kernels, In<T, 4> x, Out<T, 4> y, Out<uint8_t, 4> winner,
                      int64_t kh, int64_t kw, int64_t sh, int64_t sw, int64_t ph, int64_t pw,
                      int threads) {
  const auto s = window_shape(x, y, kh, kw, sh, sw, ph, pw);
  same_size(y, winner);
  same_size(x);
  functions<T>(kernels).max_pool_forward(s, x.data(), y.data(), winner.data(), threads);
}

template <class T>
void max_pool_backward(const Kernels& kernels, In<T, 4> dy, In<uint8_t, 4> winner, Out<T, 4> dx,
                       int64_t kh, int64_t kw, int64_t sh, int64_t sw, int64_t ph, int64_t pw,
                       int threads) {
  const auto s = window_shape(dx, dy, kh, kw, sh, sw, ph, pw);
  same_size(dy, winner);
  same_size(dx);
  functions<T>(kernels).max_pool_backward(s, dy.data(), winner.data(), dx.data(), threads);
}

template <class T>
void relu_forward(const Kernels& kernels, AnyIn<T> x, AnyOut<T> y, int threads) {
  functions<T>(kernels).relu_forward(same_size(x, y), x.data(), y.data(), threads);
}

template <class T>
void relu_backward(const Kernels& kernels, AnyIn<T> x, AnyIn<T> dy, AnyOut<T> dx, int threads) {
  const int64_t count = same_size(x, dy, dx);
  functions<T>(kernels).relu_backward(count, x.data(), dy.data(), dx.data(), threads);
}

struct Channels {
  int64_t n, c, s;
};

template <class Array>
Channels channels_of(const Array& x) {
  require(x.ndim() >= 2, "x must have a batch and a channel axis");
  Channels of{static_cast<int64_t>(x.shape(0)), static_cast<int64_t>(x.shape(1)), 1};
  for (size_t i = 2; i < x.ndim(); ++i) of.s *= static_cast<int64_t>(x.shape(i));
  return of;
}

template <class T>
void batch_norm_forward(const Kernels& kernels, AnyIn<T> x, In<T, 1> weight, In<T, 1> bias,
                        In<T, 1> mean, In<T, 1> var, double eps, bool relu, Out<double, 2> stats,
                        AnyOut<T> y, int threads) {
  const Channels of = channels_of(x);
  same_size(x, y);
  require_shape(weight, "weight", {of.c});
  require_shape(bias, "bias", {of.c});
  require_shape(mean, "mean", {of.c});
  require_shape(var, "var", {of.c});
  require_shape(stats, "stats", {int64_t{3}, of.c});
  require(mean.is_valid() == var.is_valid(), "mean and var come together");
  require(mean.is_valid() || of.n * of.s > 0, "statistics need a value per channel");
  functions<T>(kernels).batch_norm_forward(of.n, of.c, of.s, x.data(), weight.data(), bias.data(),
                                           data_or_null(mean), data_or_null(var), eps, relu,
                                           stats.data(), y.data(), threads);
}

template <class T>
void batch_norm_backward(const Kernels& kernels, AnyIn<T> x, In<T, 1> weight, In<T, 1> bias,
                         In<double, 2> stats, AnyIn<T> dy, bool batch, bool relu, AnyOut<T> dx,
                         Out<T, 1> dweight, Out<T, 1> dbias, int threads) {
  const Channels of = channels_of(x);
  same_size(x, dy, dx);
  require_shape(weight, "weight", {of.c});
  require_shape(bias, "bias", {of.c});
  require_shape(stats, "stats", {int64_t{3}, of.c});
  require_shape(dweight, "dweight", {of.c});
  require_shape(dbias, "dbias", {of.c});
  functions<T>(kernels).batch_norm_backward(of.n, of.c, of.s, x.data(), weight.data(),
                                            bias.data(), stats.data(), dy.data(), batch, relu,
                                            dx.data(), dweight.data(), dbias.data(), threads);
}

// ---- losses -------------------------------------------------------------------------------------

void require_labels(const In<int64_t, 1>& y, int64_t n, int64_t classes) {
  require_shape(y, "y", {n});
  for (int64_t i = 0; i < n; ++i)
    require(y.data()[i] >= 0 && y.data()[i] < classes, "a label is out of range");
}

template <class T>
double cross_entropy(const Kernels& kernels, In<T, 2> scores, In<int64_t, 1> y, double smoothing,
                     Out<T, 2> dscores, int threads) {
  const auto n = static_cast<int64_t>(scores.shape(0)), c = static_cast<int64_t>(scores.shape(1));
  require(c > 0 && smoothing >= 0 && smoothing <= 1, "no classes, or smoothing out of range");
  same_size(scores);
  require_shape(dscores, "dscores", {n, c});
  require_labels(y, n, c);
  return functions<T>(kernels).cross_entropy(n, c, scores.data(), y.data(), smoothing,
                                             dscores.data(), threads);
}

template <class T>
double softmax_regression(const Kernels& kernels, In<T, 2> x, bool columns, In<T, 2> weight,
                          In<int64_t, 1> y, Out<T, 2> dweight, int threads) {
  const auto n = static_cast<int64_t>(x.shape(columns)), d = static_cast<int64_t>(x.shape(!columns));
  const auto c = static_cast<int64_t>(weight.shape(0));
  require(c > 0, "no classes");
  same_size(x);
  require_shape(weight, "weight", {c, d});
  require_shape(dweight, "dweight", {c, d});
  require_labels(y, n, c);
  return functions<T>(kernels).softmax_regression(n, d, c, x.data(), columns, weight.data(),
                                                  y.data(), dweight.data(), threads);
}

// ---- optimizer steps ------------------------------------------------------------------------------

template <class T>
void sgd_update(const Kernels& kernels, AnyOut<T> p, AnyIn<T> g, double lr, double decay,
                int threads) {
  functions<T>(kernels).sgd_update(same_size(p, g), p.data(), g.data(), lr, decay, threads);
}

template <class T>
void momentum_update(const Kernels& kernels, AnyOut<T> p, AnyIn<T> g, AnyOut<T> v, double lr,
                     double momentum, bool nesterov, bool lr_in_velocity, double decay,
                     int threads) {
  functions<T>(kernels).momentum_update(same_size(p, g, v), p.data(), g.data(), v.data(), lr,
                                        momentum, nesterov, lr_in_velocity, decay, threads);
}

template <class T>
void rmsprop_update(const Kernels& kernels, AnyOut<T> p, AnyIn<T> g, AnyOut<T> cache, double lr,
                    double alpha, double eps, bool eps_inside_root, double decay, int threads) {
  functions<T>(kernels).rmsprop_update(same_size(p, g, cache), p.data(), g.data(), cache.data(),
                                       lr, alpha, eps, eps_inside_root, decay, threads);
}

template <class T>
void adagrad_update(const Kernels& kernels, AnyOut<T> p, AnyIn<T> g, AnyOut<T> cache, double lr,
                    double eps, double decay, int threads) {
  functions<T>(kernels).adagrad_update(same_size(p, g, cache), p.data(), g.data(), cache.data(),
                                       lr, eps, decay, threads);
}

template <class T>
void adam_update(const Kernels& kernels, AnyOut<T> p, AnyIn<T> g, AnyOut<T> m, AnyOut<T> v,
                 double lr, double beta1, double beta2, double eps, int64_t step, double coupled,
                 double decoupled, int threads) {
  functions<T>(kernels).adam_update(same_size(p, g, m, v), p.data(), g.data(), m.data(), v.data(),
                                    lr, beta1, beta2, eps, step, coupled, decoupled, threads);
}

// ---- instruction sets -----------------------------------------------------------------------

// Those that this processor can run, best first.
std::vector<const Kernels*> instruction_sets() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("fma"))
    found.push_back(&chainrule::kernels_avx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    found.push_back(&chainrule::kernels_avx2);
#endif
  found.push_back(&chainrule::kernels_portable);
  return found;
}

// Each function once for each type of element; nanobind picks by the arrays' dtype.
template <class T>
void bind(nb::class_<Kernels>& c) {
  const auto released = nb::call_guard<nb::gil_scoped_release>();
  c.def("conv_forward", &conv_forward<T>, "x"_a.noconvert(), "weight"_a.noconvert(),
        "bias"_a.noconvert().none(), "y"_a.noconvert(), "winner"_a.noconvert().none(),
        "stride_h"_a, "stride_w"_a, "pad_h"_a, "pad_w"_a, "relu"_a, "winograd"_a,
        "threads"_a, released);
  c.def("conv_backward", &conv_backward<T>, "dy"_a.noconvert(), "x"_a.noconvert(),
        "weight"_a.noconvert(), "y"_a.noconvert().none(), "winner"_a.noconvert().none(),
        "dx"_a.noconvert().none(), "dweight"_a.noconvert(), "dbias"_a.noconvert().none(),
        "stride_h"_a, "stride_w"_a, "pad_h"_a, "pad_w"_a, "winograd"_a, "threads"_a, released);
  c.def("linear_forward", &linear_forward<T>, "x"_a.noconvert(), "weight"_a.noconvert(),
        "bias"_a.noconvert().none(), "relu"_a, "y"_a.noconvert(), "threads"_a, released);
  c.def("linear_backward", &linear_backward<T>, "dy"_a.noconvert(), "x"_a.noconvert(),
        "weight"_a.noconvert(), "y"_a.noconvert().none(), "dx"_a.noconvert().none(),
        "dweight"_a.noconvert(), "dbias"_a.noconvert().none(), "threads"_a, released);
  c.def("max_pool_forward", &max_pool_forward<T>, "x"_a.noconvert(), "y"_a.noconvert(),
        "winner"_a.noconvert(), "kh"_a, "kw"_a, "sh"_a, "sw"_a, "ph"_a, "pw"_a, "threads"_a,
        released);
  c.def("max_pool_backward", &max_pool_backward<T>, "dy"_a.noconvert(), "winner"_a.noconvert(),
        "dx"_a.noconvert(), "kh"_a, "kw"_a, "sh"_a, "sw"_a, "ph"_a, "pw"_a, "threads"_a, released);
  c.def("relu_forward", &relu_forward<T>, "x"_a.noconvert(), "y"_a.noconvert(), "threads"_a,
        released);
  c.def("relu_backward", &relu_backward<T>, "x"_a.noconvert(), "dy"_a.noconvert(),
        "dx"_a.noconvert(), "threads"_a, released);
  c.def("batch_norm_forward", &batch_norm_forward<T>, "x"_a.noconvert(), "weight"_a.noconvert(),
        "bias"_a.noconvert(), "mean"_a.noconvert().none(), "var"_a.noconvert().none(), "eps"_a,
        "relu"_a, "stats"_a.noconvert(), "y"_a.noconvert(), "threads"_a, released);
  c.def("batch_norm_backward", &batch_norm_backward<T>, "x"_a.noconvert(), "weight"_a.noconvert(),
        "bias"_a.noconvert(), "stats"_a.noconvert(), "dy"_a.noconvert(), "batch"_a, "relu"_a,
        "dx"_a.noconvert(), "dweight"_a.noconvert(), "dbias"_a.noconvert(), "threads"_a, released);
  c.def("cross_entropy", &cross_entropy<T>, "scores"_a.noconvert(), "y"_a.noconvert(),
        "smoothing"_a, "dscores"_a.noconvert(), "threads"_a, released);
  c.def("softmax_regression", &softmax_regression<T>, "x"_a.noconvert(), "columns"_a,
        "weight"_a.noconvert(), "y"_a.noconvert(), "dweight"_a.noconvert(), "threads"_a, released);
  c.def("sgd_update", &sgd_update<T>, "p"_a.noconvert(), "g"_a.noconvert(), "lr"_a, "decay"_a,
        "threads"_a, released);
  c.def("momentum_update", &momentum_update<T>, "p"_a.noconvert(), "g"_a.noconvert(),
        "v"_a.noconvert(), "lr"_a, "momentum"_a, "nesterov"_a, "lr_in_velocity"_a, "decay"_a,
        "threads"_a, released);
  c.def("rmsprop_update", &rmsprop_update<T>, "p"_a.noconvert(), "g"_a.noconvert(),
        "cache"_a.noconvert(), "lr"_a, "alpha"_a, "eps"_a, "eps_inside_root"_a, "decay"_a,
        "threads"_a, released);
  c.def("adagrad_update", &adagrad_update<T>, "p"_a.noconvert(), "g"_a.noconvert(),
        "cache"_a.noconvert(), "lr"_a, "eps"_a, "decay"_a, "threads"_a, released);
  c.def("adam_update", &adam_update<T>, "p"_a.noconvert(), "g"_a.noconvert(), "m"_a.noconvert(),
        "v"_a.noconvert(), "lr"_a, "beta1"_a, "beta2"_a, "eps"_a, "step"_a, "coupled"_a,
        "decoupled"_a, "threads"_a, released);
}

// ---- workspace ------------------------------------------------------------------------------

struct Workspace {
  std::shared_ptr<Blocks> blocks;
};

nb::dlpack::dtype dtype_of(char code) {
  switch (code) {
    case 'f': return nb::dtype<float>();
    case 'd': return nb::dtype<double>();
    case 'B': return nb::dtype<uint8_t>();
    default: throw nb::value_error("dtype must be float32, float64 or uint8");
  }
}

nb::ndarray<nb::numpy> empty(const Workspace& workspace, const std::vector<size_t>& shape,
                             char code) {
  const nb::dlpack::dtype dtype = dtype_of(code);
  size_t bytes = dtype.bits / 8;
  for (size_t extent : shape)
    if (__builtin_mul_overflow(bytes, extent, &bytes)) throw std::bad_alloc();
  auto loan = std::make_unique<Loan>(workspace.blocks, bytes);
  void* memory = loan->block.memory;
  nb::capsule owner(loan.release(), [](void* p) noexcept { delete static_cast<Loan*>(p); });
  return nb::ndarray<nb::numpy>(memory, shape.size(), shape.data(), owner, nullptr, dtype);
}

}  // namespace

NB_MODULE(_kernels, m) {
  nb::set_leak_warnings(false);  // arrays that outlive the interpreter are no concern of a user's
  nb::class_<Kernels> kernels(m, "InstructionSet");
  kernels.def_prop_ro("name", [](const Kernels& k) { return std::string(k.name); });
  kernels.def_prop_ro("vector_bytes", [](const Kernels& k) { return k.vector_bytes; });
  bind<float>(kernels);
  bind<double>(kernels);
  m.def("instruction_sets", &instruction_sets, nb::rv_policy::reference);

  nb::class_<Workspace>(m, "Workspace")
      .def("__init__",
           [](Workspace* self, size_t limit) {
             new (self) Workspace{std::make_shared<Blocks>(limit)};
           })
      .def("empty", &empty, "shape"_a, "code"_a)
      .def("clear", [](const Workspace& w) { w.blocks->clear(); })
      .def_prop_ro("lent", [](const Workspace& w) { return w.blocks->lent(); })
      .def_prop_ro("kept", [](const Workspace& w) { return w.blocks->kept(); })
      .def_prop_ro("peak", [](const Workspace& w) { return w.blocks->peak(); });
}
