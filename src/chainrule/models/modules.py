"""The layers a network is a list of; names and options are PyTorch's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from chainrule.errors import InputError, ShapeError, explain
from chainrule.models.geometry import Pair, image_shape, two, windows
from chainrule.models.module import Init, Mode, Module, Shape, Tensors, draw_weights
from chainrule.models.whitening import Whiten2d

__all__ = [
    "GELU",
    "MODULES",
    "AvgPool2d",
    "BatchNorm",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Tanh",
]


@dataclass(frozen=True)
class Linear(Module):
    """Affine map ``x @ weight.T + bias``.

    Parameters
    ----------
    out_features : int
        Number of outputs F.
    bias : bool, default True
        Whether to add a bias.
    init_weight : {"he", "glorot"} or float, optional
        Initial weights; default: what the network's `init` is given.
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "linear"
    label: ClassVar[str] = "linear"
    parameters: ClassVar[tuple[str, ...]] = ("weight", "bias")
    penalised: ClassVar[tuple[str, ...]] = ("weight",)
    without_dx: ClassVar[dict[str, bool]] = {"need_dx": False}

    out_features: int
    bias: bool = True
    init_weight: Init | None = None

    def __post_init__(self) -> None:
        self._require(self.out_features >= 1, "out_features", "be at least 1")

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ShapeError(
                explain(
                    self.name or "Linear",
                    "input",
                    "be flat, of shape (D,)",
                    input_shape,
                    "Put a Flatten layer before it.",
                )
            )
        return (self.out_features,)

    def init(self, rng: np.random.Generator, input_shape: Shape, init: Init) -> Tensors:
        fan_in, fan_out = input_shape[0], self.out_features
        scheme = init if self.init_weight is None else self.init_weight
        weight = draw_weights(rng, (fan_out, fan_in), fan_in, fan_out, scheme)
        return {"weight": weight, "bias": np.zeros(fan_out)} if self.bias else {"weight": weight}

    def flops(self, input_shape: Shape) -> int:
        return 2 * input_shape[0] * self.out_features


@dataclass(frozen=True)
class Conv2d(Module):
    """Cross-correlation of images (C, H, W) with a bank of filters.

    Parameters
    ----------
    out_channels : int
        Number of filters F.
    kernel_size : int or (int, int)
        Filter height and width.
    stride : int or (int, int), default 1
        Step between windows.
    padding : int, (int, int) or "same", default 0
        Zeros added on each side; ``"same"`` keeps the size at stride 1 (odd kernels).
    groups : int, default 1
        Channels are split into this many groups, each with its own filters.
    bias : bool, default True
        Whether to add a bias.
    init_weight : {"he", "glorot", "dirac"} or float, optional
        Initial weights; default: what the network's `init` is given. ``"dirac"``: filter i
        passes channel i on as it is (of each group); filters beyond the number of channels are
        as by ``"he"`` [1]_.
    name : str, default ""
        See `Module`.

    References
    ----------
    .. [1] Zagoruyko and Komodakis, "DiracNets: training very deep neural networks without
       skip-connections", arXiv:1706.00388.
    """

    pair: ClassVar[str] = "conv2d"
    label: ClassVar[str] = "conv"
    parameters: ClassVar[tuple[str, ...]] = ("weight", "bias")
    penalised: ClassVar[tuple[str, ...]] = ("weight",)
    without_dx: ClassVar[dict[str, bool]] = {"need_dx": False}

    out_channels: int
    kernel_size: Pair
    stride: Pair = 1
    padding: Pair | Literal["same"] = 0
    groups: int = 1
    bias: bool = True
    init_weight: Init | Literal["dirac"] | None = None

    def __post_init__(self) -> None:
        self._require(self.out_channels >= 1, "out_channels", "be at least 1")
        self._require(min(two(self.kernel_size)) >= 1, "kernel_size", "be at least 1")
        self._require(min(two(self.stride)) >= 1, "stride", "be at least 1")
        self._require(self.groups >= 1, "groups", "be at least 1")
        divides = self.groups >= 1 and self.out_channels % self.groups == 0
        self._require(divides, "groups", f"divide out_channels = {self.out_channels}")
        if self.padding == "same":
            odd = all(k % 2 == 1 for k in two(self.kernel_size))
            self._require(odd, "kernel_size", "be odd with padding 'same'")
        else:
            self._require(min(self._padding()) >= 0, "padding", "be at least 0 or 'same'")

    def _padding(self) -> tuple[int, int]:
        if isinstance(self.padding, str):
            kh, kw = two(self.kernel_size)
            return (kh - 1) // 2, (kw - 1) // 2
        return two(self.padding)

    def output_shape(self, input_shape: Shape) -> Shape:
        channels = image_shape(self, input_shape)[0]
        if channels % self.groups:
            raise ShapeError(
                explain(
                    self.name or "Conv2d",
                    "input channels",
                    f"be divisible by groups = {self.groups}",
                    channels,
                )
            )
        size = windows(self, input_shape, self.kernel_size, self.stride, self._padding())
        return (self.out_channels, *size)

    def init(self, rng: np.random.Generator, input_shape: Shape, init: Init) -> Tensors:
        kh, kw = two(self.kernel_size)
        shape = (self.out_channels, input_shape[0] // self.groups, kh, kw)
        fan_in, fan_out = math.prod(shape[1:]), shape[0] // self.groups * kh * kw
        scheme = init if self.init_weight is None else self.init_weight
        if scheme == "dirac":
            weight = draw_weights(rng, shape, fan_in, fan_out, "he")
            of_group = weight.reshape(self.groups, -1, *shape[1:])
            passed = np.arange(min(of_group.shape[1:3]))
            of_group[:, passed] = 0.0
            of_group[:, passed, passed, kh // 2, kw // 2] = 1.0
        else:
            weight = draw_weights(rng, shape, fan_in, fan_out, scheme)
        return {"weight": weight, "bias": np.zeros(shape[0])} if self.bias else {"weight": weight}

    def flops(self, input_shape: Shape) -> int:
        window = input_shape[0] // self.groups * math.prod(two(self.kernel_size))
        return 2 * window * math.prod(self.output_shape(input_shape))

    def arguments(self, tensors: Tensors, mode: Mode) -> tuple[Any, ...]:
        return (tensors["weight"], tensors.get("bias"), self.stride, self._padding(), self.groups)


@dataclass(frozen=True)
class _Pool2d(Module):
    """What max and average pooling share."""

    label: ClassVar[str] = "pool"

    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair = 0

    def __post_init__(self) -> None:
        self._require(min(two(self.kernel_size)) >= 1, "kernel_size", "be at least 1")
        self._require(min(two(self._stride())) >= 1, "stride", "be at least 1")
        self._require(min(two(self.padding)) >= 0, "padding", "be at least 0")
        both = zip(two(self.padding), two(self.kernel_size), strict=True)
        self._require(all(2 * p <= k for p, k in both), "padding", "be at most half the kernel")

    def _stride(self) -> Pair:
        return self.kernel_size if self.stride is None else self.stride

    def output_shape(self, input_shape: Shape) -> Shape:
        channels = image_shape(self, input_shape)[0]
        padding = two(self.padding)
        return (
            channels,
            *windows(self, input_shape, self.kernel_size, self._stride(), padding),
        )

    def flops(self, input_shape: Shape) -> int:
        return math.prod(self.output_shape(input_shape)) * math.prod(two(self.kernel_size))

    def arguments(self, tensors: Tensors, mode: Mode) -> tuple[Any, ...]:
        return self.kernel_size, self._stride(), self.padding


@dataclass(frozen=True)
class MaxPool2d(_Pool2d):
    """Largest value of each window of an image.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Window height and width.
    stride : int or (int, int), optional
        Step between windows; default: the window.
    padding : int or (int, int), default 0
        Padding with minus infinity, at most half the window.
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "max_pool2d"


@dataclass(frozen=True)
class AvgPool2d(_Pool2d):
    """Mean of each window of an image; padding counts as zeros.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Window height and width.
    stride : int or (int, int), optional
        Step between windows; default: the window.
    padding : int or (int, int), default 0
        Zero padding, at most half the window.
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "avg_pool2d"


@dataclass(frozen=True)
class GlobalAvgPool2d(Module):
    """Mean of each channel: (C, H, W) to (C,).

    Parameters
    ----------
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "global_avg_pool2d"
    label: ClassVar[str] = "pool"

    def output_shape(self, input_shape: Shape) -> Shape:
        return image_shape(self, input_shape)[:1]

    def flops(self, input_shape: Shape) -> int:
        return math.prod(input_shape)


@dataclass(frozen=True)
class Flatten(Module):
    """Reshape each example to a vector.

    Parameters
    ----------
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "flatten"
    label: ClassVar[str] = "flatten"

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def flops(self, input_shape: Shape) -> int:
        return 0


@dataclass(frozen=True)
class ReLU(Module):
    """``max(x, 0)``.

    Parameters
    ----------
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "relu"
    label: ClassVar[str] = "relu"


@dataclass(frozen=True)
class LeakyReLU(Module):
    """``x`` where positive, ``negative_slope * x`` elsewhere.

    Parameters
    ----------
    negative_slope : float, default 0.01
        Slope for negative inputs.
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "leaky_relu"
    label: ClassVar[str] = "leaky_relu"

    negative_slope: float = 0.01

    def arguments(self, tensors: Tensors, mode: Mode) -> tuple[Any, ...]:
        return (self.negative_slope,)


@dataclass(frozen=True)
class Sigmoid(Module):
    """``1 / (1 + exp(-x))``.

    Parameters
    ----------
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "sigmoid"
    label: ClassVar[str] = "sigmoid"


@dataclass(frozen=True)
class Tanh(Module):
    """Hyperbolic tangent.

    Parameters
    ----------
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "tanh"
    label: ClassVar[str] = "tanh"


@dataclass(frozen=True)
class GELU(Module):
    """``x * Phi(x)`` with the normal distribution function.

    Parameters
    ----------
    approximate : {"none", "tanh"}, default "none"
        Exact, or Hendrycks and Gimpel's tanh form.
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "gelu"
    label: ClassVar[str] = "gelu"

    approximate: Literal["none", "tanh"] = "none"

    def arguments(self, tensors: Tensors, mode: Mode) -> tuple[Any, ...]:
        return (self.approximate,)


@dataclass(frozen=True)
class SiLU(Module):
    """``x * sigmoid(x)``.

    Parameters
    ----------
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "silu"
    label: ClassVar[str] = "silu"


@dataclass(frozen=True)
class BatchNorm(Module):
    """Batch normalisation over (N,) of vectors or (N, H, W) of images.

    Parameters
    ----------
    momentum : float, default 0.1
        Weight of the new batch in the running statistics (PyTorch's convention).
    eps : float, default 1e-5
        Added to the variance.
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "batch_norm"
    label: ClassVar[str] = "bn"
    parameters: ClassVar[tuple[str, ...]] = ("weight", "bias")
    statistics: ClassVar[tuple[str, ...]] = ("running_mean", "running_var")

    momentum: float = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        self._require(0 <= self.momentum <= 1, "momentum", "lie in [0, 1]")
        self._require(self.eps > 0, "eps", "be positive")

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (1, 3):
            raise ShapeError(
                explain(self.name or "BatchNorm", "input", "be (C,) or (C, H, W)", input_shape)
            )
        return input_shape

    def init(self, rng: np.random.Generator, input_shape: Shape, init: Init) -> Tensors:
        return {"weight": np.ones(input_shape[0]), "bias": np.zeros(input_shape[0])}

    def buffers(self, input_shape: Shape) -> Tensors:
        return {
            "running_mean": np.zeros(input_shape[0]),
            "running_var": np.ones(input_shape[0]),
        }

    def flops(self, input_shape: Shape) -> int:
        return 2 * math.prod(input_shape)

    def arguments(self, tensors: Tensors, mode: Mode) -> tuple[Any, ...]:
        own = (tensors[key] for key in (*self.parameters, *self.statistics))
        return (*own, mode.training, self.momentum, self.eps)


@dataclass(frozen=True)
class LayerNorm(Module):
    """Normalisation of each example over all its features.

    Parameters
    ----------
    eps : float, default 1e-5
        Added to the variance.
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "layer_norm"
    label: ClassVar[str] = "ln"
    parameters: ClassVar[tuple[str, ...]] = ("weight", "bias")

    eps: float = 1e-5

    def __post_init__(self) -> None:
        self._require(self.eps > 0, "eps", "be positive")

    def init(self, rng: np.random.Generator, input_shape: Shape, init: Init) -> Tensors:
        return {"weight": np.ones(input_shape), "bias": np.zeros(input_shape)}

    def flops(self, input_shape: Shape) -> int:
        return 8 * math.prod(input_shape)

    def arguments(self, tensors: Tensors, mode: Mode) -> tuple[Any, ...]:
        return tensors["weight"], tensors["bias"], self.eps


@dataclass(frozen=True)
class GroupNorm(Module):
    """Normalisation of each example over groups of channels.

    Parameters
    ----------
    num_groups : int
        Number of groups; divides the channels.
    eps : float, default 1e-5
        Added to the variance.
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "group_norm"
    label: ClassVar[str] = "gn"
    parameters: ClassVar[tuple[str, ...]] = ("weight", "bias")

    num_groups: int
    eps: float = 1e-5

    def __post_init__(self) -> None:
        self._require(self.num_groups >= 1, "num_groups", "be at least 1")
        self._require(self.eps > 0, "eps", "be positive")

    def output_shape(self, input_shape: Shape) -> Shape:
        if input_shape[0] % self.num_groups:
            raise ShapeError(
                explain(
                    self.name or "GroupNorm",
                    "input channels",
                    f"be divisible by num_groups = {self.num_groups}",
                    input_shape[0],
                )
            )
        return input_shape

    def init(self, rng: np.random.Generator, input_shape: Shape, init: Init) -> Tensors:
        return {"weight": np.ones(input_shape[0]), "bias": np.zeros(input_shape[0])}

    def flops(self, input_shape: Shape) -> int:
        return 8 * math.prod(input_shape)

    def arguments(self, tensors: Tensors, mode: Mode) -> tuple[Any, ...]:
        return tensors["weight"], tensors["bias"], self.num_groups, self.eps


@dataclass(frozen=True)
class Dropout(Module):
    """Inverted dropout: in training each value is zeroed with probability `p`.

    Parameters
    ----------
    p : float, default 0.5
        Probability of dropping, in [0, 1).
    name : str, default ""
        See `Module`.
    """

    pair: ClassVar[str] = "dropout"
    label: ClassVar[str] = "dropout"

    p: float = 0.5

    def __post_init__(self) -> None:
        self._require(0 <= self.p < 1, "p", "lie in [0, 1)")

    def arguments(self, tensors: Tensors, mode: Mode) -> tuple[Any, ...]:
        if mode.training and self.p > 0 and mode.rng is None:
            raise InputError(
                explain(
                    self.name or "Dropout",
                    "rng",
                    "be a numpy.random.Generator in training",
                    None,
                    "Pass rng=np.random.default_rng(seed) to loss_and_grads.",
                )
            )
        return self.p, mode.training, mode.rng


MODULES: dict[str, type[Module]] = {
    "linear": Linear,
    "conv2d": Conv2d,
    "max_pool2d": MaxPool2d,
    "avg_pool2d": AvgPool2d,
    "global_avg_pool2d": GlobalAvgPool2d,
    "flatten": Flatten,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "gelu": GELU,
    "silu": SiLU,
    "batch_norm": BatchNorm,
    "layer_norm": LayerNorm,
    "group_norm": GroupNorm,
    "dropout": Dropout,
    "whiten2d": Whiten2d,
}
