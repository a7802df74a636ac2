"""The table of all pairs: fast, on NumPy and reference side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chainrule.errors import ConfigError, explain, nearest
from chainrule.layers import (
    activations,
    compiled,
    convolution,
    dropout,
    linear,
    losses,
    normalization,
    pooling,
    reference,
    sandwiches,
)

__all__ = ["PAIRS", "Pair", "pair"]

Forward = Callable[..., Any]
Backward = Callable[..., Any]


@dataclass(frozen=True)
class Pair:
    """A layer's forward and backward: the fastest, the one on NumPy and the reference.

    Parameters
    ----------
    name : str
        Name of the layer, such as ``conv2d``.
    forward, backward : callable
        The fast pair: compiled kernels where there are some for it and they are active,
        otherwise NumPy.
    numpy_forward, numpy_backward : callable
        The pair on NumPy alone, the same as the fast one where nothing is compiled for it.
    reference_forward, reference_backward : callable
        Its definition, with the same signatures.
    """

    name: str
    forward: Forward
    backward: Backward
    numpy_forward: Forward
    numpy_backward: Backward
    reference_forward: Forward
    reference_backward: Backward


def _collect() -> dict[str, Pair]:
    """Pair up the functions of the families by name."""
    families = (linear, activations, losses, convolution, pooling, normalization, dropout)
    pairs = {}
    for family in (*families, sandwiches):
        for exported in family.__all__:
            if exported.endswith("_forward"):
                name = exported.removesuffix("_forward")
                backward = f"{name}_backward"
                fast = compiled if exported in compiled.__all__ else family
                pairs[name] = Pair(
                    name=name,
                    forward=getattr(fast, exported),
                    backward=getattr(fast, backward),
                    numpy_forward=getattr(family, exported),
                    numpy_backward=getattr(family, backward),
                    reference_forward=getattr(reference, exported),
                    reference_backward=getattr(reference, backward),
                )
    return pairs


PAIRS: dict[str, Pair] = _collect()
"""Every pair by name."""


def pair(name: str, implementation: str = "fast") -> tuple[Forward, Backward]:
    """Look up the forward and backward of a layer.

    Parameters
    ----------
    name : str
        A key of `PAIRS`, such as ``conv2d``.
    implementation : {"fast", "numpy", "reference"}, default "fast"
        Which of the three: the best there is, without compiled kernels, or the definition.

    Returns
    -------
    forward : callable
        Its forward.
    backward : callable
        Its backward.

    Raises
    ------
    ConfigError
        If there is no such layer or implementation.

    Examples
    --------
    >>> forward, backward = pair("relu", "reference")
    >>> forward.__module__
    'chainrule.layers.reference'
    """
    if name not in PAIRS:
        known = nearest(str(name), PAIRS)
        raise ConfigError(explain("pair", "name", "be a layer", repr(name), known))
    found = PAIRS[name]
    if implementation == "fast":
        return found.forward, found.backward
    if implementation == "numpy":
        return found.numpy_forward, found.numpy_backward
    if implementation == "reference":
        return found.reference_forward, found.reference_backward
    rule = "be 'fast', 'numpy' or 'reference'"
    raise ConfigError(explain("pair", "implementation", rule, repr(implementation)))
