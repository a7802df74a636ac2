"""Loss, accuracy, confusion and the most confident mistakes of a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.data import views
from chainrule.errors import InputError, explain

__all__ = [
    "MeanOfViews",
    "accuracy_of",
    "confusion_matrix",
    "evaluate",
    "probabilities",
    "summarise",
]

BATCH = 500


def accuracy_of(scores: np.ndarray, y: np.ndarray) -> float:
    """Return the fraction of examples whose highest score is that of their label.

    Parameters
    ----------
    scores : ndarray (N, C)
        Scores.
    y : ndarray (N,)
        Labels.

    Returns
    -------
    float
        In [0, 1]; NaN without examples.

    Examples
    --------
    >>> accuracy_of(np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([1, 1]))
    0.5
    """
    return float(np.mean(np.argmax(scores, axis=1) == y)) if len(y) else float("nan")


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Turn scores into probabilities by the softmax.

    Parameters
    ----------
    scores : ndarray (N, C)
        Scores.

    Returns
    -------
    ndarray (N, C)
        Rows add up to one.

    Examples
    --------
    >>> probabilities(np.zeros((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])
    """
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def confusion_matrix(y: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Count how often each class was taken for each.

    Parameters
    ----------
    y, predicted : ndarray (N,), integer
        True and predicted labels.
    num_classes : int
        Number of classes C.

    Returns
    -------
    ndarray (C, C), int64
        Rows are true classes, columns predicted ones.

    Examples
    --------
    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    pairs = y.astype(np.int64) * num_classes + predicted
    counts = np.bincount(pairs, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes)


class MeanOfViews:
    """A network's scores and loss with test-time augmentation.

    Parameters
    ----------
    model : object
        With `scores` and `loss`, as a network.
    kind : {"none", "flip", "flip_shift"}
        See `chainrule.data.views`.

    Examples
    --------
    >>> from chainrule.models import softmax
    >>> model = softmax(2)
    >>> _ = model.init(np.random.default_rng(0), (1, 2, 2))
    >>> x = np.random.default_rng(1).standard_normal((3, 1, 2, 2))
    >>> scores = MeanOfViews(model, "flip").scores(x)
    >>> np.allclose(scores, (model.scores(x) + model.scores(x[..., ::-1])) / 2)
    True
    """

    def __init__(self, model: Any, kind: str) -> None:
        self._model, self._kind = model, kind

    def scores(self, x: np.ndarray, batch_size: int = BATCH) -> np.ndarray:
        """Return the mean scores of all versions of each example.

        Parameters
        ----------
        x : ndarray (N, ...)
            Preprocessed examples.
        batch_size : int, default 500
            Examples per batch.

        Returns
        -------
        ndarray (N, C)
            Scores.
        """
        found = [self._model.scores(view, batch_size) for view in views(x, self._kind)]
        return np.asarray(sum(found[1:], found[0]) / len(found))

    def loss(self, scores: np.ndarray, y: np.ndarray) -> tuple[float, Any]:
        """Return the network's loss of scores.

        Parameters
        ----------
        scores : ndarray (N, C)
            Scores.
        y : ndarray (N,)
            Labels.

        Returns
        -------
        loss : float
            The mean.
        gradient : ndarray (N, C) or None
            By the scores.
        """
        loss, gradient = self._model.loss(scores, y)
        return loss, gradient


def evaluate(
    model: Any, x: np.ndarray, y: np.ndarray
) -> tuple[float, float | None, np.ndarray | None]:
    """Evaluate a model on examples.

    Parameters
    ----------
    model : Model
        A network, or a function that is trained.
    x : ndarray (N, ...)
        Preprocessed examples.
    y : ndarray (N,)
        Labels.

    Returns
    -------
    loss : float
        Mean loss without the penalty on the weights.
    accuracy : float or None
        None where the model has no scores.
    scores : ndarray (N, C) or None
        The scores.
    """
    if hasattr(model, "loss"):
        scores = model.scores(x)
        return model.loss(scores, y)[0], accuracy_of(scores, y), scores
    starts = range(0, len(x), BATCH)
    losses = [model.loss_and_grads(x[i : i + BATCH], y[i : i + BATCH])[0] for i in starts]
    sizes = [len(y[i : i + BATCH]) for i in starts]
    loss = float(np.average(losses, weights=sizes))
    if not model.has_scores:
        return loss, None, None
    scores = model.scores(x)
    return loss, accuracy_of(scores, y), scores


def summarise(
    split: str,
    loss: float,
    scores: np.ndarray,
    y: np.ndarray,
    classes: Sequence[str],
    images: np.ndarray | None = None,
    num_mistakes: int = 36,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Describe how a model does on a split, for the run directory.

    Parameters
    ----------
    split : str
        ``"val"`` or ``"test"``.
    loss : float
        Mean loss.
    scores : ndarray (N, C)
        Scores.
    y : ndarray (N,)
        Labels.
    classes : sequence of str
        Names of the C classes.
    images : ndarray (N, C, H, W), uint8, optional
        The pictures as they came, for the gallery of mistakes.
    num_mistakes : int, default 36
        Size of the gallery.

    Returns
    -------
    record : dict
        Numbers of examples, loss, accuracy, classes and confusion matrix.
    tensors : dict of str to ndarray
        The most confident mistakes; without pictures empty.

    Raises
    ------
    InputError
        If the scores are not those of the examples.
    """
    if scores.shape != (len(y), len(classes)):
        rule = f"have shape ({len(y)}, {len(classes)})"
        raise InputError(explain("summarise", "scores", rule, scores.shape))
    predicted = np.argmax(scores, axis=1)
    counts = confusion_matrix(y, predicted, len(classes))
    record = {
        "split": split,
        "num_examples": len(y),
        "loss": loss,
        "accuracy": accuracy_of(scores, y),
        "classes": list(classes),
        "confusion": counts.tolist(),
    }
    if images is None:
        return record, {}
    confidence = probabilities(scores)[np.arange(len(y)), predicted]
    wrong = np.flatnonzero(predicted != y)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:num_mistakes]
    return record, {
        "mistake_images": images[worst],
        "mistake_true": y[worst],
        "mistake_predicted": predicted[worst],
        "mistake_confidence": confidence[worst].astype(np.float32),
        "mistake_index": worst,
    }
