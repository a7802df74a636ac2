"""Shapes of images and of the windows that slide over them."""

from __future__ import annotations

from chainrule.errors import ShapeError, explain
from chainrule.models.module import Module, Shape

__all__ = ["Pair", "image_shape", "two", "windows"]

Pair = int | tuple[int, int]


def two(value: Pair) -> tuple[int, int]:
    """Return height and width of what is given as a pair or as one number for both."""
    if isinstance(value, int):
        return value, value
    first, second = value
    return first, second


def image_shape(module: Module, shape: Shape) -> Shape:
    """Return a shape (C, H, W), or refuse what is none, in the name of a layer."""
    if len(shape) != 3:
        raise ShapeError(
            explain(
                module.name or type(module).__name__,
                "input",
                "be an image of shape (C, H, W)",
                shape,
                "It must come before Flatten, and the data must be images.",
            )
        )
    return shape


def windows(
    module: Module, shape: Shape, kernel: Pair, stride: Pair, padding: tuple[int, int]
) -> tuple[int, int]:
    """Return how many windows fit, rows and columns."""
    size = []
    for extent, k, s, p in zip(shape[1:], two(kernel), two(stride), padding, strict=True):
        if extent + 2 * p < k:
            raise ShapeError(
                explain(
                    module.name or type(module).__name__,
                    "kernel_size",
                    f"be at most the padded input, {extent + 2 * p}",
                    k,
                    "Use fewer poolings, a smaller kernel or more padding.",
                )
            )
        size.append((extent + 2 * p - k) // s + 1)
    return size[0], size[1]
