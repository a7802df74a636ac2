"""What every optimizer and every schedule promises, checked for each of them."""

import inspect
import json

import numpy as np
import pytest

from chainrule.errors import ConfigError, DTypeError, InputError, RunError, ShapeError
from chainrule.optim import OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule

# Rates that suit the problems below, and variants that take another path through the rule.
OPTIMIZER_CASES = {
    "sgd": ("sgd", {"lr": 0.1}),
    "sgd with decay": ("sgd", {"lr": 0.1, "weight_decay": 1e-3}),
    "momentum": ("momentum", {"lr": 0.02}),
    "momentum of steps": ("momentum", {"lr": 0.02, "lr_in_velocity": True}),
    "nesterov": ("nesterov", {"lr": 0.02}),
    "nesterov of steps": ("nesterov", {"lr": 0.02, "lr_in_velocity": True}),
    "rmsprop": ("rmsprop", {"lr": 0.02}),
    "rmsprop, eps outside": ("rmsprop", {"lr": 0.02, "eps_inside_root": False}),
    "adagrad": ("adagrad", {"lr": 0.5}),
    "adam": ("adam", {"lr": 0.05}),
    "adam with decay": ("adam", {"lr": 0.05, "weight_decay": 1e-3, "decay_bias": False}),
    "adamw": ("adamw", {"lr": 0.05}),
}
SCHEDULE_CASES = {
    "constant": {},
    "exponential": {"gamma": 0.9},
    "step": {"step_epochs": 2},
    "cosine": {"min_lr": 0.001},
    "one_cycle": {},
}
DTYPES = [np.float32, np.float64]

optimizers = pytest.mark.parametrize("case", OPTIMIZER_CASES)
schedules = pytest.mark.parametrize("name", SCHEDULE_CASES)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def build(case):
    name, options = OPTIMIZER_CASES[case]
    return make_optimizer(name, **options)


def problem(dtype, seed=0):
    """Parameters of several shapes, one larger than a block of the update loop."""
    rng = np.random.default_rng(seed)
    shapes = {"conv.weight": (4, 3, 2, 2), "big.weight": (300, 250), "bias": (5,), "scale": ()}
    return {name: np.asarray(rng.normal(size=s), dtype) for name, s in shapes.items()}


def random_grads(params, seed):
    rng = np.random.default_rng(seed)
    return {n: np.asarray(rng.normal(size=p.shape), p.dtype) for n, p in params.items()}


def copies(arrays):
    return {name: array.copy() for name, array in arrays.items()}


def test_every_optimizer_and_schedule_is_covered():
    assert {name for name, _ in OPTIMIZER_CASES.values()} == set(OPTIMIZERS)
    assert set(SCHEDULE_CASES) == set(SCHEDULES)


@optimizers
@dtypes
def test_minimises_a_quadratic(case, dtype):
    optimizer = build(case)
    curvature = np.array([1.0, 4.0, 0.5], dtype)
    params = {"x": np.array([1.0, -1.0, 2.0], dtype)}
    for _ in range(300):
        optimizer.step(params, {"x": curvature * params["x"]})
    # Rates stay constant, so the adaptive ones end up hovering about the minimum.
    assert np.abs(params["x"]).max() < 0.05


@optimizers
@dtypes
def test_goes_down_a_curved_valley(case, dtype):
    """Rosenbrock's function, ten times less steep so that the same rates serve."""
    optimizer = build(case)
    params = {"x": np.array([-1.0, 1.0], dtype)}
    rate = optimizer.lr / 10
    losses = []
    for _ in range(400):
        a, b = params["x"]
        losses.append(float((1 - a) ** 2 + 10 * (b - a * a) ** 2))
        slope = [-2 * (1 - a) - 40 * a * (b - a * a), 20 * (b - a * a)]
        optimizer.step(params, {"x": np.array(slope, dtype)}, lr=rate)
    assert losses[-1] < 0.5 * losses[0]


@optimizers
@dtypes
def test_updates_in_place_and_keeps_dtype_and_gradients(case, dtype):
    optimizer = build(case)
    params = problem(dtype)
    arrays, before = dict(params), copies(params)
    grads = random_grads(params, 1)
    kept = copies(grads)
    for _ in range(3):
        optimizer.step(params, grads)
    for name, array in arrays.items():
        assert params[name] is array
        assert array.dtype == dtype
        assert (array != before[name]).all(), name
        assert np.array_equal(grads[name], kept[name])
    tensors, _ = optimizer.state_dict()
    assert all(tensor.dtype == dtype for tensor in tensors.values())


@optimizers
@dtypes
def test_restored_state_continues_identically(case, dtype):
    undisturbed, interrupted = build(case), build(case)
    params = problem(dtype)
    twin = copies(params)
    for step in range(4):
        undisturbed.step(params, random_grads(params, step))
        interrupted.step(twin, random_grads(twin, step))
    tensors, scalars = interrupted.state_dict()
    resumed = build(case)
    resumed.load_state_dict(copies(tensors), json.loads(json.dumps(scalars)))
    assert resumed.step_count == 4
    for step in range(4, 8):
        undisturbed.step(params, random_grads(params, step))
        resumed.step(twin, random_grads(twin, step))
    for name in params:
        assert np.array_equal(params[name], twin[name])


@optimizers
def test_saved_state_is_a_copy(case):
    optimizer = build(case)
    params = problem(np.float64)
    optimizer.step(params, random_grads(params, 0))
    tensors, scalars = optimizer.state_dict()
    kept = copies(tensors)
    optimizer.step(params, random_grads(params, 1))
    restored = build(case)
    restored.load_state_dict(tensors, scalars)
    restored.step(params, random_grads(params, 2))
    for name in tensors:
        assert np.array_equal(tensors[name], kept[name])


@optimizers
def test_parameters_do_not_influence_each_other(case):
    together, alone = build(case), build(case)
    params = problem(np.float64)
    single = {"bias": params["bias"].copy()}
    for step in range(3):
        grads = random_grads(params, step)
        alone.step(single, {"bias": grads["bias"]})
        together.step(params, grads)
    assert np.array_equal(params["bias"], single["bias"])


@optimizers
def test_a_parameter_seen_later_starts_afresh(case):
    late, fresh = build(case), build(case)
    params = problem(np.float64)
    grads = random_grads(params, 0)
    late.step({"bias": params["bias"]}, {"bias": grads["bias"]})
    other = {"scale": params["scale"].copy()}
    late.step({"scale": params["scale"]}, {"scale": grads["scale"]})
    fresh.step(other, {"scale": grads["scale"]})
    assert np.array_equal(params["scale"], other["scale"])


@optimizers
@dtypes
def test_memory_layout_does_not_matter(case, dtype):
    plain, odd = build(case), build(case)
    params = {"w": np.arange(1.0, 13.0, dtype=dtype).reshape(3, 4)}
    wide = np.zeros((4, 6), dtype)
    strided = {"w": wide[:, ::2].T}
    strided["w"][...] = params["w"]
    for step in range(3):
        grads = random_grads(params, step)
        plain.step(params, grads)
        odd.step(strided, {"w": np.asfortranarray(grads["w"])})
    assert np.array_equal(params["w"], strided["w"])
    assert np.array_equal(wide[:, 1::2], np.zeros((4, 3)))


@optimizers
def test_lr_of_one_call_overrides(case):
    first, second = build(case), build(case)
    params, twin = problem(np.float64), problem(np.float64)
    second.lr = 0.007
    for step in range(3):
        first.step(params, random_grads(params, step), lr=0.007)
        second.step(twin, random_grads(twin, step))
    assert all(np.array_equal(params[name], twin[name]) for name in params)
    assert first.lr == OPTIMIZER_CASES[case][1]["lr"]


@optimizers
def test_lr_zero_moves_nothing(case):
    optimizer = build(case)
    params = problem(np.float64)
    before = copies(params)
    optimizer.step(params, random_grads(params, 0), lr=0.0)
    assert all(np.array_equal(params[name], before[name]) for name in params)


@optimizers
def test_decay_bias_false_spares_vectors_and_scalars(case):
    name, options = OPTIMIZER_CASES[case]
    options = options | {"weight_decay": 0.5}
    sparing = make_optimizer(name, **options | {"decay_bias": False})
    without = make_optimizer(name, **options | {"weight_decay": 0.0})
    params, twin = problem(np.float64), problem(np.float64)
    for step in range(2):
        grads = random_grads(params, step)
        sparing.step(params, grads)
        without.step(twin, grads)
    for each in params:
        assert np.array_equal(params[each], twin[each]) == (params[each].ndim < 2)


@optimizers
@dtypes
def test_empty_and_absent_parameters(case, dtype):
    optimizer = build(case)
    optimizer.step({}, {})
    optimizer.step({"none": np.zeros((0, 3), dtype)}, {"none": np.zeros((0, 3), dtype)})
    assert optimizer.step_count == 2


@optimizers
@dtypes
def test_overflow_gives_no_warning(case, dtype):
    params = {"w": np.ones(2, dtype)}
    huge = np.array([np.finfo(dtype).max, np.inf], dtype)
    optimizer = build(case)
    for _ in range(2):
        optimizer.step(params, {"w": huge})


def with_change(**changes):
    params = {"a": np.ones((2, 3)), "b": np.ones(4)}
    return {name: array for name, array in (params | changes).items() if array is not None}


def read_only():
    array = np.ones(4)
    array.flags.writeable = False
    return array


@optimizers
@pytest.mark.parametrize(
    ("params", "grads", "error", "message"),
    [
        ({}, {"b": None}, InputError, r"hold every parameter's gradient; got none for 'b'"),
        ({}, {"bb": np.ones(4)}, InputError, r"name parameters only; got 'bb'. Did you mean 'b'"),
        ({}, {"b": np.ones(5)}, ShapeError, r"grads\['b'\] must have the shape .*\(4,\); got \(5,"),
        ({}, {"b": np.ones(4, "f4")}, DTypeError, r"grads\['b'\] must have the dtype .* float64"),
        ({}, {"b": [1.0] * 4}, DTypeError, r"grads\['b'\] must be a NumPy array; got list"),
        ({"b": np.ones(4, int)}, {}, DTypeError, r"params\['b'\] must be float32 or float64"),
        ({"b": read_only()}, {}, InputError, r"params\['b'\] must be writeable"),
    ],
)
def test_bad_arrays_are_named_and_nothing_is_updated(case, params, grads, error, message):
    optimizer = build(case)
    params, grads = with_change(**params), with_change(**grads)
    before = copies(params)
    with pytest.raises(error, match=message):
        optimizer.step(params, grads)
    assert all(np.array_equal(params[name], before[name]) for name in params)
    assert optimizer.step_count == 0


@pytest.mark.parametrize("case", [case for case in OPTIMIZER_CASES if "sgd" not in case])
def test_changed_shape_is_noticed(case):
    optimizer = build(case)
    optimizer.step({"w": np.ones(3)}, {"w": np.ones(3)})
    with pytest.raises(ShapeError, match=r"state \w+/w must have the shape"):
        optimizer.step({"w": np.ones(4)}, {"w": np.ones(4)})


@optimizers
@pytest.mark.parametrize("lr", [-0.1, float("nan"), float("inf")])
def test_bad_lr(case, lr):
    name, options = OPTIMIZER_CASES[case]
    with pytest.raises(InputError, match=f"lr must be positive and finite; got {lr}"):
        make_optimizer(name, **options | {"lr": lr})
    with pytest.raises(InputError, match=f"step: lr must be zero or more and finite; got {lr}"):
        build(case).step({}, {}, lr=lr)


@optimizers
@pytest.mark.parametrize("option", ["lr", "weight_decay", "decay_bias"])
def test_option_of_wrong_type(case, option):
    name, options = OPTIMIZER_CASES[case]
    with pytest.raises(DTypeError, match=f"{option} must be .*; got '1'"):
        make_optimizer(name, **options | {option: "1"})


@optimizers
def test_unknown_keyword_names_the_nearest(case):
    name, _ = OPTIMIZER_CASES[case]
    with pytest.raises(ConfigError, match=r"weight_decy.*Did you mean 'weight_decay'"):
        make_optimizer(name, weight_decy=0.1)


@optimizers
def test_foreign_state_is_refused_and_the_old_kept(case):
    optimizer = build(case)
    params = problem(np.float64)
    optimizer.step(params, random_grads(params, 0))
    tensors, scalars = optimizer.state_dict()
    scalars_without = {key: value for key, value in scalars.items() if key != "step_count"}
    for bad in ((tensors | {"odd/bias": np.ones(5)}, scalars), (tensors, scalars_without)):
        with pytest.raises(RunError, match=r"must have the keys .* got .*'(odd/bias|step_count)'"):
            optimizer.load_state_dict(*bad)
    with pytest.raises(InputError, match="step_count must be at least 0"):
        optimizer.load_state_dict(tensors, scalars | {"step_count": -1, "lr": 5.0})
    after_tensors, after_scalars = optimizer.state_dict()
    assert after_scalars == scalars
    assert all(np.array_equal(after_tensors[name], tensors[name]) for name in tensors)


def schedule(name, warmup_steps=0, lr=0.1, total_steps=60, steps_per_epoch=10):
    return make_schedule(
        name, lr, total_steps, steps_per_epoch, warmup_steps, **SCHEDULE_CASES[name]
    )


@schedules
@pytest.mark.parametrize("warmup_steps", [0, 1, 7])
def test_schedule_stays_between_zero_and_lr(name, warmup_steps):
    rates = [schedule(name, warmup_steps).lr_at(step) for step in range(80)]
    assert all(0 < rate <= 0.1 for rate in rates)
    assert all(isinstance(rate, float) for rate in rates)


@schedules
def test_schedule_is_proportional_to_lr(name):
    options = {"cosine": {"min_lr": 0.01}}.get(name, SCHEDULE_CASES[name])
    doubled = make_schedule(name, 0.2, 60, 10, 5, **options)
    options = {"cosine": {"min_lr": 0.005}}.get(name, SCHEDULE_CASES[name])
    plain = make_schedule(name, 0.1, 60, 10, 5, **options)
    for step in range(70):
        assert doubled.lr_at(step) == pytest.approx(2 * plain.lr_at(step), rel=1e-12)


@schedules
def test_warm_up_is_a_straight_line_to_the_curve(name):
    warm = schedule(name, warmup_steps=8)
    start = warm.lr_at(8)
    assert [warm.lr_at(step) for step in range(9)] == pytest.approx(
        [start * (step + 1) / 9 for step in range(9)], rel=1e-12
    )
    assert start == pytest.approx(schedule(name).lr_at(0), rel=1e-12)


@schedules
def test_schedule_holds_its_last_value_or_goes_on_by_epoch(name):
    if name in ("exponential", "step"):
        assert schedule(name).lr_at(79) < schedule(name).lr_at(59)
    else:
        assert schedule(name).lr_at(1000) == schedule(name).lr_at(60)


@schedules
@pytest.mark.parametrize(("total_steps", "warmup_steps"), [(1, 0), (1, 10), (2, 2), (3, 1)])
def test_short_runs_have_finite_rates(name, total_steps, warmup_steps):
    short = schedule(name, warmup_steps, total_steps=total_steps)
    assert all(0 < short.lr_at(step) <= 0.1 for step in range(total_steps))


@schedules
@pytest.mark.parametrize(
    ("argument", "value", "error", "message"),
    [
        ("lr", 0.0, InputError, "lr must be positive and finite; got 0.0"),
        ("lr", "fast", DTypeError, "lr must be a number; got 'fast'"),
        ("total_steps", 0, InputError, "total_steps must be at least 1; got 0"),
        ("total_steps", 10.0, DTypeError, "total_steps must be a whole number; got 10.0"),
        ("steps_per_epoch", 0, InputError, "steps_per_epoch must be at least 1; got 0"),
        ("warmup_steps", -1, InputError, "warmup_steps must be at least 0; got -1"),
    ],
)
def test_bad_schedule_arguments(name, argument, value, error, message):
    with pytest.raises(error, match=message):
        schedule(name, **{argument: value})


@schedules
def test_bad_step(name):
    with pytest.raises(InputError, match="step must be at least 0; got -1"):
        schedule(name).lr_at(-1)


@schedules
def test_schedule_unknown_keyword_names_the_nearest(name):
    options = inspect.signature(SCHEDULES[name]).parameters
    keyword = list(options)[-1]
    with pytest.raises(ConfigError, match=f"Did you mean '{keyword}'"):
        make_schedule(name, 0.1, 60, 10, **{keyword + "s_": 1})
