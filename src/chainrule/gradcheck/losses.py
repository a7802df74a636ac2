"""What the doctor knows of softmax and of losses: the gradient, and how people get it wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chainrule.gradcheck.formulas import Arrays, Formula, Mistake, agrees

__all__ = ["CrossEntropy", "Hinge", "Softmax", "SquaredError"]


def _softmax(x: np.ndarray, axis: int = 1) -> np.ndarray:
    shifted = np.exp(x - x.max(axis=axis, keepdims=True))
    result: np.ndarray = shifted / shifted.sum(axis=axis, keepdims=True)
    return result


class Softmax(Formula):
    """``p = exp(x) / sum exp(x)`` along the last axis."""

    title = "softmax"

    def forward(self, x: np.ndarray, params: Arrays) -> np.ndarray:
        """Normalise."""
        return _softmax(x, -1)

    def backward(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Arrays:
        """``dx = p (dout - sum dout p)``."""
        p = _softmax(x, -1)
        return [p * (dout - np.sum(dout * p, axis=-1, keepdims=True))]

    def mistakes(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Iterator[Mistake]:
        """The term through the sum."""
        p, code = _softmax(x, -1), "softmax_correction"
        inner = np.sum(dout * p, axis=-1, keepdims=True)
        yield Mistake(code, "dx = p dout: the correction -p sum(p dout) is missing", [p * dout])
        yield Mistake(code, "dx = p (1 - p) dout: only the diagonal of the Jacobian is used",
                      [p * (1 - p) * dout])  # fmt: skip
        yield Mistake(code, "the correction is added instead of subtracted", [p * (dout + inner)])
        yield Mistake(code, "the correction is not multiplied by p", [p * dout - inner])
        yield Mistake(code, "the correction is sum(dout) instead of sum(p dout)",
                      [p * (dout - dout.sum(axis=-1, keepdims=True))])  # fmt: skip
        yield Mistake(code, "the correction is a mean instead of a sum",
                      [p * (dout - inner / x.shape[-1])])  # fmt: skip
        yield Mistake("missing_factor", "the factor p is missing", [dout - inner])
        if x.ndim > 1:
            yield Mistake("wrong_axis", "the correction sums over axis 0 instead of the classes",
                          [p * (dout - np.sum(dout * p, axis=0, keepdims=True))])  # fmt: skip

    def terms(
        self, slot: int, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> list[tuple[str, str, np.ndarray]]:
        """The two terms of the Jacobian."""
        p = _softmax(x, -1)
        correction = -p * np.sum(dout * p, axis=-1, keepdims=True)
        return [
            ("wrong_term", "p dout", p * dout),
            ("softmax_correction", "-p sum(p dout)", correction),
        ]


@dataclass
class CrossEntropy(Formula):
    """Mean (or sum) of ``-log softmax(scores)[y]`` over examples, targets perhaps smoothed.

    Parameters
    ----------
    labels : ndarray
        Labels, one an example.
    smoothing : float
        Share of the target spread over all classes.
    mean : bool
        Whether the loss is a mean over examples.
    title : str
        Its name.
    """

    labels: np.ndarray
    smoothing: float = 0.0
    mean: bool = True
    title: str = "softmax cross-entropy"

    def _target(self, x: np.ndarray, smoothing: float) -> np.ndarray:
        target = np.full(x.shape, smoothing / x.shape[1])
        target[np.arange(len(x)), self.labels] += 1 - smoothing
        return target

    def _count(self, x: np.ndarray) -> int:
        return len(x) if self.mean else 1

    def forward(self, x: np.ndarray, params: Arrays) -> np.ndarray:
        """Compute the loss."""
        shifted = x - x.max(axis=1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return np.array(-np.sum(self._target(x, self.smoothing) * log_p) / self._count(x))

    def backward(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Arrays:
        """``(p - target) / N``."""
        return [dout * (_softmax(x) - self._target(x, self.smoothing)) / self._count(x)]

    def mistakes(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Iterator[Mistake]:
        """Terms of p - target, and what it is divided by."""
        p, target, count = _softmax(x), self._target(x, self.smoothing), self._count(x)
        hard = self._target(x, 0.0)
        scale = dout / count
        code = "softmax_correction"
        p_y = p[np.arange(len(x)), self.labels][:, None]
        shift = x - x.max(axis=1, keepdims=True)
        log_p = np.log(p)
        candidates = [
            (code, "p without subtracting 1 at the true class", p),
            (code, "1 is added at the true class instead of subtracted", p + target),
            (code, "the softmax term p is missing: only the true class gets a gradient", -target),
            (code, "log p is differentiated but not the softmax: -target / p", -target / p),
            (code, "only the diagonal of the softmax's Jacobian is used", -target * (1 - p)),
            (code, "p is multiplied by p of the true class", p * p_y - target * p_y),
            (code, "scores are not normalised: exp(scores) - target", np.exp(x) - target),
            (code, "scores are not normalised: exp(scores - max) - target", np.exp(shift) - target),
            (code, "log p instead of p", log_p - target),
            (code, "scores instead of p", x - target),
            (code, "shifted scores instead of p", shift - target),
            (code, "p is multiplied by the target", p * target - target),
            (
                "wrong_axis",
                "softmax runs over examples instead of classes",
                _softmax(x, 0) - target,
            ),
        ]
        if self.smoothing:
            spread = p - hard + (target - hard)
            lost, e, classes = "label_smoothing", self.smoothing, x.shape[1]
            candidates += [
                (lost, "the label smoothing is ignored", p - hard),
                (lost, "the target has the wrong sign where it is spread", spread),
                (lost, "the smoothing is applied twice", p - self._target(x, 2 * e)),
                (lost, "the uniform share e / C is missing", p - (1 - e) * hard),
                (lost, "the uniform share has the wrong sign", p - (1 - e) * hard + e / classes),
                (lost, "the uniform share is e instead of e / C", p - (1 - e) * hard - e),
                (lost, "the true class gets 1 instead of 1 - e", p - hard - e / classes),
                (lost, "the true class gets 1 + e instead of 1 - e",
                 p - (1 + e) * hard - e / classes),
                (lost, "the uniform share is e C", p - (1 - e) * hard - e * classes),
            ]  # fmt: skip
        for kind, sentence, value in candidates:
            yield Mistake(kind, sentence, [scale * value])
            if self.mean and len(x) > 1:
                yield Mistake(kind, f"{sentence}; and 1/N is missing", [dout * value])
        right = scale * (p - target)
        if self.mean:
            yield Mistake("missing_mean", "the division by the number of examples is missing",
                          [right * count])  # fmt: skip
            yield Mistake("missing_mean", "p is divided by N but the target is not",
                          [dout * (p / count - target)])  # fmt: skip
            yield Mistake("missing_mean", "the target is divided by N but p is not",
                          [dout * (p - target / count)])  # fmt: skip
            yield Mistake("double_mean", "divided twice by the number of examples", [right / count])
            if x.shape[1] != len(x):
                yield Mistake("wrong_count", "divided by the number of classes instead of examples",
                              [right * count / x.shape[1]])  # fmt: skip
            yield Mistake("wrong_count", "divided by the number of elements instead of examples",
                          [right / x.shape[1]])  # fmt: skip
        for step, words in ((1, "next"), (-1, "previous")):
            other = np.zeros(x.shape)
            other[np.arange(len(x)), (self.labels + step) % x.shape[1]] = 1
            yield Mistake("window_offset", f"1 is subtracted at the class {words} to the true one",
                          [scale * (p - other)])  # fmt: skip
        last = np.zeros_like(right)
        last[-1] = right[-1]
        yield Mistake("overwritten", "only the last example has a gradient", [last])

    def terms(
        self, slot: int, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> list[tuple[str, str, np.ndarray]]:
        """The terms of p - target."""
        scale, hard = dout / self._count(x), self._target(x, 0.0)
        found = [
            ("softmax_correction", "p / N", scale * _softmax(x)),
            ("softmax_correction", "the true class", -scale * (1 - self.smoothing) * hard),
        ]
        if self.smoothing:
            uniform = np.full(x.shape, -self.smoothing / x.shape[1])
            found.append(("label_smoothing", "the uniform share", scale * uniform))
        return found

    def pattern(
        self, slot: int, analytic: np.ndarray, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> tuple[str, str] | None:
        """Whether the true class alone is wrong."""
        words = _one_place(analytic, self.backward(dout, x, params)[0], self.labels)
        return ("softmax_correction", words) if words else None


def _one_place(analytic: np.ndarray, right: np.ndarray, labels: np.ndarray) -> str:
    """Whether only the true class is wrong, or only the others; empty if neither."""
    good = agrees(analytic, right)
    is_true = np.arange(right.shape[1]) == labels[:, None]
    if good[~is_true].all() and not good[is_true].all():
        return "the gradient is wrong at the true class only"
    if good[is_true].all() and not good[~is_true].all():
        return "the gradient is right at the true class only"
    return ""


@dataclass
class Hinge(Formula):
    """``sum over wrong classes of max(0, s_c - s_y + margin)``, mean or sum over examples.

    Parameters
    ----------
    labels : ndarray
        Labels, one an example.
    margin : float
        How far the true class has to be ahead.
    mean : bool
        Whether the loss is a mean over examples.
    title : str
        Its name.
    """

    labels: np.ndarray
    margin: float = 1.0
    mean: bool = True
    title: str = "multiclass hinge"

    def _margins(self, x: np.ndarray, margin: float) -> np.ndarray:
        rows = np.arange(len(x))
        margins: np.ndarray = x - x[rows, self.labels][:, None] + margin
        margins[rows, self.labels] = -np.inf
        return margins

    def _count(self, x: np.ndarray) -> int:
        return len(x) if self.mean else 1

    def forward(self, x: np.ndarray, params: Arrays) -> np.ndarray:
        """Compute the loss."""
        return np.array(np.maximum(self._margins(x, self.margin), 0).sum() / self._count(x))

    def _gradient(self, inside: np.ndarray, true: float = 1.0) -> np.ndarray:
        """+1 for each class inside, and for the true one minus their number times `true`."""
        gradient = inside.astype(np.float64)
        gradient[np.arange(len(inside)), self.labels] -= true * inside.sum(axis=1)
        return gradient

    def backward(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Arrays:
        """Plus for the classes inside the margin, their number off for the true class."""
        return [dout * self._gradient(self._margins(x, self.margin) > 0) / self._count(x)]

    def mistakes(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Iterator[Mistake]:
        """The true class, and which classes count."""
        scale, rows = dout / self._count(x), np.arange(len(x))
        margins = self._margins(x, self.margin)
        inside = margins > 0
        true, mask = "true_class", "mask_wrong_tensor"
        with_true = inside.copy()
        with_true[rows, self.labels] = True
        once = inside.astype(np.float64)
        once[rows, self.labels] = -1.0
        any_once = inside.astype(np.float64)
        any_once[rows, self.labels] = -1.0 * np.any(inside, axis=1)
        everywhere = np.ones_like(inside)
        everywhere[rows, self.labels] = False
        violation = np.where(inside, margins, 0.0)
        candidates = [
            (true, "the true class gets no gradient", inside * 1.0),
            (true, "the true class gets +count instead of -count", self._gradient(inside, -1.0)),
            (true, "the true class gets -1 instead of minus the number of classes inside", once),
            (true, "the true class gets -1 once instead of the number of classes inside", any_once),
            (true, "only the true class gets a gradient", self._gradient(inside) - inside),
            (true, "the wrong classes get -1 instead of +1",
             self._gradient(inside) - 2 * inside),
            (true, "the true class is counted among the wrong ones, and gets +1",
             self._gradient(inside) + (with_true & ~inside)),
            (true, "the true class is counted among the wrong ones, and gets -1",
             self._gradient(inside) - (with_true & ~inside)),
            (mask, "the margin is not in the condition", self._gradient(margins > self.margin)),
            (mask, "the margin has the wrong sign in the condition",
             self._gradient(margins > 2 * self.margin)),
            (mask, "the condition is the wrong way round",
             self._gradient((margins < 0) & everywhere)),
            (mask, "all wrong classes count, inside the margin or not", self._gradient(everywhere)),
            (mask, "the amount of the violation is used instead of 1",
             violation - np.eye(x.shape[1])[self.labels] * violation.sum(axis=1)[:, None]),
            (mask, "the condition is on the scores alone", self._gradient((x > 0) & everywhere)),
            (mask, "the condition is on the scores and the margin, not the true class",
             self._gradient((x + self.margin > 0) & everywhere)),
            (mask, "the score of the true class is added in the condition",
             self._gradient(
                 (x + x[rows, self.labels][:, None] + self.margin > 0) & everywhere)),
        ]  # fmt: skip
        for kind, sentence, value in candidates:
            yield Mistake(kind, sentence, [scale * value])
        right = scale * self._gradient(inside)
        if self.mean:
            yield Mistake("missing_mean", "the division by the number of examples is missing",
                          [right * len(x)])  # fmt: skip
            yield Mistake(
                "double_mean", "divided twice by the number of examples", [right / len(x)]
            )
            if x.shape[1] != len(x):
                yield Mistake("wrong_count", "divided by the number of classes instead of examples",
                              [right * len(x) / x.shape[1]])  # fmt: skip
            yield Mistake("wrong_count", "divided by the number of classes as well",
                          [right / x.shape[1]])  # fmt: skip

    def terms(
        self, slot: int, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> list[tuple[str, str, np.ndarray]]:
        """The wrong classes and the true one."""
        scale = dout / self._count(x)
        inside = self._margins(x, self.margin) > 0
        return [
            ("true_class", "the wrong classes", scale * inside),
            ("true_class", "the true class", scale * (self._gradient(inside) - inside)),
        ]

    def pattern(
        self, slot: int, analytic: np.ndarray, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> tuple[str, str] | None:
        """Whether the true class alone is wrong."""
        words = _one_place(analytic, self.backward(dout, x, params)[0], self.labels)
        return ("true_class", words) if words else None


@dataclass
class SquaredError(Formula):
    """``factor * sum (x - target)^2``.

    Parameters
    ----------
    target : ndarray
        What x should be.
    factor : float
        In front of the sum, such as 1/2 or 1 over the number of elements.
    title : str
        Its name.
    """

    target: np.ndarray
    factor: float
    title: str = "squared error"

    def forward(self, x: np.ndarray, params: Arrays) -> np.ndarray:
        """Compute the loss."""
        return np.array(self.factor * np.sum((x - self.target) ** 2))

    def backward(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Arrays:
        """``2 factor (x - target)``."""
        return [dout * 2 * self.factor * (x - self.target)]

    def mistakes(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Iterator[Mistake]:
        """The target."""
        scale = dout * 2 * self.factor
        yield Mistake("missing_term", "the target is not subtracted", [scale * x])
        yield Mistake("wrong_term", "the target is added", [scale * (x + self.target)])
