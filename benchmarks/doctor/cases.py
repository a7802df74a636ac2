"""Inputs at which backward passes are tried, for each layer several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Case", "cases"]


@dataclass(frozen=True)
class Case:
    """Arguments of a forward.

    Parameters
    ----------
    inputs : tuple
        Arrays of floats first, in the order of the gradients.
    kwargs : dict
        Further arguments.
    wrt : tuple of int or None
        Positions of what is differentiated by, if not all arrays of floats.
    """

    inputs: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    wrt: tuple[int, ...] | None = None

    def as_float32(self) -> Case:
        """The same in float32."""
        narrow = tuple(
            a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
            for a in self.inputs
        )
        return Case(narrow, self.kwargs, self.wrt)


def cases(layer: str, seed: int = 0) -> list[Case]:
    """Inputs for a layer of `chainrule.layers`, or of `handwritten`.

    Sizes differ from one another, so that what is summed or transposed wrongly shows.
    """
    rng = np.random.default_rng([seed, *layer.encode()])
    return MAKERS[layer](rng)


def _vectors(rng: np.random.Generator) -> list[Case]:
    return [Case((rng.standard_normal(shape),)) for shape in ((3, 5), (2, 3, 4), (7,))]


def _linear(rng: np.random.Generator) -> list[Case]:
    r = rng.standard_normal
    return [Case((r((n, d)), r((f, d)), r(f))) for n, d, f in ((5, 4, 3), (2, 6, 4), (4, 4, 4))]


def _linear_rows(rng: np.random.Generator) -> list[Case]:
    r = rng.standard_normal
    return [Case((r((n, *d)), r((int(np.prod(d)), f)), r(f))) for n, d, f in (
        (5, (4,), 3), (3, (2, 2, 2), 4), (4, (4,), 4))]  # fmt: skip


def _conv(rng: np.random.Generator, groups: bool = True) -> list[Case]:
    r = rng.standard_normal
    made = []
    for x, w, kwargs in (
        ((2, 3, 5, 6), (4, 3, 3, 3), {"stride": 1, "padding": 1}),
        ((2, 3, 7, 6), (4, 3, 3, 2), {"stride": 2, "padding": 1}),
        ((2, 4, 5, 5), (6, 2, 3, 3), {"stride": 1, "padding": 1, "groups": 2}),
        ((3, 2, 5, 6), (4, 2, 2, 3), {"stride": 1, "padding": 0}),
        ((2, 2, 6, 7), (3, 2, 3, 3), {"stride": (1, 2), "padding": (0, 1)}),
    ):
        if groups or "groups" not in kwargs:
            made.append(Case((r(x), r(w), r(w[0])), kwargs))
    return made


def _conv_bn(rng: np.random.Generator) -> list[Case]:
    r = rng.standard_normal
    made = []
    for x, w, kwargs in (
        ((2, 3, 5, 6), (4, 3, 3, 3), {"stride": 1, "padding": 1}),
        ((2, 2, 6, 5), (3, 2, 3, 2), {"stride": 2, "padding": 1}),
    ):
        f = w[0]
        positive = rng.uniform(0.5, 2.0, f)
        inputs = (r(x), r(w), r(f), rng.uniform(0.5, 2.0, f), r(f), r(f), positive)
        made.append(Case(inputs, kwargs, (0, 1, 2, 3, 4)))
    return made


def _pool(rng: np.random.Generator) -> list[Case]:
    r = rng.standard_normal
    return [
        Case((r((2, 3, 6, 7)),), {"kernel_size": 3, "stride": 2, "padding": 1}),
        Case((r((2, 3, 6, 8)),), {"kernel_size": 2}),
        Case((r((2, 2, 5, 6)),), {"kernel_size": 3, "stride": 1}),
        Case((r((2, 2, 5, 6)),), {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 1)}),
    ]


def _images(rng: np.random.Generator) -> list[Case]:
    return [Case((rng.standard_normal(shape),)) for shape in ((2, 3, 4, 5), (3, 2, 3, 3))]


def _scores(rng: np.random.Generator, **options: float) -> list[Case]:
    made = [Case((rng.standard_normal((n, c)), rng.integers(0, c, n))) for n, c in ((5, 4), (3, 6))]
    return [*(Case(m.inputs, dict(options)) for m in made if options), *made]


def _norm(rng: np.random.Generator, kind: str) -> list[Case]:
    r = rng.standard_normal
    made = []
    for shape in ((6, 3), (3, 4, 2, 3), (2, 6, 3, 2)):
        weight, bias = rng.uniform(0.5, 2.0, shape[1]), r(shape[1])
        x = 2 * r(shape) + 1
        if kind == "batch":
            mean, var = r(shape[1]), rng.uniform(0.5, 2.0, shape[1])
            made.append(Case((x, weight, bias, mean, var), {}, (0, 1, 2)))
            if len(shape) == 2:
                made.append(Case((x, weight, bias, mean, var), {"training": False}, (0, 1, 2)))
        elif kind == "layer":
            inner = shape[1:]
            made.append(Case((x, rng.uniform(0.5, 2.0, inner), r(inner))))
        elif len(shape) == 4:
            made.append(Case((x, weight, bias), {"num_groups": 2}))
    return made


def _dropout(rng: np.random.Generator) -> list[Case]:
    return [
        Case((rng.standard_normal((5, 6)),), {"p": p, "rng": np.random.default_rng(3)})
        for p in (0.4, 0.25)
    ]


def _two_layer(rng: np.random.Generator) -> list[Case]:
    r = rng.standard_normal
    made = []
    for n, d, h, c in ((5, 4, 6, 3), (4, 3, 5, 6)):
        arrays = (r((n, d)), r((d, h)), r(h), r((h, c)), r(c), rng.integers(0, c, n))
        made.append(Case(arrays, {"reg": 0.3}, (1, 2, 3, 4)))
    return made


def _softmax_loss(rng: np.random.Generator) -> list[Case]:
    r = rng.standard_normal
    return [Case((r((d, c)), r((n, d)), rng.integers(0, c, n)), {"reg": 0.4}, (0,))
            for n, d, c in ((5, 4, 3), (6, 3, 4))]  # fmt: skip


def _column_loss(rng: np.random.Generator) -> list[Case]:
    r = rng.standard_normal
    return [Case((r((c, d)), r((d, n)), rng.integers(0, c, n)), {"reg": 0.4}, (0,))
            for n, d, c in ((5, 4, 3), (6, 3, 4))]  # fmt: skip


def _update(rng: np.random.Generator) -> list[Case]:
    return [Case(tuple(rng.standard_normal((3, 4)) for _ in range(3)))]


MAKERS: dict[str, Callable[[np.random.Generator], list[Case]]] = {
    **dict.fromkeys(("relu", "leaky_relu", "sigmoid", "tanh", "silu", "course_relu"), _vectors),
    "gelu": lambda rng: [
        *_vectors(rng), *(Case(c.inputs, {"approximate": "tanh"}) for c in _vectors(rng)),
    ],
    "softmax": lambda rng: _vectors(rng)[:1],
    "linear": _linear,
    "linear_relu": _linear,
    "affine": _linear_rows,
    "affine_relu": _linear_rows,
    "flatten": lambda rng: _vectors(rng)[:2],
    "conv2d": _conv,
    "conv_relu": _conv,
    "course_conv": lambda rng: _conv(rng, groups=False)[:3],
    "conv_im2col": lambda rng: _conv(rng, groups=False)[:3],
    "conv_relu_pool": lambda rng: _conv(rng)[:1],
    "conv_bn_relu": _conv_bn,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "course_max_pool": lambda rng: _pool(rng)[1:3],
    "global_avg_pool2d": _images,
    "cross_entropy": lambda rng: _scores(rng, label_smoothing=0.2),
    "multiclass_hinge": _scores,
    "course_softmax": _scores,
    "course_svm": _scores,
    "batch_norm": lambda rng: _norm(rng, "batch"),
    "batch_norm_graph": lambda rng: [
        Case(c.inputs[:3], {}) for c in _norm(rng, "batch")[:1]
    ],
    "batch_norm_alt": lambda rng: [
        Case(c.inputs[:3], {}) for c in _norm(rng, "batch")[:1]
    ],
    "layer_norm": lambda rng: _norm(rng, "layer"),
    "group_norm": lambda rng: _norm(rng, "group"),
    "dropout": _dropout,
    "course_dropout": _dropout,
    "two_layer": _two_layer,
    "softmax_loss": _softmax_loss,
    "softmax_loss_columns": _column_loss,
    "momentum": _update,
}  # fmt: skip
