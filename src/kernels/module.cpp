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
                  int64_t pad_h, int64_t pad_w, bool relu, int threads) {
  const ConvShape s = conv_shape<T>(x, weight, stride_h, stride_w, pad_h, pad_w);
  const bool pool = winner.is_valid();
  const int64_t gh = pool ? s.oh / 2 : s.oh, gw = pool ? s.ow / 2 : s.ow;
  require(gh > 0 && gw > 0, "the convolution is smaller than the pooling window");
  require_shape(bias, "bias", {s.f});
  require_shape(y, "y", {s.n, s.f, gh, gw});
  require_shape(winner, "winner", {s.n, s.f, gh, gw});
  functions<T>(kernels).conv_forward(s, x.data(), weight.data(), data_or_null(bias), y.data(),
                                     data_or_null(winner), relu, threads);
}

template <class T>
bool conv_backward(const Kernels& kernels, In<T, 4> dy, In<T, 4> x, In<T, 4> weight, In<T, 4> y,
                   In<uint8_t, 4> winner, Out<T, 4> dx, Out<T, 4> dweight, Out<T, 1> dbias,
                   int64_t stride_h, int64_t stride_w, int64_t pad_h, int64_t pad_w,
                   int threads) {
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
      data_or_null(dx), dweight.data(), data_or_null(dbias), threads);
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
        "stride_h"_a, "stride_w"_a, "pad_h"_a, "pad_w"_a, "relu"_a, "threads"_a, released);
  c.def("conv_backward", &conv_backward<T>, "dy"_a.noconvert(), "x"_a.noconvert(),
        "weight"_a.noconvert(), "y"_a.noconvert().none(), "winner"_a.noconvert().none(),
        "dx"_a.noconvert().none(), "dweight"_a.noconvert(), "dbias"_a.noconvert().none(),
        "stride_h"_a, "stride_w"_a, "pad_h"_a, "pad_w"_a, "threads"_a, released);
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
