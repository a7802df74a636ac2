"""Stopping at the first number that is not finite, and saying where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.errors import DivergedError

__all__ = ["raise_if_diverged", "raise_if_evaluation_diverged"]


def raise_if_diverged(
    model: Any,
    x: np.ndarray,
    y: np.ndarray,
    loss: float,
    grads: Mapping[str, np.ndarray],
    step: int,
    lr: float,
    records: Sequence[Mapping[str, Any]],
) -> None:
    """Raise if the loss or a gradient is infinite or not a number.

    Parameters
    ----------
    model : Model
        The model, before the update of this step.
    x, y : ndarray
        The batch.
    loss : float
        Its loss.
    grads : mapping of str to ndarray
        Its gradients.
    step : int
        Number of the step, from 1.
    lr : float
        Learning rate of the step.
    records : sequence of mappings
        History so far; says whether the loss was growing.

    Raises
    ------
    DivergedError
        Names step, layer, tensor, learning rate and the likely cause.

    Notes
    -----
    The check of a gradient is one inner product, which is not finite when an element is not;
    large finite elements that overflow it are told apart by a second look.
    """
    if np.isfinite(loss) and all(_finite(grad) for grad in grads.values()):
        return
    tensor, cause = _origin(model, x, y, loss, grads)
    if not cause:
        cause = _trend(step, lr, records)
    raise DivergedError(
        f"training: {tensor} must stay finite; got {_kind(loss, grads)} at step {step} "
        f"with learning rate {lr:g}. {cause}"
    )


def raise_if_evaluation_diverged(
    split: str,
    x: np.ndarray,
    loss: float,
    step: int,
    lr: float,
    records: Sequence[Mapping[str, Any]],
) -> None:
    """Raise if the loss of an evaluation is infinite or not a number.

    The last update is followed by an evaluation, not by another step, so that only this sees
    what it did; and no such weights may become the best or the last checkpoint.

    Parameters
    ----------
    split : str
        ``"train"`` or ``"val"``.
    x : ndarray
        Its examples.
    loss : float
        Its loss.
    step : int
        Number of the step before.
    lr : float
        Learning rate of that step.
    records : sequence of mappings
        History so far; says whether the loss was growing.

    Raises
    ------
    DivergedError
        Names step, split, learning rate and the likely cause.
    """
    if np.isfinite(loss):
        return
    cause = _trend(step, lr, records)
    if not _finite(x):
        bad = int(np.count_nonzero(~np.isfinite(x)))
        cause = f"{bad} values of its examples are not finite: look at the data."
    raise DivergedError(
        f"training: the {split} loss must stay finite; got {_kind(loss, {})} in the evaluation "
        f"at step {step} with learning rate {lr:g}. {cause}"
    )


@np.errstate(over="ignore")
def _finite(array: np.ndarray) -> bool:
    if array.dtype.kind != "f":
        return True
    flat = array.ravel()
    return bool(np.isfinite(np.dot(flat, flat)) or np.isfinite(flat).all())


def _origin(
    model: Any, x: np.ndarray, y: np.ndarray, loss: float, grads: Mapping[str, np.ndarray]
) -> tuple[str, str]:
    """Follow the computation to the first tensor that is not finite."""
    if not _finite(x):
        bad = int(np.count_nonzero(~np.isfinite(x)))
        return "the input x", f"{bad} values of the batch are not finite: look at the data."
    for key, value in model.params.items():
        if not _finite(value):
            return f"the parameter {_place(key)}", (
                "The update before this one was too large: lower the learning rate or set "
                "optimizer.clip_norm."
            )
    found: list[str] = []

    def observe(layer: str, out: np.ndarray) -> None:
        if not _finite(out):
            found.append(layer)

    if not np.isfinite(loss):
        rng = np.random.default_rng(0)
        if hasattr(model, "forward"):  # layer by layer, where loss_and_grads may fuse some
            model.forward(x, training=True, rng=rng, observe=observe)
        else:
            model.loss_and_grads(x, y, rng=rng, observe=observe)
        where = f"the output of layer {found[0]}" if found else "the loss"
        return where, ""
    for key in reversed(list(grads)):
        if not _finite(grads[key]):
            return f"the gradient of {_place(key)}", ""
    return "the loss", ""


def _place(key: str) -> str:
    """Name a parameter and, in a network, its layer."""
    layer = key.rpartition(".")[0]
    return f"{key} (layer {layer})" if layer else key


def _kind(loss: float, grads: Mapping[str, np.ndarray]) -> str:
    arrays = [np.asarray(loss), *grads.values()]
    return "NaN" if any(np.isnan(a).any() for a in arrays) else "infinity"


def _trend(step: int, lr: float, records: Sequence[Mapping[str, Any]]) -> str:
    """Guess the cause from how the loss went."""
    losses = [r["loss"] for r in records if r.get("kind") == "step"]
    if step <= 2 and not losses:
        return (
            "It happened at once: the inputs or the initial weights are too large. Normalise "
            "the data (data.preprocess=standardize) or use model.init=he."
        )
    if losses and losses[-1] > 2 * min(losses):
        return (
            f"The loss had grown from {min(losses):.3g} to {losses[-1]:.3g}: the learning rate is "
            f"too large. Try optimizer.lr={lr / 10:.2g} or optimizer.clip_norm=1."
        )
    return (
        f"The learning rate is probably too large: try optimizer.lr={lr / 10:.2g}, a warm-up "
        "(schedule.warmup_epochs=1) or optimizer.clip_norm=1."
    )
