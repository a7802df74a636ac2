"""What each layer is tried on: shapes, strides, options; drawn away from kinks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

__all__ = ["CASES", "Case"]

Arrays = dict[str, np.ndarray | None]
Rng = np.random.Generator


@dataclass(frozen=True)
class Case:
    """Arguments of one forward.

    Parameters
    ----------
    label : str
        What sets it apart from the layer's other cases.
    arrays : mapping of str to ndarray or None
        What backward differentiates by, in its order.
    others : mapping
        The remaining arguments. ``rng`` holds a seed, of which each call gets a fresh generator.
    """

    label: str
    arrays: Mapping[str, np.ndarray | None]
    others: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self, dtype: Any = np.float64) -> dict[str, Any]:
        """Return copies of all arguments, floats in the given dtype."""
        everything = {**self.arrays, **self.others}
        if "rng" in everything:
            everything["rng"] = np.random.default_rng(everything["rng"])
        return {
            key: value.astype(dtype if value.dtype.kind == "f" else value.dtype)
            if isinstance(value, np.ndarray)
            else value
            for key, value in everything.items()
        }


def _normal(*shape: int) -> Callable[[Rng], np.ndarray]:
    return lambda rng: rng.standard_normal(shape)


def _off_zero(*shape: int) -> Callable[[Rng], np.ndarray]:
    """Values at least 0.05 from the kink of a rectifier."""
    return lambda rng: rng.choice([-1.0, 1.0], shape) * rng.uniform(0.05, 2.0, shape)


def _all_different(*shape: int) -> Callable[[Rng], np.ndarray]:
    """Values 0.1 apart, so that no maximum is shared."""
    return lambda rng: 0.1 * (rng.permutation(prod(shape)) - prod(shape) / 2).reshape(shape)


def _positive(*shape: int) -> Callable[[Rng], np.ndarray]:
    return lambda rng: rng.uniform(0.5, 2.0, shape)


def _labels(n: int, classes: int) -> Callable[[Rng], np.ndarray]:
    return lambda rng: rng.integers(classes, size=n)


Maker = Callable[[Rng], np.ndarray] | None
# label, how to draw the arrays, how to draw or what are the other arguments
Row = tuple[str, dict[str, Maker], dict[str, Any]]


def _convolution(label: str, x: Any, weight: Any, bias: bool = True, **others: Any) -> Row:
    arrays = {
        "x": _normal(*x),
        "weight": _normal(*weight),
        "bias": _normal(weight[0]) if bias else None,
    }
    return label, arrays, others


_STATISTICS = {"running_mean": _normal(4), "running_var": _positive(4)}
_AFFINE = {"weight": _positive(4), "bias": _normal(4)}
_ELEMENTWISE: list[Row] = [
    ("(5, 7)", {"x": _off_zero(5, 7)}, {}),
    ("(2, 3, 4, 5)", {"x": _off_zero(2, 3, 4, 5)}, {}),
]
_CONVOLUTIONS: list[Row] = [
    _convolution("3x3", (2, 3, 6, 5), (4, 3, 3, 3), padding=1),
    _convolution("5x2, no bias", (2, 2, 7, 8), (3, 2, 5, 2), bias=False),
    _convolution("stride 2, 3", (2, 3, 8, 9), (4, 3, 3, 3), stride=(2, 3), padding=(1, 0)),
    _convolution("2 groups", (2, 4, 5, 5), (6, 2, 3, 3), padding=1, groups=2),
    _convolution("many channels", (1, 16, 8, 8), (16, 16, 3, 3), padding=1),
]

ROWS: dict[str, list[Row]] = {
    "linear": [
        ("with bias", {"x": _normal(5, 7), "weight": _normal(3, 7), "bias": _normal(3)}, {}),
        ("without bias", {"x": _normal(5, 7), "weight": _normal(3, 7), "bias": None}, {}),
        ("wide", {"x": _normal(15, 40), "weight": _normal(8, 40), "bias": _normal(8)}, {}),
    ],
    "flatten": [("(2, 3, 4)", {"x": _normal(2, 3, 4)}, {})],
    "relu": _ELEMENTWISE,
    "leaky_relu": [("slope 0.2", {"x": _off_zero(5, 7)}, {"negative_slope": 0.2})],
    "sigmoid": _ELEMENTWISE,
    "tanh": _ELEMENTWISE,
    "silu": _ELEMENTWISE,
    "gelu": [
        ("exact", {"x": _normal(5, 7)}, {}),
        ("tanh", {"x": _normal(5, 7)}, {"approximate": "tanh"}),
    ],
    "cross_entropy": [
        ("plain", {"scores": _normal(6, 5)}, {"y": _labels(6, 5)}),
        ("smoothed", {"scores": _normal(6, 5)}, {"y": _labels(6, 5), "label_smoothing": 0.1}),
    ],
    "multiclass_hinge": [
        ("margin 1", {"scores": _normal(6, 5)}, {"y": _labels(6, 5)}),
        ("margin 2", {"scores": _normal(6, 5)}, {"y": _labels(6, 5), "margin": 2.0}),
    ],
    "conv2d": _CONVOLUTIONS,
    "max_pool2d": [
        ("2x2", {"x": _all_different(2, 3, 6, 4)}, {"kernel_size": 2}),
        (
            "3x2, overlapping",
            {"x": _all_different(2, 2, 7, 6)},
            {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 1)},
        ),
    ],
    "avg_pool2d": [
        ("2x2", {"x": _normal(2, 3, 6, 4)}, {"kernel_size": 2}),
        (
            "3x2, overlapping",
            {"x": _normal(2, 2, 7, 6)},
            {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 1)},
        ),
    ],
    "global_avg_pool2d": [("(2, 3, 4, 5)", {"x": _normal(2, 3, 4, 5)}, {})],
    "batch_norm": [
        (
            f"{'images' if len(shape) == 4 else 'vectors'}, {mode}",
            {"x": _normal(*shape), **_AFFINE},
            {**_STATISTICS, "training": mode == "training", "momentum": 0.3, "eps": 1e-4},
        )
        for shape in ((6, 4), (3, 4, 3, 2))
        for mode in ("training", "evaluation")
    ],
    "layer_norm": [
        ("last axis", {"x": _normal(5, 3, 4), **_AFFINE}, {}),
        (
            "two axes",
            {"x": _normal(5, 3, 4), "weight": _positive(3, 4), "bias": _normal(3, 4)},
            {"eps": 1e-4},
        ),
    ],
    "group_norm": [("2 groups", {"x": _normal(3, 4, 3, 2), **_AFFINE}, {"num_groups": 2})],
    "dropout": [
        ("evaluation", {"x": _normal(5, 7)}, {"p": 0.4, "training": False}),
        ("training", {"x": _normal(5, 7)}, {"p": 0.4, "training": True, "rng": 3}),
    ],
    "linear_relu": [
        ("with bias", {"x": _normal(5, 7), "weight": _normal(3, 7), "bias": _normal(3)}, {})
    ],
    "conv_relu": _CONVOLUTIONS[:3],
    "conv_relu_pool": [
        ("2x2", _CONVOLUTIONS[0][1], {"padding": 1}),
        ("3x3, stride 2", _CONVOLUTIONS[0][1], {"pool_kernel_size": 3, "pool_stride": 2}),
    ],
    "conv_bn_relu": [
        (
            mode,
            {
                **_CONVOLUTIONS[0][1],
                "bn_weight": _positive(4),
                "bn_bias": _normal(4),
            },
            {**_STATISTICS, "training": mode == "training", "padding": 1},
        )
        for mode in ("training", "evaluation")
    ],
}


def _draw(row: Row, rng: Rng) -> Case:
    label, arrays, others = row
    return Case(
        label,
        {key: None if make is None else make(rng) for key, make in arrays.items()},
        {key: value(rng) if callable(value) else value for key, value in others.items()},
    )


def _cases() -> dict[str, list[Case]]:
    """Draw all cases, always the same ones."""
    return {
        layer: [_draw(row, np.random.default_rng([k, i])) for i, row in enumerate(rows)]
        for k, (layer, rows) in enumerate(ROWS.items())
    }


CASES: dict[str, list[Case]] = _cases()
"""By name of the layer."""
