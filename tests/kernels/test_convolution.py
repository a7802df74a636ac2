"""Compiled convolutions against NumPy's and the reference: shapes, layouts, special values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from chainrule import kernels, layers
from chainrule.errors import DTypeError, InputError, ShapeError

SETS = kernels.instruction_sets()
pytestmark = pytest.mark.skipif(not SETS, reason="no compiled kernels are installed")

on_each_set = pytest.mark.parametrize("implementation", SETS, indirect=True)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every_pair = pytest.mark.parametrize("name", ["conv2d", "conv_relu", "conv_relu_pool"])

Arguments = dict[str, Any]


def examples(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],  # the same for all examples
    )


@st.composite
def arguments(draw: Any, dtype: type) -> Arguments:
    """Larger than in the contract, so that tiles of every width end inside rows and filters."""
    one = st.integers(1, 5)
    kernel = draw(one), draw(one)
    stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    padding = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    extent = [
        max(1, k - 2 * p) + draw(st.integers(0, 40)) for k, p in zip(kernel, padding, strict=True)
    ]
    num_images, channels, filters = draw(st.integers(0, 20)), draw(one), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return {
        "x": rng.standard_normal((num_images, channels, *extent)).astype(dtype),
        "weight": rng.standard_normal((filters, channels, *kernel)).astype(dtype),
        "bias": rng.standard_normal(filters).astype(dtype) if draw(st.booleans()) else None,
        "stride": stride,
        "padding": padding,
    }


def run(name: str, implementation: str, given_: Arguments, dout: Any = None) -> list[Any]:
    """Output and gradients; without dout, a random one."""
    forward, backward = layers.pair(name, implementation)
    out, cache = forward(**given_)
    if dout is None:
        dout = np.random.default_rng(1).standard_normal(out.shape).astype(out.dtype)
    return [out, *backward(dout, cache)]


def assert_same(actual: list[Any], desired: list[Any], tolerance: float) -> None:
    for one, other in zip(actual, desired, strict=True):
        if other is None:
            assert one is None
            continue
        assert one.dtype == other.dtype
        finite = np.abs(other[np.isfinite(other)])
        scale = max(1.0, float(finite.max(initial=0.0)))
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * scale)


def is_compiled(name: str, given_: Arguments) -> bool:
    compiled, plain = (layers.pair(name, which)[0](**given_)[1] for which in ("fast", "numpy"))
    return type(compiled) is not type(plain)


def fits(name: str, given_: Arguments) -> bool:
    """Whether a 2 x 2 window fits in the convolution."""
    shape = layers.pair("conv2d", "numpy")[0](**given_)[0].shape
    return name != "conv_relu_pool" or min(shape[2:]) >= 2


@every_pair
@on_each_set
@both_dtypes
@examples(40)
@given(data=st.data())
def test_equals_numpy(name: str, implementation: str, dtype: type, data: Any) -> None:
    drawn = data.draw(arguments(dtype))
    assume(fits(name, drawn))
    assert is_compiled(name, drawn)
    tolerance = 1e-12 if dtype == np.float64 else 4e-5
    plain = run(name, "numpy", drawn)
    # Where rounding could move a maximum or cross zero, gradients go elsewhere: compare in float64.
    if dtype == np.float32 and name != "conv2d":
        assert_same(run(name, implementation, drawn)[:1], plain[:1], tolerance)
    else:
        assert_same(run(name, implementation, drawn), plain, tolerance)


@every_pair
@on_each_set
@examples(15)
@given(data=st.data())
def test_float32_follows_float64(name: str, implementation: str, data: Any) -> None:
    """Small integers are exact in both, so that also ReLU and pooling decide alike."""
    drawn = data.draw(arguments(np.float64))
    assume(fits(name, drawn))
    for key in ("x", "weight", "bias"):
        if drawn[key] is not None:
            drawn[key] = np.rint(2 * drawn[key])
    single = {k: v.astype(np.float32) if isinstance(v, np.ndarray) else v for k, v in drawn.items()}
    out = layers.pair(name, "numpy")[0](**drawn)[0]
    dout = np.rint(3 * np.random.default_rng(2).standard_normal(out.shape))
    expected = run(name, "numpy", drawn, dout)
    for one, other in zip(
        run(name, implementation, single, dout.astype(np.float32)), expected, strict=True
    ):
        np.testing.assert_array_equal(one, other)


# --- layouts --------------------------------------------------------------------------------


def unaligned(array: np.ndarray) -> np.ndarray:
    """The same values one byte off their alignment."""
    memory = np.zeros(array.nbytes + 1, dtype=np.uint8)
    off = memory[1:].view(array.dtype).reshape(array.shape)
    off[...] = array
    assert not off.flags.aligned
    return off


def scattered(array: np.ndarray) -> np.ndarray:
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), dtype=array.dtype, order="F")
    strided = wide[..., ::2][::-1]
    strided[...] = array
    return strided


def reading(array: np.ndarray) -> np.ndarray:
    fixed = array.copy()
    fixed.flags.writeable = False
    return fixed


@every_pair
@on_each_set
@both_dtypes
@pytest.mark.parametrize("layout", [unaligned, scattered, reading])
def test_layout_changes_no_bit(name: str, implementation: str, dtype: type, layout: Any) -> None:
    rng = np.random.default_rng(0)
    shapes = {"x": (3, 4, 11, 9), "weight": (7, 4, 3, 2), "bias": (7,)}
    arrays = {key: rng.standard_normal(shape).astype(dtype) for key, shape in shapes.items()}
    forward, backward = layers.pair(name, implementation)
    out, cache = forward(**arrays, padding=1)
    dout = rng.standard_normal(out.shape).astype(dtype)
    again, again_cache = forward(**{key: layout(a) for key, a in arrays.items()}, padding=1)
    np.testing.assert_array_equal(again, out)
    for one, other in zip(backward(layout(dout), again_cache), backward(dout, cache), strict=True):
        np.testing.assert_array_equal(one, other)


# --- special values -------------------------------------------------------------------------


@every_pair
@on_each_set
@both_dtypes
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["x", "weight", "bias", "dout"])
@pytest.mark.parametrize("stride", [1, 2])
def test_special_values_spread_as_in_the_reference(
    name: str, implementation: str, dtype: type, special: float, where: str, stride: int
) -> None:
    rng = np.random.default_rng(3)
    shapes = {"x": (2, 3, 7, 8), "weight": (5, 3, 3, 3), "bias": (5,)}
    arrays = {key: rng.standard_normal(shape).astype(dtype) for key, shape in shapes.items()}
    drawn = {**arrays, "stride": stride, "padding": 1}
    out = layers.pair(name, "numpy")[0](**drawn)[0]
    dout = rng.standard_normal(out.shape).astype(dtype)
    target = dout if where == "dout" else arrays[where]
    target[(1,) * target.ndim] = special
    target.flat[0] = special
    with np.errstate(invalid="ignore"):
        actual = run(name, implementation, drawn, dout)
        assert_same(actual, run(name, "reference", drawn, dout), 2e-5)
        assert is_compiled(name, drawn)


@on_each_set
@both_dtypes
@pytest.mark.parametrize(
    ("window", "winner"),
    [
        ([1, 5, 5, 5], 1),
        ([5, 5, 5, 5], 0),
        ([1, 2, 5, 5], 2),
        ([0, 0, 0, 0], None),
        ([-1, -0.0, 0, -2], None),
        ([-1, -2, -3, -1], None),
        ([1, np.nan, 2, np.nan], None),
        ([np.inf, 1, np.inf, 1], 0),
        ([-np.inf, 1, 1, -np.inf], 1),
    ],
)
def test_the_gradient_goes_to_the_first_maximum_above_zero(
    implementation: str, dtype: type, window: list[float], winner: int | None
) -> None:
    """In each of 70 windows side by side: all lanes of a vector, and what is left over."""
    forward, backward = layers.pair("conv_relu_pool", implementation)
    x = np.tile(np.array(window, dtype=dtype).reshape(2, 2), (2, 35))[None, None]
    out, cache = forward(x, np.ones((1, 1, 1, 1), dtype))
    expected = np.zeros(4)
    if winner is not None:
        expected[winner] = 3
    top = np.nan if np.isnan(window).any() else max(*window, 0)
    np.testing.assert_array_equal(out, np.full((1, 1, 2, 35), top))
    dx = backward(np.full_like(out, 3), cache)[0]
    np.testing.assert_array_equal(dx[0, 0], np.tile(expected.reshape(2, 2), (2, 35)))


# --- what is not covered --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("conv2d", {"groups": 2}),
        ("conv_relu", {"groups": 2}),
        ("conv_relu_pool", {"groups": 2}),
        ("conv2d", {"stride": (5, 13)}),
        ("conv_relu", {"stride": (5, 13)}),
        ("conv_relu_pool", {"stride": (5, 13)}),
        ("conv_relu_pool", {"pool_kernel_size": 3}),
        ("conv_relu_pool", {"pool_stride": 1}),
        ("conv_relu_pool", {"pool_kernel_size": (2, 1), "pool_stride": 2}),
    ],
)
def test_the_rest_is_left_to_numpy(name: str, options: Arguments) -> None:
    rng = np.random.default_rng(0)
    groups = options.get("groups", 1)
    given_ = {
        "x": rng.standard_normal((2, 4, 30, 41)),
        "weight": rng.standard_normal((6, 4 // groups, 3, 3)),
        **options,
    }
    assert not is_compiled(name, given_)
    assert_same(run(name, "fast", given_), run(name, "numpy", given_), 1e-12)


@pytest.mark.parametrize("options", [{}, {"pool_kernel_size": (2, 2)}, {"pool_stride": 2}])
def test_pooling_is_fused_however_its_window_is_given(options: Arguments) -> None:
    x, weight = np.ones((1, 1, 6, 6)), np.ones((1, 1, 3, 3))
    assert is_compiled("conv_relu_pool", {"x": x, "weight": weight, **options})


X, W = np.ones((2, 3, 6, 6)), np.ones((4, 3, 3, 3))


@every_pair
@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"x": X.tolist()}, DTypeError),
        ({"x": X.astype(np.float16)}, DTypeError),
        ({"x": X.astype(">f8")}, DTypeError),
        ({"weight": W.astype(np.float32)}, DTypeError),
        ({"bias": np.ones(4, np.float32)}, DTypeError),
        ({"x": X[0]}, ShapeError),
        ({"weight": W[:, :2]}, ShapeError),
        ({"bias": np.ones(5)}, ShapeError),
        ({"weight": np.ones((4, 3, 7, 3))}, ShapeError),
        ({"stride": 0}, InputError),
        ({"padding": -1}, InputError),
        ({"groups": True}, DTypeError),
        ({"groups": 2}, InputError),
    ],
)
def test_refusals_are_numpys(name: str, changed: Arguments, error: type[Exception]) -> None:
    given_ = {"x": X, "weight": W, **changed}
    with pytest.raises(error, match=r"^conv2d_forward: ") as ours:
        layers.pair(name)[0](**given_)
    with pytest.raises(error, match=r"^conv2d_forward: ") as plain:
        layers.pair(name, "numpy")[0](**given_)
    assert str(ours.value) == str(plain.value)


@pytest.mark.parametrize(
    "changed",
    [{"pool_kernel_size": 0}, {"pool_kernel_size": 9}, {"pool_stride": 0}, {"pool_stride": 1.5}],
)
def test_refusals_of_pooling_are_numpys(changed: Arguments) -> None:
    messages = []
    for which in ("fast", "numpy"):
        with pytest.raises((InputError, DTypeError), match=r"^max_pool2d_forward: ") as caught:
            layers.pair("conv_relu_pool", which)[0](X, W, **changed)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
