"""What each layer refuses beyond dtypes, and that the message says what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chainrule import kernels
from chainrule.errors import DTypeError, InputError, ShapeError
from chainrule.layers import pair


def vectors(count: int, **sizes: int) -> dict[str, np.ndarray]:
    names = ("weight", "bias", "running_mean", "running_var")[:count]
    return {name: np.ones(sizes.get(name, 3)) for name in names}


IMAGES = np.ones((2, 3, 4, 4))
SCORES = np.ones((2, 3))
LABELS = np.array([0, 2])
REFUSED: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    (
        "linear",
        {"x": np.ones((2, 3, 4)), "weight": np.ones((5, 12))},
        ShapeError,
        r"linear_forward: x must have shape \(N, 12\); got \(2, 3, 4\)\. "
        r"Flatten it with x\.reshape\(len\(x\), -1\)\.",
    ),
    (
        "linear",
        {"x": np.ones((2, 3)), "weight": np.ones((5, 4))},
        ShapeError,
        r"x must have shape \(N, 4\); got \(2, 3\)\. weight has shape \(5, 4\)",
    ),
    (
        "linear",
        {"x": np.ones((2, 3)), "weight": np.ones(3)},
        ShapeError,
        r"weight must have shape \(F, D\); got \(3,\)",
    ),
    (
        "linear",
        {"x": np.ones((2, 3)), "weight": np.ones((4, 3)), "bias": np.ones(3)},
        ShapeError,
        r"bias must have shape \(4,\); got \(3,\)",
    ),
    ("leaky_relu", {"x": SCORES, "negative_slope": "0.1"}, DTypeError, "negative_slope must be a"),
    ("gelu", {"x": SCORES, "approximate": "erf"}, InputError, "approximate must be 'none' or"),
    ("cross_entropy", {"scores": np.ones(3), "y": LABELS}, ShapeError, r"scores .* \(N, C\)"),
    ("cross_entropy", {"scores": np.ones((2, 0)), "y": LABELS}, ShapeError, "at least one class"),
    ("cross_entropy", {"scores": SCORES, "y": np.ones(2)}, DTypeError, "y .* integer .* float64"),
    ("cross_entropy", {"scores": SCORES, "y": [0, 2]}, DTypeError, "integer labels; got list"),
    ("cross_entropy", {"scores": SCORES, "y": LABELS[:1]}, ShapeError, r"y .*\(2,\); got \(1,\)"),
    (
        "cross_entropy",
        {"scores": SCORES, "y": np.array([0, 3])},
        InputError,
        "y must hold labels from 0 to 2; got 3 at position 1",
    ),
    (
        "multiclass_hinge",
        {"scores": SCORES, "y": np.array([-1, 0])},
        InputError,
        "y must hold labels from 0 to 2; got -1 at position 0",
    ),
    (
        "cross_entropy",
        {"scores": SCORES, "y": LABELS, "label_smoothing": 1.5},
        InputError,
        "label_smoothing must lie between 0 and 1; got 1.5",
    ),
    (
        "cross_entropy",
        {"scores": SCORES, "y": LABELS, "label_smoothing": float("nan")},
        InputError,
        "label_smoothing must lie between 0 and 1; got nan",
    ),
    ("multiclass_hinge", {"scores": SCORES, "y": LABELS, "margin": None}, DTypeError, "margin"),
    (
        "conv2d",
        {"x": np.ones((3, 4, 4)), "weight": np.ones((2, 3, 3, 3))},
        ShapeError,
        r"conv2d_forward: x must have shape \(N, C, H, W\); got \(3, 4, 4\)",
    ),
    (
        "conv2d",
        {"x": IMAGES, "weight": np.ones((2, 4, 3, 3))},
        ShapeError,
        r"weight must have shape \(F, 3, KH, KW\); got \(2, 4, 3, 3\)\. x has 3 channels in 1",
    ),
    (
        "conv2d",
        {"x": IMAGES, "weight": np.ones((2, 3, 0, 3))},
        ShapeError,
        "weight must have no extent of 0",
    ),
    (
        "conv2d",
        {"x": IMAGES, "weight": np.ones((2, 3, 5, 3))},
        ShapeError,
        r"x must be at least as large as the 5 x 3 window, padding \(0, 0\) included; got",
    ),
    (
        "conv2d",
        {"x": IMAGES, "weight": np.ones((2, 3, 3, 3)), "bias": np.ones(3)},
        ShapeError,
        r"bias must have shape \(2,\); got \(3,\)",
    ),
    (
        "conv2d",
        {"x": IMAGES, "weight": np.ones((3, 1, 3, 3)), "groups": 2},
        InputError,
        "groups must divide the 3 channels of x and the 3 filters of weight; got 2",
    ),
    (
        "conv2d",
        {"x": IMAGES, "weight": np.ones((3, 1, 3, 3)), "groups": 1.5},
        DTypeError,
        "groups must be an int; got 1.5",
    ),
    (
        "conv2d",
        {"x": IMAGES, "weight": np.ones((2, 3, 3, 3)), "stride": 0},
        InputError,
        "stride must be at least 1; got 0",
    ),
    (
        "conv2d",
        {"x": IMAGES, "weight": np.ones((2, 3, 3, 3)), "padding": (1, -1)},
        InputError,
        r"padding must be at least 0; got \(1, -1\)",
    ),
    (
        "conv2d",
        {"x": IMAGES, "weight": np.ones((2, 3, 3, 3)), "padding": "same"},
        DTypeError,
        "padding must be an int or a pair of ints; got 'same'",
    ),
    (
        "max_pool2d",
        {"x": SCORES, "kernel_size": 2},
        ShapeError,
        r"x must have shape \(N, C, H, W\)",
    ),
    ("max_pool2d", {"x": IMAGES, "kernel_size": (2, 0)}, InputError, "kernel_size .* at least 1"),
    ("max_pool2d", {"x": IMAGES, "kernel_size": 2.0}, DTypeError, "kernel_size must be an int or"),
    (
        "max_pool2d",
        {"x": IMAGES, "kernel_size": 3, "padding": 2},
        InputError,
        r"padding must be at most half of kernel_size \(3, 3\); got 2",
    ),
    ("avg_pool2d", {"x": IMAGES, "kernel_size": 5}, ShapeError, "x must be at least as large as"),
    (
        "avg_pool2d",
        {"x": IMAGES, "kernel_size": 2, "stride": True},
        DTypeError,
        "stride must be an",
    ),
    ("global_avg_pool2d", {"x": np.ones((2, 3, 0, 4))}, ShapeError, "at least one pixel"),
    ("global_avg_pool2d", {"x": SCORES}, ShapeError, r"x must have shape \(N, C, H, W\)"),
    (
        "batch_norm",
        {"x": np.ones((2, 3, 4)), **vectors(4)},
        ShapeError,
        r"x must have shape \(N, C\) or \(N, C, H, W\); got \(2, 3, 4\)",
    ),
    (
        "batch_norm",
        {"x": IMAGES, **vectors(4, running_var=2)},
        ShapeError,
        r"running_var must have shape \(3,\); got \(2,\)",
    ),
    (
        "batch_norm",
        {"x": np.ones((1, 3)), **vectors(4)},
        InputError,
        r"x must hold more than one value per channel in training; got \(1, 3\)\. "
        "Use a larger batch, or training=False",
    ),
    ("batch_norm", {"x": IMAGES, **vectors(4), "momentum": 1.1}, InputError, "momentum must lie"),
    ("batch_norm", {"x": IMAGES, **vectors(4), "eps": -1e-5}, InputError, "eps must be at least 0"),
    (
        "layer_norm",
        {"x": IMAGES, "weight": np.ones((3, 4)), "bias": np.ones((3, 4))},
        ShapeError,
        r"weight must have the shape of the trailing axes of x; got \(3, 4\)\. x has shape \(2, 3",
    ),
    (
        "layer_norm",
        {"x": IMAGES, "weight": np.ones((4, 4)), "bias": np.ones(4)},
        ShapeError,
        r"bias must have shape \(4, 4\); got \(4,\)",
    ),
    (
        "group_norm",
        {"x": IMAGES, **vectors(2), "num_groups": 2},
        InputError,
        "num_groups must divide the 3 channels of x; got 2",
    ),
    ("group_norm", {"x": IMAGES, **vectors(2), "num_groups": 1.0}, DTypeError, "num_groups .* int"),
    (
        "group_norm",
        {"x": np.ones(3), **vectors(2), "num_groups": 1},
        ShapeError,
        r"\(N, C, \.\.\.\)",
    ),
    (
        "group_norm",
        {"x": IMAGES, **vectors(2, bias=4), "num_groups": 3},
        ShapeError,
        r"bias must have shape \(3,\); got \(4,\)",
    ),
    ("dropout", {"x": SCORES, "p": 1.2}, InputError, "p must lie between 0 and 1; got 1.2"),
    (
        "dropout",
        {"x": SCORES, "p": 0.5},
        DTypeError,
        "rng must be a numpy.random.Generator .* None",
    ),
]


@pytest.mark.parametrize(
    "implementation", ["reference", "numpy", *kernels.instruction_sets()], indirect=True
)
@pytest.mark.parametrize(("name", "arguments", "error", "message"), REFUSED)
def test_refusals_say_what_is_wrong(
    implementation: str,
    name: str,
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        pair(name, implementation)[0](**arguments)
