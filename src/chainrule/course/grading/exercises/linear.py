"""Tests of nearest neighbours and of the linear classifiers."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.course.cs231n import layers as course
from chainrule.course.grading.exercises.catalog import enter
from chainrule.course.grading.inside.codec import Other
from chainrule.course.grading.script import Check, Plan, Speed, Tolerance, fault_of

__all__ = ()

_LOSSES = {"svm": course.svm_loss, "softmax": course.softmax_loss}
_MODULES = {"svm": "cs231n.classifiers.linear_svm:", "softmax": "cs231n.classifiers.softmax:"}


def _linear_loss(
    kind: str, columns: bool, W: np.ndarray, X: np.ndarray, y: np.ndarray, reg: float
) -> tuple[float, np.ndarray]:
    """Loss and gradient; `reg` is the factor of the sum of squared weights."""
    scores = (W @ X).T if columns else X @ W
    loss, dscores = _LOSSES[kind](scores, y)
    gradient = (X @ dscores).T if columns else X.T @ dscores
    return loss + reg * float(np.sum(W * W)), gradient + 2 * reg * W


def _problem(
    rng: np.random.Generator, columns: bool, count: int, inputs: int, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    W, X = rng.normal(size=(inputs, classes)), rng.normal(size=(count, inputs))
    y = rng.integers(classes, size=count)
    return (W.T.copy(), X.T.copy(), y) if columns else (W, X, y)


def _regularised(expected: tuple[Any, Any], other: tuple[Any, Any]) -> Any:
    """Compare loss and gradient with those of `reg` or of `reg / 2`, but of one of them."""

    def fault(value: Any, tolerance: Tolerance) -> str:
        if not isinstance(value, list) or len(value) != 2:
            return "loss and gradient should be returned"
        found = []
        for loss, gradient in (expected, other):
            wrong = fault_of(value[0], loss, tolerance)
            words = f"the loss: {wrong}" if wrong else fault_of(value[1], gradient, tolerance)
            if not words:
                return ""
            found.append((bool(wrong), words if wrong else f"the gradient: {words}"))
        if not all(wrong for wrong, _ in found):
            fits = next(words for wrong, words in found if not wrong)
            return f"{fits} (the regulariser of the gradient must be that of the loss)"
        return found[0][1]

    return fault


def _enter_linear_loss(kind: str, name: str, title: str, generations: str, weight: float) -> None:
    @enter(kind, name, title, generations, weight)
    def _(rng: np.random.Generator, generation: str) -> Plan:
        plan, columns = Plan(), generation == "A"
        function = f"{_MODULES[kind]}{name}"
        W, X, y = _problem(rng, columns, 12, 6, 4)
        bare = plan.script.call(function, W, X, y, 0.0)
        plan.checks_of(bare, "loss gradient", _linear_loss(kind, columns, W, X, y, 0.0))
        with_reg = plan.script.call(function, W, X, y, 0.3)
        full = _linear_loss(kind, columns, W, X, y, 0.3)
        half = _linear_loss(kind, columns, W, X, y, 0.15)
        plan.check("loss and gradient with regulariser", with_reg, _regularised(full, half))
        plan.diagnose_loss(function, {"W": W, "X": X, "y": y}, 0.3)
        if name.endswith("vectorized"):
            W, X, y = _problem(rng, columns, 500, 600, 10)
            timed = plan.script.time(function, W, X, y, 0.1, width=600, loops=20_000)
            loss = _linear_loss(kind, columns, W, X, y, 0.1)[0]
            other = _linear_loss(kind, columns, W, X, y, 0.05)[0]
            right = Check("loss", timed["out"][0], loss, any_of=(other,))
            plan.speed.append(Speed("against a loop over examples and classes", timed, 1.5, right))
        return plan


_enter_linear_loss("svm", "svm_loss_naive", "SVM loss in loops", "B", 1.0)
_enter_linear_loss("svm", "svm_loss_vectorized", "SVM loss, vectorised", "B", 1.5)
_enter_linear_loss("softmax", "softmax_loss_naive", "Softmax loss in loops", "B", 1.0)
_enter_linear_loss("softmax", "softmax_loss_vectorized", "Softmax loss, vectorised", "AB", 1.5)


@enter("softmax", "large_scores", "Softmax loss of large scores", "AB", 0.5)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan, columns = Plan(), generation == "A"
    W, X, y = _problem(rng, columns, 5, 4, 3)
    out = plan.script.call("cs231n.classifiers.softmax:softmax_loss_vectorized", 500 * W, X, y, 0.0)
    plan.checks_of(out, "loss gradient", _linear_loss("softmax", columns, 500 * W, X, y, 0.0))
    return plan


def _blobs(rng: np.random.Generator, columns: bool) -> tuple[np.ndarray, np.ndarray]:
    """Three classes that a linear classifier tells apart; the last feature is 1."""
    y = np.arange(150) % 3
    centres = np.array([[4.0, 0.0], [-2.0, 3.5], [-2.0, -3.5]])
    X = np.hstack([centres[y] + rng.normal(scale=0.5, size=(150, 2)), np.ones((150, 1))])
    return (X.T.copy() if columns else X), y


def _falling(value: Any, tolerance: Tolerance) -> str:
    if isinstance(value, Other) or not isinstance(value, list | np.ndarray) or len(value) < 2:
        return "a list of the losses should be returned"
    try:
        losses = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return "the losses are no numbers"
    if not np.isfinite(losses).all():
        return "some of the losses are not finite"
    first, last = losses[: len(losses) // 10 + 1].mean(), losses[-(len(losses) // 5 + 1) :].mean()
    return "" if last < 0.5 * first else "the loss does not fall"


def _accurate(y: np.ndarray, least: float) -> Any:
    def fault(value: Any, tolerance: Tolerance) -> str:
        got = np.asarray(value) if isinstance(value, list | np.ndarray) else np.zeros(0)
        if got.shape != y.shape or got.dtype.kind not in "biuf":
            return f"there should be {len(y)} labels"
        share = float((got == y).mean())
        return "" if share >= least else f"{share:.0%} of the labels are right, of {least:.0%}"

    return fault


def _enter_classifier(name: str, generations: str) -> None:
    @enter("linear_classifier", name, f"Train and predict: {name}", generations)
    def _(rng: np.random.Generator, generation: str) -> Plan:
        plan, columns = Plan(), generation == "A"
        X, y = _blobs(rng, columns)
        plan.script.seed(0)
        model = plan.script.call(f"cs231n.classifiers.linear_classifier:{name}")
        options = {"learning_rate": 0.1, "reg": 1e-3, "num_iters": 200, "batch_size": 50}
        losses = plan.script.call((model, "train"), X, y, **options, verbose=False)
        plan.check("the losses fall", losses, _falling)
        plan.check("one loss for each iteration", losses, _of_length(200))
        predicted = plan.script.call((model, "predict"), X)
        plan.check("predictions after training", predicted, _accurate(y, 0.95))
        W, X = rng.normal(size=(6, 4)), rng.normal(size=(20, 6))
        plan.script.set(model, "W", W.T.copy() if columns else W)
        predicted = plan.script.call((model, "predict"), X.T.copy() if columns else X)
        plan.check("predictions with given weights", predicted, np.argmax(X @ W, axis=1))
        return plan


def _of_length(length: int) -> Any:
    def fault(value: Any, tolerance: Tolerance) -> str:
        count = len(value) if isinstance(value, list | np.ndarray) and np.ndim(value) else None
        return "" if count == length else f"there should be {length} of them; yours is {count}"

    return fault


_enter_classifier("Softmax", "AB")
_enter_classifier("LinearSVM", "B")

_KNN = "cs231n.classifiers.k_nearest_neighbor:KNearestNeighbor"


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(((first[:, None] - second[None]) ** 2).sum(axis=2)))


def _enter_distances(name: str, title: str, weight: float) -> None:
    @enter("knn", name, title, "B", weight)
    def _(rng: np.random.Generator, generation: str) -> Plan:
        plan = Plan()
        for count, others, size in ((5, 7, 4), (9, 3, 11)):
            train, queries = rng.normal(size=(count, size)), rng.normal(size=(others, size))
            model = plan.script.call(_KNN)
            plan.script.call((model, "train"), train, np.zeros(count, int))
            found = plan.script.call((model, f"compute_distances_{name}"), queries)
            plan.check(
                f"distances of {others} from {count}", found, _distances(queries, train), loose=10
            )
        if name == "no_loops":
            train, queries = rng.normal(size=(400, 60)), rng.normal(size=(80, 60))
            model = plan.script.call(_KNN)
            plan.script.call((model, "train"), train, np.zeros(400, int))
            timed = plan.script.time(
                (model, "compute_distances_no_loops"), queries, width=60, loops=32_000
            )
            right = Check("distances", timed["out"], _distances(queries, train), loose=10)
            plan.speed.append(Speed("against a loop over all pairs", timed, 5.0, right))
        return plan


_enter_distances("two_loops", "Distances in two loops", 1.0)
_enter_distances("one_loop", "Distances in one loop", 1.0)
_enter_distances("no_loops", "Distances without loops", 1.5)


@enter("knn", "predict_labels", "Vote of the neighbours", "B")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    train, labels = rng.normal(size=(30, 5)), rng.integers(4, size=30)
    distances = _distances(rng.normal(size=(25, 5)), train)
    model = plan.script.call(_KNN)
    plan.script.call((model, "train"), train, labels)
    for k in (1, 5):
        near = labels[np.argsort(distances, axis=1)[:, :k]]
        votes = np.array([np.bincount(row, minlength=4).argmax() for row in near])  # ties: smaller
        found = plan.script.call((model, "predict_labels"), distances, k=k)
        plan.check(f"labels for k = {k}", found, votes)
    return plan
