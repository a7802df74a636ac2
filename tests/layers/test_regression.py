"""Softmax regression equals the two layers it stands for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule import kernels, layers
from chainrule.errors import DTypeError, InputError, ShapeError
from chainrule.gradcheck import numeric_gradient, relative_error
from chainrule.layers import reference

SETS = [*kernels.instruction_sets(), "none"]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("examples", "features", "classes"),
    [
        (1, 1, 1),
        (7, 5, 3),
        (300, 33, 10),
        (129, 200, 17),
        (1000, 3, 2),
        (0, 4, 3),
        (5000, 3, 300),  # several blocks of scores in a group of columns
        (24000, 70, 3),  # several blocks of x
    ],
)
def test_equals_linear_and_cross_entropy(name, columns, dtype, examples, features, classes):
    check_against_reference(name, columns, dtype, examples, features, classes)


def check_against_reference(name, columns, dtype, examples, features, classes):
    rng = np.random.default_rng(examples)
    x = rng.standard_normal((examples, features)).astype(dtype)
    weight = rng.standard_normal((classes, features)).astype(dtype)
    y = rng.integers(0, classes, examples)
    scores, linear = reference.linear_forward(x.astype(np.float64), weight.astype(np.float64))
    expected, cache = reference.cross_entropy_forward(scores, y)
    dscores = reference.cross_entropy_backward(cache)
    _, dexpected, _ = reference.linear_backward(dscores, linear)
    laid_out = np.asfortranarray(x).T if columns else x
    with kernels.use(name):
        loss, dweight = layers.softmax_regression(laid_out, weight, y, columns)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    assert loss.dtype == dweight.dtype == dtype
    np.testing.assert_allclose(loss, expected, tolerance, tolerance)
    np.testing.assert_allclose(dweight, dexpected, tolerance, tolerance)


def test_against_difference_quotients():
    rng = np.random.default_rng(0)
    x, weight, y = rng.standard_normal((9, 4)), rng.standard_normal((3, 4)), rng.integers(0, 3, 9)
    _, dweight = layers.softmax_regression(x, weight, y)
    numeric = numeric_gradient(lambda w: layers.softmax_regression(x, w, y)[0], weight)
    assert relative_error(dweight, numeric) < 1e-7


@pytest.mark.parametrize("name", SETS)
@given(
    examples=st.integers(1, 200),
    features=st.integers(1, 40),
    classes=st.integers(1, 40),
    columns=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_of_any_size(name, examples, features, classes, columns, dtype):
    check_against_reference(name, columns, dtype, examples, features, classes)


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("name", kernels.instruction_sets())
def test_threads_change_no_bit(name, columns):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((700, 30)), rng.standard_normal((10, 30))
    x = np.ascontiguousarray(x.T) if columns else x
    y = rng.integers(0, 10, 700)
    with kernels.use(name):
        results = []
        for threads in (1, 2, 5):
            with kernels.limited_threads(threads):
                results.append(layers.softmax_regression(x, weight, y, columns))
    for loss, dweight in results[1:]:
        assert loss == results[0][0]
        assert (dweight == results[0][1]).all()


def test_scores_of_ten_thousand():
    x, weight = np.array([[1e4], [-1e4]]), np.array([[1.0], [-1.0]])
    loss, dweight = layers.softmax_regression(x, weight, np.array([0, 1]))
    assert loss == 0
    assert np.isfinite(dweight).all()


def test_bad_input_is_refused():
    x, weight, y = np.zeros((4, 3)), np.zeros((2, 3)), np.zeros(4, np.int64)
    with pytest.raises(ShapeError, match=r"weight must have shape \(C, D\) for x \(N, D\)"):
        layers.softmax_regression(x, weight[:, :2], y)
    with pytest.raises(ShapeError, match=r"for x \(D, N\)"):
        layers.softmax_regression(x, weight, y, columns=True)
    with pytest.raises(InputError, match="y must"):
        layers.softmax_regression(x, weight, y + 2)
    with pytest.raises(DTypeError, match="weight"):
        layers.softmax_regression(x, weight.astype(np.float32), y)
