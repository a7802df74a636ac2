// The kernels of one instruction set. CMake compiles this file once for each, with
// CR_INSTRUCTION_SET as its name. The table is all that may have external linkage here.
#include "conv.hpp"
#include "table.hpp"

namespace {

using chainrule::ConvShape;

CR_INLINE Shape shape_of(const ConvShape& s) {
  return {s.n, s.c, s.h, s.w, s.f, s.kh, s.kw, s.sh, s.sw, s.ph, s.pw, s.oh, s.ow};
}

template <class T>
constexpr chainrule::Functions<T> functions_of() {
  return {
      [](const ConvShape& s, const T* x, const T* weight, const T* bias, T* y, uint8_t* winner,
         bool relu, int threads) {
        conv_forward(shape_of(s), x, weight, bias, y, winner, relu, threads);
      },
      [](const ConvShape& s, const T* x, const T* weight, const T* dy, const T* y,
         const uint8_t* winner, T* dx, T* dweight, T* dbias, int threads) {
        return conv_backward(shape_of(s), x, weight, dy, y, winner, dx, dweight, dbias, threads);
      },
  };
}

}  // namespace

#define CR_JOIN(a, b) a##b
#define CR_TABLE(name) CR_JOIN(kernels_, name)
#define CR_QUOTE(name) #name
#define CR_NAME(name) CR_QUOTE(name)

namespace chainrule {

extern constexpr Kernels CR_TABLE(CR_INSTRUCTION_SET){
    CR_NAME(CR_INSTRUCTION_SET), CR_VECTOR_BYTES, functions_of<float>(), functions_of<double>()};

}  // namespace chainrule
