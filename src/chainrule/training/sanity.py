"""The checks that a careful person makes before training a network for an hour."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from chainrule.models import Sequential
from chainrule.optim import make_optimizer
from chainrule.training.config import Config
from chainrule.training.environment import limited_threads
from chainrule.training.evaluation import accuracy_of
from chainrule.training.preparation import network_of, prepare

__all__ = ["SanityCheck", "sanity_checks"]

CHECKED = 24  # elements of each parameter whose derivative is checked
TOLERANCE = 1e-6
OVERFIT_IMAGES = 50
OVERFIT_STEPS = 1000


@dataclass(frozen=True)
class SanityCheck:
    """One row of the table.

    Attributes
    ----------
    name : str
        What is checked.
    passed : bool
        Whether it holds.
    expected, measured : str
        What should be and what is.
    is_gradient : bool
        Whether it is a gradient check.
    """

    name: str
    passed: bool
    expected: str
    measured: str
    is_gradient: bool = False


def sanity_checks(config: Config) -> Iterator[SanityCheck]:
    """Run the course's sanity checks on a network and its data.

    Parameters
    ----------
    config : Config
        Network, data, preprocessing, optimizer.

    Yields
    ------
    SanityCheck
        Initial loss near that of guessing; higher with regularisation; every parameter's
        gradient against central differences in float64, on four images; 50 images learned by
        heart.

    Raises
    ------
    ChainruleError
        If the configuration is not understood or the data are missing.

    Notes
    -----
    Guessing costs ``log C`` under the cross-entropy and ``C - 1`` under the hinge loss with
    margin 1. The gradient of a parameter is checked at all its elements if there are few, else
    at the largest of its gradient and at others drawn at random. Errors are relative to the
    largest of these, or to a thousandth of the loss where all are smaller: a bias in front of a
    batch normalisation has no gradient at all, and differences of the loss resolve no less.
    Where central differences with two step sizes disagree, a kink of ReLU or max pooling lies
    between, and the element is left out.

    Examples
    --------
    >>> from chainrule.training import load_config
    >>> [check.passed for check in sanity_checks(load_config(overrides=["model.name=softmax"]))]
    [True, True, True, True, True]
    """
    with limited_threads(config.threads):
        prepared = prepare(config)
        model, train = prepared.model, prepared.train.head(500)
        rng = np.random.default_rng(config.seed)
        yield _initial_loss(model, train.x, train.y, prepared.splits.num_classes)
        yield _regularisation(model, train.x, train.y)
        yield from _gradients(prepared.config, prepared.splits.num_classes, train.x, train.y, rng)
        some = prepared.train.head(OVERFIT_IMAGES)
        yield _overfit(model, some.x, some.y, rng)


@np.errstate(all="ignore")
def _initial_loss(model: Sequential, x: np.ndarray, y: np.ndarray, num_classes: int) -> SanityCheck:
    if model.loss_name == "multiclass_hinge":
        expected, formula = num_classes - 1.0, "C - 1"
    else:
        expected, formula = math.log(num_classes), "log C"
    loss, _ = model.loss(model.scores(x), y)
    passed = abs(loss - expected) <= 0.1 * expected
    return SanityCheck(
        "initial loss is that of guessing", passed, f"{formula} = {expected:.4f}", f"{loss:.4f}"
    )


@np.errstate(all="ignore")
def _regularisation(model: Sequential, x: np.ndarray, y: np.ndarray) -> SanityCheck:
    few = slice(0, 50)
    plain, strong = (
        model.loss_and_grads(x[few], y[few], l2=l2, rng=np.random.default_rng(0))[0]
        for l2 in (0.0, 1.0)
    )
    return SanityCheck(
        "regularisation raises the loss", strong > plain, f"above {plain:.4f}", f"{strong:.4f}"
    )


def _gradients(
    config: Config, num_classes: int, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> Iterator[SanityCheck]:
    """Check each parameter of a float64 copy, away from the all but constant first scores."""
    model = network_of(config, num_classes)
    model.init(rng, x.shape[1:], 0.05, np.float64)
    for value in model.params.values():
        value += 0.02 * rng.standard_normal(value.shape)
    batch, labels = x[:4].astype(np.float64), y[:4]

    def loss() -> float:
        return model.training_loss(batch, labels, l2=0.1, rng=np.random.default_rng(7))

    with np.errstate(all="ignore"):
        _, grads = model.loss_and_grads(batch, labels, l2=0.1, rng=np.random.default_rng(7))
    for name, grad in grads.items():
        worst, kinks = _worst_error(loss, model.params[name], grad, rng)
        count = min(CHECKED, grad.size)
        note = f" ({kinks} of {count} at a kink)" if kinks else ""
        yield SanityCheck(
            f"gradient of {name}",
            worst <= TOLERANCE and kinks < count,
            f"error below {TOLERANCE:.0e}",
            f"{worst:.1e}{note}",
            is_gradient=True,
        )


@np.errstate(all="ignore")
def _worst_error(
    loss: Callable[[], float], value: np.ndarray, grad: np.ndarray, rng: np.random.Generator
) -> tuple[float, int]:
    """Return the largest error relative to the gradient's size, and how many kinks were met."""
    flat, slopes = value.reshape(-1), grad.reshape(-1)
    largest = np.argsort(-np.abs(slopes), kind="stable")[: CHECKED // 2]
    others = rng.permutation(flat.size)
    chosen = np.array(list(dict.fromkeys([*largest, *others]))[:CHECKED])
    coarse, fine = (np.array([_central(loss, flat, i, h) for i in chosen]) for h in (1e-5, 5e-6))
    scale = np.max([np.abs(slopes[chosen]).max(), 1e-3 * max(1.0, abs(loss()))])
    kinks = np.abs(coarse - fine) > TOLERANCE * scale
    errors = np.abs(fine - slopes[chosen])[~kinks] / scale
    return float(np.max(errors, initial=0.0)), int(kinks.sum())


def _central(loss: Callable[[], float], flat: np.ndarray, index: int, h: float) -> float:
    kept = float(flat[index])
    flat[index] = kept + h
    above = loss()
    flat[index] = kept - h
    below = loss()
    flat[index] = kept
    return (above - below) / (2 * h)


@np.errstate(all="ignore")
def _overfit(
    model: Sequential, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> SanityCheck:
    """Train on a few images, all at once, until each is classified rightly."""
    optimizer = make_optimizer("adam", lr=1e-3)
    accuracy, step = 0.0, 0
    for step in range(1, OVERFIT_STEPS + 1):
        _, grads = model.loss_and_grads(x, y, rng=rng)
        optimizer.step(model.params, grads)
        if step % 10 == 0:
            accuracy = accuracy_of(model.scores(x), y)
            if accuracy == 1.0:
                break
    return SanityCheck(
        f"{len(x)} images are learned by heart",
        accuracy == 1.0,
        "100 %",
        f"{accuracy:.0%} after {step} steps",
    )
