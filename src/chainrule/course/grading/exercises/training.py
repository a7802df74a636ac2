"""Tests of what trains networks, of update rules, numerical gradients and image features."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.course.grading.exercises.catalog import enter
from chainrule.course.grading.exercises.networks import _toy
from chainrule.course.grading.inside.functions import LeastSquares
from chainrule.course.grading.script import Check, Plan, Tolerance, function, target

__all__ = ()

_O = "cs231n.optim:"
_G = "cs231n.gradient_check:"


# --- generation A: ClassifierTrainer --------------------------------------------------------

_TRAINER = "cs231n.classifier_trainer:ClassifierTrainer"
_FULL_BATCH: dict[str, Any] = {
    "reg": 0.001, "learning_rate": 1e-1, "learning_rate_decay": 1, "sample_batches": False,
    "num_epochs": 100, "verbose": False,
}  # fmt: skip


def _regression(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    y = rng.integers(3, size=30)
    X = np.eye(3)[y] @ rng.normal(size=(3, 4)) + 0.3 * rng.normal(size=(30, 4))
    return X, y, {"W": rng.normal(size=(4, 3)), "b": np.zeros(3)}


def _trajectory(
    rule: str, X: np.ndarray, y: np.ndarray, start: dict[str, np.ndarray], steps: int
) -> list[float]:
    """Losses of full-batch training of least squares by a rule of the course."""
    model = LeastSquares(start["W"].copy(), start["b"].copy())
    memory = {key: np.zeros_like(value) for key, value in model.params.items()}
    losses = []
    for _ in range(steps):
        loss, grads = model.loss(X, y)
        losses.append(loss)
        for key, slope in grads.items():
            if rule == "momentum":
                memory[key] = 0.9 * memory[key] - 0.05 * slope
                change = memory[key]
            elif rule == "rmsprop":
                memory[key] = 0.99 * memory[key] + 0.01 * slope**2
                change = -0.05 * slope / np.sqrt(memory[key] + 1e-8)
            else:
                change = -0.05 * slope
            model.params[key] = model.params[key] + change
    return losses


def _enter_trainer(rule: str, golden: float | None, momentum: float) -> None:
    @enter("classifier_trainer", rule, f"Training with {rule}", "A")
    def _(rng: np.random.Generator, generation: str) -> Plan:
        plan = Plan()
        X, y, start = _regression(rng)
        trainer = plan.script.call(_TRAINER)
        options = {
            **_FULL_BATCH,
            "learning_rate": 0.05,
            "num_epochs": 30,
            "momentum": momentum,
            "update": rule,
        }
        out = plan.script.call(
            (trainer, "train"), X, y, X, y, start, function("least_squares"), **options
        )
        losses = _trajectory(rule, X, y, start, 30)
        plan.check("the losses, step by step", out[1], losses)
        plan.check("the best model", out[0]["W"], _not_the_start(start["W"]))
        if golden is not None:
            model, toy, labels = _toy()
            trainer = plan.script.call(_TRAINER)
            net = target("cs231n.classifiers.neural_net:two_layer_net")
            options = {**_FULL_BATCH, "momentum": momentum, "update": rule}
            out = plan.script.call(
                (trainer, "train"), toy, labels, toy, labels, model, net, **options
            )
            plan.check("the last loss of the notebook's example", out[1][-1], golden, loose=10)
        return plan


def _not_the_start(start: np.ndarray) -> Any:
    def fault(value: Any, tolerance: Tolerance) -> str:
        if not isinstance(value, np.ndarray) or value.shape != start.shape:
            return f"it should be an array of shape {start.shape}"
        return "it is still the initial one" if np.array_equal(value, start) else ""

    return fault


_enter_trainer("sgd", None, 0.0)
_enter_trainer("momentum", 0.494394, 0.9)
_enter_trainer("rmsprop", 0.439368, 0.0)


# --- generation B: update rules and Solver --------------------------------------------------


def _expected_updates(rule: str, w: np.ndarray, slopes: list[np.ndarray]) -> list[np.ndarray]:
    """Weights after each step, by the formula of the rule with the course's defaults."""
    first, second = np.zeros_like(w), np.zeros_like(w)
    found = []
    for step, slope in enumerate(slopes, 1):
        if rule == "sgd":
            w = w - 1e-2 * slope
        elif rule == "sgd_momentum":
            first = 0.9 * first - 1e-2 * slope
            w = w + first
        elif rule == "rmsprop":
            second = 0.99 * second + 0.01 * slope**2
            w = w - 1e-2 * slope / (np.sqrt(second) + 1e-8)
        else:
            first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
            ahead = (first / (1 - 0.9**step), second / (1 - 0.999**step))
            w = w - 1e-3 * ahead[0] / (np.sqrt(ahead[1]) + 1e-8)
        found.append(w)
    return found


def _enter_rule(rule: str, weight: float) -> None:
    @enter("optim", rule, f"Update rule {rule}", "B", weight)
    def _(rng: np.random.Generator, generation: str) -> Plan:
        plan = Plan()
        for shape in ((4, 5), (3,)):
            w, slopes = rng.normal(size=shape), [rng.normal(size=shape) for _ in range(3)]
            expected = _expected_updates(rule, w, slopes)
            config: Any = None
            given: Any = w
            for step, slope in enumerate(slopes):
                out = plan.script.call(_O + rule, given, slope, config)
                label = f"weights of shape {shape} after step {step + 1}"
                plan.check(label, out[0], expected[step])
                given, config = out[0], out[1]
        return plan


for _rule, _weight in (("sgd", 0.5), ("sgd_momentum", 1.0), ("rmsprop", 1.0), ("adam", 1.5)):
    _enter_rule(_rule, _weight)


@enter("solver", "training", "Training a model", "B")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    X, y, start = _regression(rng)
    data = plan.script.make({"X_train": X, "y_train": y, "X_val": X[:10], "y_val": y[:10]})
    model = plan.script.make(function("LeastSquares", weight=start["W"], bias=start["b"]))
    plan.script.seed(0)
    options = {"update_rule": "sgd", "optim_config": {"learning_rate": 0.1}, "lr_decay": 0.95}
    options |= {"num_epochs": 12, "batch_size": 10, "print_every": 10_000, "verbose": False}
    solver = plan.script.call("cs231n.solver:Solver", model, data, **options)
    plan.script.call((solver, "train"))
    history = solver.attribute("loss_history")

    def falls(value: Any, tolerance: Tolerance) -> str:
        if not isinstance(value, list) or len(value) != 36:
            return "there should be one loss for each of 36 steps"
        if not all(isinstance(loss, int | float) for loss in value):
            return "the losses are no numbers"
        return "" if np.mean(value[-6:]) < 0.5 * np.mean(value[:3]) else "the loss does not fall"

    plan.check("the losses fall", history, falls)
    best = solver.attribute("model").attribute("params")["W"]
    plan.check("the model is changed", best, _not_the_start(start["W"]))
    plan.check("accuracies of training", solver.attribute("train_acc_history"), _accuracies)
    plan.check("accuracies of validation", solver.attribute("val_acc_history"), _accuracies)
    return plan


def _accuracies(value: Any, tolerance: Tolerance) -> str:
    good = isinstance(value, list) and len(value) >= 12
    if not good or not all(isinstance(v, int | float) and 0 <= v <= 1 for v in value):
        return "there should be one between 0 and 1 for each epoch"
    return "" if max(value) >= 0.8 else f"the best is {max(value):.2f}, although 0.8 is easily had"


# --- numerical gradients and features -------------------------------------------------------


@enter("gradient_check", "numerical_gradient", "Gradient of a number")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    for shape in ((3, 4), (5,)):
        x, weights = rng.normal(size=shape), rng.normal(size=shape)
        cubes = function("weighted_cubes", weights=weights)
        out = plan.script.call(_G + "eval_numerical_gradient", cubes, x, verbose=False)
        plan.check(f"the gradient for x of shape {shape}", out, 3 * weights * x**2, loose=300)
    return plan


@enter("gradient_check", "numerical_gradient_array", "Gradient of an array")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    x, weights, df = rng.normal(size=(4, 3)), rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    sines = function("sines", weights=weights)
    out = plan.script.call(_G + "eval_numerical_gradient_array", sines, x, df)
    plan.check("the gradient", out, (df @ weights.T) * np.cos(x), loose=300)
    return plan


@enter("features", "extract_features", "Apply feature functions", "B")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    images = rng.uniform(0, 255, size=(4, 6, 5, 3))
    functions = [function("channel_means"), function("corner")]
    expected = np.hstack([images.mean(axis=(1, 2)), images[:, :2, :2, 0].reshape(4, 4)])
    out = plan.script.call("cs231n.features:extract_features", images, functions)
    plan.checks.append(Check("the features of 4 images", out, expected))
    return plan


@enter("features", "hog_feature", "Histogram of oriented gradients", "B")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    noise = rng.uniform(0, 255, size=(32, 32, 3))
    first = plan.script.call("cs231n.features:hog_feature", noise)
    flat = plan.script.call("cs231n.features:hog_feature", np.full((32, 32, 3), 99.0))
    brighter = plan.script.call("cs231n.features:hog_feature", noise + 40)

    def fault(value: Any, tolerance: Tolerance) -> str:
        try:
            histograms = [np.asarray(part, dtype=float) for part in value]
        except (TypeError, ValueError):
            return "there should be an array of numbers"
        if any(part.shape != (144,) for part in histograms):
            return "there should be 144 numbers: 4 x 4 cells of 9 directions"
        if np.any(histograms[1] != 0):
            return "an image of one colour has gradients"
        if not np.allclose(histograms[0], histograms[2], rtol=1e-6, atol=1e-9):
            return "it changes with the brightness of the image"
        return (
            ""
            if histograms[0].min() >= 0 and histograms[0].max() > 0
            else "they should be positive"
        )

    plan.check("its length and invariances", plan.script.make([first, flat, brighter]), fault)
    return plan
