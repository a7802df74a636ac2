"""Wrong gradients that need no knowledge of the layer: signs, factors, axes, truncation.

A `Truth` gives the right gradients for any gradient from above, from a recognised formula or from
the numerical Jacobian. Each correction turns it into what a bug would return.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from chainrule.gradcheck.formulas import Formula
from chainrule.gradcheck.programs import Program
from chainrule.gradcheck.subject import Subject

__all__ = ["Candidate", "Truth", "blind_candidates", "fits", "known_candidates"]

VELOCITY = ("v", "velocity", "vel", "mom", "momentum", "buf", "momentum_buffer")


@dataclass(frozen=True)
class Candidate:
    """What a bug would return.

    Parameters
    ----------
    code, sentence : str
        Which bug.
    gradients : dict of int to ndarray
        By position of the input; those that the bug changes.
    """

    code: str
    sentence: str
    gradients: dict[int, np.ndarray]


class Truth:
    """The right gradients at some inputs.

    Parameters
    ----------
    subject : Subject
        The function.
    arrays : sequence
        Its inputs.
    out, dout : ndarray
        Its output there and the gradient from above.
    program : Program or None
        What it computes, if that is known.
    """

    def __init__(
        self,
        subject: Subject,
        arrays: Sequence[Any],
        out: np.ndarray,
        dout: np.ndarray,
        program: Program | None,
    ) -> None:
        self.subject, self.arrays, self.out, self.dout = subject, arrays, out, dout
        self.program = program
        self._jacobians: dict[int, np.ndarray] = {}
        self.right = self.gradients(dout)

    def gradients(self, dout: np.ndarray) -> dict[int, np.ndarray]:
        """The right gradients for another gradient from above."""
        if self.program is not None:
            found = self.program.gradients(self.arrays, dout)
            if all(position in found for position in self.subject.wrt):
                return found
        return {
            i: np.tensordot(dout.ravel(), self._jacobian(i), axes=1).reshape(self.arrays[i].shape)
            for i in self.subject.wrt
        }

    def _jacobian(self, position: int) -> np.ndarray:
        """Output elements by input elements, by central differences of fourth order."""
        if position not in self._jacobians:
            x = self.arrays[position]
            columns = np.zeros((self.out.size, x.size))
            for k in range(x.size):
                h = 1e-4 * max(1.0, abs(float(x.flat[k])))
                values = []
                for t in (h, -h, h / 2, -h / 2):
                    moved = x.copy()
                    moved.flat[k] += t
                    arrays = [*self.arrays[:position], moved, *self.arrays[position + 1 :]]
                    values.append(self.subject.call(arrays)[0].ravel().astype(np.float64))
                wide, narrow = (values[0] - values[1]) / (2 * h), (values[2] - values[3]) / h
                columns[:, k] = (4 * narrow - wide) / 3
            self._jacobians[position] = columns
        return self._jacobians[position]


def known_candidates(truth: Truth) -> Iterator[Candidate]:
    """Bugs of the recognised formulas, one at a time, carried through to all gradients."""
    program, arrays = truth.program, truth.arrays
    if program is None:
        return
    values = program.values(arrays)
    douts = program.upstream(arrays, truth.dout)
    for index, stage in enumerate(program.stages):
        params = [arrays[i] for i in stage.params]
        x, dout = values[index], douts[index]
        where = f" ({stage.formula.title})" if len(program.stages) > 1 else ""
        for mistake in stage.at(arrays).mistakes(dout, x, params):
            yield from _carried(
                truth, index, mistake.code, mistake.sentence + where, mistake.gradients, values
            )
        yield from _wiring(truth, index, values, douts, where)
    yield from _regulariser(truth)


def _carried(
    truth: Truth,
    index: int,
    code: str,
    sentence: str,
    gradients: Sequence[np.ndarray | None],
    values: list[np.ndarray],
) -> Iterator[Candidate]:
    """A bug in one stage, seen in the gradients of the inputs."""
    program = truth.program
    assert program is not None  # for the type checker: callers have one
    dx, *dparams = gradients
    found = {
        i: np.asarray(value, dtype=np.float64)
        for i, value in zip(program.stages[index].params, dparams, strict=True)
        if value is not None
    }
    if dx is not None:
        if dx.shape == values[index].shape:
            found |= program.below(truth.arrays, index, np.asarray(dx, np.float64), values)
        elif index == 0:
            found[program.x] = dx
        else:
            return
    for i in program.regularised:
        if i in found and found[i].shape == truth.arrays[i].shape:
            found[i] = found[i] + truth.dout * program.strength * truth.arrays[i]
    if found:
        yield Candidate(code, sentence, found)


def _wiring(
    truth: Truth, index: int, values: list[np.ndarray], douts: list[np.ndarray], where: str
) -> Iterator[Candidate]:
    """Bugs between stages: another gradient from above, another tensor remembered."""
    program = truth.program
    assert program is not None  # for the type checker: callers have one
    stage = program.stages[index]
    params = [truth.arrays[i] for i in stage.params]
    x, dout = values[index], douts[index]
    formula = stage.at(truth.arrays)
    right = formula.backward(dout, x, params)
    none: list[np.ndarray | None] = [None] * len(params)
    ones = np.ones_like(dout)
    title = stage.formula.title
    if right[0].shape == dout.shape and not stage.params:
        words = f"the backward of {title} is left out"
        yield from _carried(truth, index, "local_missing", words + where, [dout], values)

    def carried(code: str, words: str, gradients: Sequence[Any]) -> Iterator[Candidate]:
        yield from _carried(truth, index, code, words + where, gradients, values)

    ignored = formula.backward(ones, x, params)
    code, words = "upstream_ignored", f"{title} ignores the gradient from above (takes it as 1)"
    yield from carried(code, words, ignored)
    for slot in range(len(right)):
        name = "its input" if slot == 0 else truth.subject.names[stage.params[slot - 1]]
        one: list[Any] = [None] * len(right)
        one[slot] = ignored[slot]
        yield from carried(code, f"{words} in the gradient by {name}", one)
        one = [None] * len(right)
        one[slot] = -right[slot]
        yield from carried("sign", f"the gradient by {name} has the wrong sign", one)
        if slot == 0 and index:
            yield from carried("zero", "the gradient by its input is zero", [right[0] * 0, *none])
            for factor in _sizes(truth):
                for c, kind, verb in (
                    (factor, "missing_mean", "lacks"),
                    (1 / factor, "double_mean", "has"),
                ):
                    sentence = f"the gradient by its input {verb} a division by {factor:g}"
                    yield from carried(kind, sentence, [right[0] * c, *none])
    for other, value in enumerate(douts):
        if other != index and value.shape == dout.shape:
            wrong = formula.backward(value, x, params)
            words = "the gradient from above is taken at another place of the chain"
            yield from carried("upstream_wrong", words, wrong)
            for slot in range(1, len(right)):
                one = [None] * len(right)
                one[slot] = wrong[slot]
                yield from carried("upstream_wrong", f"{words}, for parameter {slot}", one)
    for other, value in enumerate(values):
        if other == index or value.shape != x.shape:
            continue
        is_mask = getattr(stage.formula, "kinked", False)
        code = "mask_wrong_tensor" if is_mask else "input_for_output"
        what = (
            "the input of the chain"
            if other == 0
            else (f"the output of {program.stages[other - 1].formula.title}")
        )
        wrong = formula.backward(dout, value, params)
        yield from carried(code, f"{title} uses {what} instead of its own input", wrong)


def _regulariser(truth: Truth) -> Iterator[Candidate]:
    program = truth.program
    if program is None or not program.strength:
        return
    groups = [program.regularised, *((i,) for i in program.regularised)]
    for group in groups:
        names = ", ".join(truth.subject.names[i] for i in group)
        for factor, code, words in (
            (-1.0, "regulariser_missing", "is missing"),
            (-0.5, "regulariser_factor", "has half its size: a factor 2 is lost"),
            (1.0, "regulariser_factor", "has twice its size: a factor 1/2 is lost"),
            (-2.0, "regulariser_sign", "has the wrong sign"),
        ):
            changed = {
                i: truth.right[i] + factor * truth.dout * program.strength * truth.arrays[i]
                for i in group
            }
            yield Candidate(code, f"the regulariser's gradient by {names} {words}", changed)


def _sizes(truth: Truth) -> list[float]:
    """Numbers that a mean may divide by."""
    shapes = [truth.out.shape, *(truth.arrays[i].shape for i in truth.subject.wrt)]
    found: set[int] = set()
    for shape in shapes:
        found |= set(shape) | {
            int(np.prod(shape)),
            int(np.prod(shape[1:])),
            int(np.prod(shape[2:])),
        }
        if len(shape) > 2:
            found.add(int(shape[0] * np.prod(shape[2:])))
    return sorted(float(size) for size in found if size > 1)


def blind_candidates(truth: Truth, wrong: Sequence[int]) -> Iterator[Candidate]:
    """Bugs that show in the right gradient itself."""
    right = truth.right
    names = truth.subject.names
    for i in wrong:
        gradient, name = right[i], names[i]
        is_velocity = name.lower() in VELOCITY
        sign = "velocity_sign" if is_velocity else "sign"
        words = "the velocity enters" if is_velocity else f"the gradient by {name} comes"
        yield Candidate(sign, f"{words} with the wrong sign", {i: -gradient})
        yield from _rearranged(name, i, gradient)
        yield from _truncated(name, i, gradient)
        for j in wrong:
            if j != i and right[j].shape == gradient.shape:
                sentence = f"{name} gets the gradient that belongs to {names[j]}"
                yield Candidate("swapped", sentence, {i: right[j], j: gradient})
                yield Candidate("swapped", sentence, {i: right[j]})
    yield from _from_above(truth, wrong)


def _rearranged(name: str, i: int, gradient: np.ndarray) -> Iterator[Candidate]:
    for axes in permutations(range(gradient.ndim)):
        if axes == tuple(range(gradient.ndim)):
            continue
        moved = gradient.transpose(axes)
        words = "transposed" if gradient.ndim == 2 else f"with its axes in the order {axes}"
        yield Candidate("transposed", f"the gradient by {name} is {words}", {i: moved})
        sentence = f"the gradient by {name} is {words} and then reshaped"
        yield Candidate("transposed", sentence, {i: moved.reshape(gradient.shape)})
    if gradient.ndim > 1:
        fortran = gradient.reshape(gradient.shape, order="F")
        sentence = f"the gradient by {name} is reshaped in column-major order"
        yield Candidate(
            "reshaped", sentence, {i: gradient.ravel().reshape(fortran.shape, order="F")}
        )
        yield Candidate(
            "reshaped", sentence, {i: gradient.ravel(order="F").reshape(gradient.shape)}
        )
    for axis in range(gradient.ndim):
        if gradient.shape[axis] < 2:
            continue
        sentence = f"the gradient by {name} is reversed along axis {axis}"
        yield Candidate("flipped", sentence, {i: np.flip(gradient, axis)})
        for step in (1, -1):
            sentence = f"the gradient by {name} is shifted by {step} along axis {axis}"
            yield Candidate("window_offset", sentence, {i: np.roll(gradient, step, axis)})
            shifted = np.zeros_like(gradient)
            ahead = np.moveaxis(shifted, axis, 0)
            source = np.moveaxis(gradient, axis, 0)
            if step == 1:
                ahead[1:] = source[:-1]
            else:
                ahead[:-1] = source[1:]
            yield Candidate("window_offset", f"{sentence}, with zeros behind", {i: shifted})


def _truncated(name: str, i: int, gradient: np.ndarray) -> Iterator[Candidate]:
    for words, rounded in (
        ("cut to integers", np.trunc(gradient)),
        ("rounded to integers", np.round(gradient)),
        ("rounded down to integers", np.floor(gradient)),
    ):
        yield Candidate("integer_truncation", f"the gradient by {name} is {words}", {i: rounded})


def _from_above(truth: Truth, wrong: Sequence[int]) -> Iterator[Candidate]:
    """The right gradient for another gradient from above."""
    dout = truth.dout
    others = [("upstream_ignored", "dout is ignored and taken as 1", np.ones_like(dout))]
    for axis in range(dout.ndim):
        if dout.shape[axis] < 2:
            continue
        for position, words in ((-1, "last"), (0, "first")):
            kept = np.zeros_like(dout)
            index: tuple[slice | int, ...] = (*(slice(None),) * axis, position)
            kept[index] = dout[index]
            code = "overwritten" if position == -1 else "missing_term"
            sentence = f"only the {words} part of dout along axis {axis} counts"
            if code == "overwritten":
                sentence += ": each overwrites the one before"
            others.append((code, sentence, kept))
            left = dout.copy()
            left[index] = 0.0
            sentence = f"the {words} part of dout along axis {axis} is left out"
            others.append(("window_offset", sentence, left))
    others.append(("upstream_wrong", "dout is squared", dout**2))
    others.append(("upstream_wrong", "the absolute value of dout is used", np.abs(dout)))
    if dout.ndim == 4:
        n, f, *extent = dout.shape
        for words, moved in (
            ("(F, N, OH, OW)", dout.transpose(1, 0, 2, 3)),
            ("(N, F, OH, OW)", dout),
            ("(F, OH, OW, N)", dout.transpose(1, 2, 3, 0)),
            ("(N, OH, OW, F)", dout.transpose(0, 2, 3, 1)),
        ):
            for shape, axes in (
                ((f, *extent, n), (3, 0, 1, 2)),
                ((n, *extent, f), (0, 3, 1, 2)),
                ((f, n, *extent), (1, 0, 2, 3)),
            ):
                again = moved.reshape(shape).transpose(axes)
                if not np.array_equal(again, dout):
                    sentence = f"dout is reshaped in the order {words}, which does not fit {shape}"
                    others.append(("reshaped", sentence, again))
    if dout.ndim == 2 and dout.shape[0] == dout.shape[1]:
        others.append(("transposed", "dout is transposed", dout.T))
    for code, sentence, other in others:
        gradients = truth.gradients(other)
        yield Candidate(code, sentence, {i: gradients[i] for i in wrong})
        if len(wrong) > 1:
            for i in wrong:
                name = truth.subject.names[i]
                yield Candidate(code, f"{sentence}, in the gradient by {name}", {i: gradients[i]})


def fits(
    truth: Truth, position: int, analytic: np.ndarray
) -> tuple[str, str, tuple[float, ...]] | None:
    """Fit the terms of a known gradient, or multiples of it, to what backward returned.

    Parameters
    ----------
    truth : Truth
        The right gradients.
    position : int
        Which input.
    analytic : ndarray
        What backward returned for it.

    Returns
    -------
    tuple or None
        Code, sentence and coefficients, to be compared with those at other inputs.
    """
    gradient, name = truth.right[position], truth.subject.names[position]
    if analytic.shape != gradient.shape:
        return _pattern(truth, position, analytic)
    factor = _coefficients([gradient], analytic)
    if factor is not None:
        return (*_name_factor(truth, name, float(factor[0])), (float(factor[0]),))
    weight = truth.arrays[position]
    added = _coefficients([weight], analytic - gradient)
    if added is not None and weight.size > 1 and np.ptp(weight) != 0:
        return _name_regulariser(truth, position, float(added[0]))
    for formula, slot, dout, x, params in _visible(truth, position):
        terms = formula.terms(slot, dout, x, params)
        found = _coefficients([value for _, _, value in terms], analytic) if terms else None
        if found is None:
            continue
        wrong = [
            (code, words, c)
            for (code, words, _), c in zip(terms, found, strict=True)
            if abs(c - 1) > 1e-6
        ]
        if wrong and (len(wrong) < len(terms) or len(terms) == 1):  # else nothing is right
            parts = [f"{words} {_describe(c)}" for _, words, c in wrong]
            return wrong[0][0], f"{' and '.join(parts)}, in the gradient by {name}", tuple(found)
    return _pattern(truth, position, analytic)


def _visible(
    truth: Truth, position: int
) -> Iterator[tuple[Formula, int, np.ndarray, np.ndarray, list[np.ndarray]]]:
    """Formulas whose gradient by one of their arguments is what backward returns as it is."""
    program = truth.program
    if program is None:
        return
    values, douts = program.values(truth.arrays), program.upstream(truth.arrays, truth.dout)
    for index, stage in enumerate(program.stages):
        slots = [0] if index == 0 and position == program.x else []
        slots += [1 + k for k, i in enumerate(stage.params) if i == position]
        params = [truth.arrays[i] for i in stage.params]
        for slot in slots:
            yield stage.at(truth.arrays), slot, douts[index], values[index], params


def _pattern(
    truth: Truth, position: int, analytic: np.ndarray
) -> tuple[str, str, tuple[float, ...]] | None:
    """What the place of wrong elements tells."""
    if analytic.dtype.kind not in "fiu" or not np.all(np.isfinite(analytic)):
        return None
    for formula, slot, dout, x, params in _visible(truth, position):
        found = formula.pattern(slot, analytic, dout, x, params)
        if found is not None:
            return (*found, ())
    return None


def _describe(c: float) -> str:
    if abs(c) < 1e-6:
        return "is missing"
    if abs(c + 1) < 1e-6:
        return "has the wrong sign"
    return f"is multiplied by {c:.4g}"


def _coefficients(terms: Sequence[np.ndarray], target: np.ndarray) -> np.ndarray | None:
    """Coefficients of terms that add up to a target exactly; None if none do."""
    matrix = np.stack([np.ravel(term) for term in terms], axis=1)
    vector = np.ravel(target)
    size = float(np.max(np.abs(vector), initial=0.0))
    if not size or not np.all(np.isfinite(vector)) or len(vector) < len(terms) + (len(terms) > 1):
        return None
    found = np.linalg.lstsq(matrix, vector, rcond=1e-10)[0]
    rest = float(np.max(np.abs(matrix @ found - vector)))
    scale = max(size, float(np.max(np.abs(matrix), initial=0.0)) * float(np.max(np.abs(found))))
    return found if rest <= 1e-7 * scale else None


def _name_factor(truth: Truth, name: str, c: float) -> tuple[str, str]:
    """What a constant factor between a wrong and the right gradient means."""
    sizes = _sizes(truth)

    def close(a: float, b: float) -> bool:
        return abs(a - b) <= 1e-6 * abs(b)

    if close(c, -1):
        is_velocity = name.lower() in VELOCITY
        words = "the velocity enters" if is_velocity else f"the gradient by {name} comes"
        return "velocity_sign" if is_velocity else "sign", f"{words} with the wrong sign"
    for size in sizes:
        both = f"{size:g} times" if c > 0 else f"-{size:g} times"
        if close(abs(c), size) and size > 2:
            return (
                "missing_mean",
                f"the gradient by {name} is {both} too large: a division by {size:g} is missing",
            )
        if close(abs(c), 1 / size) and size > 2:
            return "double_mean", f"the gradient by {name} is divided by {size:g} once too often"
    for value, words in (
        (2.0, "twice"),
        (0.5, "half"),
        (-2.0, "minus twice"),
        (-0.5, "minus half"),
    ):
        if close(c, value):
            return "factor", f"the gradient by {name} is {words} what it should be"
    return "factor", f"the gradient by {name} is {c:.6g} times what it should be"


def _name_regulariser(
    truth: Truth, position: int, c: float
) -> tuple[str, str, tuple[float, ...]] | None:
    """What is meant by a gradient that is off by a multiple of the weight itself."""
    name = truth.subject.names[position]
    if truth.out.ndim:
        return "wrong_term", f"the gradient by {name} is off by {c:.6g} {name}", (c,)
    strength = _strength(truth, position)
    upstream = float(truth.dout)
    share = c / (strength * upstream) if strength else np.inf
    table = (
        (
            -1.0,
            "regulariser_missing",
            "the regulariser's gradient is missing: {c:.6g} {name} is lacking",
        ),
        (
            -0.5,
            "regulariser_factor",
            "the regulariser's gradient has half its size (factor 2 lost)",
        ),
        (
            1.0,
            "regulariser_factor",
            "the regulariser's gradient has twice its size (factor 1/2 lost)",
        ),
        (-2.0, "regulariser_sign", "the regulariser's gradient has the wrong sign"),
    )
    for value, code, words in table:
        if abs(share - value) < 1e-3:
            return code, f"{words.format(c=-c, name=name)}, by {name}", (c,)
    sentence = f"the gradient by {name} is off by {c:.6g} {name}: a regulariser of another strength"
    return "regulariser_factor", sentence, (c,)


def _strength(truth: Truth, position: int) -> float:
    """The strength k of ``k/2 sum w^2`` in a loss: what grows with the square of w."""
    if truth.program is not None and position in truth.program.regularised:
        return truth.program.strength
    weight = truth.arrays[position]

    def loss(t: float) -> float:
        arrays = [*truth.arrays[:position], t * weight, *truth.arrays[position + 1 :]]
        with np.errstate(all="ignore"):
            return float(truth.subject.call(arrays)[0])

    # Far out a loss of scores grows linearly, so its second difference is the regulariser's.
    found = [
        (loss(3 * t) - 2 * loss(2 * t) + loss(t)) / (t**2 * float(np.sum(weight**2)))
        for t in (20.0, 40.0)
    ]
    return (
        found[1]
        if np.isfinite(found).all() and abs(found[1] - found[0]) < 0.1 * abs(found[1])
        else 0.0
    )
