// The kernels of one instruction set as a table of functions. To add one: declare it here, name
// it in arch.cpp, bind it in module.cpp.
#pragma once

#include <cstdint>

namespace chainrule {

struct ConvShape {
  int64_t n, c, h, w, f;           // images, channels, height, width, filters
  int64_t kh, kw, sh, sw, ph, pw;  // window, stride, padding
  int64_t oh, ow;                  // output height and width
};

struct WindowShape {
  int64_t planes, h, w;            // images times channels, height, width
  int64_t kh, kw, sh, sw, ph, pw;  // window, stride, padding
  int64_t oh, ow;                  // output height and width
};

// What the arguments are stands at each function's definition.
template <class T>
struct Functions {
  // winner: of 2x2 max pooling after ReLU, or null for no pooling
  void (*conv_forward)(const ConvShape&, const T* x, const T* weight, const T* bias, T* y,
                       uint8_t* winner, bool relu, bool winograd, int threads);
  // y: output of a fused ReLU, or null; dx: null to skip it. False: not covered, nothing written.
  bool (*conv_backward)(const ConvShape&, const T* x, const T* weight, const T* dy, const T* y,
                        const uint8_t* winner, T* dx, T* dweight, T* dbias, bool winograd,
                        int threads);
  // relu: with ReLU behind; in backward y is its output then, else null; dx: null to skip it
  void (*linear_forward)(int64_t n, int64_t d, int64_t f, const T* x, const T* w, const T* bias,
                         bool relu, T* y, int threads);
  void (*linear_backward)(int64_t n, int64_t d, int64_t f, const T* x, const T* w, const T* dy,
                          const T* y, T* dx, T* dw, T* dbias, int threads);
  void (*max_pool_forward)(const WindowShape&, const T* x, T* y, uint8_t* winner, int threads);
  void (*max_pool_backward)(const WindowShape&, const T* dy, const uint8_t* winner, T* dx,
                            int threads);
  void (*relu_forward)(int64_t count, const T* x, T* y, int threads);
  void (*relu_backward)(int64_t count, const T* x, const T* dy, T* dx, int threads);
  void (*batch_norm_forward)(int64_t n, int64_t c, int64_t s, const T* x, const T* weight,
                             const T* bias, const T* mean, const T* var, double eps, bool relu,
                             double* stats, T* y, int threads);
  void (*batch_norm_backward)(int64_t n, int64_t c, int64_t s, const T* x, const T* weight,
                              const T* bias, const double* stats, const T* dy, bool batch,
                              bool relu, T* dx, T* dweight, T* dbias, int threads);
  double (*cross_entropy)(int64_t n, int64_t classes, const T* scores, const int64_t* y,
                          double smoothing, T* dscores, int threads);
  double (*softmax_regression)(int64_t n, int64_t d, int64_t classes, const T* x, bool columns,
                               const T* w, const int64_t* y, T* dw, int threads);
  void (*sgd_update)(int64_t count, T* p, const T* g, double lr, double decay, int threads);
  void (*momentum_update)(int64_t count, T* p, const T* g, T* v, double lr, double momentum,
                          bool nesterov, bool lr_in_velocity, double decay, int threads);
  void (*rmsprop_update)(int64_t count, T* p, const T* g, T* cache, double lr, double alpha,
                         double eps, bool eps_inside_root, double decay, int threads);
  void (*adagrad_update)(int64_t count, T* p, const T* g, T* cache, double lr, double eps,
                         double decay, int threads);
  void (*adam_update)(int64_t count, T* p, const T* g, T* m, T* v, double lr, double beta1,
                      double beta2, double eps, int64_t step, double coupled, double decoupled,
                      int threads);
};

struct Kernels {
  const char* name;
  int vector_bytes;
  Functions<float> float32;
  Functions<double> float64;
};

// arch.cpp defines one of these each time it is compiled.
extern const Kernels kernels_portable, kernels_avx2, kernels_avx512;

}  // namespace chainrule
