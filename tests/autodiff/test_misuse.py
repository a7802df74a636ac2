"""NumPy functions called the wrong way are refused under differentiation as they are elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.autodiff import grad, jvp

X = np.array([3.0, 1.0, 2.0])

MISUSED = {
    "cumprod of a missing axis": lambda x: np.cumprod(x, axis=1),
    "prod of a missing axis": lambda x: np.prod(x, axis=1),
    "median of a missing axis": lambda x: np.median(x, axis=-2),
    "concatenate on a missing axis": lambda x: np.concatenate([x, x], axis=1),
    "swapaxes of a missing axis": lambda x: np.swapaxes(x, 0, 1),
    "norm of a missing axis": lambda x: np.linalg.norm(x, axis=1),
    "quantile above 1": lambda x: np.quantile(x, 1.5),
    "quantile below 0": lambda x: np.quantile(x, -0.1),
    "quantile of NaN": lambda x: np.quantile(x, np.nan),
    "diff of negative order": lambda x: np.diff(x, n=-1),
    "where with one branch": lambda x: np.where(np.array([True, False, True]), x),
    "part of a matrix power": lambda x: np.linalg.matrix_power(np.diag(x), 0.5),
}


@pytest.mark.parametrize("f", MISUSED.values(), ids=MISUSED)
def test_misuse_is_refused_as_numpy_refuses_it(f):
    with pytest.raises((ValueError, TypeError), match=" ") as plain:
        f(X)
    with pytest.raises(type(plain.value), match=" "):
        jvp(f, (X,), (X,))
    with pytest.raises(type(plain.value), match=" "):
        grad(lambda x: np.sum(f(x)))(X)


def test_splitting_on_a_missing_axis():
    with pytest.raises(np.exceptions.AxisError, match="axis 1 is out of bounds"):
        grad(lambda x: np.sum(np.split(x, 3, axis=1)[0]))(X)


BY_NAME = {
    "repeat": lambda x: np.repeat(a=x, repeats=2),
    "tile": lambda x: np.tile(A=x, reps=2),
    "take": lambda x: np.take(a=x, indices=[0, 0, 2]),
    "roll": lambda x: np.roll(shift=1, a=x),
    "flip": lambda x: np.flip(m=x),
    "delete": lambda x: np.delete(arr=x, obj=1),
    "compress": lambda x: np.compress(condition=[1, 0, 1], a=x),
    "compress, one by name": lambda x: np.compress([1, 0, 1], a=x),
    "extract": lambda x: np.extract(arr=x, condition=[True, False, True]),
}


@pytest.mark.parametrize("f", BY_NAME.values(), ids=BY_NAME)
def test_arrays_given_by_name(f):
    out, tangent = jvp(f, (X,), (X**2,))
    np.testing.assert_array_equal(out, f(X))
    np.testing.assert_array_equal(tangent, f(X**2))


@pytest.mark.parametrize("function", [np.tril, np.triu])
def test_triangles_of_a_vector(function):
    """NumPy repeats it as the rows of a square."""
    np.testing.assert_array_equal(jvp(function, (X,), (X,))[0], function(X))
    ones = function(np.ones((3, 3)))
    np.testing.assert_array_equal(grad(lambda x: np.sum(function(x)))(X), ones.sum(axis=0))
