"""The gradient doctor: which bug makes a backward pass return what it returns?

A bug is named only if a correction, applied to the right gradients, gives every number that the
backward returned, here and again on fresh inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from chainrule.gradcheck.checking import MAX_ELEMENTS, TOLERANCE
from chainrule.gradcheck.corrections import (
    Candidate,
    Truth,
    blind_candidates,
    fits,
    known_candidates,
)
from chainrule.gradcheck.diagnosis import Cause, Diagnosis
from chainrule.gradcheck.examination import Examination, examine, gradients_at
from chainrule.gradcheck.experiments import (
    boundary_remarks,
    close,
    shape_answer,
    told_by_batch,
    wrong_derivative,
)
from chainrule.gradcheck.formulas import Linear
from chainrule.gradcheck.programs import Program, recognise
from chainrule.gradcheck.subject import Inputs, Subject, is_float_array

__all__ = ["diagnose"]

FRESH = 2  # other inputs on which a suspicion has to hold
LARGEST_JACOBIAN = 1_000_000  # elements; each column costs four calls of forward
MOST_COLUMNS = 1000


def diagnose(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Inputs,
    *,
    dout: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    wrt: Sequence[int | str] | None = None,
    forward_kwargs: Mapping[str, Any] | None = None,
    tolerance: float = TOLERANCE,
    max_elements: int = MAX_ELEMENTS,
) -> Diagnosis:
    """Name the bug in a backward pass, with the evidence.

    Parameters
    ----------
    forward, backward : callable
        As for `check_layer`: forward returns ``(out, cache)``, which backward takes.
    inputs : sequence or mapping
        The arguments of forward. Small ones will do, if sizes differ from one another: a missing
        1/N does not show where N is 1, nor a transposition in a square.
    dout : array_like, shape of out, optional
        Gradient of a final scalar by out; random by default.
    rng : numpy.random.Generator, optional
        Draws dout and fresh inputs; by default with seed 0.
    wrt : sequence of int or str, optional
        Positions or names of the inputs that backward differentiates by, if not all of floats.
    forward_kwargs : mapping, optional
        Further arguments of forward that are no inputs, such as ``stride``.
    tolerance : float, default 1e-7
        The largest relative error that passes.
    max_elements : int, default 256
        Arrays up to this size are compared element by element.

    Returns
    -------
    Diagnosis
        Whether the gradients are right, and if not, the causes, best first. Where no bug explains
        all numbers the cause is ``unrecognised``, with the elements that differ.

    Raises
    ------
    InputError
        If there is nothing to differentiate by, or forward does not return ``(out, cache)``.
    ShapeError
        If dout has another shape than out.

    Notes
    -----
    First comes everything that `check_layer` tells apart from wrong values. Then forward is
    compared with the formulas of common layers, alone and in a row, with losses and L2
    regularisers. For each of them bugs are known, and for any function at all signs, factors,
    transpositions, truncation and the like. One bug after another is applied to the right
    gradients; what reproduces the numbers returned, and does so again on two sets of fresh
    inputs, is the cause.

    Examples
    --------
    >>> import numpy as np
    >>> def forward(x, weight, bias):
    ...     return x @ weight + bias, (x, weight)
    >>> def backward(dout, cache):
    ...     x, weight = cache
    ...     return dout @ weight.T, x.T @ dout, dout.mean(axis=0)
    >>> rng = np.random.default_rng(0)
    >>> diagnosis = diagnose(forward, backward, [rng.normal(size=s) for s in ((5, 4), (4, 3), 3)])
    >>> diagnosis.ok, diagnosis.causes[0].code
    (False, 'double_mean')
    >>> print(diagnosis.causes[0].sentence)
    the gradient by bias is divided by N = 5 once too often
    """
    generator = np.random.default_rng(0) if rng is None else rng
    subject = Subject("diagnose", forward, backward, inputs, wrt=wrt, forward_kwargs=forward_kwargs)
    with np.errstate(all="ignore"):  # steps may lead out of a domain; results are looked at
        found = examine(subject, dout, generator, tolerance, max_elements)
        return _Case(found, generator).diagnosis()


@dataclass
class _Observation:
    """Inputs, what backward returned for them, and what it should have."""

    truth: Truth
    analytic: list[np.ndarray | None]


class _Case:
    """One patient."""

    def __init__(self, found: Examination, rng: np.random.Generator) -> None:
        self.found, self.rng, self.subject = found, rng, found.subject
        self.program: Program | None = None
        self.observations: list[_Observation] = []

    def diagnosis(self) -> Diagnosis:
        """Find the causes."""
        found = self.found
        causes = [
            Cause(problem.code, problem.sentence)
            for problem in found.problems
            if problem.fails and problem.code not in ("shape", "ties", "nan", "raises", "dtype")
        ]
        causes += [Cause("mask_boundary", p.sentence) for p in found.problems if p.code == "ties"]
        causes = _merged(causes)
        fatal = {"nondeterministic", "none", "nan_output"} & {cause.code for cause in causes}
        remarks: list[Cause] = []
        if not fatal:
            self._recognise()
            if found.report.ok:
                remarks = boundary_remarks(found, self.program)
            elif any(p.code == "raises" for p in found.problems):
                causes += self._raises()
            else:
                causes += self._values()
        rest = [p for p in found.problems if p.fails and p.code in ("nan", "shape", "dtype")]
        if not causes:
            causes += [Cause(problem.code, problem.sentence) for problem in rest]
        if not found.report.ok and not causes:
            causes.append(self._unrecognised())
        title = self.program.title if self.program else ""
        return Diagnosis(found.report.ok, tuple(causes), found.report, tuple(remarks), title)

    # --- what is observed -------------------------------------------------------------------

    def _recognise(self) -> None:
        """See what forward computes, here and at fresh inputs."""
        subject, found = self.subject, self.found
        fresh = []
        for _ in range(FRESH):
            arrays = subject.fresh_arrays(self.rng)
            try:
                fresh.append((arrays, subject.call(arrays)[0]))
            except Exception:  # outside the domain of a function that is not known
                continue
        gradient = found.numeric[0] if found.numeric else None
        self.fresh = fresh
        if any(is_float_array(a) and not a.size for a in subject.arrays) or not found.out.size:
            return  # of nothing nothing can be recognised
        budget = 200 if found.report.ok else 3000  # for a remark little effort will do
        self.program = recognise(
            subject.arrays, found.out, fresh,
            kwargs=subject.kwargs, names=subject.names, score_gradient=gradient, budget=budget,
        )  # fmt: skip

    def _observe(self) -> bool:
        """Run backward everywhere; False if the right gradients would take too long."""
        subject = self.subject
        sizes = sum(subject.arrays[i].size for i in subject.wrt)
        too_large = sizes > MOST_COLUMNS or sizes * self.found.out.size > LARGEST_JACOBIAN
        if self.program is None and too_large:
            return False
        points = [(subject.arrays, self.found.out, self.found.dout)]
        for arrays, out in self.fresh:
            dout = self.found.dout
            if dout.ndim or subject.takes_dout:
                dout = subject.cotangent(out, None, self.rng) if subject.layer else dout
            points.append((arrays, out, dout))
        for arrays, out, dout in points:
            returned = gradients_at(self.found, arrays, dout)
            if returned is None:  # a backward that works here and fails there is seen elsewhere
                continue
            truth = Truth(subject, arrays, out, dout, self.program)
            self.observations.append(_Observation(truth, returned[1]))
        return True

    def _wrong(self) -> list[int]:
        """Positions in ``subject.wrt`` of gradients that are wrong at any of the inputs."""
        return [
            k
            for k, position in enumerate(self.subject.wrt)
            if any(
                (analytic := each.analytic[k]) is not None
                and not close(analytic, each.truth.right[position])
                for each in self.observations
            )
        ]

    # --- which bug --------------------------------------------------------------------------

    def _values(self) -> list[Cause]:
        """Explain wrong values."""
        entries_ok = all(entry.ok for entry in self.found.entries)
        if entries_ok and not any(p.code in ("shape", "nan") for p in self.found.problems):
            return []
        if not self._observe():
            return []
        wrong = self._wrong()
        if not wrong:
            return []
        if all(self._is_zero(k) for k in wrong):
            names = ", ".join(self.subject.names[self.subject.wrt[k]] for k in wrong)
            return [self._cause("zero", f"the gradient by {names} is zero", wrong)]
        joint = self._joint(wrong)
        if joint is not None:
            return [self._cause(joint.code, joint.sentence, wrong)]
        explained: dict[int, Cause] = {}
        for k in wrong:
            cause = self._one(k, wrong)
            if cause is not None:
                explained[k] = cause
        causes = _merged([explained[k] for k in wrong if k in explained])
        rest = [k for k in wrong if k not in explained]
        if rest:
            resized = self._resized() if self.found.report.problems else []
            causes += resized or [self._unrecognised(rest)]
        return causes

    def _is_zero(self, k: int) -> bool:
        """Whether backward returns exactly 0 everywhere, at all inputs."""
        found = [each.analytic[k] for each in self.observations]
        return all(
            a is not None and a.shape == each.truth.right[self.subject.wrt[k]].shape and not a.any()
            for a, each in zip(found, self.observations, strict=True)
        )

    def _candidates(self, truth: Truth, wrong: list[int]) -> Iterator[Candidate]:
        yield from known_candidates(truth)
        yield from blind_candidates(truth, [self.subject.wrt[k] for k in wrong])

    def _joint(self, wrong: list[int]) -> Candidate | None:
        """A single bug that explains all gradients at all inputs."""
        left: dict[tuple[str, str], Candidate] | None = None
        for each in self.observations:
            matching = {}
            for candidate in self._candidates(each.truth, wrong):
                key = (candidate.code, candidate.sentence)
                if left is not None and key not in left:
                    continue
                if key not in matching and self._explains(candidate, each):
                    matching[key] = candidate
            left = matching if left is None else {k: v for k, v in left.items() if k in matching}
            if not left:
                return None
        return _first(left.values()) if left else None

    def _explains(self, candidate: Candidate, seen: _Observation) -> bool:
        for k, position in enumerate(self.subject.wrt):
            analytic = seen.analytic[k]
            expected = candidate.gradients.get(position, seen.truth.right[position])
            if analytic is not None and not close(analytic, expected):
                return False
        return True

    def _one(self, k: int, wrong: list[int]) -> Cause | None:
        """A bug that explains the gradient by one input."""
        position = self.subject.wrt[k]
        if self._is_zero(k):
            sentence = f"the gradient by {self.subject.names[position]} is zero"
            return self._cause("zero", sentence, [k])
        left: dict[tuple[str, str], Candidate] | None = None
        for each in self.observations:
            analytic, matching = each.analytic[k], {}
            if analytic is None:
                continue
            for candidate in self._candidates(each.truth, wrong):
                key = (candidate.code, candidate.sentence)
                value = candidate.gradients.get(position)
                if value is None or key in matching or (left is not None and key not in left):
                    continue
                if close(analytic, value):
                    matching[key] = candidate
            left = matching if left is None else {c: v for c, v in left.items() if c in matching}
            if not left:
                break
        if left:
            chosen = _first(left.values())
            return self._cause(chosen.code, chosen.sentence, [k])
        return (
            self._fitted(k)
            or self._shape(k)
            or self._scaled(k, wrong)
            or wrong_derivative(self.found, self.program, k, self.rng)
        )

    def _fitted(self, k: int) -> Cause | None:
        """Multiples of the gradient, of its terms or of the weight, the same at all inputs."""
        position, known = self.subject.wrt[k], None
        for each in self.observations:
            analytic = each.analytic[k]
            if analytic is None:
                return None
            found = fits(each.truth, position, analytic)
            if found is None:
                return None
            if known is not None and (
                found[0] != known[0] or not np.allclose(found[2], known[2], rtol=1e-4, atol=1e-6)
            ):
                return self._proportional(k, known[0]) if len(known[2]) == 1 else None
            known = known or found
        if known is None:
            return None
        if known[0] in ("factor", "missing_mean", "double_mean"):
            factor = (known[0], known[1], known[2][0])
            known = (*told_by_batch(self.found, self.program, k, self.rng, factor), ())
        return self._cause(known[0], known[1], [k])

    def _proportional(self, k: int, code: str) -> Cause | None:
        """A factor that differs from input to input is a scale that dout has lost."""
        if code != "factor" or self.found.dout.ndim or not self.subject.takes_dout:
            return None
        for each in self.observations:
            analytic = each.analytic[k]
            right = each.truth.gradients(np.ones(()))[self.subject.wrt[k]]
            if analytic is None or not close(analytic, right):
                return None
        return self._cause("upstream_ignored", "dout is ignored and taken as 1", [k])

    def _shape(self, k: int) -> Cause | None:
        """Right numbers, or sums that are lacking, in the wrong shape."""
        position, name = self.subject.wrt[k], self.subject.names[self.subject.wrt[k]]
        answers = set()
        for each in self.observations:
            analytic, right = each.analytic[k], each.truth.right[position]
            if analytic is None or analytic.shape == right.shape:
                return None
            answers.add(shape_answer(analytic, right))
        if len(answers) != 1 or None in answers:
            return None
        ((code, words),) = (answer for answer in answers if answer is not None)
        return self._cause(code, f"the gradient by {name} {words}", [k])

    def _scaled(self, k: int, wrong: list[int]) -> Cause | None:
        """A known bug and a constant factor besides."""
        position = self.subject.wrt[k]
        left: dict[tuple[str, str], float] | None = None
        for each in self.observations:
            analytic, matching = each.analytic[k], {}
            if analytic is None or analytic.dtype.kind not in "fiu":
                return None
            for candidate in known_candidates(each.truth):
                key = (candidate.code, candidate.sentence)
                value = candidate.gradients.get(position)
                if value is None or value.shape != analytic.shape or (left and key not in left):
                    continue
                square = float(np.sum(value**2))
                c = float(np.sum(value * analytic)) / square if square else 0.0
                if candidate.code == "local_missing":  # then the derivative is but a constant
                    continue
                if c and analytic.size > 1 and close(analytic, c * value):
                    matching[key] = c
            if left is not None:
                matching = {k: c for k, c in matching.items() if np.isclose(c, left[k])}
            left = matching
            if not left:
                return None
        if not left:
            return None
        (code, sentence), c = next(iter(left.items()))
        return self._cause(code, f"{sentence}; besides, everything is multiplied by {c:.6g}", [k])

    # --- backward that does not run ---------------------------------------------------------

    def _raises(self) -> list[Cause]:
        """Explain an exception; where shapes do not fit, try sizes that are all equal."""
        (problem,) = (p for p in self.found.problems if p.code == "raises")
        if "Cannot cast" in problem.sentence:
            sentence = "gradients are added up in an array of integers"
            return [Cause("integer_truncation", sentence, (problem.sentence,))]
        return self._resized((problem.sentence,)) or [Cause("raises", problem.sentence)]

    def _resized(self, evidence: tuple[str, ...] = ()) -> list[Cause]:
        """Diagnose again with square matrices, which any transposition fits."""
        subject, program = self.subject, self.program
        if program is None or not isinstance(program.stages[0].formula, Linear) or subject.keys:
            return []
        size = 3
        if any(is_float_array(a) and a.ndim > 2 for a in subject.arrays) or all(
            set(a.shape) == {size} for a in subject.arrays if is_float_array(a)
        ):
            return []
        arrays = [
            self.rng.standard_normal((size,) * a.ndim) if is_float_array(a) else a
            for a in subject.arrays
        ]
        arrays = [
            a % size if isinstance(a, np.ndarray) and a.dtype.kind in "iu" else a for a in arrays
        ]
        arrays = [
            np.resize(a, size) if isinstance(a, np.ndarray) and a.dtype.kind in "iu" else a
            for a in arrays
        ]
        try:
            other = Subject(
                "diagnose", subject.forward, subject.backward, arrays,
                wrt=subject.wrt, forward_kwargs=subject.kwargs,
            )  # fmt: skip
            found = examine(other, None, self.rng, self.found.tolerance, MAX_ELEMENTS)
        except Exception:  # forward does not take these
            return []
        if found.report.ok or any(p.code == "raises" for p in found.problems):
            return []
        again = _Case(found, self.rng).diagnosis()
        causes = [c for c in again.causes if c.code not in ("unrecognised", "shape", "raises")]
        note = "Shapes do not fit; this was found with all sizes equal to 3."
        return [replace(c, evidence=(*evidence, note, *c.evidence)) for c in causes]

    # --- words ------------------------------------------------------------------

    def _cause(self, code: str, sentence: str, wrong: Sequence[int]) -> Cause:
        """Add the evidence: elements, and that the same is seen at fresh inputs."""
        evidence = []
        first = self.observations[0]
        for k in wrong[:3]:
            position = self.subject.wrt[k]
            line = _element_line(
                self.subject.names[position], first.analytic[k], first.truth.right[position]
            )
            if line:
                evidence.append(line)
        count = len(self.observations) - 1
        if count > 0:
            evidence.append(
                f"This bug gives every number that backward returned, also on {count} other inputs."
            )
        return Cause(code, sentence, tuple(evidence))

    def _unrecognised(self, wrong: Sequence[int] | None = None) -> Cause:
        """Say where numbers differ, and no more."""
        names = None if wrong is None else {self.subject.names[self.subject.wrt[k]] for k in wrong}
        lines = [
            entry.name + (str(element) if element.index else f" {element}")
            for entry in self.found.entries
            if names is None or entry.name in names
            for element in entry.wrong[:4]
        ]
        lines += [p.sentence for p in self.found.problems if p.code in ("shape", "nan")]
        for k in wrong or ():
            position = self.subject.wrt[k]
            analytic = self.observations[0].analytic[k]
            right = self.observations[0].truth.right[position]
            if analytic is not None and analytic.shape == right.shape:
                lines += _where(self.subject.names[position], analytic, right)
        return Cause("unrecognised", "wrong, cause not recognised", tuple(lines))


def _first(candidates: Iterable[Candidate]) -> Candidate:
    """The first, those that speak of where dout comes from last: others say it more plainly."""
    return min(candidates, key=lambda each: each.code in ("upstream_wrong", "upstream_added"))


def _element_line(name: str, analytic: np.ndarray | None, right: np.ndarray) -> str:
    if analytic is None:
        return ""
    if analytic.shape != right.shape:
        return f"The gradient by {name} has shape {analytic.shape}; {name} has {right.shape}."
    difference = np.abs(np.asarray(analytic, np.float64) - right)
    if not difference.size or not np.nanmax(difference):
        return ""
    index = tuple(int(i) for i in np.unravel_index(np.nanargmax(difference), right.shape))
    place = f"[{', '.join(map(str, index))}]" if index else ""
    return f"d{name}{place} is {analytic[index]:.6g}, right is {right[index]:.6g}."


def _where(name: str, analytic: np.ndarray, right: np.ndarray) -> list[str]:
    """What the wrong elements have in common."""
    wrong = ~np.isclose(np.asarray(analytic, np.float64), right, rtol=1e-6, atol=1e-10)
    lines = [f"{int(wrong.sum())} of {wrong.size} elements of the gradient by {name} are wrong."]
    if wrong.all() or not wrong.any():
        return lines if wrong.any() else []
    for axis in range(wrong.ndim):
        others = tuple(a for a in range(wrong.ndim) if a != axis)
        lines_wrong = np.flatnonzero(wrong.any(axis=others))
        if len(lines_wrong) < wrong.shape[axis]:
            lines.append(f"They have index {lines_wrong.tolist()} along axis {axis}.")
    return lines


def _merged(causes: list[Cause]) -> list[Cause]:
    """One cause for each kind, the sentences joined."""
    merged: dict[str, Cause] = {}
    for cause in causes:
        if cause.code not in merged:
            merged[cause.code] = cause
        elif cause.sentence != merged[cause.code].sentence:
            old = merged[cause.code]
            evidence = tuple(dict.fromkeys((*old.evidence, *cause.evidence)))
            merged[cause.code] = Cause(cause.code, f"{old.sentence}; {cause.sentence}", evidence)
    return list(merged.values())
