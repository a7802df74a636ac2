"""``cs231n.classifiers.convnet``: generation A's two-layer convolutional network."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from chainrule.course.networks import CourseNetwork, draw
from chainrule.errors import ConfigError, InputError, explain, nearest
from chainrule.models import Conv2d, Flatten, Linear, MaxPool2d, ReLU

__all__ = ["init_two_layer_convnet", "two_layer_convnet"]

Model = dict[str, np.ndarray]


@lru_cache(maxsize=8)
def _network(
    input_shape: tuple[int, int, int], filters: int, size: tuple[int, int], num_classes: int
) -> CourseNetwork:
    layers = [
        Conv2d(filters, size, padding="same"),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(num_classes),
    ]
    return CourseNetwork("two_layer_convnet", layers, input_shape)


def init_two_layer_convnet(
    weight_scale: float = 1e-3,
    bias_scale: float = 0,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    num_classes: int = 10,
    num_filters: int = 32,
    filter_size: int = 5,
) -> Model:
    """Draw the parameters of a two-layer convolutional network.

    Parameters
    ----------
    weight_scale, bias_scale : float, default 1e-3 and 0
        Standard deviations of weights and biases.
    input_shape : (int, int, int), default (3, 32, 32)
        (C, H, W) of an image.
    num_classes : int, default 10
        Number of classes K.
    num_filters : int, default 32
        Number of filters F.
    filter_size : int, default 5
        Their side, odd.

    Returns
    -------
    dict of str to ndarray of float64
        ``W1`` (F, C, filter_size, filter_size), ``b1`` (F,), ``W2`` (F * H/2 * W/2, K) and ``b2``
        (K,).

    Raises
    ------
    InputError
        If the filter's side is even.
    """
    if filter_size % 2 == 0:
        rule = "be odd, so that the padding keeps the size"
        raise InputError(explain("init_two_layer_convnet", "filter_size", rule, filter_size))
    channels, height, width = input_shape
    hidden = num_filters * (height // 2) * (width // 2)
    return {
        "W1": draw(weight_scale, num_filters, channels, filter_size, filter_size),
        "b1": draw(bias_scale, num_filters),
        "W2": draw(weight_scale, hidden, num_classes),
        "b2": draw(bias_scale, num_classes),
    }


def two_layer_convnet(
    X: np.ndarray, model: Model, y: np.ndarray | None = None, reg: float = 0.0
) -> Any:
    """Compute scores, or loss and gradients, of conv - ReLU - 2x2 pool - affine - softmax.

    Parameters
    ----------
    X : ndarray, shape (N, C, H, W)
        Images.
    model : dict of str to ndarray
        See `init_two_layer_convnet`.
    y : ndarray, shape (N,), integer, optional
        Labels.
    reg : float, default 0.0
        Strength of the penalty ``0.5 reg sum(W ** 2)``.

    Returns
    -------
    ndarray (N, K), or (float, dict of str to ndarray)
        Scores without labels, else loss and gradients.

    Raises
    ------
    ConfigError
        If the model lacks its weights.
    """
    for name, axes in (("W1", 4), ("W2", 2)):
        if name not in model or np.ndim(model[name]) != axes:
            rule = f"be an array of {axes} axes in the model"
            got = np.shape(model[name]) if name in model else "none"
            raise ConfigError(explain("two_layer_convnet", name, rule, got, nearest(name, model)))
    filters, _, *size = model["W1"].shape
    network = _network(tuple(np.shape(X)[1:]), filters, (size[0], size[1]), model["W2"].shape[1])
    return network.run(model, X, y, reg)
