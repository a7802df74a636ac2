"""Linear layers on compiled kernels: exact sums, whatever the sizes, layouts and threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule import kernels, layers
from chainrule.layers import reference

SETS = kernels.instruction_sets()
pytestmark = pytest.mark.skipif(not SETS, reason="no compiled kernels are installed")

# Tiles are 3 x 4 or 4 x 6 outputs and 6 or 13 rows; stretches and panels 512 and 1024 columns, and
# 128 deep; units of work 64 examples.
examples = st.integers(0, 6) | st.sampled_from([13, 14, 63, 64, 65, 127, 129, 150, 300])
inputs = st.integers(0, 70) | st.sampled_from([127, 128, 129, 500, 511, 513, 1023, 1025, 2100])
outputs = st.integers(0, 30) | st.sampled_from([48, 95, 97, 127, 129, 131, 260])
dtypes = st.sampled_from(["float32", "float64"])


def problem(n, d, f, dtype, seed=0):
    """Whole numbers, whose sums are exact in any order."""
    rng = np.random.default_rng(seed)
    x, weight, bias = (rng.integers(-4, 5, shape) for shape in ((n, d), (f, d), (f,)))
    dout = rng.integers(-4, 5, (n, f))
    return [each.astype(dtype) for each in (x, weight, bias, dout)]


def run(pair, x, weight, bias, dout, **options):
    forward, backward = layers.pair(pair)
    out, cache = forward(x, weight, bias)
    return [out, *backward(dout, cache, **options)]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("pair", ["linear", "linear_relu"])
@given(n=examples, d=inputs, f=outputs, dtype=dtypes, threads=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_equals_products_of_integers(name, pair, n, d, f, dtype, threads):
    arrays = problem(n, d, f, dtype)
    with kernels.use(name), kernels.limited_threads(threads):
        ours = run(pair, *arrays)
    x, weight, bias, dout = (each.astype(np.int64) for each in arrays)
    out = x @ weight.T + bias
    if pair == "linear_relu":
        dout = np.where(out > 0, dout, 0)
        out = np.maximum(out, 0)
    for got, expected in zip(ours, [out, dout @ weight, dout.T @ x, dout.sum(0)], strict=True):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layout_bias_and_what_is_skipped(name, dtype):
    x, weight, bias, dout = problem(50, 77, 19, dtype)
    with kernels.use(name):
        out, dx, dweight, dbias = run("linear", x, weight, bias, dout)
        bytes_ = np.zeros(x.nbytes + 1, np.uint8)
        unaligned = bytes_[1:].view(dtype).reshape(x.shape)
        unaligned[...] = x
        for other in (np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2], unaligned):
            again = run("linear", other, np.asfortranarray(weight), bias, dout.T.copy().T)
            for a, b in zip(again, [out, dx, dweight, dbias], strict=True):
                np.testing.assert_array_equal(a, b)
        bare, skipped, same, none = run("linear", x, weight, None, dout, need_dx=False)
    np.testing.assert_array_equal(bare, out - bias)
    np.testing.assert_array_equal(same, dweight)
    assert skipped is None
    assert none is None


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pair", ["linear", "linear_relu"])
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_goes_where_it_goes_in_the_reference(name, dtype, pair, special):
    x, weight, bias, dout = problem(20, 600, 15, dtype, seed=1)
    x[17, 599] = weight[3, 512] = special
    with kernels.use(name), np.errstate(invalid="ignore"):
        ours = run(pair, x, weight, bias, dout)
        out, cache = getattr(reference, f"{pair}_forward")(x, weight, bias)
        theirs = [out, *getattr(reference, f"{pair}_backward")(dout, cache)]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not all(np.isfinite(each).all() for each in ours)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounding_is_that_of_a_good_sum(name, dtype):
    """Against extended precision, relative to what the sum of magnitudes allows."""
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal(s).astype(dtype) for s in ((300, 4000), (40, 4000), (40,))]
    dout = rng.standard_normal((300, 40)).astype(dtype)
    with kernels.use(name):
        ours = run("linear", *arrays, dout)
    x, weight, bias = (each.astype(np.longdouble) for each in arrays)
    dout = dout.astype(np.longdouble)
    exact = [x @ weight.T + bias, dout @ weight, dout.T @ x, dout.sum(0)]
    x, weight, dout = abs(x), abs(weight), abs(dout)
    sizes = [x @ weight.T, dout @ weight, dout.T @ x, dout.sum(0)]
    for got, right, size in zip(ours, exact, sizes, strict=True):
        assert float(np.max(abs(got - right) / size)) < 8 * np.finfo(dtype).eps
