"""Rules of linear algebra: equations, inverses, determinants, decompositions, norms.

Matrices are the last two axes; whatever stands before them is a stack. The derivatives of the
decompositions follow M. B. Giles, "An extended collection of matrix derivative results for
forward and reverse mode algorithmic differentiation", Oxford, 2008, where no other source is
given.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np

from chainrule.autodiff.arrays import as_array, refuse
from chainrule.autodiff.products import transposed as _t
from chainrule.autodiff.reductions import axes_of, root
from chainrule.autodiff.rules import register, unbroadcast, written
from chainrule.autodiff.tracing import (
    Rule,
    apply,
    primal,
    shape_of,
)

__all__ = [
    "CHOLESKY",
    "DET",
    "EIGENVALUES",
    "EIGENVECTORS",
    "INV",
    "LEFT_VECTORS",
    "LOGDET",
    "PINV",
    "RIGHT_VECTORS",
    "SINGULAR_VALUES",
    "SOLVE",
]

# --- equations and inverses -----------------------------------------------------------------


def _as_columns(x: Any, like: Any) -> Any:
    """Vectors, as numpy.linalg.solve understands them, as matrices of one column."""
    return x[..., None] if len(shape_of(like)) == 1 else x


def _solve_a_pushed(t: Any, out: Any, a: Any, b: Any) -> Any:
    return -np.linalg.solve(a, np.matmul(t, out))


def _solve_a_pulled(g: Any, out: Any, a: Any, b: Any) -> Any:
    """abar = -bbar x^T."""
    adjoint = _as_columns(np.linalg.solve(_t(a), g), b)
    return unbroadcast(-np.matmul(adjoint, _t(_as_columns(out, b))), a)


SOLVE = Rule(
    "solve",
    np.linalg.solve,
    (_solve_a_pushed, lambda t, out, a, b: np.linalg.solve(a, t)),
    (_solve_a_pulled, lambda g, out, a, b: unbroadcast(np.linalg.solve(_t(a), g), b)),
)


@register(np.linalg.solve)
def _solve(a: Any, b: Any) -> Any:
    a, b = as_array(a), as_array(b)
    if b.ndim == 1 and a.ndim > 2:  # so that vectors stay vectors in the derivatives
        return apply(SOLVE, (a, b[:, None]))[..., 0]
    return apply(SOLVE, (a, b))


INV = Rule(
    "inv",
    np.linalg.inv,
    (lambda t, out, a: -np.matmul(np.matmul(out, t), out),),
    (lambda g, out, a: -np.matmul(np.matmul(_t(out), g), _t(out)),),
)


@register(np.linalg.inv)
def _inv(a: Any) -> Any:
    return apply(INV, (a,))


def _pinv_pushed(t: Any, out: Any, a: Any, **options: Any) -> Any:
    """Golub and Pereyra, SIAM J. Numer. Anal. 10, 1973, equation 4.12; for a constant rank."""
    rows, columns = (np.eye(n, dtype=a.dtype) for n in shape_of(a)[-2:])
    return (
        -out @ t @ out
        + out @ _t(out) @ _t(t) @ (rows - a @ out)
        + (columns - out @ a) @ _t(t) @ _t(out) @ out
    )


def _pinv_pulled(g: Any, out: Any, a: Any, **options: Any) -> Any:
    rows, columns = (np.eye(n, dtype=a.dtype) for n in shape_of(a)[-2:])
    return (
        -_t(out) @ g @ _t(out)
        + (rows - a @ out) @ _t(g) @ out @ _t(out)
        + _t(out) @ out @ _t(g) @ (columns - out @ a)
    )


PINV = Rule("pinv", np.linalg.pinv, (_pinv_pushed,), (_pinv_pulled,))


@register(np.linalg.pinv)
def _pinv(a: Any, rcond: Any = None, hermitian: bool = False, **options: Any) -> Any:
    return apply(PINV, (a,), {"rcond": rcond, "hermitian": hermitian, **options})


@register(np.linalg.matrix_power)
def _matrix_power(a: Any, n: int) -> Any:
    n = index(n)
    if n < 0:
        a, n = np.linalg.inv(a), -n
    out = None
    while n:
        if n % 2:
            out = a if out is None else np.matmul(out, a)
        n //= 2
        a = np.matmul(a, a) if n else a
    return (
        np.broadcast_to(np.eye(shape_of(a)[-1], dtype=a.dtype), shape_of(a)) if out is None else out
    )


# --- determinants ---------------------------------------------------------------------------


def _cofactors(out: Any, a: Any) -> Any:
    """The derivative of the determinant by each element.

    ``det(a) a^-T``, or where a matrix is singular, the determinants of what is left without the
    row and the column of an element.
    """
    if np.all(primal(out) != 0):
        return out[..., None, None] * _t(np.linalg.inv(a))
    n = shape_of(a)[-1]
    rest = np.array([[k for k in range(n) if k != i] for i in range(n)], dtype=int)  # (n, n - 1)
    minors = as_array(a)[..., rest[:, None, :, None], rest[None, :, None, :]]
    sign = 1 - 2 * (np.add.outer(np.arange(n), np.arange(n)) % 2).astype(a.dtype)
    return sign * np.linalg.det(minors)


DET = Rule(
    "det",
    np.linalg.det,
    (lambda t, out, a: np.sum(t * _cofactors(out, a), axis=(-2, -1)),),
    (lambda g, out, a: as_array(g)[..., None, None] * _cofactors(out, a),),
)
LOGDET = written(
    "logdet",
    lambda a: np.linalg.slogdet(a)[1],
    (lambda t, out, a: np.trace(np.linalg.solve(a, t), axis1=-2, axis2=-1),),
    (lambda g, out, a: as_array(g)[..., None, None] * _t(np.linalg.inv(a)),),
)


@register(np.linalg.det)
def _det(a: Any) -> Any:
    return apply(DET, (a,))


@register(np.linalg.slogdet)
def _slogdet(a: Any) -> Any:
    plain = np.linalg.slogdet(primal(a))
    return type(plain)(plain[0], apply(LOGDET, (a,)))


# --- decompositions of symmetric matrices ---------------------------------------------------
# NumPy reads one triangle of such a matrix and takes the other one for its mirror image. The
# derivatives are those of just that: nothing depends on the triangle that is not read.


def _mirrored(t: Any, upper: bool) -> Any:
    """The symmetric matrix that NumPy makes of one triangle."""
    if upper:
        return np.triu(t) + _t(np.triu(t, 1))
    return np.tril(t) + _t(np.tril(t, -1))


def _folded(g: Any, upper: bool) -> Any:
    """The adjoint of mirroring."""
    if upper:
        return np.triu(g) + np.triu(_t(g), 1)
    return np.tril(g) + np.tril(_t(g), -1)


def _phi(x: Any) -> Any:
    """The lower triangle, with half of the diagonal."""
    n = shape_of(x)[-1]
    return x * (np.tri(n) - 0.5 * np.eye(n)).astype(x.dtype)


def _cholesky_pushed(t: Any, out: Any, a: Any, upper: bool) -> Any:
    """Ldot = L phi(L^-1 adot L^-T)."""
    lower = _t(out) if upper else out
    inner = np.linalg.solve(lower, _t(np.linalg.solve(lower, _mirrored(t, upper))))
    pushed = np.matmul(lower, _phi(inner))
    return _t(pushed) if upper else pushed


def _cholesky_pulled(g: Any, out: Any, a: Any, upper: bool) -> Any:
    """abar = L^-T phi(L^T Lbar) L^-1."""
    lower, g = (_t(out), _t(g)) if upper else (out, g)
    inner = _phi(np.matmul(_t(lower), g))
    full = np.linalg.solve(_t(lower), _t(np.linalg.solve(_t(lower), _t(inner))))
    return _folded((full + _t(full)) / 2, upper)


CHOLESKY = written(
    "cholesky",
    lambda a, upper: _t(np.linalg.cholesky(_t(a))) if upper else np.linalg.cholesky(a),
    (_cholesky_pushed,),
    (_cholesky_pulled,),
)


@register(np.linalg.cholesky)
def _cholesky(a: Any, /, *, upper: bool = False) -> Any:
    return apply(CHOLESKY, (a,), {"upper": upper})


# mypy knows these for two literal values of UPLO only.
_EIGH: Callable[..., Any] = np.linalg.eigh
_EIGVALSH: Callable[..., Any] = np.linalg.eigvalsh


def _gaps(w: Any) -> Any:
    """1 / (w_j - w_i), 0 on the diagonal; NaN for equal ones, which have no derivative."""
    difference = w[..., None, :] - w[..., :, None]
    same = np.eye(shape_of(w)[-1], dtype=bool)
    safe = np.where(same, 1, np.where(primal(difference) == 0, np.nan, difference))
    return np.where(same, 0, 1 / safe)


def _eigenvalues_pushed(t: Any, out: Any, a: Any, UPLO: str) -> Any:
    v = _EIGH(a, UPLO)[1]
    return np.sum(v * np.matmul(_mirrored(t, UPLO == "U"), v), axis=-2)


def _eigenvalues_pulled(g: Any, out: Any, a: Any, UPLO: str) -> Any:
    v = _EIGH(a, UPLO)[1]
    return _folded(np.matmul(v * g[..., None, :], _t(v)), UPLO == "U")


def _eigenvectors_pushed(t: Any, out: Any, a: Any, UPLO: str) -> Any:
    """vdot = v (gaps * v^T adot v)."""
    w = _EIGVALSH(a, UPLO)
    return out @ (_gaps(w) * (_t(out) @ _mirrored(t, UPLO == "U") @ out))


def _eigenvectors_pulled(g: Any, out: Any, a: Any, UPLO: str) -> Any:
    w = _EIGVALSH(a, UPLO)
    full = out @ (_gaps(w) * (_t(out) @ g)) @ _t(out)
    return _folded((full + _t(full)) / 2, UPLO == "U")


EIGENVALUES = Rule("eigvalsh", np.linalg.eigvalsh, (_eigenvalues_pushed,), (_eigenvalues_pulled,))
EIGENVECTORS = written(
    "eigenvectors",
    lambda a, UPLO: _EIGH(a, UPLO)[1],
    (_eigenvectors_pushed,),
    (_eigenvectors_pulled,),
)


@register(np.linalg.eigvalsh)
def _eigvalsh(a: Any, UPLO: str = "L") -> Any:
    return apply(EIGENVALUES, (a,), {"UPLO": UPLO.upper()})


@register(np.linalg.eigh)
def _eigh(a: Any, UPLO: str = "L") -> Any:
    options = {"UPLO": UPLO.upper()}
    kind = type(np.linalg.eigh(np.eye(1)))
    return kind(apply(EIGENVALUES, (a,), options), apply(EIGENVECTORS, (a,), options))


# --- singular values ------------------------------------------------------------------------


def _singular_pushed(t: Any, out: Any, a: Any) -> Any:
    u, _, vh = np.linalg.svd(a, full_matrices=False)
    return np.sum(u * np.matmul(t, _t(vh)), axis=-2)


def _singular_pulled(g: Any, out: Any, a: Any) -> Any:
    u, _, vh = np.linalg.svd(a, full_matrices=False)
    return np.matmul(u * g[..., None, :], vh)


def _vectors_pushed(t: Any, x: Any, y: Any, s: Any) -> Any:
    """xdot = x (f * (p s + s p^T)) + (1 - x x^T) adot y / s, p = x^T adot y.

    J. Townsend, "Differentiating the singular value decomposition", 2016, with
    f = 1 / (s_j^2 - s_i^2); x are the vectors on one side, y those on the other.
    """
    turned = t @ y
    p = _t(x) @ turned
    inner = _gaps(s * s) * (p * s[..., None, :] + s[..., :, None] * _t(p))
    return x @ inner + (turned - x @ p) / s[..., None, :]


def _vectors_pulled(g: Any, x: Any, y: Any, s: Any) -> Any:
    k = _gaps(s * s) * (_t(x) @ g)
    scaled = g / s[..., None, :]
    return (x @ ((k + _t(k)) * s[..., None, :] - _t(x) @ scaled) + scaled) @ _t(y)


def _svd(a: Any) -> tuple[Any, Any, Any]:
    """u, s and v with ``a = u s v^T``."""
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    return u, s, _t(vh)


def _left_pushed(t: Any, out: Any, a: Any) -> Any:
    _, s, v = _svd(a)
    return _vectors_pushed(t, out, v, s)


def _left_pulled(g: Any, out: Any, a: Any) -> Any:
    _, s, v = _svd(a)
    return _vectors_pulled(g, out, v, s)


def _right_pushed(t: Any, out: Any, a: Any) -> Any:
    u, s, _ = _svd(a)
    return _t(_vectors_pushed(_t(t), _t(out), u, s))


def _right_pulled(g: Any, out: Any, a: Any) -> Any:
    u, s, _ = _svd(a)
    return _t(_vectors_pulled(_t(g), _t(out), u, s))


SINGULAR_VALUES = written(
    "svdvals",
    lambda a: np.linalg.svd(a, compute_uv=False),
    (_singular_pushed,),
    (_singular_pulled,),
)
LEFT_VECTORS = written(
    "left_singular_vectors",
    lambda a: np.linalg.svd(a, full_matrices=False)[0],
    (_left_pushed,),
    (_left_pulled,),
)
RIGHT_VECTORS = written(
    "right_singular_vectors",
    lambda a: np.linalg.svd(a, full_matrices=False)[2],
    (_right_pushed,),
    (_right_pulled,),
)


@register(np.linalg.svdvals)
def _svdvals(x: Any, /) -> Any:
    return apply(SINGULAR_VALUES, (x,))


@register(np.linalg.svd)
def _numpy_svd(a: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    if not compute_uv:
        return np.linalg.svdvals(a)
    if full_matrices and shape_of(a)[-1] != shape_of(a)[-2]:
        raise refuse("numpy.linalg.svd", "full_matrices=True", "Pass full_matrices=False.")
    kind = type(np.linalg.svd(np.eye(1)))
    return kind(*(apply(rule, (a,)) for rule in (LEFT_VECTORS, SINGULAR_VALUES, RIGHT_VECTORS)))


# --- norms ----------------------------------------------------------------------------------


def _power_mean(x: Any, p: float, axis: Any, keepdims: bool) -> Any:
    """(sum |x|^p)^(1/p), with the derivative 0 where all of x is 0."""
    total = np.sum(np.abs(x) ** p, axis=axis, keepdims=keepdims)
    zero = primal(total) == 0
    return np.where(zero, 0, np.where(zero, 1, total) ** (1 / p))[()]


@register(np.linalg.vector_norm)
def _vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    x = as_array(x)
    if ord is None or ord == 2:
        return root(np.sum(x * x, axis=axis, keepdims=keepdims))
    if ord == 0:
        return np.sum((primal(x) != 0).astype(x.dtype), axis=axis, keepdims=keepdims)
    if ord == 1:
        return np.sum(np.abs(x), axis=axis, keepdims=keepdims)
    if ord in (np.inf, -np.inf):
        extremum = np.max if ord > 0 else np.min
        return extremum(np.abs(x), axis=axis, keepdims=keepdims)
    return _power_mean(x, float(ord), axis, keepdims)


@register(np.linalg.matrix_norm)
def _matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    if ord is None or ord in ("fro", "f"):
        return _vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord in (1, -1, np.inf, -np.inf):
        sums = np.sum(np.abs(x), axis=-2 if abs(ord) == 1 else -1, keepdims=True)
        out = (np.max if ord > 0 else np.min)(sums, axis=(-2, -1), keepdims=True)
    elif ord in ("nuc", 2, -2):
        reductions: dict[Any, Callable[..., Any]] = {"nuc": np.sum, 2: np.max, -2: np.min}
        out = reductions[ord](np.linalg.svdvals(x), axis=-1)[..., None, None]
    else:
        raise ValueError("Invalid norm order for matrices.")  # as NumPy says it
    return out if keepdims else out[..., 0, 0]


@register(np.linalg.norm)
def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x = as_array(x)
    if axis is None and (ord is None or x.ndim == 1):
        return _vector_norm(x, keepdims=keepdims, ord=ord)
    axes = axes_of(axis, x.ndim)
    if len(axes) == 1:
        return _vector_norm(x, axis=axes[0], keepdims=keepdims, ord=ord)
    if len(axes) != 2:
        raise ValueError("Improper number of dimensions to norm.")  # as NumPy says it
    out = _matrix_norm(np.moveaxis(x, axes, (-2, -1)), keepdims=keepdims, ord=ord)
    return np.moveaxis(out, (-2, -1), axes) if keepdims else out
