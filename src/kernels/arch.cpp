// The kernels of one instruction set. CMake compiles this file once for each, with
// CR_INSTRUCTION_SET as its name. The table is all that may have external linkage here.
#include "linear.hpp"
#include "loss.hpp"
#include "norm.hpp"
#include "pointwise.hpp"
#include "pool.hpp"
#include "regression.hpp"
#include "table.hpp"
#include "update.hpp"
#include "winograd_backward.hpp"

namespace {

using chainrule::ConvShape;
using chainrule::WindowShape;

CR_INLINE Shape shape_of(const ConvShape& s) {
  return {s.n, s.c, s.h, s.w, s.f, s.kh, s.kw, s.sh, s.sw, s.ph, s.pw, s.oh, s.ow};
}

CR_INLINE PoolShape shape_of(const WindowShape& s) {
  return {s.planes, s.h, s.w, s.kh, s.kw, s.sh, s.sw, s.ph, s.pw, s.oh, s.ow};
}

template <class T>
constexpr chainrule::Functions<T> functions_of() {
  return {
      [](const ConvShape& s, const T* x, const T* weight, const T* bias, T* y, uint8_t* winner,
         bool relu, bool winograd, int threads) {
        convolution_forward(shape_of(s), x, weight, bias, y, winner, relu, winograd, threads);
      },
      [](const ConvShape& s, const T* x, const T* weight, const T* dy, const T* y,
         const uint8_t* winner, T* dx, T* dweight, T* dbias, bool winograd, int threads) {
        return convolution_backward(shape_of(s), x, weight, dy, y, winner, dx, dweight, dbias,
                                    winograd, threads);
      },
      linear_forward<T>,
      linear_backward<T>,
      [](const WindowShape& s, const T* x, T* y, uint8_t* winner, int threads) {
        max_pool_forward(shape_of(s), x, y, winner, threads);
      },
      [](const WindowShape& s, const T* dy, const uint8_t* winner, T* dx, int threads) {
        max_pool_backward(shape_of(s), dy, winner, dx, threads);
      },
      relu_forward<T>,
      relu_backward<T>,
      [](int64_t n, int64_t c, int64_t s, const T* x, const T* weight, const T* bias,
         const T* mean, const T* var, double eps, bool relu, double* stats, T* y, int threads) {
        batch_norm_forward<T>({n, c, s}, x, weight, bias, mean, var, eps, relu, stats, y, threads);
      },
      [](int64_t n, int64_t c, int64_t s, const T* x, const T* weight, const T* bias,
         const double* stats, const T* dy, bool batch, bool relu, T* dx, T* dweight, T* dbias,
         int threads) {
        batch_norm_backward<T>({n, c, s}, x, weight, bias, stats, dy, batch, relu, dx, dweight,
                               dbias, threads);
      },
      cross_entropy<T>,
      softmax_regression<T>,
      sgd_update<T>,
      momentum_update<T>,
      rmsprop_update<T>,
      adagrad_update<T>,
      adam_update<T>,
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
