"""Losses of one linear prediction: value, slope, conjugate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import ClassVar

import numpy as np

__all__ = ["LOSSES", "AbsoluteLoss", "HingeLoss", "LogisticLoss", "Loss", "sigmoid"]


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Compute ``1 / (1 + exp(-z))``, to full relative precision in both tails.

    Examples
    --------
    >>> sigmoid(np.array([-800.0, 0.0, 800.0]))
    array([0. , 0.5, 1. ])
    """
    return np.asarray(np.exp(-np.logaddexp(0.0, -z)))


class Loss(ABC):
    """A convex loss of a prediction z, given the truth y; its slopes are at most 1 in size.

    Attributes
    ----------
    labels : bool
        The truth is -1 or 1.
    kinked : bool
        Its graph consists of two straight lines.
    """

    labels: ClassVar[bool]
    kinked: ClassVar[bool]

    @abstractmethod
    def evaluate(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute values and slopes of predictions z, shape (..., N), for truths y, shape (N,)."""

    @abstractmethod
    def clip(self, slopes: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Bring slopes into the interval of those that the loss has."""

    @abstractmethod
    def conjugate(self, slopes: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Compute ``max_z s z - loss(z)`` for the slopes s, clipped first."""


class LogisticLoss(Loss):
    """``ln(1 + exp(-y z))``; slopes from ``-y`` to 0."""

    labels = True
    kinked = False

    def evaluate(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        margin = y * z
        values = np.logaddexp(0.0, -margin)
        return values, -y * np.exp(-margin - values)  # exp(-m) / (1 + exp(-m))

    def clip(self, slopes: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(-y * np.clip(-y * slopes, 0.0, 1.0))

    def conjugate(self, slopes: np.ndarray, y: np.ndarray) -> np.ndarray:
        a = np.clip(-y * slopes, 0.0, 1.0)

        def entropy(p: np.ndarray) -> np.ndarray:
            return np.asarray(p * np.log(np.where(p > 0, p, 1.0)))

        return np.asarray(entropy(a) + entropy(1.0 - a))


class HingeLoss(Loss):
    """``max(0, 1 - y z)``; slope ``-y`` below its kink at ``y z = 1``, 0 from there on."""

    labels = True
    kinked = True

    def evaluate(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lacking = 1.0 - y * z
        return np.maximum(lacking, 0.0), np.where(lacking > 0, -y, 0.0)

    def clip(self, slopes: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(-y * np.clip(-y * slopes, 0.0, 1.0))

    def conjugate(self, slopes: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(-np.clip(-y * slopes, 0.0, 1.0))


class AbsoluteLoss(Loss):
    """``|z - y|``; slope the sign of ``z - y``, 0 at the kink."""

    labels = False
    kinked = True

    def evaluate(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        error = z - y
        return np.abs(error), np.sign(error)

    def clip(self, slopes: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip(slopes, -1.0, 1.0))

    def conjugate(self, slopes: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip(slopes, -1.0, 1.0) * y)


LOSSES: MappingProxyType[str, Loss] = MappingProxyType(
    {"logistic": LogisticLoss(), "hinge": HingeLoss(), "absolute": AbsoluteLoss()}
)
