"""Rules of products and of linear algebra.

Matrices are the last two axes; whatever stands before them is a stack. The derivatives of the
decompositions follow M. B. Giles, "An extended collection of matrix derivative results for
forward and reverse mode algorithmic differentiation", Oxford, 2008, where no other source is
given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from string import ascii_letters
from typing import Any

import numpy as np

from chainrule.autodiff.arrays import SCATTER, as_array, refuse
from chainrule.autodiff.reductions import axes_of, root
from chainrule.autodiff.rules import register, unbroadcast, written
from chainrule.autodiff.tracing import (
    UFUNCS,
    EachArgument,
    Rule,
    apply,
    primal,
    shape_of,
)

__all__: list[str] = []

# --- products -------------------------------------------------------------------------------


def _t(x: Any) -> Any:
    """The matrices transposed."""
    return np.swapaxes(x, -1, -2) if len(shape_of(x)) > 1 else x


def _matmul_left(g: Any, out: Any, x: Any, y: Any) -> Any:
    """xbar = g y^T, with vectors taken as a row on the left and a column on the right."""
    if len(shape_of(y)) == 1:
        if len(shape_of(x)) == 1:
            return g * y
        return unbroadcast(g[..., None] * y, x)
    if len(shape_of(x)) == 1:
        if len(shape_of(y)) == 2:
            return np.matmul(y, g)
        return unbroadcast(np.matmul(y, g[..., None])[..., 0], x)
    return unbroadcast(np.matmul(g, _t(y)), x)


def _matmul_right(g: Any, out: Any, x: Any, y: Any) -> Any:
    """ybar = x^T g."""
    if len(shape_of(x)) == 1:
        if len(shape_of(y)) == 1:
            return g * x
        return unbroadcast(x[:, None] * g[..., None, :], y)
    if len(shape_of(y)) == 1:
        if len(shape_of(x)) == 2:
            return np.matmul(g, x)
        return unbroadcast(np.matmul(_t(x), g[..., None])[..., 0], y)
    return unbroadcast(np.matmul(_t(x), g), y)


UFUNCS[np.matmul] = Rule(
    "matmul",
    np.matmul,
    (lambda t, out, x, y: np.matmul(t, y), lambda t, out, x, y: np.matmul(x, t)),
    (_matmul_left, _matmul_right),
)


@register(np.linalg.matmul)
def _linalg_matmul(x1: Any, x2: Any, /) -> Any:
    return np.matmul(x1, x2)


def _vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return np.sum(x1 * as_array(x2), axis=axis)


def _matvec(x1: Any, x2: Any, /) -> Any:
    return np.matmul(x1, as_array(x2)[..., None])[..., 0]


def _vecmat(x1: Any, x2: Any, /) -> Any:
    return np.matmul(as_array(x1)[..., None, :], x2)[..., 0, :]


register(np.linalg.vecdot)(_vecdot)
for name, function in (("vecdot", _vecdot), ("matvec", _matvec), ("vecmat", _vecmat)):
    if hasattr(np, name):
        UFUNCS[getattr(np, name)] = function


@register(np.dot, method="dot")
def _dot(a: Any, b: Any) -> Any:
    a, b = as_array(a), as_array(b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    if b.ndim <= 2:
        return np.matmul(a, b)
    return np.tensordot(a, b, (-1, -2))


@register(np.inner)
def _inner(a: Any, b: Any, /) -> Any:
    a, b = as_array(a), as_array(b)
    return a * b if a.ndim == 0 or b.ndim == 0 else np.tensordot(a, b, (-1, -1))


@register(np.vdot)
def _vdot(a: Any, b: Any, /) -> Any:
    return np.matmul(np.ravel(a), np.ravel(b))


@register(np.outer, np.linalg.outer)
def _outer(a: Any, b: Any) -> Any:
    return np.ravel(a)[:, None] * np.ravel(b)


@register(np.tensordot, np.linalg.tensordot)
def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = as_array(a), as_array(b)
    if isinstance(axes, int | np.integer):
        left: Any = range(a.ndim - int(axes), a.ndim)
        right: Any = range(int(axes))
    else:
        left, right = axes
    left, right = axes_of(left, a.ndim), axes_of(right, b.ndim)
    rows = [i for i in range(a.ndim) if i not in left]
    columns = [i for i in range(b.ndim) if i not in right]
    if [a.shape[i] for i in left] != [b.shape[i] for i in right]:
        raise ValueError("shape-mismatch for sum")  # as NumPy says it
    inner = int(np.prod([a.shape[i] for i in left], dtype=int))
    shape = [a.shape[i] for i in rows] + [b.shape[i] for i in columns]
    rows_size = int(np.prod([a.shape[i] for i in rows], dtype=int))
    columns_size = int(np.prod([b.shape[i] for i in columns], dtype=int))
    matrix = np.reshape(np.transpose(a, [*rows, *left]), (rows_size, inner))
    other = np.reshape(np.transpose(b, [*right, *columns]), (inner, columns_size))
    return np.reshape(np.matmul(matrix, other), shape)


@register(np.kron)
def _kron(a: Any, b: Any) -> Any:
    a, b = as_array(a), as_array(b)
    ndim = max(a.ndim, b.ndim)
    a_shape = (1,) * (ndim - a.ndim) + a.shape
    b_shape = (1,) * (ndim - b.ndim) + b.shape
    product = np.reshape(a, [n for pair in a_shape for n in (pair, 1)]) * np.reshape(
        b, [n for pair in b_shape for n in (1, pair)]
    )
    return np.reshape(product, [m * n for m, n in zip(a_shape, b_shape, strict=True)])


@register(np.cross, np.linalg.cross)
def _cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(as_array(a), axisa, -1), np.moveaxis(as_array(b), axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise refuse("numpy.cross", "vectors of two elements", "Append a zero to each.")
    (a0, a1, a2), (b0, b1, b2) = ((x[..., 0], x[..., 1], x[..., 2]) for x in (a, b))
    out = np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=-1)
    return np.moveaxis(out, -1, axisc)


@register(np.linalg.multi_dot)
def _multi_dot(arrays: Sequence[Any]) -> Any:
    out = arrays[0]
    for array in arrays[1:]:
        out = np.dot(out, array)
    return out


@register(np.trace, method="trace")
def _trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1)


@register(np.linalg.trace)
def _linalg_trace(x: Any, /, *, offset: int = 0) -> Any:
    return np.trace(x, offset, -2, -1)


@register(np.convolve)
def _convolve(a: Any, v: Any, mode: str = "full") -> Any:
    a, v = as_array(a), as_array(v)
    if len(v) > len(a):
        a, v = v, a
    overlap = {"full": 0, "same": (len(v) - 1) // 2, "valid": len(v) - 1}[mode]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(a, len(v) - 1), len(v))
    out = np.matmul(windows, np.flip(v))
    length = {"full": len(out), "same": len(a), "valid": len(a) - len(v) + 1}[mode]
    return out[overlap : overlap + length]


@register(np.correlate)
def _correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    a, v = as_array(a), as_array(v)
    if len(v) > len(a):  # the result is that of the exchanged arguments, backwards
        return np.flip(_convolve(v, np.flip(a), mode))
    return _convolve(a, np.flip(v), mode)


# --- einsum ---------------------------------------------------------------------------------


def _explicit(subscripts: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[str], str]:
    """Bring subscripts into the form without ellipsis and with a result."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    free = [letter for letter in ascii_letters if letter not in subscripts]
    width = 0
    for i, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        if "..." in term:
            count = len(shape) - len(term) + 3
            width = max(width, count)
            terms[i] = term.replace("...", "".join(free[:count][::-1]))  # aligned on the right
    ellipsis = "".join(free[:width][::-1])
    if arrow:
        return terms, output.replace("...", ellipsis)
    letters = "".join(terms)
    named = sorted(x for x in set(letters) - set(ellipsis) if letters.count(x) == 1)
    return terms, ellipsis + "".join(named)


def _einsum_value(*operands: Any, terms: Sequence[str], output: str, optimize: Any) -> Any:
    return np.einsum(",".join(terms) + "->" + output, *operands, optimize=optimize)


def _einsum_pushed(
    i: int, t: Any, out: Any, *operands: Any, terms: Sequence[str], output: str, optimize: Any
) -> Any:
    args = [t if k == i else x for k, x in enumerate(operands)]
    return _einsum_value(*args, terms=terms, output=output, optimize=optimize)


def _einsum_pulled(
    i: int, g: Any, out: Any, *operands: Any, terms: Sequence[str], output: str, optimize: Any
) -> Any:
    """Exchange the operand and the result.

    Then come the cases in which that is not all: a letter that stands in this operand alone was
    summed over, one that stands in it twice took a diagonal, and an axis of length 1 may have
    been broadcast.
    """
    others = [x for k, x in enumerate(operands) if k != i]
    other_terms = [term for k, term in enumerate(terms) if k != i]
    sizes = dict(zip(terms[i], shape_of(operands[i]), strict=True))
    known = set(output).union(*other_terms)
    kept = "".join(letter for letter in sizes if letter in known)
    part = np.einsum(",".join([output, *other_terms]) + "->" + kept, g, *others, optimize=optimize)
    shrunk = tuple(
        k for k, letter in enumerate(kept) if sizes[letter] == 1 and shape_of(part)[k] != 1
    )
    if shrunk:
        part = np.sum(part, axis=shrunk, keepdims=True)
    shape = [size if letter in known else 1 for letter, size in sizes.items()]
    part = np.broadcast_to(np.reshape(part, shape), tuple(sizes.values()))
    if len(sizes) == len(terms[i]):
        return part
    grids = np.ogrid[tuple(slice(size) for size in sizes.values())]
    index = tuple(grids[list(sizes).index(letter)] for letter in terms[i])
    return SCATTER.value(part, index=index, shape=shape_of(operands[i]))


EINSUM = Rule("einsum", _einsum_value, EachArgument(_einsum_pushed), EachArgument(_einsum_pulled))


@register(np.einsum)
def _einsum(*operands: Any, optimize: Any = False) -> Any:
    if not isinstance(operands[0], str):
        operands = _from_lists(operands)
    arrays = [as_array(x) for x in operands[1:]]
    terms, output = _explicit(operands[0], [x.shape for x in arrays])
    return apply(EINSUM, arrays, {"terms": terms, "output": output, "optimize": optimize})


def _from_lists(operands: Sequence[Any]) -> tuple[Any, ...]:
    """Turn ``einsum(a, [0, 1], b, [1, 2], [0, 2])`` into ``einsum("ab,bc->ac", a, b)``."""

    def word(subscripts: Sequence[Any]) -> str:
        return "".join("..." if k is Ellipsis else ascii_letters[k] for k in subscripts)

    count = len(operands) // 2
    text = ",".join(word(subscripts) for subscripts in operands[1 : 2 * count : 2])
    if len(operands) % 2:
        text += "->" + word(operands[-1])
    return (text, *operands[: 2 * count : 2])


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
