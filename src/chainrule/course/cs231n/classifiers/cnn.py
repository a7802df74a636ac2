"""``cs231n.classifiers.cnn``: generation B's three-layer convolutional network.

Notebooks take the layers from here as well, by ``from cs231n.classifiers.cnn import *``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.course.arrays import as_floats
from chainrule.course.cs231n.fast_layers import (
    conv_backward_fast,
    conv_backward_im2col,
    conv_backward_strides,
    conv_forward_fast,
    conv_forward_im2col,
    conv_forward_strides,
    max_pool_backward_fast,
    max_pool_backward_im2col,
    max_pool_backward_reshape,
    max_pool_forward_fast,
    max_pool_forward_im2col,
    max_pool_forward_reshape,
)
from chainrule.course.cs231n.layer_utils import (
    affine_relu_backward,
    affine_relu_forward,
    conv_bn_relu_backward,
    conv_bn_relu_forward,
    conv_relu_backward,
    conv_relu_forward,
    conv_relu_pool_backward,
    conv_relu_pool_forward,
)
from chainrule.course.cs231n.layers import (
    affine_backward,
    affine_forward,
    batchnorm_backward,
    batchnorm_backward_alt,
    batchnorm_forward,
    conv_backward_naive,
    conv_forward_naive,
    dropout_backward,
    dropout_forward,
    layernorm_backward,
    layernorm_forward,
    max_pool_backward_naive,
    max_pool_forward_naive,
    relu_backward,
    relu_forward,
    softmax_loss,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
    spatial_groupnorm_backward,
    spatial_groupnorm_forward,
    svm_loss,
)
from chainrule.course.networks import CourseNetwork, draw
from chainrule.errors import InputError, explain
from chainrule.models import Conv2d, Flatten, Linear, MaxPool2d, ReLU

__all__ = [
    "ThreeLayerConvNet",
    "affine_backward",
    "affine_forward",
    "affine_relu_backward",
    "affine_relu_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "conv_backward_fast",
    "conv_backward_im2col",
    "conv_backward_naive",
    "conv_backward_strides",
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_forward_fast",
    "conv_forward_im2col",
    "conv_forward_naive",
    "conv_forward_strides",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
    "dropout_backward",
    "dropout_forward",
    "layernorm_backward",
    "layernorm_forward",
    "max_pool_backward_fast",
    "max_pool_backward_im2col",
    "max_pool_backward_naive",
    "max_pool_backward_reshape",
    "max_pool_forward_fast",
    "max_pool_forward_im2col",
    "max_pool_forward_naive",
    "max_pool_forward_reshape",
    "relu_backward",
    "relu_forward",
    "softmax_loss",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
    "svm_loss",
]


class ThreeLayerConvNet:
    """conv - ReLU - 2x2 max pool - affine - ReLU - affine - softmax.

    Parameters
    ----------
    input_dim : (int, int, int), default (3, 32, 32)
        (C, H, W) of an image, H and W even.
    num_filters : int, default 32
        Number of filters, F.
    filter_size : int, default 7
        Their side, odd; the padding keeps the size.
    hidden_dim : int, default 100
        Hidden units.
    num_classes : int, default 10
        Number of classes.
    weight_scale : float, default 1e-3
        Standard deviation of the weights.
    reg : float, default 0.0
        Strength of the penalty ``0.5 reg sum(W ** 2)``.
    dtype : dtype, default float32
        float32 or float64.

    Attributes
    ----------
    params : dict of str to ndarray
        ``W1`` (F, C, filter_size, filter_size), ``b1``; ``W2`` (F * H/2 * W/2, hidden_dim),
        ``b2``; ``W3`` (hidden_dim, num_classes), ``b3``.
    """

    def __init__(
        self,
        input_dim: tuple[int, int, int] = (3, 32, 32),
        num_filters: int = 32,
        filter_size: int = 7,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
        dtype: Any = np.float32,
    ) -> None:
        if filter_size % 2 == 0:
            rule = "be odd, so that the padding keeps the size"
            raise InputError(explain("ThreeLayerConvNet", "filter_size", rule, filter_size))
        self.reg, self.dtype = reg, np.dtype(dtype)
        channels, height, width = input_dim
        flat = num_filters * (height // 2) * (width // 2)
        params = {
            "W1": draw(weight_scale, num_filters, channels, filter_size, filter_size),
            "b1": np.zeros(num_filters),
            "W2": draw(weight_scale, flat, hidden_dim),
            "b2": np.zeros(hidden_dim),
            "W3": draw(weight_scale, hidden_dim, num_classes),
            "b3": np.zeros(num_classes),
        }
        self.params = {name: value.astype(self.dtype) for name, value in params.items()}
        layers = [
            Conv2d(num_filters, filter_size, padding="same"),
            ReLU(),
            MaxPool2d(2),
            Flatten(),
            Linear(hidden_dim),
            ReLU(),
            Linear(num_classes),
        ]
        self._network = CourseNetwork("ThreeLayerConvNet.loss", layers, tuple(input_dim))

    def loss(self, X: np.ndarray, y: np.ndarray | None = None) -> Any:
        """Compute scores, or loss and gradients.

        Parameters
        ----------
        X : ndarray, shape (N, C, H, W)
            Images, in the dtype in which they are to be computed.
        y : ndarray, shape (N,), integer, optional
            Labels.

        Returns
        -------
        ndarray (N, num_classes), or (float, dict of str to ndarray)
            Scores without labels, else loss and gradients.
        """
        X = as_floats("ThreeLayerConvNet.loss", X=X)[0].astype(self.dtype, copy=False)
        return self._network.run(self.params, X, y, self.reg)
