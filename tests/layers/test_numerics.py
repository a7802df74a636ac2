"""Where layers are usually wrong: kinks, ties, huge values, NaN, float32 sums, blocks, threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from chainrule import kernels
from chainrule.layers import PAIRS, convolution, pair

both = pytest.mark.parametrize(
    "implementation", ["reference", "numpy", *kernels.instruction_sets()], indirect=True
)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
ACTIVATIONS = [
    ("relu", {}),
    ("leaky_relu", {}),
    ("sigmoid", {}),
    ("tanh", {}),
    ("gelu", {"approximate": "none"}),
    ("gelu", {"approximate": "tanh"}),
    ("silu", {}),
]


# --- kinks and ties -------------------------------------------------------------------------


@both
@pytest.mark.parametrize(("name", "at_zero"), [("relu", 0.0), ("leaky_relu", 0.01)])
def test_rectifiers_take_the_left_derivative_at_zero(
    implementation: str, name: str, at_zero: float
) -> None:
    forward, backward = pair(name, implementation)
    _, cache = forward(np.array([0.0, -0.0]))
    np.testing.assert_array_equal(backward(np.ones(2), cache), [at_zero, at_zero])


@both
def test_hinge_on_the_margin_has_no_gradient(implementation: str) -> None:
    forward, backward = pair("multiclass_hinge", implementation)
    loss, cache = forward(np.array([[2.0, 1.0, 1.5]]), np.array([0]))
    assert loss == 0.5
    np.testing.assert_array_equal(backward(cache), [[-1.0, 0.0, 1.0]])


@both
@pytest.mark.parametrize("ties", [[[1, 5], [5, 5]], [[5, 5], [5, 5]], [[1, 2], [5, 5]]])
def test_ties_in_a_window_go_to_the_first_in_row_major_order(
    implementation: str, ties: list[list[int]]
) -> None:
    forward, backward = pair("max_pool2d", implementation)
    x = np.array(ties, dtype=np.float64).reshape(1, 1, 2, 2)
    _, cache = forward(x, 2)
    expected = np.zeros(4)
    expected[x.ravel().tolist().index(5)] = 3.0
    np.testing.assert_array_equal(backward(np.full((1, 1, 1, 1), 3.0), cache).ravel(), expected)


@both
def test_overlapping_windows_add_up_at_a_shared_maximum(implementation: str) -> None:
    forward, backward = pair("max_pool2d", implementation)
    x = np.array([[[[1.0, 9.0, 2.0]]]])
    _, cache = forward(x, (1, 2), stride=1)
    dx = backward(np.array([[[[10.0, 1.0]]]]), cache)
    np.testing.assert_array_equal(dx, [[[[0.0, 11.0, 0.0]]]])


@both
def test_a_window_of_more_than_256_elements(implementation: str) -> None:
    """The position of the maximum no longer fits in one byte."""
    forward, backward = pair("max_pool2d", implementation)
    x = np.arange(400.0).reshape(1, 1, 20, 20)
    out, cache = forward(x, 20)
    assert out.item() == 399
    dx = backward(np.ones((1, 1, 1, 1)), cache)
    assert dx[0, 0, 19, 19] == 1
    assert dx.sum() == 1


# --- huge values, NaN and infinity ----------------------------------------------------------


@both
@both_dtypes
@pytest.mark.parametrize(("name", "options"), ACTIVATIONS)
def test_activations_of_huge_values(
    name: str, options: dict[str, Any], implementation: str, dtype: Any
) -> None:
    """Floating-point errors raise here, and the limits are exact."""
    forward, backward = pair(name, implementation)
    x = np.array([-1e4, -200, -90, 90, 200, 1e4], dtype=dtype)
    low, high = (-1, 1) if name == "tanh" else (0, 1)
    out_right = np.ones(3) if name in ("sigmoid", "tanh") else x[3:]
    left = 0.01 if name == "leaky_relu" else 0
    out_left = 0.01 * x[:3] if name == "leaky_relu" else np.full(3, float(low))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        out, cache = forward(x, **options)
        dx = backward(np.ones_like(x), cache)
    np.testing.assert_allclose(out, [*out_left, *out_right], rtol=1e-6, atol=1e-30)
    slope_right = 0 if name in ("sigmoid", "tanh") else high
    np.testing.assert_allclose(dx, [left] * 3 + [slope_right] * 3, rtol=1e-6, atol=1e-30)


def test_small_probabilities_keep_their_precision() -> None:
    x = np.array([-80.0, -40.0])
    np.testing.assert_allclose(pair("sigmoid")[0](x)[0], np.exp(x), rtol=1e-14)
    out, _ = pair("gelu")[0](np.array([-10.0]))
    np.testing.assert_allclose(out, [-10 * 7.619853024160527e-24], rtol=1e-12)  # R: pnorm(-10)


@both
@both_dtypes
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_scores_of_ten_thousand(
    implementation: str, dtype: Any, smoothing: float
) -> None:
    forward, backward = pair("cross_entropy", implementation)
    scores = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 1e4]], dtype=dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        loss, cache = forward(scores, np.array([1, 2]), label_smoothing=smoothing)
        dscores = backward(cache)
    chosen = (2e4 + np.log(2)) / 2
    uniform = ((0 + 2e4 + 1e4) / 3 + (2e4 + 3 * np.log(2)) / 3) / 2
    np.testing.assert_allclose(loss, (1 - smoothing) * chosen + smoothing * uniform, rtol=1e-6)
    target = smoothing / 3 + (1 - smoothing) * np.array([[0, 1, 0], [0, 0, 1]])
    expected = (np.array([[1, 0, 0], [0, 0.5, 0.5]]) - target) / 2
    np.testing.assert_allclose(dscores, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("implementation", ["numpy", *kernels.instruction_sets()], indirect=True)
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *ACTIVATIONS,
        ("max_pool2d", {"kernel_size": 2}),
        ("max_pool2d", {"kernel_size": 3, "stride": 1, "padding": 1}),
        ("avg_pool2d", {"kernel_size": 2}),
        ("global_avg_pool2d", {}),
        ("conv2d", {"weight": np.ones((2, 3, 2, 2))}),
        ("conv_relu_pool", {"weight": np.ones((2, 3, 1, 1))}),
        ("layer_norm", {"weight": np.ones(4), "bias": np.ones(4)}),
    ],
)
def test_special_values_spread_as_in_the_reference(
    name: str, options: dict[str, Any], special: float, implementation: str
) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4))
    x[0, 1, 1, 2] = special
    entry = PAIRS[name]
    forward, backward = pair(name, implementation)
    with np.errstate(invalid="ignore"):
        plain, plain_cache = entry.reference_forward(x, **options)
        fast, fast_cache = forward(x, **options)
        np.testing.assert_allclose(fast, plain, rtol=1e-12)
        if np.isnan(special) and not name.startswith("conv_relu"):
            assert np.isnan(plain).any()
        if name == "max_pool2d":  # the gradient of a window goes to its NaN
            dout = np.ones_like(plain)
            plain_dx = entry.reference_backward(dout, plain_cache)
            np.testing.assert_array_equal(backward(dout, fast_cache), plain_dx)


# --- float32 sums ---------------------------------------------------------------------------


def test_batch_norm_of_a_large_mean_in_float32() -> None:
    """Mean 1000, deviation 1: E[x^2] - E[x]^2 in float32 would leave no digit of the variance."""
    x = (1000 + np.random.default_rng(0).standard_normal((64, 3, 32, 32))).astype(np.float32)
    ones, zeros = np.ones(3, dtype=np.float32), np.zeros(3, dtype=np.float32)
    out, _, (mean, var) = pair("batch_norm")[0](x, ones, zeros, zeros, ones, momentum=1.0)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=2e-7)
    np.testing.assert_allclose(var, exact.var(axis=(0, 2, 3), ddof=1), rtol=1e-5)
    np.testing.assert_allclose(out.astype(np.float64).mean(axis=(0, 2, 3)), 0, atol=1e-4)


@pytest.mark.parametrize("implementation", ["numpy", *kernels.instruction_sets()], indirect=True)
@pytest.mark.parametrize("name", ["linear", "conv2d", "batch_norm"])
def test_bias_gradients_of_large_batches_in_float32(name: str, implementation: str) -> None:
    """60,000 equal values of 0.1: adding them one by one in float32 is off in the third digit."""
    value = np.float32(0.1)
    x, dout = np.ones((60_000, 1), dtype=np.float32), np.full((60_000, 1), value)
    one = np.ones(1, dtype=np.float32)
    if name == "linear":
        _, cache = pair(name, implementation)[0](x, one[None], one)
    elif name == "conv2d":
        x, dout = x[:, :, None, None], dout[:, :, None, None]
        _, cache = pair(name, implementation)[0](x, one.reshape(1, 1, 1, 1), one)
    else:
        _, cache, _ = pair(name, implementation)[0](x, one, one, one, one)
    dbias = pair(name, implementation)[1](dout, cache)[2]
    np.testing.assert_allclose(dbias, 60_000 * np.float64(value), rtol=1e-7)


# --- blocks and threads ---------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("block_examples", [1, 2, 3, 7])
def test_blocks_of_a_convolution_fit_together(
    monkeypatch: pytest.MonkeyPatch, groups: int, block_examples: int
) -> None:
    rng = np.random.default_rng(0)
    x, bias = rng.standard_normal((7, 6, 5, 4)), rng.standard_normal(3)
    weight = rng.standard_normal((3, 6 // groups, 3, 2))
    options = {"padding": 1, "stride": (2, 1), "groups": groups}
    entry = PAIRS["conv2d"]
    plain, plain_cache = entry.reference_forward(x, weight, bias, **options)
    column_bytes = 6 * 3 * 2 * plain.shape[2] * plain.shape[3] * 8
    monkeypatch.setattr(convolution, "_BLOCK_BYTES", block_examples * column_bytes + 8)
    fast, fast_cache = entry.numpy_forward(x, weight, bias, **options)
    np.testing.assert_allclose(fast, plain, rtol=1e-12, atol=1e-12)
    dout = rng.standard_normal(plain.shape)
    gradients = entry.numpy_backward(dout, fast_cache), entry.reference_backward(dout, plain_cache)
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@both_dtypes
@pytest.mark.parametrize(
    ("name", "shapes", "options"),
    [
        ("conv2d", ((20, 3, 32, 32), (32, 3, 5, 5), (32,)), {"padding": 2}),
        ("conv2d", ((20, 32, 16, 16), (32, 1, 3, 3), (32,)), {"padding": 1, "groups": 32}),
        ("layer_norm", ((50, 3072), (3072,), (3072,)), {}),
        ("linear", ((70, 3001), (29, 3001), (29,)), {}),
        ("linear_relu", ((140, 1030), (10, 1030), (10,)), {}),
    ],
)
@pytest.mark.parametrize("implementation", ["numpy", *kernels.instruction_sets()], indirect=True)
def test_results_do_not_depend_on_the_number_of_threads(
    name: str,
    shapes: tuple[tuple[int, ...], ...],
    options: dict[str, Any],
    dtype: Any,
    implementation: str,
) -> None:
    """Blocks are cut by shape alone. (In linear on NumPy, BLAS decides; its Notes say so.)"""
    if name.startswith("linear") and implementation == "numpy":
        pytest.skip("BLAS decides")
    forward, backward = pair(name, implementation)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads), kernels.limited_threads(threads):
            out, cache = forward(*arrays, **options)
            dout = np.random.default_rng(1).standard_normal(out.shape).astype(dtype)
            results.append((out, *backward(dout, cache)))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
