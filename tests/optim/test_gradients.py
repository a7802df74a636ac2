"""Clipping and averaging."""

import numpy as np
import pytest

from chainrule.errors import DTypeError, InputError, RunError, ShapeError
from chainrule.optim import ExponentialMovingAverage, clip_grad_norm, clip_grad_value

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@DTYPES
def test_norm_is_joint_and_scaling_common(dtype):
    grads = {"a": np.array([[3.0], [0.0]], dtype), "b": np.array(4.0, dtype)}
    arrays = dict(grads)
    assert clip_grad_norm(grads, 0.5) == 5.0
    assert grads["a"] is arrays["a"]
    assert grads["a"].dtype == dtype
    np.testing.assert_allclose(grads["a"], [[0.3], [0.0]], rtol=1e-6)
    np.testing.assert_allclose(grads["b"], 0.4, rtol=1e-6)


@DTYPES
def test_small_gradients_are_left_alone(dtype):
    grads = {"a": np.array([0.3, 0.4], dtype)}
    assert clip_grad_norm(grads, 1.0) == pytest.approx(0.5)
    assert np.array_equal(grads["a"], np.array([0.3, 0.4], dtype))


def test_norm_of_a_large_or_strided_array():
    rng = np.random.default_rng(0)
    big = rng.normal(size=(400, 300))
    expected = np.linalg.norm(big)
    assert clip_grad_norm({"a": big.copy()}, 1.0) == pytest.approx(expected, rel=1e-13)
    view = big.T[::2]
    expected = np.linalg.norm(view)
    assert clip_grad_norm({"a": view}, 2.0) == pytest.approx(expected, rel=1e-13)
    assert np.linalg.norm(view) == pytest.approx(2.0, rel=1e-6)


def test_float32_squares_do_not_overflow():
    grads = {"a": np.full(2, 3e30, np.float32)}
    assert clip_grad_norm(grads, 1.0) == pytest.approx(3e30 * 2**0.5, rel=1e-6)
    np.testing.assert_allclose(grads["a"], 0.5**0.5, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_a_norm_that_is_not_finite_is_reported_and_nothing_scaled(value):
    grads = {"a": np.array([value, 1.0]), "b": np.array([1.0])}
    assert not np.isfinite(clip_grad_norm(grads, 1.0))
    assert np.array_equal(grads["a"], [value, 1.0], equal_nan=True)
    assert np.array_equal(grads["b"], [1.0])


def test_no_gradients():
    assert clip_grad_norm({}, 1.0) == 0.0
    assert clip_grad_norm({"a": np.zeros((0, 2))}, 1.0) == 0.0
    clip_grad_value({}, 1.0)


@DTYPES
def test_values_are_clipped_in_place(dtype):
    grads = {"a": np.array([-3.0, 0.5, np.inf, np.nan], dtype)}
    array = grads["a"]
    clip_grad_value(grads, 1.0)
    assert grads["a"] is array
    assert array.dtype == dtype
    assert np.array_equal(array, [-1.0, 0.5, 1.0, np.nan], equal_nan=True)


@pytest.mark.parametrize("clip", [clip_grad_norm, clip_grad_value])
def test_bad_clipping_arguments(clip):
    with pytest.raises(InputError, match="must be positive and finite; got 0"):
        clip({"a": np.ones(1)}, 0)
    with pytest.raises(DTypeError, match=r"grads\['a'\] must be float32 or float64; got int"):
        clip({"a": np.ones(1, int)}, 1.0)
    frozen = np.ones(1)
    frozen.flags.writeable = False
    with pytest.raises(InputError, match=r"grads\['a'\] must be writeable"):
        clip({"a": frozen}, 1.0)


@DTYPES
def test_average_follows_the_formula(dtype):
    rng = np.random.default_rng(0)
    average = ExponentialMovingAverage(decay=0.9)
    expected = None
    for _ in range(5):
        value = rng.normal(size=(250, 200)).astype(dtype)
        kept = value.copy()
        average.update({"w": value})
        expected = value if expected is None else expected + 0.1 * (value - expected)
        assert np.array_equal(value, kept)
    assert average.averages["w"].dtype == dtype
    np.testing.assert_allclose(average.averages["w"], expected, rtol=1e-5, atol=1e-6)


def test_first_average_is_a_copy():
    value = np.ones(2)
    average = ExponentialMovingAverage()
    average.update({"w": value})
    value += 1
    assert np.array_equal(average.averages["w"], [1.0, 1.0])


def test_restored_average_continues_identically():
    rng = np.random.default_rng(0)
    first, second = ExponentialMovingAverage(0.8), ExponentialMovingAverage(0.5)
    for _ in range(3):
        first.update({"w": rng.normal(size=7)})
    second.load_state_dict(*first.state_dict())
    for _ in range(3):
        value = {"w": rng.normal(size=7)}
        first.update(value)
        second.update(value)
    assert np.array_equal(first.averages["w"], second.averages["w"])


def test_bad_averages():
    with pytest.raises(InputError, match=r"decay must be at least 0 and below 1; got 1\.0"):
        ExponentialMovingAverage(1.0)
    average = ExponentialMovingAverage()
    average.update({"a": np.zeros(2), "b": np.zeros(2)})
    with pytest.raises(ShapeError, match=r"params\['b'\] must have the shape of its average"):
        average.update({"a": np.ones(2), "b": np.ones(3)})
    assert np.array_equal(average.averages["a"], np.zeros(2))
    with pytest.raises(RunError, match=r"keyed 'average/\.\.\.'; got 'a'"):
        average.load_state_dict({"a": np.ones(2)}, {"decay": 0.5})
    with pytest.raises(RunError, match="scalars must hold 'decay' only"):
        average.load_state_dict({}, {})
