"""What each layer promises beyond its formula."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.lib.mixins import NDArrayOperatorsMixin

from chainrule import kernels, layers
from chainrule.errors import ConfigError
from chainrule.layers import PAIRS, convolution, pair, reference

both = pytest.mark.parametrize(
    "implementation", ["reference", "numpy", *kernels.instruction_sets()], indirect=True
)


# --- the package ----------------------------------------------------------------------------


def test_exports_are_the_pairs_and_their_table() -> None:
    functions = {f"{name}_{way}" for name in PAIRS for way in ("forward", "backward")}
    assert set(layers.__all__) == functions | {"PAIRS", "Pair", "pair", "softmax_regression"}
    assert set(reference.__all__) == functions
    for name in layers.__all__:
        assert not isinstance(getattr(layers, name), ModuleType)
    for name, entry in PAIRS.items():
        assert entry.name == name
        assert entry.forward is getattr(layers, f"{name}_forward")
        assert entry.reference_backward is getattr(reference, f"{name}_backward")


def test_pair_looks_up_each_implementation() -> None:
    assert pair("conv2d") == (layers.conv2d_forward, layers.conv2d_backward)
    assert pair("conv2d", "numpy") == (convolution.conv2d_forward, convolution.conv2d_backward)
    assert pair("tanh", "numpy") == pair("tanh", "fast")
    assert pair("relu") == (layers.relu_forward, layers.relu_backward)
    assert pair("relu", "reference") == (reference.relu_forward, reference.relu_backward)
    with pytest.raises(
        ConfigError, match=r"name must be a layer; got 'conv2'\. Did you mean 'conv2d'"
    ):
        pair("conv2")
    with pytest.raises(
        ConfigError, match="implementation must be 'fast', 'numpy' or 'reference'; got 'slow'"
    ):
        pair("relu", "slow")


def test_import_loads_numpy_alone() -> None:
    code = "import sys, chainrule.layers; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "numpy" in loaded
    assert not loaded & {"scipy", "sklearn", "torch", "matplotlib", "pydantic"}


# --- references can be differentiated by a tool ---------------------------------------------


class Watched(NDArrayOperatorsMixin):
    """An array as an autodiff tool sees one: no item assignment, no way back to plain NumPy."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.shape, self.dtype, self.ndim = value.shape, value.dtype, value.ndim
        self.size = value.size

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("a forward left the differentiable path")

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if "out" in kwargs:
            raise TypeError("a forward wrote into an array")
        return watch(getattr(ufunc, method)(*unwatch(args), **kwargs))

    def __array_function__(self, function: Any, _: Any, args: Any, kwargs: Any) -> Any:
        return watch(function(*unwatch(args), **unwatch(kwargs)))

    def __getitem__(self, key: Any) -> Watched:
        return watch(self.value[key])

    def reshape(self, *shape: int) -> Watched:
        return watch(self.value.reshape(*shape))

    def copy(self) -> Watched:
        return watch(self.value.copy())

    @property
    def T(self) -> Watched:
        return watch(self.value.T)


def watch(value: Any) -> Any:
    return Watched(value) if isinstance(value, (np.ndarray, np.floating)) else value


def unwatch(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(unwatch(item) for item in value)
    if isinstance(value, dict):
        return {key: unwatch(item) for key, item in value.items()}
    return value.value if isinstance(value, Watched) else value


X = np.random.default_rng(0).standard_normal((2, 4, 4, 4))
MATRIX = X[:, :, 0, 0]
WEIGHT = np.random.default_rng(1).standard_normal((4, 2, 3, 3))
VECTORS = {"weight": np.linspace(1, 2, 4), "bias": np.linspace(0, 1, 4)}
RUNNING = {"running_mean": np.zeros(4), "running_var": np.ones(4)}
CONV: dict[str, Any] = {
    "x": X,
    "weight": WEIGHT,
    "bias": VECTORS["bias"],
    "groups": 2,
    "padding": 1,
}
TRACED: dict[str, dict[str, Any]] = {
    "linear": {"x": MATRIX, "weight": np.ones((3, 4)), "bias": np.ones(3)},
    "cross_entropy": {"scores": MATRIX, "y": np.array([0, 3]), "label_smoothing": 0.1},
    "multiclass_hinge": {"scores": MATRIX, "y": np.array([0, 3])},
    "conv2d": CONV,
    "max_pool2d": {"x": X, "kernel_size": 3, "stride": 2, "padding": 1},
    "avg_pool2d": {"x": X, "kernel_size": 3, "stride": 2, "padding": 1},
    "batch_norm": {"x": X, **VECTORS, **RUNNING},
    "layer_norm": {"x": X, "weight": np.ones((4, 4)), "bias": np.ones((4, 4))},
    "group_norm": {"x": X, **VECTORS, "num_groups": 2},
    "dropout": {"x": X, "p": 0.5},
    "linear_relu": {"x": MATRIX, "weight": np.ones((3, 4)), "bias": np.ones(3)},
    "conv_relu": CONV,
    "conv_relu_pool": CONV,
    "conv_bn_relu": {
        **CONV,
        "bn_weight": VECTORS["weight"],
        "bn_bias": VECTORS["bias"],
        **RUNNING,
    },
}


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_reference_forwards_stay_on_the_differentiable_path(name: str) -> None:
    arguments = TRACED.get(name, {"x": X})
    random = {"rng": np.random.default_rng(0)} if name == "dropout" else {}
    expected, *_ = PAIRS[name].reference_forward(**arguments, **random)
    watched = {
        key: value if key in ("y", "running_mean", "running_var") else watch(value)
        for key, value in arguments.items()
    }
    random = {"rng": np.random.default_rng(0)} if name == "dropout" else {}
    out, *_ = PAIRS[name].reference_forward(**watched, **random)
    assert isinstance(out, Watched)
    np.testing.assert_array_equal(out.value, expected)


# --- dropout --------------------------------------------------------------------------------


@both
def test_dropout_drops_its_share_and_keeps_the_mean(implementation: str) -> None:
    forward, backward = pair("dropout", implementation)
    out, cache = forward(np.ones(100_000), p=0.3, rng=np.random.default_rng(0))
    assert np.mean(out == 0) == pytest.approx(0.3, abs=0.005)
    np.testing.assert_allclose(np.unique(out), [0, 1 / 0.7])
    np.testing.assert_array_equal(backward(np.ones(100_000), cache), out)


@both
def test_dropout_draws_only_where_it_drops(implementation: str) -> None:
    forward, _ = pair("dropout", implementation)
    x = np.arange(4.0)
    rng = np.random.default_rng(0)
    for out, _ in (forward(x, p=0.0, rng=rng), forward(x, training=False, rng=rng)):
        np.testing.assert_array_equal(out, x)
    assert rng.random() == np.random.default_rng(0).random()
    np.testing.assert_array_equal(forward(x, p=1.0, rng=rng)[0], np.zeros(4))
    np.testing.assert_array_equal(forward(x, training=False)[0], x)  # needs no generator


# --- batch normalisation --------------------------------------------------------------------


@both
def test_running_statistics_move_by_the_unbiased_variance(implementation: str) -> None:
    forward, _ = pair("batch_norm", implementation)
    x = np.array([[1.0], [3.0], [8.0]])
    ones, zeros = np.ones(1), np.zeros(1)
    out, _, (mean, var) = forward(x, ones, zeros, np.array([2.0]), np.array([5.0]), momentum=0.1)
    np.testing.assert_allclose(mean, 0.9 * 2 + 0.1 * 4)
    np.testing.assert_allclose(var, 0.9 * 5 + 0.1 * 13)
    np.testing.assert_allclose(out.var(), 1, rtol=1e-5)  # the biased variance normalises


@both
def test_evaluation_keeps_the_running_statistics(implementation: str) -> None:
    forward, _ = pair("batch_norm", implementation)
    x, ones, zeros = np.array([[5.0]]), np.ones(1), np.zeros(1)  # one value is enough here
    mean, var = np.array([2.0]), np.array([9.0])
    out, _, running = forward(x, ones, zeros, mean, var, training=False, eps=0.0)
    np.testing.assert_allclose(out, [[1.0]])
    np.testing.assert_array_equal(running, (mean, var))


# --- losses ---------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("name", ["cross_entropy", "multiclass_hinge"])
def test_dloss_scales_the_gradient_and_keeps_the_dtype(name: str, implementation: str) -> None:
    forward, backward = pair(name, implementation)
    scores = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    _, cache = forward(scores, np.array([0, 1, 3], dtype=np.uint8))
    scaled = backward(cache, dloss=np.float64(4.0))
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, 4 * backward(cache))


@both
def test_smoothing_of_one_ignores_the_labels(implementation: str) -> None:
    forward, backward = pair("cross_entropy", implementation)
    scores = np.random.default_rng(0).standard_normal((2, 3))
    loss, cache = forward(scores, np.array([0, 1]), label_smoothing=1.0)
    other, other_cache = forward(scores, np.array([2, 2]), label_smoothing=1.0)
    assert loss == other
    np.testing.assert_array_equal(backward(cache), backward(other_cache))


@both
def test_hyperparameters_of_numpys_types_keep_float32(implementation: str) -> None:
    """A float64 scalar of NumPy's would turn float32 arrays into float64."""
    x = np.ones((2, 3), dtype=np.float32)
    number = np.float64(0.25)
    results = [
        pair("leaky_relu", implementation)[0](x, number)[0],
        pair("layer_norm", implementation)[0](x, x[0], x[0], number)[0],
        pair("dropout", implementation)[0](x, number, rng=np.random.default_rng(0))[0],
        pair("batch_norm", implementation)[0](x, *[x[0]] * 4, True, number, number)[2][0],
        pair("cross_entropy", implementation)[0](x, np.array([0, 1]), number)[0],
        pair("multiclass_hinge", implementation)[0](x, np.array([0, 1]), number)[0],
    ]
    assert {result.dtype for result in results} == {np.dtype(np.float32)}
