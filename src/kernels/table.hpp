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

template <class T>
struct Functions {
  // winner: of 2x2 max pooling after ReLU, or null for no pooling
  void (*conv_forward)(const ConvShape&, const T* x, const T* weight, const T* bias, T* y,
                       uint8_t* winner, bool relu, int threads);
  // y: output of a fused ReLU, or null; dx: null to skip it. False: not covered, nothing written.
  bool (*conv_backward)(const ConvShape&, const T* x, const T* weight, const T* dy, const T* y,
                        const uint8_t* winner, T* dx, T* dweight, T* dbias, int threads);
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
