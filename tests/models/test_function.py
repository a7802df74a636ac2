"""A user's own function as a model."""

import numpy as np
import pytest

from chainrule.errors import DTypeError, InputError, ShapeError
from chainrule.models import FunctionModel


def regression(params, x, y):
    """Least squares with a bias: 0.5 * mean((x w + b - y) ** 2)."""
    residual = x @ params["w"] + params["b"] - y[:, None]
    grads = {"w": x.T @ residual / len(x), "b": residual.mean(axis=0)}
    return 0.5 * float((residual**2).mean()), grads


def linear_scores(params, x):
    return x @ params["w"]


PARAMS = {"w": np.ones((3, 1)), "b": np.zeros(1)}


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(20, 3)), rng.normal(size=20)


def test_loss_and_gradients_are_the_functions_own(examples):
    model = FunctionModel(regression, PARAMS)
    loss, grads = model.loss_and_grads(*examples)
    expected_loss, expected = regression(PARAMS, *examples)
    assert loss == expected_loss
    assert list(grads) == ["w", "b"]
    for key, grad in grads.items():
        np.testing.assert_array_equal(grad, expected[key])
    assert model.buffers == {}


def test_parameters_are_copied(examples):
    params = {key: value.copy() for key, value in PARAMS.items()}
    model = FunctionModel(regression, params)
    model.params["w"] += 1
    np.testing.assert_array_equal(params["w"], PARAMS["w"])


def test_penalty_is_of_arrays_with_two_axes(examples):
    model = FunctionModel(regression, {"w": np.full((3, 1), 2.0), "b": np.ones(1)})
    plain, grads = model.loss_and_grads(*examples)
    loss, penalised = model.loss_and_grads(*examples, l2=0.5)
    assert loss - plain == pytest.approx(0.25 * 12)
    np.testing.assert_allclose(penalised["w"] - grads["w"], np.full((3, 1), 1.0))
    np.testing.assert_array_equal(penalised["b"], grads["b"])


def test_gradients_may_be_the_functions_own_arrays(examples):
    """Clipping and updates work in place and must not reach what the function keeps."""
    kept = np.ones((2, 2))
    model = FunctionModel(lambda params, x, y: (1.0, {"w": kept}), {"w": np.ones((2, 2))})
    _, grads = model.loss_and_grads(*examples, l2=1.0)
    grads["w"] *= 0
    np.testing.assert_array_equal(kept, np.ones((2, 2)))

    itself = FunctionModel(lambda params, x, y: (1.0, params), {"w": np.ones(2)})
    _, grads = itself.loss_and_grads(*examples)
    grads["w"] *= 0
    np.testing.assert_array_equal(itself.params["w"], np.ones(2))


def test_gradients_get_the_dtype_of_their_parameters(examples):
    def with_lists(params, x, y):
        return 1, {"w": [[1], [2]]}

    model = FunctionModel(with_lists, {"w": np.zeros((2, 1), np.float32)})
    loss, grads = model.loss_and_grads(*examples)
    assert isinstance(loss, float)
    assert grads["w"].dtype == np.float32


def test_scores_in_batches(examples):
    model = FunctionModel(regression, {"w": np.eye(3)}, scores=linear_scores)
    x, _ = examples
    assert model.has_scores
    np.testing.assert_array_equal(model.scores(x, batch_size=7), x)
    np.testing.assert_array_equal(model.predict(x, batch_size=7), np.argmax(x, axis=1))
    assert model.scores(x[:0]).shape == (0, 3)
    assert model.predict(x[:0]).shape == (0,)


def test_observer_sees_the_scores(examples):
    seen = {}
    model = FunctionModel(regression, PARAMS, scores=linear_scores)
    model.loss_and_grads(*examples, observe=lambda name, out: seen.update({name: out}))
    np.testing.assert_array_equal(seen["scores"], examples[0] @ PARAMS["w"])
    FunctionModel(regression, PARAMS).loss_and_grads(*examples, observe=lambda *_: seen.clear())
    assert seen


class TestErrors:
    def test_no_parameters(self):
        with pytest.raises(InputError, match="params must hold at least one array; got none"):
            FunctionModel(regression, {})

    def test_whole_numbers(self):
        message = r"params\['w'\] must be float32 or float64; got int64"
        with pytest.raises(DTypeError, match=message):
            FunctionModel(regression, {"w": np.zeros(3, np.int64)})

    def test_missing_gradient(self, examples):
        model = FunctionModel(lambda params, x, y: (0.0, {"w": params["w"]}), PARAMS)
        with pytest.raises(InputError, match=r"grads must have the key 'b'; got \['w'\]"):
            model.loss_and_grads(*examples)

    def test_shape_of_a_gradient(self, examples):
        model = FunctionModel(lambda params, x, y: (0.0, {"w": np.ones(3), "b": 0}), PARAMS)
        message = r"grads\['w'\] must have shape \(3, 1\); got \(3,\)"
        with pytest.raises(ShapeError, match=message):
            model.loss_and_grads(*examples)

    def test_prediction_without_scores(self, examples):
        model = FunctionModel(regression, PARAMS)
        assert not model.has_scores
        with pytest.raises(InputError, match="scores must be given to predict"):
            model.predict(examples[0])
