"""What the layers admit: one check for each kind of argument, worded once for all pairs.

Reference and fast pairs call the same checks, so they refuse the same arguments in the same
words. Arrays are recognised by their ``dtype`` and ``shape`` alone, which lets an autodiff
tool's array-like values through.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod
from typing import Any

import numpy as np

from chainrule.errors import DTypeError, InputError, ShapeError, explain

__all__ = [
    "Cache",
    "check_batch_norm",
    "check_conv2d",
    "check_dout",
    "check_dropout",
    "check_floats",
    "check_group_norm",
    "check_images",
    "check_layer_norm",
    "check_linear",
    "check_number",
    "check_pool2d",
    "check_scores",
]

Cache = tuple[Any, ...]
"""What a forward hands to its backward; opaque to the caller."""

_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


def _dtype_of(array: Any) -> np.dtype | None:
    """The NumPy dtype of an array, None for anything else.

    Compare it by ``is`` or membership or after excluding None: ``np.dtype("float64") == None``.
    """
    dtype = getattr(array, "dtype", None)
    return dtype if isinstance(dtype, np.dtype) else None


def _describe_dtype(array: Any) -> str:
    """What to call the dtype of an array, or the type of anything else, in a message."""
    dtype = _dtype_of(array)
    return type(array).__name__ if dtype is None else str(dtype)


def _describe(dims: Sequence[int | str]) -> str:
    """Write a shape as Python would, with names where the extent is free."""
    return f"({', '.join(map(str, dims))}{',' if len(dims) == 1 else ''})"


def check_floats(where: str, **arrays: Any) -> None:
    """Require that the first array is float32 or float64 and the others, unless None, match."""
    names = iter(arrays)
    first = next(names)
    dtype = _dtype_of(arrays[first])
    if dtype not in _FLOATS:
        rule, got = "be a float32 or float64 array", _describe_dtype(arrays[first])
        remedy = f"Convert it with np.asarray({first}, dtype=np.float32)."
        raise DTypeError(explain(where, first, rule, got, remedy))
    for name in names:
        other = _dtype_of(arrays[name])
        if arrays[name] is not None and (other is None or other != dtype):
            rule, got = f"have the dtype of {first}, {dtype}", _describe_dtype(arrays[name])
            remedy = f"Convert it with np.asarray({name}, dtype={first}.dtype)."
            raise DTypeError(explain(where, name, rule, got, remedy))


def _check_shape(
    where: str, name: str, array: Any, dims: Sequence[int | str], remedy: str = ""
) -> None:
    """Require the given extents; a string stands for any extent."""
    shape = array.shape
    if len(shape) != len(dims) or any(
        isinstance(dim, int) and dim != extent for dim, extent in zip(dims, shape, strict=True)
    ):
        raise ShapeError(explain(where, name, f"have shape {_describe(dims)}", shape, remedy))


def check_dout(where: str, dout: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Require that the upstream gradient has the shape and dtype of the forward's output."""
    given = _dtype_of(dout)
    if given is None or given != dtype:
        rule, got = f"have the output's dtype, {dtype}", _describe_dtype(dout)
        remedy = "Convert it with np.asarray(dout, dtype=out.dtype)."
        raise DTypeError(explain(where, "dout", rule, got, remedy))
    if dout.shape != shape:
        rule = f"have the output's shape, {_describe(shape)}"
        remedy = "Pass the gradient of the loss by the output that this cache came with."
        raise ShapeError(explain(where, "dout", rule, dout.shape, remedy))


def check_number(where: str, name: str, value: Any, low: float = -inf, high: float = inf) -> float:
    """Return a real number as a Python float, which never changes an array's dtype."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise DTypeError(explain(where, name, "be a number", repr(value)))
    number = float(value)
    if not low <= number <= high:
        rule = f"be at least {low:g}" if high == inf else f"lie between {low:g} and {high:g}"
        raise InputError(explain(where, name, rule, repr(value)))
    return number


def _check_pair(where: str, name: str, value: Any, minimum: int) -> tuple[int, int]:
    """Read an int or a pair of ints (rows, columns)."""
    pair = (value, value) if isinstance(value, (int, np.integer)) else value
    if (
        not isinstance(pair, (tuple, list))
        or len(pair) != 2
        or not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in pair)
    ):
        raise DTypeError(explain(where, name, "be an int or a pair of ints", repr(value)))
    if min(pair) < minimum:
        raise InputError(explain(where, name, f"be at least {minimum}", repr(value)))
    return int(pair[0]), int(pair[1])


def _count_windows(
    where: str,
    x: Any,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> tuple[int, int]:
    """Count the window positions, floor((extent + 2 padding - kernel) / stride) + 1 each way."""
    room = [n + 2 * p - k for n, k, p in zip(x.shape[2:], kernel_size, padding, strict=True)]
    if min(room) < 0:
        raise ShapeError(
            explain(
                where,
                "x",
                f"be at least as large as the {kernel_size[0]} x {kernel_size[1]} window, "
                f"padding {padding} included",
                x.shape,
                "Enlarge the padding or use a smaller kernel.",
            )
        )
    return room[0] // stride[0] + 1, room[1] // stride[1] + 1


def check_images(where: str, x: Any) -> None:
    """Require floating-point images (N, C, H, W) with at least one pixel."""
    check_floats(where, x=x)
    _check_shape(where, "x", x, ("N", "C", "H", "W"), "Reshape it to (N, C, H, W).")
    if 0 in x.shape[2:]:
        raise ShapeError(explain(where, "x", "have at least one pixel in an image", x.shape))


def check_linear(where: str, x: Any, weight: Any, bias: Any) -> None:
    """Require x (N, D), weight (F, D) and bias (F,) or None."""
    check_floats(where, x=x, weight=weight, bias=bias)
    _check_shape(where, "weight", weight, ("F", "D"))
    num_outputs, num_inputs = weight.shape
    if x.ndim != 2 or x.shape[1] != num_inputs:
        flattens = x.ndim > 2 and prod(x.shape[1:]) == num_inputs
        remedy = (
            "Flatten it with x.reshape(len(x), -1)."
            if flattens
            else f"weight has shape {weight.shape}, (outputs, inputs)."
        )
        _check_shape(where, "x", x, ("N", num_inputs), remedy)
    if bias is not None:
        _check_shape(where, "bias", bias, (num_outputs,), "It holds one value for each output.")


def check_conv2d(
    where: str, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, groups: Any
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Require matching images, filters and groups; return stride, padding and output extent."""
    check_floats(where, x=x, weight=weight, bias=bias)
    _check_shape(where, "x", x, ("N", "C", "H", "W"), "Reshape it to (N, C, H, W).")
    _check_shape(where, "weight", weight, ("F", "C/groups", "KH", "KW"))
    if isinstance(groups, bool) or not isinstance(groups, (int, np.integer)):
        raise DTypeError(explain(where, "groups", "be an int", repr(groups)))
    channels, filters = x.shape[1], weight.shape[0]
    if groups < 1 or channels % groups or filters % groups:
        rule = f"divide the {channels} channels of x and the {filters} filters of weight"
        raise InputError(explain(where, "groups", rule, groups))
    _check_shape(
        where,
        "weight",
        weight,
        ("F", channels // int(groups), "KH", "KW"),
        f"x has {channels} channels in {groups} group(s).",
    )
    if 0 in weight.shape:
        raise ShapeError(explain(where, "weight", "have no extent of 0", weight.shape))
    if bias is not None:
        _check_shape(where, "bias", bias, (filters,), "It holds one value for each filter.")
    strides = _check_pair(where, "stride", stride, 1)
    paddings = _check_pair(where, "padding", padding, 0)
    kernel_size = (weight.shape[2], weight.shape[3])
    return strides, paddings, _count_windows(where, x, kernel_size, strides, paddings)


def check_pool2d(
    where: str, x: Any, kernel_size: Any, stride: Any, padding: Any
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Require images and a window; return kernel size, stride, padding and output extent."""
    check_images(where, x)
    kernel = _check_pair(where, "kernel_size", kernel_size, 1)
    strides = kernel if stride is None else _check_pair(where, "stride", stride, 1)
    paddings = _check_pair(where, "padding", padding, 0)
    if any(2 * p > k for p, k in zip(paddings, kernel, strict=True)):
        rule = f"be at most half of kernel_size {kernel}"
        remedy = "A wider border would hold windows without a single pixel."
        raise InputError(explain(where, "padding", rule, repr(padding), remedy))
    return kernel, strides, paddings, _count_windows(where, x, kernel, strides, paddings)


def check_scores(where: str, scores: Any, y: Any) -> None:
    """Require scores (N, C) and integer labels (N,) from 0 to C - 1."""
    check_floats(where, scores=scores)
    _check_shape(where, "scores", scores, ("N", "C"))
    num_examples, num_classes = scores.shape
    if num_classes == 0:
        raise ShapeError(explain(where, "scores", "have at least one class", scores.shape))
    dtype = _dtype_of(y)
    if dtype is None or dtype.kind not in "iu":
        rule, got = "be an array of integer labels", _describe_dtype(y)
        remedy = "Convert it with np.asarray(y, dtype=np.int64)."
        raise DTypeError(explain(where, "y", rule, got, remedy))
    _check_shape(where, "y", y, (num_examples,), "It holds one label for each row of scores.")
    if num_examples and (y.min() < 0 or y.max() >= num_classes):
        position = int(np.argmax((y < 0) | (y >= num_classes)))
        rule = f"hold labels from 0 to {num_classes - 1}"
        raise InputError(explain(where, "y", rule, f"{y[position]} at position {position}"))


def check_batch_norm(
    where: str,
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: Any,
    eps: Any,
) -> tuple[float, float]:
    """Require x (N, C) or (N, C, H, W) and four vectors (C,); return momentum and eps."""
    vectors = {
        "weight": weight,
        "bias": bias,
        "running_mean": running_mean,
        "running_var": running_var,
    }
    check_floats(where, x=x, **vectors)
    if x.ndim not in (2, 4):
        raise ShapeError(explain(where, "x", "have shape (N, C) or (N, C, H, W)", x.shape))
    for name, vector in vectors.items():
        _check_shape(where, name, vector, (x.shape[1],), "It holds one value for each channel.")
    if training and x.size == x.shape[1]:
        raise InputError(
            explain(
                where,
                "x",
                "hold more than one value per channel in training",
                x.shape,
                "Use a larger batch, or training=False.",
            )
        )
    return check_number(where, "momentum", momentum, 0, 1), check_number(where, "eps", eps, 0)


def check_layer_norm(where: str, x: Any, weight: Any, bias: Any, eps: Any) -> float:
    """Require that weight and bias have the shape of the trailing axes of x; return eps."""
    check_floats(where, x=x, weight=weight, bias=bias)
    if not 0 < weight.ndim < x.ndim or x.shape[-weight.ndim :] != weight.shape or not weight.size:
        rule = "have the shape of the trailing axes of x"
        remedy = f"x has shape {x.shape}; the first axis is the batch."
        raise ShapeError(explain(where, "weight", rule, weight.shape, remedy))
    _check_shape(where, "bias", bias, weight.shape)
    return check_number(where, "eps", eps, 0)


def check_group_norm(
    where: str, x: Any, weight: Any, bias: Any, num_groups: Any, eps: Any
) -> float:
    """Require x (N, C, ...) with C divisible by num_groups and vectors (C,); return eps."""
    check_floats(where, x=x, weight=weight, bias=bias)
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ShapeError(explain(where, "x", "have shape (N, C, ...), C at least 1", x.shape))
    channels = x.shape[1]
    if isinstance(num_groups, bool) or not isinstance(num_groups, (int, np.integer)):
        raise DTypeError(explain(where, "num_groups", "be an int", repr(num_groups)))
    if num_groups < 1 or channels % num_groups:
        raise InputError(
            explain(where, "num_groups", f"divide the {channels} channels of x", num_groups)
        )
    for name, vector in (("weight", weight), ("bias", bias)):
        _check_shape(where, name, vector, (channels,), "It holds one value for each channel.")
    return check_number(where, "eps", eps, 0)


def check_dropout(where: str, x: Any, p: Any, training: bool, rng: Any) -> float:
    """Require a probability, and a generator where one is going to be used; return p."""
    check_floats(where, x=x)
    probability = check_number(where, "p", p, 0, 1)
    if training and probability > 0 and not isinstance(rng, np.random.Generator):
        rule = "be a numpy.random.Generator when training with p > 0"
        remedy = "Pass np.random.default_rng(seed)."
        raise DTypeError(explain(where, "rng", rule, type(rng).__name__, remedy))
    return probability
