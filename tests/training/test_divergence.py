"""The first number that is not finite ends training, with a message that leads to its cause."""

import warnings

import numpy as np
import pytest

from chainrule.errors import DivergedError
from chainrule.models import FunctionModel, Linear, ReLU, Sequential, mlp, softmax
from chainrule.records import CheckpointStore
from chainrule.training import Arrays, Trainer, fit, load_config
from chainrule.training.divergence import raise_if_diverged

RULE = r"training: {} must stay finite; got {} .*at step {} with learning rate {}\. .*{}"


def examples(count=32, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64)


def network(make=lambda: mlp(2, hidden=[8, 8]), init="he"):
    model = make()
    model.init(np.random.default_rng(0), (4,), init)
    return model


def train(model, x, y, *val, **settings):
    defaults = {"optimizer": "sgd", "lr": 0.1, "epochs": 5, "batch_size": 8, "log_every": 1}
    return fit(model, x, y, *val, rng=np.random.default_rng(0), **(defaults | settings))


def expect(tensor, got, step, rate, cause):
    return pytest.raises(DivergedError, match=RULE.format(tensor, got, step, rate, cause))


class TestNames:
    def test_a_rate_that_is_far_too_large(self):
        # The first update makes weights of about 1e35; their products overflow in the second.
        with expect(
            "the output of layer linear2",
            "(NaN|infinity)",
            2,
            r"1e\+36",
            r"try optimizer\.lr=1e\+35, a warm-up",
        ):
            train(network(), *examples(), lr=1e36)

    def test_a_loss_that_grew(self):
        """Weights that swing ever wider: the message says from where to where."""
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(8, 4)) * 10, np.zeros(8, np.int64)

        def loss_and_grads(params, x, y):
            out = x @ params["w"]
            return float(out @ out), {"w": 2 * x.T @ out}

        model = FunctionModel(loss_and_grads, {"w": np.ones(4)})
        with expect(
            "(the parameter w|the loss|the gradient of w|the train loss)",
            "(NaN|infinity)",
            r"\d+",
            "0.1",
            r"The loss had grown from .* to .*: the learning rate is too large\. "
            r"Try optimizer\.lr=0\.01 or optimizer\.clip_norm=1",
        ):
            train(model, x, y, epochs=1000)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_data(self, bad):
        x, y = examples()
        x[5, 2] = bad
        with expect("the input x", "NaN", r"[1-4]", "0.1", "1 values of the batch are not finite"):
            train(network(), x, y)

    def test_initial_weights(self):
        with expect(
            "the output of layer linear2",
            "(NaN|infinity)",
            1,
            "0.1",
            r"It happened at once: .*use model\.init=he",
        ):
            train(network(init=1e30), *examples())

    def test_a_weight_that_is_broken_already(self):
        model = network()
        model.params["linear2.weight"][3, 1] = np.inf
        with expect(
            r"the parameter linear2\.weight \(layer linear2\)", "(NaN|infinity)", 1, "0.1", ""
        ):
            train(model, *examples())

    @pytest.mark.parametrize(("bad", "got"), [(np.nan, "NaN"), (-np.inf, "infinity")])
    def test_a_gradient_of_ones_own(self, bad, got):
        calls = []

        def loss_and_grads(params, x, y):
            calls.append(len(x))
            grads = {key: np.zeros_like(value) for key, value in params.items()}
            if calls.count(8) == 3:
                grads["b"][1] = bad
            return 1.0, grads

        model = FunctionModel(loss_and_grads, {"a": np.ones(2), "b": np.ones(2)})
        with expect("the gradient of b", got, 3, "0.1", "too large"):
            train(model, *examples())
        np.testing.assert_array_equal(model.params["b"], 1)

    def test_the_gradient_nearest_to_the_loss(self):
        """What backpropagation spoils on the way belongs to the layer where it begins."""
        model = network(lambda: Sequential([Linear(3), ReLU(), Linear(3), ReLU(), Linear(2)]))
        x, y = examples(8)
        _, grads = model.loss_and_grads(x, y)
        grads["linear1.weight"][0, 0] = np.nan
        grads["linear2.weight"][0, 0] = np.nan
        with expect(r"the gradient of linear2\.weight \(layer linear2\)", "NaN", 7, "0.5", ""):
            raise_if_diverged(model, x, y, 1.0, grads, 7, 0.5, [])

    def test_a_loss_of_ones_own(self):
        model = network(lambda: softmax(2, loss=lambda s, y: (float("nan"), np.zeros_like(s))))
        with expect("the loss", "NaN", 1, "0.1", "It happened at once"):
            train(model, *examples())


class TestEvaluation:
    def test_sees_what_the_last_update_did(self):
        message = r"the train loss .* in the evaluation at step 4 with learning rate 1e\+36"
        calls = []

        def loss_and_grads(params, x, y):
            calls.append(len(x))
            return float(params["w"][0]), {"w": np.full(1, 1e3 if calls.count(8) == 4 else 0.0)}

        model = FunctionModel(loss_and_grads, {"w": np.ones(1, np.float32)})
        with pytest.raises(DivergedError, match=message):
            train(model, *examples(), lr=1e36, epochs=1)

    def test_no_such_weights_are_kept(self, tmp_path):
        """The checkpoints stay those of the epoch before."""
        x, y = examples()
        calls = []

        def loss_and_grads(params, x, y):
            calls.append(len(x))
            slope = 1e38 if calls.count(8) == 8 else 0.0
            return float(params["w"][0] ** 2), {"w": np.full(1, slope)}

        settings = {"optimizer": "sgd", "lr": 10.0, "epochs": 3, "batch_size": 8}
        store, config = CheckpointStore(tmp_path), load_config(settings=settings)
        arrays = Arrays(x, y)
        model = FunctionModel(loss_and_grads, {"w": np.ones(1, np.float32)})
        trainer = Trainer(model, arrays, arrays, config, np.random.default_rng(0), store=store)
        with pytest.raises(DivergedError, match="in the evaluation at step 8"):
            trainer.fit()
        assert store.load("last").state["step"] == 4
        assert store.load("best").tensors["params/w"] == 1

    def test_data(self):
        x, y = examples()
        x_val = x.copy()
        x_val[0, 0] = np.nan
        message = (
            r"the val loss must stay finite; got NaN .* 1 values of its examples are not finite"
        )
        with pytest.raises(DivergedError, match=message):
            train(network(), x, y, x_val, y)


def test_large_but_finite_gradients_are_no_divergence():
    """Their squares overflow float32, which must not be taken for an infinity."""
    model = network()
    x, y = examples(8)
    grads = {key: np.full_like(value, 1e30) for key, value in model.params.items()}
    raise_if_diverged(model, x, y, 1.0, grads, 1, 0.1, [])


def test_no_warnings_besides():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DivergedError, match="must stay finite"):
            train(network(), *examples(), lr=1e36)


def test_clipping_does_not_hide_it():
    def loss_and_grads(params, x, y):
        return 1.0, {"w": np.array([np.inf, 1.0])}

    model = FunctionModel(loss_and_grads, {"w": np.ones(2)})
    with expect("the gradient of w", "infinity", 1, "0.1", ""):
        train(model, *examples(), clip_norm=1.0)
