"""What a network runs: its layers one by one, or those that one fused pair computes together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from chainrule import layers as pairs
from chainrule.models.module import Mode, Module, Tensors
from chainrule.models.modules import MaxPool2d

__all__ = ["Step", "plan_steps"]

Find = Callable[[Module], Tensors]  # gives a layer's parameters and buffers by local names

# Layers that one pair computes together; the longest that fits is taken.
SANDWICHES = {
    ("conv2d", "batch_norm", "relu"): "conv_bn_relu",
    ("conv2d", "relu", "max_pool2d"): "conv_relu_pool",
    ("conv2d", "relu"): "conv_relu",
    ("linear", "relu"): "linear_relu",
}


class Step:
    """A layer, or a sandwich of layers, with the pair that computes it.

    Parameters
    ----------
    layers : sequence of Module
        One layer, or those of a sandwich.
    implementation : str
        Which pairs of `chainrule.layers` compute it.
    """

    def __init__(self, layers: Sequence[Module], implementation: str) -> None:
        self.layers = tuple(layers)
        kinds = tuple(layer.kind for layer in layers)
        self._pair = layers[0].pair if len(kinds) == 1 else SANDWICHES[kinds]
        self._forward, self._backward = pairs.pair(self._pair, implementation)
        self._parameters = [f"{each.name}.{key}" for each in layers for key in each.parameters]

    @property
    def name(self) -> str:
        """Name of the last layer, whose output is that of the step."""
        return self.layers[-1].name

    @property
    def trainable(self) -> bool:
        """Whether it has parameters."""
        return bool(self._parameters)

    def forward(self, x: np.ndarray, find: Find, mode: Mode) -> tuple[np.ndarray, Any, Tensors]:
        """Compute the step.

        Parameters
        ----------
        x : ndarray
            Input of the first layer.
        find : callable
            Gives a layer's parameters and buffers by their local names.
        mode : Mode
            Training or evaluation.

        Returns
        -------
        out : ndarray
            Output of the last layer.
        cache : tuple
            For `backward`.
        statistics : mapping of str to ndarray
            New running statistics by their full names.
        """
        first = self.layers[0]
        if len(self.layers) == 1:
            out, cache, statistics = first.forward(self._forward, x, find(first), mode)
            return out, cache, {f"{first.name}.{key}": new for key, new in statistics.items()}
        arguments = first.arguments(find(first), mode)
        if self._pair == "conv_bn_relu":
            norm = self.layers[1]
            weight, bias, *geometry = arguments
            of_norm = norm.arguments(find(norm), mode)
            out, cache, new = self._forward(x, weight, bias, *of_norm, *geometry)
            names = [f"{norm.name}.{key}" for key in norm.statistics]
            return out, cache, dict(zip(names, new, strict=True)) if mode.training else {}
        if self._pair == "conv_relu_pool":
            pool = self.layers[2]
            kernel_size, stride, _ = pool.arguments({}, mode)
            arguments = (*arguments, kernel_size, stride)
        out, cache = self._forward(x, *arguments)
        return out, cache, {}

    def backward(
        self, dout: np.ndarray, cache: Any, need_dx: bool
    ) -> tuple[np.ndarray | None, Mapping[str, np.ndarray | None]]:
        """Propagate a gradient through the step.

        Parameters
        ----------
        dout : ndarray
            Gradient of the output.
        cache : tuple
            From `forward`.
        need_dx : bool
            False leaves out the gradient of the input where that saves time.

        Returns
        -------
        dx : ndarray or None
            Gradient of the input.
        grads : mapping of str to ndarray or None
            Gradients of the parameters by their full names.
        """
        if len(self.layers) == 1:
            layer = self.layers[0]
            dx, own = layer.backward(self._backward, dout, cache, need_dx)
            return dx, {f"{layer.name}.{key}": grad for key, grad in own.items()}
        dx, *grads = self._backward(dout, cache, need_dx=need_dx)
        return dx, dict(zip(self._parameters, grads, strict=True))


def plan_steps(layers: Sequence[Module], implementation: str, fuse: bool) -> list[Step]:
    """Divide a network into steps.

    Parameters
    ----------
    layers : sequence of Module
        The layers in order.
    implementation : str
        Which pairs of `chainrule.layers` compute them.
    fuse : bool
        Whether to take sandwiches together.

    Returns
    -------
    list of Step
        In order; each layer is in one of them.

    Examples
    --------
    >>> from chainrule.models import convnet
    >>> [[layer.name for layer in step.layers] for step in plan_steps(
    ...     convnet(10).layers, "fast", fuse=True)]
    [['conv1', 'relu1', 'pool1'], ['flatten1'], ['linear1']]
    """
    steps = []
    position = 0
    while position < len(layers):
        length = 1
        for kinds in SANDWICHES if fuse else ():
            some = layers[position : position + len(kinds)]
            if tuple(layer.kind for layer in some) == kinds and _fits(some):
                length = max(length, len(kinds))
        steps.append(Step(layers[position : position + length], implementation))
        position += length
    return steps


def _fits(layers: Sequence[Module]) -> bool:
    """Whether the sandwich's pair has all options that its layers use."""
    pools = [layer for layer in layers if isinstance(layer, MaxPool2d)]
    return all(pool.padding in (0, (0, 0)) for pool in pools)
