"""What every layer object is: options, shapes and initial values around a pair of functions.

A module knows its options, the shapes and the initial values of its parameters, and which pair
of `chainrule.layers` computes it. It holds no arrays: parameters and running statistics live in
the flat dicts of the network.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from chainrule.errors import ConfigError, explain

__all__ = ["Init", "Mode", "Module", "Shape", "Tensors", "draw_weights"]

Shape = tuple[int, ...]
Init = Literal["he", "glorot"] | float
Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Mode:
    """How a forward pass runs.

    Parameters
    ----------
    training : bool, default False
        Batch statistics and dropout are used in training only.
    rng : numpy.random.Generator, optional
        Source of the dropout masks.
    """

    training: bool = False
    rng: np.random.Generator | None = None


@dataclass(frozen=True, kw_only=True)
class Module:
    """Base of all layer objects.

    Subclasses are frozen dataclasses; their fields are the layer's options and, at the same
    time, the keys of its table in a TOML network. Shapes here leave out the batch axis.

    Parameters
    ----------
    name : str, default ""
        First part of the parameter names, as in ``conv1.weight``. Empty: the network numbers
        its layers (``conv1``, ``conv2``, ...).
    """

    pair: ClassVar[str] = ""  # name of the pair in chainrule.layers
    kind: ClassVar[str] = ""  # the ``type`` of its table; default: that of the pair
    label: ClassVar[str] = ""  # default name, before the number
    parameters: ClassVar[tuple[str, ...]] = ()  # in the order the pair takes and returns them
    penalised: ClassVar[tuple[str, ...]] = ()  # those that the L2 penalty is taken of
    statistics: ClassVar[tuple[str, ...]] = ()  # names of the running statistics
    without_dx: ClassVar[dict[str, bool]] = {}  # how the pair is told to skip dx, if it can

    name: str = ""

    def __init_subclass__(cls) -> None:
        if "kind" not in vars(cls):
            cls.kind = cls.pair

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output example for one input example of `input_shape`."""
        return input_shape

    def init(self, rng: np.random.Generator, input_shape: Shape, init: Init) -> Tensors:
        """Draw initial parameters, in float64, for inputs of `input_shape`."""
        return {}

    def buffers(self, input_shape: Shape) -> Tensors:
        """Return the initial running statistics."""
        return {}

    def fit(self, x: np.ndarray) -> Tensors:
        """Return buffers that depend on the data, given inputs of this layer for examples."""
        return {}

    def flops(self, input_shape: Shape) -> int:
        """Return floating-point operations of one forward pass of one example."""
        return math.prod(self.output_shape(input_shape))

    def arguments(self, tensors: Tensors, mode: Mode) -> tuple[Any, ...]:
        """Return what the pair's forward function takes after x."""
        return tuple(tensors.get(name) for name in self.parameters)

    def forward(
        self, function: Callable[..., Any], x: np.ndarray, tensors: Tensors, mode: Mode
    ) -> tuple[np.ndarray, Any, Tensors]:
        """Call the pair's forward function; return output, cache and new running statistics."""
        out, cache, *new = function(x, *self.arguments(tensors, mode))
        if not new or not mode.training:
            return out, cache, {}
        return out, cache, dict(zip(self.statistics, new[0], strict=True))

    def backward(
        self, function: Callable[..., Any], dout: np.ndarray, cache: Any, need_dx: bool
    ) -> tuple[np.ndarray | None, dict[str, np.ndarray | None]]:
        """Call the pair's backward function; return dx and the parameters' gradients."""
        if not self.parameters:
            return function(dout, cache), {}
        dx, *gradients = function(dout, cache, **({} if need_dx else self.without_dx))
        return dx, dict(zip(self.parameters, gradients, strict=True))

    def options(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, as a TOML table holds them."""
        given = {f.name: (getattr(self, f.name), f.default) for f in dataclasses.fields(self)}
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, (value, default) in given.items()
            if value != default
        }

    def _require(self, holds: bool, option: str, rule: str) -> None:
        if not holds:
            where = self.name or type(self).__name__
            raise ConfigError(explain(where, option, rule, repr(getattr(self, option))))


def draw_weights(
    rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int, init: Init
) -> np.ndarray:
    """Draw initial weights.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    shape : tuple of int
        Shape of the weights.
    fan_in, fan_out : int
        Number of inputs that feed one output, and of outputs fed by one input.
    init : {"he", "glorot"} or float
        ``"he"``: normal with variance ``2 / fan_in`` [1]_. ``"glorot"``: uniform with variance
        ``2 / (fan_in + fan_out)`` [2]_. A number: normal with that standard deviation.

    Returns
    -------
    ndarray, float64
        The weights.

    Raises
    ------
    ConfigError
        If `init` is none of these.

    References
    ----------
    .. [1] He et al., "Delving deep into rectifiers", arXiv:1502.01852, eq. 10.
    .. [2] Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
       networks", AISTATS 2010, eq. 16.

    Examples
    --------
    >>> weights = draw_weights(np.random.default_rng(0), (500, 200), 200, 500, "he")
    >>> weights.shape, round(float(weights.std()), 2)
    ((500, 200), 0.1)
    """
    if init == "he":
        return rng.standard_normal(shape) * math.sqrt(2.0 / fan_in)
    if init == "glorot":
        limit = math.sqrt(6.0 / (fan_in + fan_out))
        return rng.uniform(-limit, limit, shape)
    if isinstance(init, (int, float)) and math.isfinite(init) and init >= 0:
        return rng.standard_normal(shape) * init
    raise ConfigError(explain("init", "init", "be 'he', 'glorot' or a scale >= 0", repr(init)))
