"""The speeds that the CS231n course states for its own code, and ours at the same sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule import layers
from chainrule.bench.timing import time_of
from chainrule.kernels import Workspace

__all__ = ["course_speeds"]

# Seconds, as the notebooks of the course state them, on a machine of 2015 that they do not name.
_STATED = {
    "conv forward": (10.19, 0.028),
    "conv backward": (17.8, 0.026),
    "pool forward": (0.79, 0.0053),
    "pool backward": (0.755, 0.755 / 31),
}


def course_speeds(rounds: int, quick: bool = False) -> list[dict[str, Any]]:
    """Time what the course times: float64, forward and backward apart.

    Parameters
    ----------
    rounds : int
        Timed calls; the median counts.
    quick : bool, default False
        With one image, to see that everything works.

    Returns
    -------
    list of dict
        ``what``, ``shape``, ``naive`` and ``fast`` (the course's, in seconds) and ``chainrule``.

    Notes
    -----
    Convolution: x (100, 3, 31, 31), 25 filters of 3x3, stride 2, padding 1. Max pooling: 2x2 of
    x (100, 3, 32, 32).

    References
    ----------
    Stanford CS231n, assignment 2, notebook on convolutional layers.
    """
    rng = np.random.default_rng(0)
    count = 1 if quick else 100
    x, image = (rng.standard_normal((count, 3, size, size)) for size in (31, 32))
    weight, bias = rng.standard_normal((25, 3, 3, 3)), rng.standard_normal(25)
    workspace = Workspace()
    with workspace:
        out, cache = layers.conv2d_forward(x, weight, bias, stride=2, padding=1)
        pooled, pool_cache = layers.max_pool2d_forward(image, 2)
        runs: dict[str, Callable[[], object]] = {
            "conv forward": lambda: layers.conv2d_forward(x, weight, bias, stride=2, padding=1),
            "conv backward": lambda: layers.conv2d_backward(out, cache),
            "pool forward": lambda: layers.max_pool2d_forward(image, 2),
            "pool backward": lambda: layers.max_pool2d_backward(pooled, pool_cache),
        }
        return [
            {
                "what": what,
                "shape": "x".join(map(str, (x if "conv" in what else image).shape)),
                "naive": _STATED[what][0],
                "fast": _STATED[what][1],
                "chainrule": time_of(run, rounds),
            }
            for what, run in runs.items()
        ]
