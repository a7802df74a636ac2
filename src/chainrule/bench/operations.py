"""Cases of single layers and losses, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from chainrule import layers
from chainrule.bench.contest import Arrays, Case, Contest, duel, load_torch, sixteenths
from chainrule.kernels import Workspace

__all__ = ["SHAPES", "ConvShape", "operation_cases"]


class ConvShape(NamedTuple):
    """Sizes of a convolution: images, filters, and how these move."""

    n: int
    c: int
    h: int
    w: int
    f: int
    k: int
    stride: int
    padding: int

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width of the output."""
        grown = 2 * self.padding - self.k
        return (self.h + grown) // self.stride + 1, (self.w + grown) // self.stride + 1

    @property
    def flops(self) -> int:
        """Of the forward pass; each gradient takes as many."""
        height, width = self.extent
        return 2 * self.n * self.f * height * width * self.c * self.k**2

    def __str__(self) -> str:
        images = f"{self.n}x{self.c}x{self.h}x{self.w}"
        return f"{images}, {self.f} of {self.k}x{self.k}, stride {self.stride}, pad {self.padding}"


# First layers of the classic course and of small networks, then layers in the middle.
SHAPES = {
    "S1": ConvShape(100, 3, 31, 31, 25, 3, 2, 1),
    "S2": ConvShape(50, 3, 32, 32, 32, 5, 1, 2),
    "S3": ConvShape(128, 3, 32, 32, 32, 5, 1, 2),
    "S4": ConvShape(128, 32, 16, 16, 64, 3, 1, 1),
    "S5": ConvShape(128, 64, 8, 8, 128, 3, 1, 1),
    "S6": ConvShape(128, 64, 32, 32, 64, 3, 1, 1),
}
_IMAGES = (128, 32, 32, 32)
_REGRESSION = (3073, 49000)  # CIFAR-10's training images as columns, with a row of ones
_QUICK_BATCH = 2

_EXACT = {"float32": 1e-6, "float64": 1e-14}  # of sixteenths, see there
_ROUNDED = {"float32": 1e-4, "float64": 1e-11}


def operation_cases(quick: bool = False) -> list[Case]:
    """List the cases of single layers and losses.

    Parameters
    ----------
    quick : bool, default False
        With few images, to see that everything works.

    Returns
    -------
    list of Case
        Both dtypes; softmax regression in float64 only, as in the course.
    """
    shapes = SHAPES
    images, regression = _IMAGES, _REGRESSION
    if quick:
        shapes = {name: shape._replace(n=_QUICK_BATCH) for name, shape in SHAPES.items()}
        images, regression = (_QUICK_BATCH, *_IMAGES[1:]), (65, 500)
    cases = []
    for dtype in ("float32", "float64"):
        for make in (_conv_case, _conv_no_dx_case, _conv_relu_pool_case):
            cases += [make(name, shape, dtype) for name, shape in shapes.items()]
        cases += [_max_pool_case(images, dtype), _batch_norm_relu_case(images, dtype)]
    return [*cases, _regression_case(regression)]


def _conv_case(name: str, shape: ConvShape, dtype: str) -> Case:
    def prepare() -> Contest:
        return _conv_contest(shape, dtype, need_dx=True)

    return Case(f"conv/{name}", dtype, str(shape), prepare, flops=3 * shape.flops)


def _conv_no_dx_case(name: str, shape: ConvShape, dtype: str) -> Case:
    def prepare() -> Contest:
        return _conv_contest(shape, dtype, need_dx=False)

    return Case(f"conv_no_dx/{name}", dtype, str(shape), prepare, flops=2 * shape.flops)


def _conv_relu_pool_case(name: str, shape: ConvShape, dtype: str) -> Case:
    def prepare() -> Contest:
        return _conv_contest(shape, dtype, need_dx=True, pool=True)

    return Case(f"conv_relu_pool/{name}", dtype, str(shape), prepare, flops=3 * shape.flops)


def _conv_contest(shape: ConvShape, dtype: str, need_dx: bool, pool: bool = False) -> Contest:
    rng = np.random.default_rng(0)
    height, width = (extent // (2 if pool else 1) for extent in shape.extent)
    inputs = {
        "x": sixteenths(rng, shape[:4], dtype),
        "weight": sixteenths(rng, (shape.f, shape.c, shape.k, shape.k), dtype),
        "bias": sixteenths(rng, (shape.f,), dtype),
        "dout": sixteenths(rng, (shape.n, shape.f, height, width), dtype),
    }
    leaves = ("x", "weight", "bias") if need_dx else ("weight", "bias")
    kind = "conv_relu_pool" if pool else "conv2d"
    forward, backward = layers.pair(kind)
    workspace = Workspace()

    def ours() -> Arrays:
        with workspace:
            out, cache = forward(
                inputs["x"], inputs["weight"], inputs["bias"], shape.stride, shape.padding
            )
            grads = backward(inputs["dout"], cache, need_dx=need_dx)
        return {"out": out} | _named(leaves, grads if need_dx else grads[1:])

    functional = load_torch().nn.functional

    def theirs(given: dict[str, Any]) -> Mapping[str, Any]:
        out = functional.conv2d(
            given["x"], given["weight"], given["bias"], shape.stride, shape.padding
        )
        if pool:
            out = functional.max_pool2d(functional.relu(out), 2)
        return _with_gradients(out, given, leaves)

    return duel(ours, theirs, inputs, leaves, _EXACT[dtype])


def _max_pool_case(shape: tuple[int, ...], dtype: str) -> Case:
    def prepare() -> Contest:
        rng = np.random.default_rng(0)
        pooled = (*shape[:2], shape[2] // 2, shape[3] // 2)
        inputs = {"x": sixteenths(rng, shape, dtype), "dout": sixteenths(rng, pooled, dtype)}
        workspace = Workspace()

        def ours() -> Arrays:
            with workspace:
                out, cache = layers.max_pool2d_forward(inputs["x"], 2)
                return {"out": out, "dx": layers.max_pool2d_backward(inputs["dout"], cache)}

        pool = load_torch().nn.functional.max_pool2d

        def theirs(given: dict[str, Any]) -> Mapping[str, Any]:
            return _with_gradients(pool(given["x"], 2), given, ("x",))

        return duel(ours, theirs, inputs, ("x",), _EXACT[dtype])

    return Case("max_pool2d", dtype, f"{_times(shape)}, 2x2", prepare)


def _batch_norm_relu_case(shape: tuple[int, ...], dtype: str) -> Case:
    leaves = ("x", "weight", "bias")

    def prepare() -> Contest:
        rng = np.random.default_rng(0)
        channels = shape[1:2]
        inputs = {name: sixteenths(rng, shape, dtype) for name in ("x", "dout")}
        inputs |= {name: sixteenths(rng, channels, dtype) for name in ("weight", "bias")}
        inputs |= {"mean": np.zeros(channels, dtype), "var": np.ones(channels, dtype)}
        workspace = Workspace()

        def ours() -> Arrays:
            with workspace:
                normal, norm_cache, _ = layers.batch_norm_forward(
                    inputs["x"], inputs["weight"], inputs["bias"], inputs["mean"], inputs["var"]
                )
                out, relu_cache = layers.relu_forward(normal)
                dnormal = layers.relu_backward(inputs["dout"], relu_cache)
                grads = layers.batch_norm_backward(dnormal, norm_cache)
            return {"out": out} | _named(leaves, grads)

        functional = load_torch().nn.functional

        def theirs(given: dict[str, Any]) -> Mapping[str, Any]:
            normal = functional.batch_norm(
                given["x"], given["mean"], given["var"], given["weight"], given["bias"], True
            )
            return _with_gradients(functional.relu(normal), given, leaves)

        return duel(ours, theirs, inputs, leaves, _ROUNDED[dtype])

    return Case("batch_norm_relu", dtype, _times(shape), prepare)


def _regression_case(shape: tuple[int, int]) -> Case:
    features, examples = shape
    classes = 10

    def prepare() -> Contest:
        rng = np.random.default_rng(0)
        inputs = {
            "x": sixteenths(rng, shape, "float64"),
            "weight": 0.01 * sixteenths(rng, (classes, features), "float64"),
            "y": rng.integers(classes, size=examples),
        }

        def ours() -> Arrays:
            loss, dweight = layers.softmax_regression(
                inputs["x"], inputs["weight"], inputs["y"], columns=True
            )
            return {"loss": np.array(loss), "dweight": dweight}

        functional = load_torch().nn.functional

        def theirs(given: dict[str, Any]) -> Mapping[str, Any]:
            loss = functional.cross_entropy((given["weight"] @ given["x"]).T, given["y"])
            found = _with_gradients(loss, given | {"dout": None}, ("weight",))
            return {"loss": loss, "dweight": found["dweight"]}

        return duel(ours, theirs, inputs, ("weight",), _ROUNDED["float64"])

    return Case(
        "softmax_regression",
        "float64",
        f"X {features}x{examples}, {classes} classes",
        prepare,
        flops=4.0 * classes * features * examples,
        bytes_read=8 * features * examples,
    )


def _with_gradients(out: Any, given: dict[str, Any], leaves: tuple[str, ...]) -> Mapping[str, Any]:
    """PyTorch's results: the output, and the gradients of the leaves."""
    grads = load_torch().autograd.grad(out, [given[name] for name in leaves], given["dout"])
    return {"out": out} | _named(leaves, grads)


def _named(leaves: tuple[str, ...], grads: Any) -> dict[str, Any]:
    return {f"d{name}": grad for name, grad in zip(leaves, grads, strict=True)}


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
