"""One suite that every layer passes: each pair registers a generator of cases once, below."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainrule import kernels
from chainrule.errors import DTypeError, ShapeError
from chainrule.gradcheck import numeric_gradient
from chainrule.layers import PAIRS, pair, reference

Rng = np.random.Generator
LOSSES = ("cross_entropy", "multiclass_hinge")  # their backward takes (cache, dloss)
MAY_BE_VIEWS = ("flatten",)
KEEP_OUT = ("conv_relu", "linear_relu")  # their caches may refer to the output


@dataclass(frozen=True)
class Case:
    """Arguments of one forward: what backward differentiates by, in its order, and the rest."""

    arrays: dict[str, np.ndarray | None]
    others: dict[str, Any] = field(default_factory=dict)  # "rng" holds a seed


CASES: dict[str, Callable[..., st.SearchStrategy[Case]]] = {}


def register(name: str) -> Callable[[Callable[..., Case]], Callable[..., Case]]:
    """Make a function (draw, rng) -> Case the generator of the cases of a pair."""

    def keep(make: Callable[..., Case]) -> Callable[..., Case]:
        seeds = st.integers(0, 2**32 - 1)
        CASES[name] = st.composite(lambda draw: make(draw, np.random.default_rng(draw(seeds))))
        return make

    return keep


# --- generators of arguments ----------------------------------------------------------------


def shapes(draw: Any, low: int, high: int) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.integers(1, 4), min_size=low, max_size=high)))


def off_zero(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """Values at least 0.05 away from the kink of a rectifier."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.05, 2.0, shape)


def all_different(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """Values 0.1 apart, so that no maximum is shared."""
    return 0.1 * rng.permutation(
        float(np.prod(shape)) * np.linspace(-0.5, 0.5, int(np.prod(shape)))
    ).reshape(shape)


def int_or_pair(draw: Any, low: int, high: int) -> int | tuple[int, int]:
    one = st.integers(low, high)
    return draw(one | st.tuples(one, one))


def as_pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def linear_arrays(draw: Any, rng: Rng) -> dict[str, np.ndarray | None]:
    n, d, f = (draw(st.integers(1, 4)) for _ in range(3))
    bias = rng.standard_normal(f) if draw(st.booleans()) else None
    return {"x": rng.standard_normal((n, d)), "weight": rng.standard_normal((f, d)), "bias": bias}


def conv_case(draw: Any, rng: Rng, min_batch: int = 1, max_extent: int = 3) -> Case:
    groups = draw(st.integers(1, 3))
    group_channels, group_filters = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = int_or_pair(draw, 0, 2)
    extent = [
        max(1, k - 2 * p) + draw(st.integers(0, max_extent))
        for k, p in zip(kernel, as_pair(padding), strict=True)
    ]
    n, filters = draw(st.integers(min_batch, 3)), groups * group_filters
    arrays = {
        "x": rng.standard_normal((n, groups * group_channels, *extent)),
        "weight": rng.standard_normal((filters, group_channels, *kernel)),
        "bias": rng.standard_normal(filters) if draw(st.booleans()) else None,
    }
    return Case(arrays, {"stride": int_or_pair(draw, 1, 3), "padding": padding, "groups": groups})


def pool_case(draw: Any, rng: Rng) -> Case:
    kernel_size = int_or_pair(draw, 1, 3)
    kernel = as_pair(kernel_size)
    padding = (draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2)))
    extent = [
        max(1, k - 2 * p) + draw(st.integers(0, 4)) for k, p in zip(kernel, padding, strict=True)
    ]
    stride = draw(st.none()) if draw(st.booleans()) else int_or_pair(draw, 1, 3)
    x = all_different(rng, (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *extent))
    return Case({"x": x}, {"kernel_size": kernel_size, "stride": stride, "padding": padding})


def norm_vectors(rng: Rng, shape: int | tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"weight": rng.uniform(0.5, 2.0, shape), "bias": rng.standard_normal(shape)}


def redraw_near_kinks(make: Callable[[], Case], *hidden: Callable[[Case], np.ndarray]) -> Case:
    """Draw until what enters the rectifier is far from 0 compared with a finite difference."""
    while True:
        case = make()
        if all(np.abs(values(case)).min() > 1e-3 for values in hidden):
            return case


# --- the register ---------------------------------------------------------------------------


@register("linear")
def _(draw: Any, rng: Rng) -> Case:
    return Case(linear_arrays(draw, rng))


@register("flatten")
def _(draw: Any, rng: Rng) -> Case:
    return Case({"x": rng.standard_normal(shapes(draw, 1, 4))})


@register("relu")
def _(draw: Any, rng: Rng) -> Case:
    return Case({"x": off_zero(rng, shapes(draw, 1, 4))})


@register("leaky_relu")
def _(draw: Any, rng: Rng) -> Case:
    slope = draw(st.sampled_from([0.01, 0.3, -0.5]))
    return Case({"x": off_zero(rng, shapes(draw, 1, 4))}, {"negative_slope": slope})


@register("sigmoid")
@register("tanh")
@register("silu")
def _(draw: Any, rng: Rng) -> Case:
    return Case({"x": 2 * rng.standard_normal(shapes(draw, 1, 4))})


@register("gelu")
def _(draw: Any, rng: Rng) -> Case:
    approximate = draw(st.sampled_from(["none", "tanh"]))
    return Case({"x": 2 * rng.standard_normal(shapes(draw, 1, 4))}, {"approximate": approximate})


@register("cross_entropy")
def _(draw: Any, rng: Rng) -> Case:
    n, c = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    smoothing = draw(st.sampled_from([0.0, 0.1, 1.0]))
    others = {"y": rng.integers(c, size=n), "label_smoothing": smoothing}
    return Case({"scores": 3 * rng.standard_normal((n, c))}, others)


@register("multiclass_hinge")
def _(draw: Any, rng: Rng) -> Case:
    n, c = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    scores = 0.3 * rng.permuted(np.tile(np.arange(float(c)), (n, 1)), axis=1)
    margin = draw(st.sampled_from([0.5, 1.0, 2.0]))  # never a difference of two scores
    return Case({"scores": scores}, {"y": rng.integers(c, size=n), "margin": margin})


@register("conv2d")
def _(draw: Any, rng: Rng) -> Case:
    return conv_case(draw, rng)


@register("max_pool2d")
@register("avg_pool2d")
def _(draw: Any, rng: Rng) -> Case:
    return pool_case(draw, rng)


@register("global_avg_pool2d")
def _(draw: Any, rng: Rng) -> Case:
    return Case({"x": rng.standard_normal(shapes(draw, 4, 4))})


@register("batch_norm")
def _(draw: Any, rng: Rng) -> Case:
    channels = draw(st.integers(1, 3))
    spatial = draw(st.sampled_from([(), (2, 3)]))
    x = 3 + rng.standard_normal((draw(st.integers(4, 6)), channels, *spatial))
    others = {
        "running_mean": rng.standard_normal(channels),
        "running_var": rng.uniform(0.5, 2.0, channels),
        "training": draw(st.booleans()),
        "momentum": draw(st.sampled_from([0.0, 0.1, 1.0])),
        "eps": draw(st.sampled_from([1e-5, 1e-3])),
    }
    return Case({"x": x, **norm_vectors(rng, channels)}, others)


@register("layer_norm")
def _(draw: Any, rng: Rng) -> Case:
    trailing = (draw(st.integers(4, 6)), *shapes(draw, 0, 2))
    x = 3 + rng.standard_normal((*shapes(draw, 1, 2), *trailing))
    return Case({"x": x, **norm_vectors(rng, trailing)}, {"eps": 1e-5})


@register("group_norm")
def _(draw: Any, rng: Rng) -> Case:
    num_groups, group_channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    channels = num_groups * group_channels
    x = 3 + rng.standard_normal((draw(st.integers(1, 3)), channels, 4, *shapes(draw, 0, 1)))
    return Case({"x": x, **norm_vectors(rng, channels)}, {"num_groups": num_groups})


@register("dropout")
def _(draw: Any, rng: Rng) -> Case:
    x = rng.standard_normal(shapes(draw, 1, 4))
    p = draw(st.sampled_from([0.0, 0.3, 1.0]))
    return Case({"x": x}, {"p": p, "training": draw(st.booleans()), "rng": int(rng.integers(99))})


@register("linear_relu")
def _(draw: Any, rng: Rng) -> Case:
    return redraw_near_kinks(
        lambda: Case(linear_arrays(draw, rng)),
        lambda case: reference.linear_forward(**case.arrays)[0],
    )


def convolved(case: Case) -> np.ndarray:
    others = {key: case.others[key] for key in ("stride", "padding", "groups")}
    first = {key: case.arrays[key] for key in ("x", "weight", "bias")}
    return reference.conv2d_forward(**first, **others)[0]


@register("conv_relu")
def _(draw: Any, rng: Rng) -> Case:
    return redraw_near_kinks(lambda: conv_case(draw, rng), convolved)


@register("conv_relu_pool")
def _(draw: Any, rng: Rng) -> Case:
    def make() -> Case:
        case = conv_case(draw, rng)
        out_height, out_width = convolved(case).shape[2:]
        size = (draw(st.integers(1, min(2, out_height))), draw(st.integers(1, min(2, out_width))))
        stride = draw(st.none()) if draw(st.booleans()) else int_or_pair(draw, 1, 2)
        return Case(case.arrays, {**case.others, "pool_kernel_size": size, "pool_stride": stride})

    def spacing(case: Case) -> np.ndarray:
        return np.diff(np.sort(convolved(case), axis=None), prepend=-np.inf)

    return redraw_near_kinks(make, convolved, lambda case: 100 * spacing(case))


@register("conv_bn_relu")
def _(draw: Any, rng: Rng) -> Case:
    training = draw(st.booleans())

    def make() -> Case:
        case = conv_case(draw, rng, min_batch=3, max_extent=1)
        filters = len(case.arrays["weight"])
        vectors = norm_vectors(rng, filters)
        arrays = {**case.arrays, "bn_weight": vectors["weight"], "bn_bias": vectors["bias"]}
        others = {
            **case.others,
            "running_mean": rng.standard_normal(filters),
            "running_var": rng.uniform(0.5, 2.0, filters),
            "training": training,
            "eps": 0.1,  # keeps channels with little variance smooth enough for differences
        }
        return Case(arrays, others)

    def normalised(case: Case) -> np.ndarray:
        statistics = ("running_mean", "running_var", "training", "eps")
        chosen = {key: case.others[key] for key in statistics}
        bn = {"weight": case.arrays["bn_weight"], "bias": case.arrays["bn_bias"]}
        return reference.batch_norm_forward(convolved(case), **bn, **chosen)[0]

    return redraw_near_kinks(make, normalised)


# --- running a case -------------------------------------------------------------------------


def prepared(case: Case, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
    """Keyword arguments of a forward, floating arrays changed, all of them read-only."""
    arguments: dict[str, Any] = {}
    for key, value in {**case.arrays, **case.others}.items():
        if isinstance(value, np.ndarray):
            value = change(value) if value.dtype == np.float64 else value.copy()
            value.flags.writeable = False
        arguments[key] = value
    return arguments


def forward(name: str, implementation: str, arguments: dict[str, Any]) -> tuple[Any, ...]:
    """out, cache and what else the forward returns; a new generator at each call."""
    if "rng" in arguments:
        arguments = {**arguments, "rng": np.random.default_rng(arguments["rng"])}
    return tuple(pair(name, implementation)[0](**arguments))


def backward(name: str, implementation: str, dout: Any, cache: Any, case: Case) -> dict[str, Any]:
    """Gradients by the name of the argument."""
    run = pair(name, implementation)[1]
    grads = run(cache, dloss=float(dout)) if name in LOSSES else run(dout, cache)
    grads = grads if isinstance(grads, tuple) else (grads,)
    return dict(zip(case.arrays, grads, strict=True))


def cotangent(out: Any, seed: int = 0) -> np.ndarray:
    dout = np.asarray(np.random.default_rng(seed).standard_normal(np.shape(out)), dtype=out.dtype)
    dout.flags.writeable = False
    return dout


def as_dtype(dtype: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: array.astype(dtype)


def scattered(array: np.ndarray) -> np.ndarray:
    """Equal values in every second element of a reversed, Fortran-ordered array."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), dtype=array.dtype, order="F")
    strided = wide[..., ::2][::-1]
    strided[...] = array
    return strided


def present(grads: dict[str, Any]) -> list[np.ndarray]:
    return [grad for grad in grads.values() if grad is not None]


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(array) for array in arrays])


def assert_close(actual: Any, desired: Any, tolerance: float) -> None:
    """Equal to a tolerance relative to the largest element, NaN and all."""
    scale = max(1.0, float(np.max(np.abs(desired), initial=0.0)))
    np.testing.assert_allclose(actual, desired, rtol=tolerance, atol=tolerance * scale)


every_pair = pytest.mark.parametrize("name", sorted(PAIRS))


def implementations(name: str) -> tuple[str, ...]:
    """All that differ: the compiled ones, by instruction set, where a pair has any."""
    compiled = PAIRS[name].forward is not PAIRS[name].numpy_forward
    return ("reference", "numpy", *(kernels.instruction_sets() if compiled else ()))


def on_each(names: list[str], *leave_out: str) -> pytest.MarkDecorator:
    """Parametrise by name and implementation."""
    cases = [(n, i) for n in names for i in implementations(n) if i not in leave_out]
    return pytest.mark.parametrize(("name", "implementation"), cases, indirect=["implementation"])


every_implementation = on_each(sorted(PAIRS))
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def examples(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],  # the same for all examples
    )


# --- the contract ---------------------------------------------------------------------------


def test_every_pair_is_registered() -> None:
    assert set(CASES) == set(PAIRS)


@every_pair
def test_signatures_are_the_same(name: str) -> None:
    entry = PAIRS[name]
    for fast, plain in (
        (entry.forward, entry.reference_forward),
        (entry.backward, entry.reference_backward),
        (entry.numpy_forward, entry.reference_forward),
        (entry.numpy_backward, entry.reference_backward),
    ):
        assert fast is not plain
        assert fast.__name__ == plain.__name__
        fast_parameters = inspect.signature(fast).parameters.values()
        plain_parameters = inspect.signature(plain).parameters.values()
        assert [(p.name, p.default, p.kind) for p in fast_parameters] == [
            (p.name, p.default, p.kind) for p in plain_parameters
        ]


@every_implementation
@examples(4)
@given(data=st.data())
def test_gradient_is_the_numeric_one(name: str, implementation: str, data: Any) -> None:
    case = data.draw(CASES[name]())
    arguments = prepared(case, as_dtype(np.float64))
    out, cache, *_ = forward(name, implementation, arguments)
    dout = cotangent(out)
    grads = backward(name, implementation, dout, cache, case)
    numeric = []
    for key, array in case.arrays.items():
        if array is None:
            assert grads[key] is None
            continue

        def by_one(value: np.ndarray, key: str = key) -> np.ndarray:
            return np.asarray(forward(name, implementation, {**arguments, key: value})[0])

        numeric.append(numeric_gradient(by_one, array, dout=dout))
        assert grads[key].shape == array.shape
    difference = np.linalg.norm(flat(present(grads)) - flat(numeric))
    assert difference < 1e-7 * max(np.linalg.norm(flat(numeric)), 1e-2)


@every_implementation
@examples(12)
@given(data=st.data())
def test_backward_is_the_adjoint_of_the_derivative(
    name: str, implementation: str, data: Any
) -> None:
    """<J v, u> = <v, J^T u>, with J v as one difference along v through all arguments at once."""
    case = data.draw(CASES[name]())
    arguments = prepared(case, as_dtype(np.float64))
    out, cache, *_ = forward(name, implementation, arguments)
    u = cotangent(out)
    rng = np.random.default_rng(1)
    v = {
        key: rng.uniform(-1, 1, array.shape)
        for key, array in case.arrays.items()
        if array is not None
    }
    h = 3e-6

    def along(step: float) -> np.ndarray:
        moved = {key: arguments[key] + step * direction for key, direction in v.items()}
        return np.asarray(forward(name, implementation, {**arguments, **moved})[0])

    jv = (along(h) - along(-h)) / (2 * h)
    grads = backward(name, implementation, u, cache, case)
    left = float(np.sum(jv * u))
    right = float(sum(np.sum(direction * grads[key]) for key, direction in v.items()))
    scale = float(np.linalg.norm(jv) * np.linalg.norm(u))
    assert abs(left - right) < 1e-7 * max(scale, 1e-2)


@on_each(sorted(PAIRS), "reference")
@both_dtypes
@examples(30)
@given(data=st.data())
def test_each_implementation_equals_the_reference(
    name: str, implementation: str, dtype: Any, data: Any
) -> None:
    case = data.draw(CASES[name]())
    arguments = prepared(case, as_dtype(dtype))
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    plain, plain_cache, *plain_rest = forward(name, "reference", arguments)
    fast, fast_cache, *fast_rest = forward(name, implementation, arguments)
    assert_close(fast, plain, tolerance)
    for fast_pair, plain_pair in zip(fast_rest, plain_rest, strict=True):
        for one, other in zip(fast_pair, plain_pair, strict=True):
            assert_close(one, other, tolerance)
    dout = cotangent(plain)
    plain_grads = backward(name, "reference", dout, plain_cache, case)
    fast_grads = backward(name, implementation, dout, fast_cache, case)
    for key, plain_grad in plain_grads.items():
        if plain_grad is None:
            assert fast_grads[key] is None
        else:
            assert_close(fast_grads[key], plain_grad, tolerance)


@every_implementation
@both_dtypes
@examples(4)
@given(data=st.data())
def test_dtype_is_kept_and_nothing_is_shared_or_modified(
    name: str, implementation: str, dtype: Any, data: Any
) -> None:
    case = data.draw(CASES[name]())
    arguments = prepared(case, as_dtype(dtype))  # read-only: writing raises
    inputs = [value for value in arguments.values() if isinstance(value, np.ndarray)]
    before = [value.copy() for value in inputs]
    out, cache, *rest = forward(name, implementation, arguments)
    dout = cotangent(out)
    grads = backward(name, implementation, dout, cache, case)
    results = [out, *present(grads), *(array for extra in rest for array in extra)]
    assert [result.dtype for result in results] == [np.dtype(dtype)] * len(results)
    if name not in MAY_BE_VIEWS:
        for result in results:
            assert not any(np.shares_memory(result, given_) for given_ in [*inputs, dout])
    for value, copy in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(value, copy)
    if name not in (*LOSSES, *MAY_BE_VIEWS, *KEEP_OUT):
        out[...] = np.nan  # the output belongs to the caller, the cache stays as it was
    again = backward(name, implementation, dout, cache, case)
    for first, second in zip(present(grads), present(again), strict=True):
        if name not in MAY_BE_VIEWS:
            np.testing.assert_array_equal(first, second)


@every_implementation
@examples(6)
@given(data=st.data())
def test_memory_layout_does_not_matter(name: str, implementation: str, data: Any) -> None:
    case = data.draw(CASES[name]())
    out, cache, *_ = forward(name, implementation, prepared(case, np.copy))
    strided, strided_cache, *_ = forward(name, implementation, prepared(case, scattered))
    assert_close(strided, out, 1e-13)
    dout = cotangent(out)
    grads = backward(name, implementation, dout, cache, case)
    strided_dout = dout if name in LOSSES else scattered(dout)
    strided_grads = backward(name, implementation, strided_dout, strided_cache, case)
    for key, grad in grads.items():
        if grad is not None:
            assert_close(strided_grads[key], grad, 1e-13)


@every_implementation
@examples(4)
@given(data=st.data())
def test_empty_batch(name: str, implementation: str, data: Any) -> None:
    case = data.draw(CASES[name]())
    full, *_ = forward(name, implementation, prepared(case, np.copy))
    batched = ("x", "scores", "y")
    empty = Case(
        {key: value[:0] if key in batched else value for key, value in case.arrays.items()},
        {key: value[:0] if key in batched else value for key, value in case.others.items()},
    )
    out, cache, *rest = forward(name, implementation, prepared(empty, np.copy))
    if name in LOSSES:
        assert out == 0.0
    else:
        assert out.shape == (0, *full.shape[1:])
    grads = backward(name, implementation, cotangent(out), cache, empty)
    for key, grad in grads.items():
        assert (grad is None) == (empty.arrays[key] is None)
        if grad is not None:
            np.testing.assert_array_equal(grad, np.zeros_like(empty.arrays[key]))
    for running in rest:
        np.testing.assert_array_equal(running[0], empty.others["running_mean"])
        np.testing.assert_array_equal(running[1], empty.others["running_var"])


@on_each([n for n in sorted(PAIRS) if "need_dx" in inspect.signature(PAIRS[n].backward).parameters])
@examples(4)
@given(data=st.data())
def test_need_dx_false_skips_dx_alone(name: str, implementation: str, data: Any) -> None:
    case = data.draw(CASES[name]())
    out, cache, *_ = forward(name, implementation, prepared(case, np.copy))
    dout = cotangent(out)
    run = pair(name, implementation)[1]
    dx, *others = run(dout, cache)
    no_dx, *same = run(dout, cache, need_dx=False)
    assert dx is not None
    assert no_dx is None
    for one, other in zip(others, same, strict=True):
        np.testing.assert_array_equal(one, other)


# --- refusals -------------------------------------------------------------------------------


@every_implementation
@examples(1)
@given(data=st.data())
def test_wrong_dtypes_are_refused(name: str, implementation: str, data: Any) -> None:
    case = data.draw(CASES[name]())
    first, *others = case.arrays
    arguments = prepared(case, np.copy)
    for wrong in (np.int64, np.float16, np.complex128):
        with pytest.raises(DTypeError, match=f"{first} must be a float32 or float64 array; got"):
            forward(name, implementation, {**arguments, first: arguments[first].astype(wrong)})
    with pytest.raises(DTypeError, match=f"{first} must be a float32 or float64 array; got list"):
        forward(name, implementation, {**arguments, first: arguments[first].tolist()})
    for key in others:
        if arguments[key] is not None:
            with pytest.raises(DTypeError, match=r"must have the dtype of x, float64; got float32"):
                forward(name, implementation, {**arguments, key: arguments[key].astype(np.float32)})


@every_implementation
@examples(1)
@given(data=st.data())
def test_wrong_dout_is_refused(name: str, implementation: str, data: Any) -> None:
    case = data.draw(CASES[name]())
    out, cache, *_ = forward(name, implementation, prepared(case, np.copy))
    run = pair(name, implementation)[1]
    if name in LOSSES:
        with pytest.raises(DTypeError, match=f"{name}_backward: dloss must be a number; got 'one'"):
            run(cache, dloss="one")
        return
    dout = cotangent(out)
    with pytest.raises(ShapeError, match=r"_backward: dout must have the output's shape, \("):
        run(dout[..., None], cache)
    with pytest.raises(DTypeError, match=r"_backward: dout must have the output's dtype, float64"):
        run(dout.astype(np.float32), cache)
    with pytest.raises(DTypeError, match=r"_backward: dout must have the output's dtype.*got list"):
        run(dout.tolist(), cache)
