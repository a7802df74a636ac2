"""Layers as pairs of plain functions, with nothing hidden.

::

    out, cache = conv2d_forward(x, weight, bias, stride=1, padding=0)
    dx, dweight, dbias = conv2d_backward(dout, cache)

Every pair exists with the same signature as a definition, in `chainrule.layers.reference`, and
fast, exported here: on compiled kernels for what those cover and where they are installed, on
NumPy otherwise. `PAIRS` lists them, `pair` looks one up. Results have the dtype of x (float32 or
float64), arguments are never modified, and caches refer to arguments instead of copying them, so
leave those as they are between forward and backward. The losses return
``loss, cache``, and their backward takes the cache alone; batch normalisation returns its new
running statistics as a third value. `softmax_regression` is no pair: it gives the loss of a linear
classifier and its gradient.
"""

from chainrule.layers._pairs import PAIRS, Pair, pair
from chainrule.layers.activations import (
    gelu_backward,
    gelu_forward,
    leaky_relu_backward,
    leaky_relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    silu_backward,
    silu_forward,
    tanh_backward,
    tanh_forward,
)
from chainrule.layers.compiled import (
    batch_norm_backward,
    batch_norm_forward,
    conv2d_backward,
    conv2d_forward,
    conv_bn_relu_backward,
    conv_bn_relu_forward,
    conv_relu_backward,
    conv_relu_forward,
    conv_relu_pool_backward,
    conv_relu_pool_forward,
    cross_entropy_backward,
    cross_entropy_forward,
    linear_backward,
    linear_forward,
    linear_relu_backward,
    linear_relu_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    relu_backward,
    relu_forward,
)
from chainrule.layers.dropout import (
    dropout_backward,
    dropout_forward,
)
from chainrule.layers.linear import (
    flatten_backward,
    flatten_forward,
)
from chainrule.layers.losses import (
    multiclass_hinge_backward,
    multiclass_hinge_forward,
)
from chainrule.layers.normalization import (
    group_norm_backward,
    group_norm_forward,
    layer_norm_backward,
    layer_norm_forward,
)
from chainrule.layers.pooling import (
    avg_pool2d_backward,
    avg_pool2d_forward,
    global_avg_pool2d_backward,
    global_avg_pool2d_forward,
)
from chainrule.layers.regression import softmax_regression

__all__ = [
    "PAIRS",
    "Pair",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "conv2d_backward",
    "conv2d_forward",
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "dropout_backward",
    "dropout_forward",
    "flatten_backward",
    "flatten_forward",
    "gelu_backward",
    "gelu_forward",
    "global_avg_pool2d_backward",
    "global_avg_pool2d_forward",
    "group_norm_backward",
    "group_norm_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "linear_backward",
    "linear_forward",
    "linear_relu_backward",
    "linear_relu_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "multiclass_hinge_backward",
    "multiclass_hinge_forward",
    "pair",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "silu_backward",
    "silu_forward",
    "softmax_regression",
    "tanh_backward",
    "tanh_forward",
]
