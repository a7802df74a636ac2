"""Recognising what a forward computes: known formulas in a row that give the same output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from chainrule.gradcheck.convolution import Conv2d
from chainrule.gradcheck.formulas import (
    Elementwise,
    Flatten,
    Formula,
    Linear,
    Transpose,
    elementwise_formulas,
    scaling,
)
from chainrule.gradcheck.losses import CrossEntropy, Hinge, Softmax, SquaredError
from chainrule.gradcheck.normalising import Normalise, RunningNormalise
from chainrule.gradcheck.pooling import GlobalAveragePool, Pool2d
from chainrule.gradcheck.subject import is_float_array
from chainrule.gradcheck.windows import Windows

__all__ = ["Program", "Stage", "recognise"]

BUDGET = 4000  # intermediate results tried before giving up
DEPTH = 9
EPSILONS = (1e-5, 1e-8, 1e-6, 1e-3, 1e-7, 1e-12, 1e-10, 1e-4, 1e-2, 0.0)


@dataclass(frozen=True)
class Stage:
    """One formula and the positions of its parameters among the inputs.

    Parameters
    ----------
    formula : Formula
        What is computed.
    params : tuple of int
        Positions among the inputs.
    labels : int or None
        Position of the labels or targets of a loss, if they are among the inputs.
    """

    formula: Formula
    params: tuple[int, ...] = ()
    labels: int | None = None

    def at(self, arrays: Sequence[Any]) -> Formula:
        """The formula with the labels that are among the inputs."""
        if self.labels is None:
            return self.formula
        if isinstance(self.formula, CrossEntropy | Hinge):
            return replace(self.formula, labels=arrays[self.labels])
        if isinstance(self.formula, SquaredError):
            return replace(self.formula, target=arrays[self.labels])
        return self.formula


@dataclass(frozen=True)
class Program:
    """Formulas in a row, from one input, perhaps with a regulariser added to a loss.

    Parameters
    ----------
    x : int
        Position of the input that goes into the first formula.
    stages : tuple of Stage
        What follows.
    strength : float, default 0.0
        The loss has ``strength / 2 sum w^2`` for each regularised weight.
    regularised : tuple of int, default ()
        Positions of these weights.
    """

    x: int
    stages: tuple[Stage, ...]
    strength: float = 0.0
    regularised: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """What the forward computes, in words."""
        words = " -> ".join(stage.formula.title for stage in self.stages)
        return f"{words} + regulariser" if self.strength else words

    def values(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        """The input and the output of each stage."""
        found = [arrays[self.x]]
        for stage in self.stages:
            found.append(stage.at(arrays).forward(found[-1], [arrays[i] for i in stage.params]))
        return found

    def output(self, arrays: Sequence[Any]) -> np.ndarray:
        """What the forward returns."""
        penalty = sum(0.5 * self.strength * np.sum(arrays[i] ** 2) for i in self.regularised)
        return np.asarray(self.values(arrays)[-1] + penalty)

    def upstream(self, arrays: Sequence[Any], dout: np.ndarray) -> list[np.ndarray]:
        """The gradient by the output of each stage."""
        values, douts = self.values(arrays), [dout]
        for stage, x in zip(self.stages[:0:-1], values[-2:0:-1], strict=True):
            params = [arrays[i] for i in stage.params]
            douts.append(stage.at(arrays).backward(douts[-1], x, params)[0])
        return douts[::-1]

    def below(
        self, arrays: Sequence[Any], index: int, dx: np.ndarray, values: list[np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Gradients of what comes before a stage, from the gradient by its input."""
        gradients: dict[int, np.ndarray] = {}
        for stage, x in zip(self.stages[:index][::-1], values[:index][::-1], strict=True):
            dx, *dparams = stage.at(arrays).backward(dx, x, [arrays[i] for i in stage.params])
            gradients.update(zip(stage.params, dparams, strict=True))
        gradients[self.x] = dx
        return gradients

    def gradients(self, arrays: Sequence[Any], dout: np.ndarray) -> dict[int, np.ndarray]:
        """The right gradients by position."""
        values = self.values(arrays)
        found = self.below(arrays, len(self.stages), dout, values)
        for i in self.regularised:
            found[i] = found[i] + dout * self.strength * arrays[i]
        return found


@dataclass
class _Search:
    """A depth-first search for the formulas."""

    arrays: Sequence[Any]
    out: np.ndarray
    hints: dict[str, Any]
    labels: np.ndarray | None
    all_epsilons: bool
    weights: list[int] = field(default_factory=list)
    budget: int = BUDGET
    tried: int = 0
    depth: int = 1

    def run(self, x: int, params: list[int]) -> Iterator[Program]:
        """Programs whose output agrees."""
        self.weights = [i for i in params if self.arrays[i].ndim > 1]
        for self.depth in range(1, DEPTH + 1):  # short programs first
            for stages, strength in self._extend(self.arrays[x], params, ()):
                yield Program(x, stages, strength, tuple(self.weights) if strength else ())
            if self.tried > self.budget:
                return

    def _extend(
        self, h: np.ndarray, left: list[int], stages: tuple[Stage, ...]
    ) -> Iterator[tuple[tuple[Stage, ...], float]]:
        self.tried += 1
        if self.tried > self.budget:
            return
        if len(stages) == self.depth and not left and _agree(h, self.out):
            yield stages, 0.0
        if (
            not left
            and not self.out.ndim
            and stages
            and isinstance(stages[-1].formula, CrossEntropy | Hinge | SquaredError)
        ):
            squares = sum(float(np.sum(self.arrays[i] ** 2)) for i in self.weights)
            rest = float(self.out) - float(h)
            if squares and rest > 1e-9 * abs(float(self.out)):
                yield stages, 2 * rest / squares
            return
        if len(stages) >= self.depth:
            return
        for stage in self._next(h, left, stages):
            try:
                with np.errstate(all="ignore"):
                    value = stage.formula.forward(h, [self.arrays[i] for i in stage.params])
            except (ValueError, IndexError, ZeroDivisionError):  # shapes that do not fit
                continue
            if np.all(np.isfinite(value)):
                yield from self._extend(value, left[len(stage.params) :], (*stages, stage))

    def _next(self, h: np.ndarray, left: list[int], stages: tuple[Stage, ...]) -> Iterator[Stage]:
        if not h.ndim:
            return
        before = stages[-1].formula if stages else None
        if left:
            yield from self._with_parameters(h, left)
        else:
            yield from self._final(h, stages)
        if not isinstance(before, Elementwise):
            reached = self.out if not left and h.shape == self.out.shape else None
            for formula in elementwise_formulas(h, h if reached is None else reached):
                yield Stage(formula)
        if h.ndim == 4 and not isinstance(before, Pool2d):
            for windows in self._pool_windows(h, bool(left)):
                for kind in ("max", "average"):
                    yield Stage(Pool2d(windows, kind))
            yield Stage(GlobalAveragePool())

    def _final(self, h: np.ndarray, stages: tuple[Stage, ...]) -> Iterator[Stage]:
        """What has no parameters and comes last."""
        if not self.out.ndim:
            yield from self._losses(h)
            return
        if h.shape == self.out.shape:
            mask = _mask(h, self.out)
            if mask is not None:
                yield Stage(scaling(mask))
            if h.ndim > 1:
                yield Stage(Softmax())
        if h.ndim > 2 and self.out.ndim == 2:
            yield Stage(Flatten())
        if not stages and h.ndim > 1 and h.shape == self.out.shape:
            for eps in self._epsilons():
                yield from (Stage(f) for f in _norms(h, None, eps, self.hints))

    def _losses(self, h: np.ndarray) -> Iterator[Stage]:
        if h.ndim == 2:
            yield Stage(Transpose())
        for place, value in ((None, self.labels), *enumerate(self.arrays)):
            if not isinstance(value, np.ndarray) or value.shape[:1] != h.shape[:1]:
                continue
            if value.dtype.kind == "f" and value.shape == h.shape and value is not h:
                squares = float(np.sum((h - value) ** 2))
                if squares:
                    factor = float(f"{float(self.out) / squares:.12g}")
                    yield Stage(SquaredError(value, factor), labels=place)
            if h.ndim != 2 or value.dtype.kind not in "iu" or value.ndim != 1 or not value.size:
                continue
            if value.min() < 0 or value.max() >= h.shape[1]:
                continue
            for mean in (True, False):
                yield Stage(CrossEntropy(value, 0.0, mean), labels=place)
                hard, soft = (
                    float(CrossEntropy(value, e, mean).forward(h, [])) for e in (0.0, 1.0)
                )
                share = (float(self.out) - hard) / (soft - hard) if soft != hard else 0.0
                if 1e-6 < share < 1:
                    smoothing = float(f"{share:.10g}")
                    yield Stage(CrossEntropy(value, smoothing, mean), labels=place)
                hint = self.hints.get("margin")
                for margin in {float(hint) if isinstance(hint, int | float) else 1.0, 1.0}:
                    yield Stage(Hinge(value, margin, mean), labels=place)

    def _epsilons(self) -> Sequence[float]:
        hint = self.hints.get("eps")
        if isinstance(hint, float):
            return (hint,)
        return EPSILONS if self.all_epsilons else EPSILONS[:1]

    def _with_parameters(self, h: np.ndarray, left: list[int]) -> Iterator[Stage]:
        first = self.arrays[left[0]]
        bias = left[1] if len(left) > 1 and _is_vector(self.arrays[left[1]]) else None
        if first.ndim == 2 and not _is_vector(first):
            flat = int(np.prod(h.shape[1:]))
            for transposed in (False, True):
                matrix = first.T if transposed else first
                if matrix.shape[0] == flat:
                    if bias is not None and self.arrays[bias].size == matrix.shape[1]:
                        yield Stage(Linear(transposed), (left[0], bias))
                    yield Stage(Linear(transposed, has_bias=False), (left[0],))
                if h.ndim == 2 and matrix.shape[0] == h.shape[0]:
                    yield Stage(Linear(transposed, True, False), (left[0],))
        if first.ndim == 4 and h.ndim == 4 and h.shape[1] % first.shape[1] == 0:
            groups = h.shape[1] // first.shape[1]
            if len(first) % groups == 0:
                for windows in self._conv_windows(h, first, len(left) == 1 + (bias is not None)):
                    if bias is not None and self.arrays[bias].size == len(first):
                        yield Stage(Conv2d(windows, groups), (left[0], bias))
                    if bias is None or len(left) > 2:
                        yield Stage(Conv2d(windows, groups, False), (left[0],))
        if bias is not None or (len(left) > 1 and first.shape == self.arrays[left[1]].shape):
            yield from self._normalisations(h, left)

    def _normalisations(self, h: np.ndarray, left: list[int]) -> Iterator[Stage]:
        weight, bias = (self.arrays[i] for i in left[:2])
        if weight.shape != bias.shape or h.ndim < 2:
            return
        for eps in self._epsilons():
            if len(left) >= 4 and all(self.arrays[i].size == weight.size for i in left[2:4]):
                shape = (1, h.shape[1], *(1,) * (h.ndim - 2))
                if weight.size == h.shape[1] and np.all(self.arrays[left[3]] >= 0):
                    yield Stage(RunningNormalise(shape, eps), tuple(left[:4]))
            for formula in _norms(h, weight, eps, self.hints):
                yield Stage(formula, tuple(left[:2]))

    def _pairs(self, name: str, default: Sequence[int]) -> list[tuple[int, int]]:
        """Candidates for a size: what a keyword says, or else the usual ones."""
        least = 0 if name == "pad" else 1
        for key, value in self.hints.items():
            pair = value if isinstance(value, tuple | list) else (value, value)
            is_pair = len(pair) == 2 and all(isinstance(each, int) for each in pair)
            if name in key and is_pair and min(pair) >= least:
                return [(int(pair[0]), int(pair[1]))]
        return [(value, value) for value in default]

    def _conv_windows(self, h: np.ndarray, weight: np.ndarray, last: bool) -> Iterator[Windows]:
        kernel = (weight.shape[2], weight.shape[3])
        half = (kernel[0] - 1) // 2
        paddings = self._pairs("pad", list(dict.fromkeys([half, 0, 1, 2, 3])))
        strides = self._pairs("stride", [1, 2, 3])
        if last and len(paddings) > 1:
            paddings = list(
                dict.fromkeys([*paddings, *((p, q) for p in range(4) for q in range(4))])
            )
        if last and len(strides) > 1:
            strides = list(
                dict.fromkeys([*strides, *((s, t) for s in (1, 2, 3) for t in (1, 2, 3))])
            )
        for stride in strides:
            for padding in paddings:
                windows = Windows(kernel, stride, padding)
                if min(windows.extent(h.shape)) < 1:
                    continue
                if last and self.out.ndim == 4 and self._too_small(windows.extent(h.shape)):
                    continue
                yield windows

    def _too_small(self, extent: tuple[int, int]) -> bool:
        return any(have < want for have, want in zip(extent, self.out.shape[2:], strict=True))

    def _pool_windows(self, h: np.ndarray, inside: bool) -> Iterator[Windows]:
        height, width = self.hints.get("pool_height"), self.hints.get("pool_width")
        if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
            kernels = [(height, width)]
        else:
            kernels = self._pairs("kernel", [2] if inside else [2, 3, 1, 4])
        pool_hint = any("pool" in key for key in self.hints)
        for kernel in kernels:
            strides = (
                [kernel] if inside else [kernel, *((s, t) for s in (1, 2, 3) for t in (1, 2, 3))]
            )
            if not inside and not pool_hint:
                strides = list(dict.fromkeys([*self._pairs("stride", [2]), *strides]))
            for stride in dict.fromkeys(strides):
                paddings = [(0, 0)] if inside else [(0, 0), (1, 1), (0, 1), (1, 0), (2, 2)]
                for padding in paddings:
                    if padding[0] * 2 > kernel[0] or padding[1] * 2 > kernel[1]:
                        continue
                    windows = Windows(kernel, stride, padding)
                    extent = windows.extent(h.shape)
                    fits = inside or self.out.ndim != 4 or extent == self.out.shape[2:]
                    if min(extent) >= 1 and fits:
                        yield windows


def _norms(
    h: np.ndarray, weight: np.ndarray | None, eps: float, hints: dict[str, Any]
) -> Iterator[Formula]:
    """Batch, layer and group norm that fit the shape of a weight."""
    shape = (1, h.shape[1], *(1,) * (h.ndim - 2))
    affine = weight is not None
    if weight is None or weight.size == h.shape[1]:
        axes = (0, *range(2, h.ndim))
        if len(h) > 1 or h.ndim > 2:
            yield Normalise("batch norm", h.shape, axes, shape, eps, affine)
    if weight is None or weight.shape == h.shape[h.ndim - weight.ndim :]:
        count = h.ndim - 1 if weight is None else weight.ndim
        axes, lead = tuple(range(h.ndim - count, h.ndim)), h.ndim - count
        yield Normalise("layer norm", h.shape, axes, (*(1,) * lead, *h.shape[lead:]), eps, affine)
    if (weight is None or weight.size == h.shape[1]) and h.ndim > 2:
        hint = hints.get("num_groups", hints.get("G"))
        for groups in range(1, h.shape[1] + 1):
            if h.shape[1] % groups == 0 and hint in (None, groups):
                grouped = (len(h), groups, h[0].size // groups)
                yield Normalise("group norm", grouped, (2,), shape, eps, affine)


def _is_vector(array: Any) -> bool:
    return is_float_array(array) and array.size == max(array.shape, default=0)


def _mask(x: np.ndarray, out: np.ndarray) -> np.ndarray | None:
    """What out is x times, if that is 0 or one number above 1."""
    safe = np.where(x == 0, 1.0, x)
    ratio = np.where(x == 0, 0.0, out / safe)
    kept = ratio[ratio != 0]
    if not kept.size or kept.size == ratio.size or not np.allclose(kept, kept.flat[0], rtol=1e-9):
        return None
    factor = float(f"{kept.flat[0]:.12g}")
    return np.where(ratio != 0, factor, 0.0) if factor > 1 else None


def _agree(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two outputs are the same but for rounding."""
    if a.shape != b.shape:
        return False
    size = float(np.max(np.abs(b), initial=0.0))
    return bool(np.allclose(a, b, rtol=1e-8, atol=1e-10 * size + 1e-14))


def _hints(
    subject_kwargs: dict[str, Any], names: Sequence[str], given: Sequence[Any]
) -> dict[str, Any]:
    """Sizes that arguments name, also inside dicts such as ``conv_param``."""
    found: dict[str, Any] = {}
    for key, value in [*zip(names, given, strict=True), *subject_kwargs.items()]:
        if isinstance(value, dict):
            found |= {str(inner): each for inner, each in value.items()}
        elif not isinstance(value, np.ndarray):
            found[str(key)] = value
    return found


def recognise(
    arrays: Sequence[Any],
    out: np.ndarray,
    fresh: Sequence[tuple[Sequence[Any], np.ndarray]],
    *,
    kwargs: dict[str, Any],
    names: Sequence[str],
    score_gradient: np.ndarray | None = None,
    budget: int = BUDGET,
) -> Program | None:
    """Find known formulas that give the output, here and at other inputs.

    Parameters
    ----------
    arrays : sequence
        The inputs of the forward.
    out : ndarray
        What it returned.
    fresh : sequence of (inputs, output)
        Other inputs and what came of them.
    kwargs : dict
        Further arguments of the forward.
    names : sequence of str
        Names of the inputs.
    score_gradient : ndarray, optional
        Gradient by the first input, from which labels that no argument holds are read.
    budget : int
        How many intermediate results are tried for each choice of the first input.

    Returns
    -------
    Program or None
        None if no known formula gives it.
    """
    floats = [i for i, value in enumerate(arrays) if is_float_array(value) and value.ndim]
    hints = _hints(kwargs, names, arrays)
    labels = None
    has_labels = any(isinstance(a, np.ndarray) and a.dtype.kind in "iu" for a in arrays)
    if score_gradient is not None and score_gradient.ndim == 2 and not has_labels:
        labels = np.argmin(score_gradient, axis=1)
    target = np.asarray(out, dtype=np.float64)
    if not floats:
        return None
    for all_epsilons in (False, True):
        for x in floats[:3]:
            others = [i for i in floats if i != x]
            for params in (others, others[:2], others[:3], others[:-2]):
                if params is not others and len(params) >= len(others):
                    continue
                search = _Search(arrays, target, hints, labels, all_epsilons, budget=budget)
                for program in search.run(x, params):
                    if all(_agree(program.output(a), np.asarray(o, float)) for a, o in fresh):
                        return program
    return None
