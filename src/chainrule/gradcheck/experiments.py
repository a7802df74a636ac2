"""Experiments of the gradient doctor: other inputs that tell one bug from another."""

from __future__ import annotations

import numpy as np

from chainrule.gradcheck.diagnosis import Cause
from chainrule.gradcheck.examination import Examination, gradients_at
from chainrule.gradcheck.formulas import Elementwise
from chainrule.gradcheck.losses import Hinge
from chainrule.gradcheck.programs import Program

__all__ = ["boundary_remarks", "close", "shape_answer", "told_by_batch", "wrong_derivative"]


def wrong_derivative(
    found: Examination, program: Program | None, k: int, rng: np.random.Generator
) -> Cause | None:
    """An elementwise layer whose dx is dout times a function of x, but not the derivative."""
    subject = found.subject
    position = subject.wrt[k]
    if program is None or position != program.x or len(program.stages) > 1:
        return None
    formula = program.stages[0].formula
    if not isinstance(formula, Elementwise) or formula.kinked:
        return None
    x = subject.arrays[position]
    order = rng.permutation(x.size)
    factors = []
    for moved in (x, x, x.ravel()[order].reshape(x.shape)):
        arrays = [*subject.arrays[:position], moved, *subject.arrays[position + 1 :]]
        dout = rng.uniform(0.5, 1.5, x.shape)
        returned = gradients_at(found, arrays, dout)
        analytic = None if returned is None else returned[1][k]
        if analytic is None or analytic.shape != x.shape:
            return None
        factors.append(np.ravel(analytic / dout))
    if not close(factors[0], factors[1]) or not close(factors[0][order], factors[2]):
        return None
    slope = np.ravel(formula.slope(x))
    worst = int(np.argmax(np.abs(factors[0] - slope)))
    sentence = (
        f"dout is multiplied by a function of {subject.names[position]} that is not the "
        f"derivative of {formula.title}: at {x.flat[worst]:.4g} it is {factors[0][worst]:.4g} "
        f"instead of {slope[worst]:.4g}"
    )
    evidence = ("It does not depend on dout, nor on other elements: the formula is wrong.",)
    return Cause("wrong_derivative", sentence, evidence)


def told_by_batch(
    found: Examination,
    program: Program | None,
    k: int,
    rng: np.random.Generator,
    factor: tuple[str, str, float],
) -> tuple[str, str]:
    """Tell a factor 2 from a batch of two, by one more example.

    Parameters
    ----------
    found : Examination
        What was examined.
    program : Program or None
        What forward computes.
    k : int
        Which gradient is off by a factor.
    rng : Generator
        Draws dout.
    factor : tuple of str, str and float
        Code, sentence and value as they seem.

    Returns
    -------
    tuple of str
        Code and sentence as they are.
    """
    subject, (code, sentence, c) = found.subject, factor
    if program is None or not subject.arrays[program.x].ndim:
        return code, sentence
    count = len(subject.arrays[program.x])
    arrays = list(subject.arrays)
    for i, a in enumerate(arrays):
        is_labels = isinstance(a, np.ndarray) and a.dtype.kind in "iu" and a.shape == (count,)
        if i == program.x or is_labels:
            arrays[i] = np.concatenate([a, a[:1]])
    try:
        out = subject.call(arrays)[0]
        dout = np.ones(out.shape) if not out.ndim else rng.uniform(0.5, 1.5, out.shape)
        right = program.gradients(arrays, dout)[subject.wrt[k]]
    except Exception:  # another size of the batch is more than some forwards take
        return code, sentence
    returned = gradients_at(found, arrays, dout)
    analytic = None if returned is None else returned[1][k]
    square = float(np.sum(right**2))
    if analytic is None or analytic.shape != right.shape or not square or not c:
        return code, sentence
    now = float(np.sum(analytic * right)) / square
    name = subject.names[subject.wrt[k]]
    power = np.log(abs(now / c)) / np.log((count + 1) / count) if now else 0.0
    if abs(power - 1) < 1e-3:
        return "missing_mean", f"the gradient by {name} lacks a division by N = {count}"
    if abs(power + 1) < 1e-3:
        return "double_mean", f"the gradient by {name} is divided by N = {count} once too often"
    for value, words in ((2.0, "twice"), (0.5, "half")):
        if abs(power) < 1e-3 and abs(c - value) < 1e-6:
            return "factor", f"the gradient by {name} is {words} what it should be"
    return code, sentence


def boundary_remarks(found: Examination, program: Program | None) -> list[Cause]:
    """Whether a rectifier or hinge lets the gradient through at exactly its kink."""
    subject = found.subject
    if program is None or not found.entries:
        return []
    arrays = list(subject.arrays)
    first = program.stages[0].formula
    kinked = [getattr(stage.formula, "kinked", False) for stage in program.stages]
    if isinstance(first, Hinge):
        x = np.zeros_like(arrays[program.x])
        x[np.arange(len(x)), first.labels] = first.margin
        arrays[program.x] = x
    elif any(kinked):
        # Zeros everywhere but in the weights before it bring the rectifier to 0.
        arrays[program.x] = np.zeros_like(arrays[program.x])
        for stage in program.stages:
            for place, i in enumerate(stage.params):
                if place:
                    arrays[i] = np.zeros_like(arrays[i])
    else:
        return []
    returned = gradients_at(found, arrays, found.dout)
    if returned is None or not np.array_equal(returned[0], program.output(arrays)):
        return []
    right = program.gradients(arrays, found.dout)
    for position, analytic in zip(subject.wrt, returned[1], strict=False):
        if analytic is not None and position in right and not close(analytic, right[position]):
            where = f"with {subject.names[program.x]} at the kink"
            line = f"{where} the gradient by {subject.names[position]} is not 0."
            sentence = (
                "at exactly the kink the gradient passes, as with >= for >. That is a subgradient "
                "too, but PyTorch and the courses take 0 there."
            )
            return [Cause("mask_boundary", sentence, (line,))]
    return []


def close(analytic: np.ndarray, expected: np.ndarray) -> bool:
    """Whether a suspicion gives the numbers that were returned."""
    if analytic.shape != expected.shape:
        return False
    if analytic.dtype.kind not in "fiub":
        return False
    values = np.asarray(analytic, dtype=np.float64)
    size = float(np.max(np.abs(expected), initial=0.0))
    if not np.isfinite(size):
        return False
    return bool(np.allclose(values, expected, rtol=1e-6, atol=1e-8 * size + 1e-12))


def shape_answer(analytic: np.ndarray, right: np.ndarray) -> tuple[str, str] | None:
    """What turns an array of the wrong shape into the right gradient."""
    if analytic.T.shape == right.shape and close(analytic.T, right):
        return "transposed", "is transposed"
    if analytic.size == right.size and close(analytic.reshape(right.shape), right):
        shapes = f"{analytic.shape} instead of {right.shape}"
        return "reshaped", f"has the right numbers in the wrong shape, {shapes}"
    for axis in range(analytic.ndim):
        for axes in ((axis,), tuple(range(axis + 1)), (0, *range(2, analytic.ndim))):
            summed = analytic.sum(axis=tuple(dict.fromkeys(axes)))
            if summed.size == right.size and close(summed.reshape(right.shape), right):
                return "missing_sum", f"is not summed over axes {axes}, where it was broadcast"
    for axis in range(right.ndim):
        for total in (right.sum(axis=axis), right.sum(axis=axis, keepdims=True)):
            if close(analytic, total):
                return "wrong_axis", f"is summed over axis {axis} of the input as well"
    return None
