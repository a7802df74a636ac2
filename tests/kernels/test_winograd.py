"""Minimal filtering gives what the direct sum gives, and stays away where it could not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule import kernels, layers

SETS = kernels.instruction_sets()
pytestmark = pytest.mark.skipif(not SETS, reason="no compiled kernels are installed")


def problem(rng, n, c, f, h, w, dtype):
    x = rng.standard_normal((n, c, h, w)).astype(dtype)
    weight = (0.2 * rng.standard_normal((f, c, 3, 3))).astype(dtype)
    return x, weight, rng.standard_normal(f).astype(dtype)


def run(pair, x, weight, bias, padding, seed=0, **options):
    forward, backward = layers.pair(pair)
    out, cache = forward(x, weight, bias, padding=padding, **options)
    dout = np.random.default_rng(seed).standard_normal(out.shape).astype(x.dtype)
    return [out, *backward(dout, cache)]


def assert_close(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        scale = max(1.0, float(np.abs(b).max(initial=0)))
        np.testing.assert_allclose(a / scale, b / scale, 0, tolerance)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("pair", ["conv2d", "conv_relu", "conv_relu_pool"])
@given(
    n=st.integers(1, 5),
    c=st.integers(16, 21),
    f=st.integers(16, 35),
    h=st.integers(4, 19),
    w=st.integers(4, 35),
    padding=st.integers(0, 2),
)
@settings(max_examples=25, deadline=None)
def test_equals_the_direct_sum(name, pair, n, c, f, h, w, padding):
    if pair == "conv_relu_pool":  # so that no rounding moves a maximum, sizes are even and few tie
        h, w = h // 2 * 2, w // 2 * 2
    x, weight, bias = problem(np.random.default_rng(h * w), n, c, f, h, w, np.float64)
    with kernels.use(name):
        fast = run(pair, x, weight, bias, padding)
        with kernels.winograd(False):
            direct = run(pair, x, weight, bias, padding)
    assert_close(fast, direct, 1e-11)


@pytest.mark.parametrize("name", SETS)
@given(n=st.integers(1, 5), h=st.integers(4, 19), w=st.integers(4, 35), padding=st.integers(0, 2))
@settings(max_examples=25, deadline=None)
def test_equals_the_direct_sum_in_float32(name, n, h, w, padding):
    """Vectors are twice as long, so other sizes end inside of them."""
    x, weight, bias = problem(np.random.default_rng(h * w), n, 17, 20, h, w, np.float32)
    with kernels.use(name):
        fast = run("conv2d", x, weight, bias, padding)
        with kernels.winograd(False):
            direct = run("conv2d", x, weight, bias, padding)
    assert_close(fast, direct, 2e-6)


@pytest.mark.parametrize("name", SETS)
def test_it_is_really_used(name):
    """Its rounding differs from the direct sum's, so some bit does."""
    x, weight, bias = problem(np.random.default_rng(0), 4, 32, 32, 12, 12, np.float32)
    with kernels.use(name):
        fast = run("conv2d", x, weight, bias, 1)
        with kernels.winograd(False):
            direct = run("conv2d", x, weight, bias, 1)
    assert all((a != b).any() for a, b in zip(fast[:3], direct[:3], strict=True))


@pytest.mark.parametrize("name", SETS)
def test_error_in_float32_is_that_of_the_direct_sum_within_a_small_factor(name):
    x, weight, bias = problem(np.random.default_rng(0), 8, 64, 64, 16, 16, np.float32)
    exact = run("conv2d", *(a.astype(np.float64) for a in (x, weight, bias)), 1)
    dout = np.random.default_rng(0).standard_normal(exact[0].shape).astype(np.float32)
    out, cache = layers.conv2d_forward(x.astype(np.float64), weight.astype(np.float64), padding=1)
    exact = [out, *layers.conv2d_backward(dout.astype(np.float64), cache)[:2]]

    def errors():
        out, cache = layers.conv2d_forward(x, weight, padding=1)
        results = [out, *layers.conv2d_backward(dout, cache)[:2]]
        return [
            np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(results, exact, strict=True)
        ]

    with kernels.use(name):
        fast = errors()
        with kernels.winograd(False):
            direct = errors()
    assert max(fast) < 1e-6
    assert all(a < 8 * b for a, b in zip(fast, direct, strict=True))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20])
def test_what_could_overflow_goes_the_direct_way(name, value):
    x, weight, bias = problem(np.random.default_rng(0), 2, 16, 16, 8, 8, np.float32)
    x[1, 3, 4, 5] = value
    with kernels.use(name), np.errstate(all="ignore"):
        fast = run("conv2d", x, weight, bias, 1)
        with kernels.winograd(False):
            direct = run("conv2d", x, weight, bias, 1)
    for a, b in zip(fast, direct, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", SETS)
def test_threads_change_no_bit(name):
    x, weight, bias = problem(np.random.default_rng(0), 9, 17, 18, 9, 11, np.float32)
    results = []
    with kernels.use(name):
        for threads in (1, 2, 5):
            with kernels.limited_threads(threads):
                results.append(run("conv2d", x, weight, bias, 1))
    for other in results[1:]:
        assert all((a == b).all() for a, b in zip(results[0], other, strict=True))


def test_the_setting_is_restored():
    with kernels.winograd(False):
        assert not kernels.winograd_allowed()
    assert kernels.winograd_allowed()
