"""The course's networks on chainrule's `Sequential`.

A model of the course is a dict of arrays with the course's names and shapes (``W1`` of shape
(D, H), ``gamma1``), which notebooks replace and change element by element. A `CourseNetwork` keeps
no parameters of its own: each call hands the arrays over, transposed where the two differ, and
brings the gradients back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.course.arrays import SeededMasks, as_floats, global_random
from chainrule.errors import ConfigError, ShapeError, explain, nearest
from chainrule.models import BatchNorm, Module, Sequential

__all__ = ["CourseNetwork", "draw"]

_NORMALISED = ("bn", "ln")


def draw(scale: float, *shape: int) -> np.ndarray:
    """Draw normally distributed weights from the notebook's global generator.

    Parameters
    ----------
    scale : float
        Their standard deviation.
    *shape : int
        Their shape.

    Returns
    -------
    ndarray of float64
        The same numbers, for the same ``np.random.seed``, as the course's own code draws.
    """
    return scale * global_random().standard_normal(shape)


class CourseNetwork:
    """A stack of layers whose parameters live in a dict of the course.

    Parameters
    ----------
    where : str
        The course's name for it, for messages.
    layers : sequence of Module
        chainrule's layers.
    input_shape : tuple of int
        Shape of one example, (D,) or (C, H, W).

    Attributes
    ----------
    names : dict of str to str
        The course's name of each parameter, and chainrule's.
    """

    def __init__(self, where: str, layers: Sequence[Module], input_shape: tuple[int, ...]) -> None:
        self.where = where
        self.input_shape = input_shape
        self.net = Sequential(layers)
        self.net.init(np.random.default_rng(0), input_shape, init=0.0, dtype=np.float64)
        self.names = _course_names(self.net)
        self._batch_norms = [
            layer.name for layer in self.net.layers if isinstance(layer, BatchNorm)
        ]
        for name in self._batch_norms:  # the course starts both statistics at zero
            self.net.buffers[f"{name}.running_var"][...] = 0

    def run(
        self,
        params: Mapping[str, np.ndarray],
        X: np.ndarray,
        y: np.ndarray | None,
        l2: float = 0.0,
        seed: int | None = None,
    ) -> Any:
        """Compute scores, or the loss and its gradients.

        Parameters
        ----------
        params : mapping of str to ndarray
            The model, with the course's names and shapes.
        X : ndarray, shape (N, ...)
            Examples; flattened where the network takes vectors.
        y : ndarray, shape (N,), integer, or None
            Labels. Without them the network runs in test mode.
        l2 : float, default 0
            Strength of the penalty ``l2 / 2 * sum(W ** 2)`` over the weights.
        seed : int, optional
            What the global generator is seeded with before each dropout mask.

        Returns
        -------
        ndarray (N, C), or (float, dict of str to ndarray)
            Scores, or loss and gradients with the names and shapes of `params`.

        Raises
        ------
        ConfigError
            If a parameter is missing.
        ShapeError
            If the examples or a parameter have another shape than the network's.
        """
        for name in self.names:
            if name not in params:
                raise ConfigError(
                    explain(self.where, name, "be in the model", "none", nearest(name, params))
                )
        X, *arrays = as_floats(self.where, X=X, **{name: params[name] for name in self.names})
        for (course, own), array in zip(self.names.items(), arrays, strict=True):
            self.net.params[own] = self._handed_over(course, own, array)
        for key, value in self.net.buffers.items():
            self.net.buffers[key] = value.astype(X.dtype, copy=False)
        examples = X.reshape(len(X), -1) if len(self.input_shape) == 1 else X
        if y is None:
            return self.net.forward(examples)
        before = dict(self.net.buffers)
        loss, grads = self.net.loss_and_grads(
            examples, np.asarray(y), l2=float(l2), rng=SeededMasks(seed)
        )
        self._use_biased_variance(before, examples)
        return float(loss), {
            course: np.ascontiguousarray(_turned(own, grads[own]))
            for course, own in self.names.items()
        }

    def running_statistics(self) -> list[dict[str, np.ndarray]]:
        """Return what batch normalisation has gathered.

        Returns
        -------
        list of dict
            ``running_mean`` and ``running_var`` of each such layer.
        """
        return [
            {key: self.net.buffers[f"{name}.{key}"] for key in BatchNorm.statistics}
            for name in self._batch_norms
        ]

    def _handed_over(self, course: str, own: str, array: np.ndarray) -> np.ndarray:
        expected = self.net.params[own].shape
        turned = _turned(own, array)
        if turned.shape != expected:
            shape = expected[::-1] if _is_matrix(own, expected) else expected
            raise ShapeError(explain(self.where, course, f"have shape {shape}", array.shape))
        return turned

    def _use_biased_variance(self, before: Mapping[str, np.ndarray], x: np.ndarray) -> None:
        """Make the running variances those of the course, which divides by N, not N - 1."""
        for layer in self.net.layers:
            if isinstance(layer, BatchNorm):  # of vectors, one value for each example
                key = f"{layer.name}.running_var"
                kept = (1 - layer.momentum) * before[key]
                unbiased = self.net.buffers[key] - kept
                self.net.buffers[key] = kept + unbiased * ((len(x) - 1) / len(x))


def _course_names(net: Sequential) -> dict[str, str]:
    """Name the parameters of linear and convolutional layers W1, b1, ..., of norms gamma1, ..."""
    names: dict[str, str] = {}
    depth = norms = 0
    for layer in net.layers:
        if f"{layer.name}.weight" not in net.params:
            continue
        if layer.label in _NORMALISED:
            norms += 1
            course = (f"gamma{norms}", f"beta{norms}")
        else:
            depth += 1
            course = (f"W{depth}", f"b{depth}")
        names |= dict(zip(course, (f"{layer.name}.weight", f"{layer.name}.bias"), strict=True))
    return names


def _is_matrix(own: str, shape: tuple[int, ...]) -> bool:
    """Whether this is the weight of a linear layer: (F, D) in chainrule, (D, F) in the course."""
    return own.endswith(".weight") and len(shape) == 2


def _turned(own: str, array: np.ndarray) -> np.ndarray:
    return array.T if _is_matrix(own, array.shape) else array
