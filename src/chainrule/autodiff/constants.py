"""NumPy functions whose results are constants under differentiation: questions about values.

Comparisons, positions, shapes and new arrays of zeros have the derivative 0 wherever they have
one, so they give plain results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.autodiff.arrays import plain
from chainrule.autodiff.rules import register
from chainrule.autodiff.tracing import METHODS, UFUNCS, Tracer, primal, shape_of

__all__ = ["ANSWERS", "COMPARISONS"]


def _answering(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, on plain values."""
    return lambda *args, **kwargs: function(*plain(args), **plain(kwargs))


COMPARISONS: tuple[np.ufunc, ...] = (
    np.equal,
    np.not_equal,
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
    np.logical_and,
    np.logical_or,
    np.logical_xor,
    np.logical_not,
    np.isnan,
    np.isinf,
    np.isfinite,
    np.signbit,
)
for comparison in COMPARISONS:
    UFUNCS[comparison] = _answering(comparison)

ANSWERS: tuple[Callable[..., Any], ...] = (
    np.shape,
    np.ndim,
    np.size,
    np.any,
    np.all,
    np.argmax,
    np.argmin,
    np.nanargmax,
    np.nanargmin,
    np.argsort,
    np.argpartition,
    np.argwhere,
    np.lexsort,
    np.nonzero,
    np.flatnonzero,
    np.count_nonzero,
    np.searchsorted,
    np.digitize,
    np.isclose,
    np.allclose,
    np.array_equal,
    np.array_equiv,
    np.isin,
    np.isneginf,
    np.isposinf,
    np.iscomplex,
    np.isreal,
    np.iscomplexobj,
    np.isrealobj,
    np.result_type,
    np.can_cast,
    np.common_type,
    np.min_scalar_type,
    np.may_share_memory,
    np.shares_memory,
    np.zeros_like,
    np.ones_like,
    np.empty_like,
    np.diag_indices_from,
    np.tril_indices_from,
    np.triu_indices_from,
    np.array_repr,
    np.array_str,
    np.array2string,
)
for each in ANSWERS:
    register(each)(_answering(each))
METHODS.update(
    {
        name: _answering(getattr(np, name))
        for name in ("any", "all", "argmax", "argmin", "argsort", "nonzero", "searchsorted")
    }
)


@register(np.full_like)
def _full_like(a: Any, fill_value: Any, dtype: Any = None, **options: Any) -> Any:
    if isinstance(fill_value, Tracer):
        shape = options.get("shape")
        return np.broadcast_to(fill_value, shape_of(a) if shape is None else shape)
    return np.full_like(primal(a), fill_value, dtype, **options)
