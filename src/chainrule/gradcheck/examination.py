"""One comparison of a backward pass with the function itself, and all that can be wrong besides."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from chainrule.gradcheck.reports import Element, Entry, GradientReport, Problem
from chainrule.gradcheck.slopes import Slope, slope_along
from chainrule.gradcheck.subject import Subject

__all__ = ["Examination", "align", "examine", "gradients_at", "same"]

PROJECTIONS = 4  # random directions for an array too large to go through
SAMPLED = 24  # elements of such an array that are compared one by one
FLOAT32 = 2e-3  # relative to the largest element: what float32 may lose in a layer
SHOWN = 8


@dataclass
class Examination:
    """What was found, with the arrays that a diagnosis starts from.

    Parameters
    ----------
    subject : Subject
        What was examined.
    out, dout : ndarray
        The output, and the gradient from above that was used.
    analytic : list of ndarray or None
        What backward returned for each input of ``subject.wrt``, whatever its shape.
    numeric : list of ndarray or None
        The gradients by differences, NaN at kinks; None where not all elements were computed.
    errors : list of ndarray or None
        How far they may be off.
    entries : list of Entry
        One for each comparison.
    problems : list of Problem
        What else was noticed.
    tolerance : float
        The largest relative error that passes.
    """

    subject: Subject
    out: np.ndarray
    dout: np.ndarray
    tolerance: float
    analytic: list[np.ndarray | None] = field(default_factory=list)
    numeric: list[np.ndarray | None] = field(default_factory=list)
    errors: list[np.ndarray | None] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def report(self) -> GradientReport:
        """The public part."""
        entries, problems = tuple(self.entries), tuple(self.problems)
        return GradientReport(self.subject.name, entries, problems, self.tolerance)

    def note(self, code: str, sentence: str, fails: bool = True, name: str = "") -> None:
        """Remember a problem, once."""
        problem = Problem(code, sentence, fails, name)
        if problem not in self.problems:
            self.problems.append(problem)


def same(a: Any, b: Any, rtol: float = 1e-9) -> bool:
    """Whether two results agree but for the last digits; arrays, None, or lists of these."""
    if isinstance(a, list | tuple) or isinstance(b, list | tuple):
        if not isinstance(a, list | tuple) or not isinstance(b, list | tuple) or len(a) != len(b):
            return False
        return all(same(x, y, rtol) for x, y in zip(a, b, strict=True))
    if a is None or b is None:
        return a is b
    left, right = np.asarray(a), np.asarray(b)
    if left.shape != right.shape or left.dtype.kind not in "fiub":
        return left.shape == right.shape
    largest = np.max(np.abs(right[np.isfinite(right)]), initial=0.0)
    return bool(np.allclose(left, right, rtol=rtol, atol=rtol * largest, equal_nan=True))


def examine(
    subject: Subject,
    dout: ArrayLike | None,
    rng: np.random.Generator,
    tolerance: float,
    max_elements: int,
) -> Examination:
    """Check everything about a subject at its inputs.

    Parameters
    ----------
    subject : Subject
        What to check.
    dout : array_like or None
        The gradient from above.
    rng : Generator
        Draws dout, directions and elements.
    tolerance : float
        The largest relative error that passes.
    max_elements : int
        Arrays up to this size are compared element by element.

    Returns
    -------
    Examination
        What was found.
    """
    arrays = subject.arrays
    out, cache, used = subject.call(arrays)
    found = Examination(subject, out, subject.cotangent(out, dout, rng), tolerance)
    _compare_inputs(found, arrays, used, "forward")
    again, _, _ = subject.call(arrays)
    if not same(again, out):
        found.note(
            "nondeterministic",
            "forward gives another output each time for the same inputs, so it has no gradient to "
            "compare with: pass a random generator with a fixed seed, or fix the mask.",
        )
        return found
    bad = int(np.sum(~np.isfinite(out)))
    if bad:
        found.note("nan_output", f"{bad} of {out.size} elements of the output are NaN or infinite.")
        return found
    raw = _run_backward(found, cache, used)
    if any(problem.code in ("raises", "none") for problem in found.problems):
        return found
    found.analytic = align(found, raw)
    _check_cache(found, cache, rng)
    for position, gradient in zip(subject.wrt, found.analytic, strict=False):
        _check_one(found, position, gradient, rng, max_elements)
    if subject.is_float32 and subject.layer and found.report.ok:
        _check_float32(found, rng)
    return found


def _compare_inputs(
    found: Examination, before: Sequence[Any], after: Sequence[Any], by: str
) -> None:
    for name, old, new in zip(found.subject.names, before, after, strict=True):
        if isinstance(old, np.ndarray) and not np.array_equal(
            old, new, equal_nan=old.dtype.kind == "f"
        ):
            found.note("modifies_input", f"{by} writes into its argument {name}.", name=name)


def _run_backward(found: Examination, cache: Any, used: Sequence[Any]) -> Any:
    """Call backward for the gradients, watching what it does to its arguments."""
    subject, dout = found.subject, found.dout.copy()
    before = [value.copy() if isinstance(value, np.ndarray) else value for value in used]
    try:
        raw = subject.back(dout, cache, used)
    except Exception as error:  # whatever a backward under test may raise
        found.note("raises", f"backward raises {type(error).__name__}: {error}")
        return None
    if raw is None:
        found.note("none", "backward returns None: is its return statement missing?")
        return None
    if not np.array_equal(dout, found.dout):
        found.note("modifies_input", "backward writes into dout.", name="dout")
    if subject.layer:
        _compare_inputs(found, before, used, "backward")
    # Copies: a second backward may write into what the first returned.
    if isinstance(raw, tuple | list):
        return [None if each is None else np.array(each) for each in raw]
    if isinstance(raw, Mapping):
        return {name: None if each is None else np.array(each) for name, each in raw.items()}
    return np.array(raw)


def align(found: Examination, raw: Any) -> list[np.ndarray | None]:
    """Gradients in the order of ``subject.wrt``; what cannot be assigned is noted."""
    subject = found.subject
    names = [subject.names[i] for i in subject.wrt]
    if isinstance(raw, dict):
        missing = [name for name in names if name not in raw and f"d{name}" not in raw]
        if missing:
            found.note("count", f"no gradient is returned for {', '.join(missing)}.")
        return [raw.get(name, raw.get(f"d{name}")) for name in names]
    gradients = raw if isinstance(raw, list) else [raw]
    gradients = [None if each is None else np.asarray(each) for each in gradients]
    if len(gradients) != len(names):
        # An optional argument that is None may have its place among the gradients.
        holes = [i for i, x in enumerate(subject.given) if x is None or i in subject.wrt]
        if len(gradients) == len(holes):
            gradients = [g for g, i in zip(gradients, holes, strict=True) if i in subject.wrt]
        else:
            found.note(
                "count",
                f"backward returns {len(gradients)} gradient{'s' * (len(gradients) != 1)} for "
                f"{len(names)} inputs of floats ({', '.join(names)}); wrt= names those it "
                "differentiates by, if that is meant.",
            )
            return (gradients + [None] * len(names))[: len(names)]
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is None:
            found.note("skipped", f"the gradient by {name} is None and was not checked.", False)
    if all(gradient is None for gradient in gradients):
        found.note("none", "all gradients are None.")
    return gradients


def _check_cache(found: Examination, cache: Any, rng: np.random.Generator) -> None:
    """Backward has to depend on its arguments only, and to leave the cache as it is."""
    subject = found.subject
    if not subject.layer:
        return

    def again(cache: Any) -> list[np.ndarray | None] | None:
        try:
            raw = subject.back(found.dout.copy(), cache, [])
        except Exception:  # the same backward has worked before: it must have lost something
            return None
        quiet = Examination(subject, found.out, found.dout, found.tolerance)
        if isinstance(raw, tuple | list):
            raw = [None if each is None else np.array(each) for each in raw]
        return align(quiet, raw)

    if not same(again(cache), found.analytic):
        found.note(
            "changes_cache",
            "backward changes its cache: called a second time with it, it gives another result.",
        )
        return
    _, first_cache, _ = subject.call(subject.arrays)
    try:
        subject.call(subject.fresh_arrays(rng))
    except Exception:  # other inputs may be outside its domain; then this is not known
        return
    if not same(again(first_cache), found.analytic):
        found.note(
            "stale_cache",
            "backward uses what a later forward left behind instead of its own cache: after "
            "forward has run on other inputs, the same cache gives another gradient.",
        )


def _check_one(
    found: Examination,
    position: int,
    gradient: np.ndarray | None,
    rng: np.random.Generator,
    max_elements: int,
) -> None:
    """Compare the gradient by one input."""
    subject = found.subject
    name, x = subject.names[position], subject.arrays[position]
    usable = gradient is not None
    if gradient is not None and gradient.shape != x.shape:
        sentence = f"the gradient by {name} has shape {gradient.shape}, but {name} has {x.shape}."
        found.note("shape", sentence, name=name)
        usable = False
    elif gradient is not None and gradient.dtype.kind not in "fiub":
        found.note("dtype", f"the gradient by {name} has dtype {gradient.dtype}.", name=name)
        usable = False
    elif gradient is not None and gradient.dtype.kind in "iub":
        sentence = f"the gradient by {name} is of integers ({gradient.dtype})."
        found.note("dtype", sentence, fails=False, name=name)
    values = np.zeros(x.shape) if not usable or gradient is None else gradient.astype(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        number = f"{int(bad.sum())} of {bad.size}"
        found.note(
            "nan", f"the gradient by {name} has {number} elements NaN or infinite.", name=name
        )
    comparison = _Comparison(found, position, values, max_elements)
    comparison.run(rng)
    if x.size and not comparison.checked and not comparison.projections:
        sentence = f"no element of {name} could be compared: the function has a kink at each."
        found.note("kinks", sentence, fails=False, name=name)
    found.numeric.append(comparison.numeric)
    found.errors.append(comparison.errors)
    if usable:
        found.entries.append(comparison.entry())


class _Comparison:
    """The gradient by one input beside differences."""

    def __init__(
        self, found: Examination, position: int, values: np.ndarray, max_elements: int
    ) -> None:
        self.found, self.position, self.values = found, position, values
        self.x: np.ndarray = found.subject.arrays[position]
        self.is_small = self.x.size <= max_elements
        self.numeric = np.full(self.x.shape, np.nan) if self.is_small else None
        self.errors = np.full(self.x.shape, np.inf) if self.is_small else None
        self.wrong: list[tuple[float, Element]] = []
        self.worst: tuple[float, Element | None] = (0.0, None)
        self.checked = self.projections = 0
        self.kinks: list[tuple[int, ...]] = []
        self.base = self._weighted(self.x)
        self.complex_works = True

    def _weighted(self, x: np.ndarray) -> np.ndarray:
        """What the function gives for x, times dout, as float64."""
        arrays = list(self.found.subject.arrays)
        arrays[self.position] = x
        out = self.found.subject.call(arrays)[0]
        return np.ravel(out * self.found.dout)

    def _slope(self, direction: np.ndarray, scale: float) -> Slope:
        def line(t: float) -> np.ndarray:
            return self._weighted(self.x + t * direction)

        slope = slope_along(line, self.base, scale)
        if not slope.kink and slope.error > 0.1 * self.found.tolerance * abs(slope.value):
            slope = self._complex_step(direction, slope)
        return slope

    def _complex_step(self, direction: np.ndarray, slope: Slope) -> Slope:
        """Im f(x + ih) / h, exact where f is analytic and written for complex numbers."""
        if not self.complex_works:
            return slope
        h = 1e-30
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                value = float(np.sum(self._weighted(self.x + 1j * h * direction).imag)) / h
        except Exception:  # most code is not written for complex numbers
            self.complex_works = False
            return slope
        if not abs(value - slope.value) <= 4 * slope.error:
            self.complex_works = False
            return slope
        error = 1e-14 * abs(value) + 1e-16
        return Slope(value, error, False, value - error, value + error)

    def _element(self, index: tuple[int, ...]) -> Slope:
        direction = np.zeros(self.x.shape)
        direction[index] = 1.0
        return self._slope(direction, _power_of_two(abs(float(self.x[index]))))

    def _judge(self, analytic: float, slope: Slope) -> float:
        """The relative error of the course; below the error of the slope everything passes."""
        floor = 4 * slope.error / self.found.tolerance
        scale = max(1e-8, abs(analytic) + abs(slope.value), floor)
        error = abs(analytic - slope.value) / scale
        return error if np.isfinite(error) else np.inf

    def _compare(self, index: tuple[int, ...]) -> None:
        slope, analytic = self._element(index), float(self.values[index])
        element = Element(index, analytic, slope.value, slope.error)
        if slope.kink:
            self.kinks.append(index)
            # A scalar hides kinks that cancel, so there one more width is allowed for.
            slack = (slope.high - slope.low) * (1.0 if self.found.out.size == 1 else 0.01) + 1e-9
            if not slope.low - slack <= analytic <= slope.high + slack:
                self.wrong.append((self._judge(analytic, slope), element))
            return
        if self.numeric is not None and self.errors is not None:
            self.numeric[index], self.errors[index] = slope.value, slope.error
        self.checked += 1
        error = self._judge(analytic, slope)
        if error >= self.worst[0]:
            self.worst = (error, element)
        if error > self.found.tolerance:
            self.wrong.append((error, element))

    def run(self, rng: np.random.Generator) -> None:
        """Compare all elements of a small array, directions and a sample of a large one."""
        if self.is_small:
            for index in np.ndindex(self.x.shape):
                self._compare(index)
            self._ties()
            return
        largest = np.argsort(np.abs(self.values), axis=None)[-SAMPLED // 4 :]
        drawn = rng.choice(self.x.size, SAMPLED, replace=False)
        for flat in dict.fromkeys([*drawn.tolist(), *largest.tolist()]):
            self._compare(_unravel(flat, self.x.shape))
        for _ in range(PROJECTIONS):
            self._project(rng.choice([-1.0, 1.0], self.x.shape))

    def _project(self, direction: np.ndarray) -> None:
        """Compare a sum over all elements; where it differs, halve until one element is left."""
        scale = _power_of_two(float(np.max(np.abs(self.x), initial=0.0)))
        slope = self._slope(direction, scale)
        if slope.kink:
            return
        self.projections += 1
        error = self._judge(float(np.sum(self.values * direction)), slope)
        if not error > self.found.tolerance:
            self.worst = max(self.worst, (error, None), key=lambda each: each[0])
            return
        if self.wrong:
            return
        support = np.arange(self.x.size)
        while len(support) > 1:
            half = support[: len(support) // 2]
            part = np.zeros(self.x.shape)
            part.reshape(-1)[half] = direction.reshape(-1)[half]
            slope = self._slope(part, scale)
            analytic = float(np.sum(self.values * part))
            differs = not slope.kink and self._judge(analytic, slope) > self.found.tolerance
            support = half if differs else support[len(half) :]
        before = len(self.wrong)
        self._compare(_unravel(int(support[0]), self.x.shape))
        if len(self.wrong) == before:
            total = float(np.sum(self.values * direction))
            self.wrong.append((error, Element((), total, slope.value, slope.error)))

    def _ties(self) -> None:
        """Equal elements that move together may have a derivative where each alone has none."""
        groups: dict[float, list[tuple[int, ...]]] = {}
        for index in self.kinks:
            groups.setdefault(float(self.x[index]), []).append(index)
        for value, indices in groups.items():
            direction = np.zeros(self.x.shape)
            for index in indices:
                direction[index] = 1.0
            slope = self._slope(direction, _power_of_two(abs(value)))
            total = float(np.sum(self.values * direction))
            if len(indices) < 2 or slope.kink or self._judge(total, slope) <= self.found.tolerance:
                continue
            name = self.found.subject.names[self.position]
            self.found.note(
                "ties",
                f"the {len(indices)} elements of {name} that equal {value:.6g} get gradients that "
                f"add up to {total:.6g}, but moved together they change the output at the rate "
                f"{slope.value:.6g}.",
                name=name,
            )

    def entry(self) -> Entry:
        """The result."""
        wrong = [element for _, element in sorted(self.wrong, key=lambda each: -each[0])]
        error = max([self.worst[0], *(each[0] for each in self.wrong)])
        return Entry(
            name=self.found.subject.names[self.position],
            relative_error=float(error),
            worst=wrong[0] if wrong else self.worst[1],
            wrong=tuple(wrong[:SHOWN]),
            checked=self.checked,
            excluded=len(self.kinks),
            projections=self.projections,
            size=self.x.size,
            ok=not wrong,
        )


def _power_of_two(size: float) -> float:
    return float(2.0 ** np.ceil(np.log2(size))) if size > 1 and np.isfinite(size) else 1.0


def _unravel(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def _check_float32(found: Examination, rng: np.random.Generator) -> None:
    """Compare with what the same backward gives for the inputs as they came.

    Rounding may carry a value over a kink. Inputs moved a little do not repeat that, so the
    smallest difference of three is what counts.
    """
    subject = found.subject
    smallest: dict[str, float] = {}
    for attempt in range(3):
        given = subject.given
        if attempt:
            given = [_moved(value, rng) for value in given]
        wide = [value.astype(np.float64) if _is_narrow(value) else value for value in given]
        low, high = _gradients(found, given), _gradients(found, wide)
        if isinstance(low, Exception):
            found.note("raises", f"for {subject.given[subject.wrt[0]].dtype} inputs: {low}")
            return
        if isinstance(high, Exception):
            return
        if not same(subject.call(given)[0], subject.call(wide)[0], rtol=0.05):
            sentence = (
                "with inputs as given the output is another than in float64 (a generator may draw "
                "other numbers), so only the gradients in float64 were compared."
            )
            found.note("float32", sentence, fails=False)
            return
        largest = max(
            [float(np.max(np.abs(each), initial=0.0)) for each in high if each is not None]
        )
        for position, narrow, full in zip(subject.wrt, low, high, strict=False):
            if narrow is None or full is None or narrow.shape != full.shape or not full.size:
                continue
            name, dtype = subject.names[position], subject.given[position].dtype
            if narrow.dtype != dtype:
                sentence = (
                    f"the gradient by {name} has dtype {narrow.dtype} where {name} is {dtype}."
                )
                found.note("dtype", sentence, fails=False, name=name)
            # Sums that cancel leave the rounding of their terms, which other gradients tell.
            scale = max(float(np.max(np.abs(full))), 1e-3 * largest, 1e-6)
            error = float(np.max(np.abs(narrow - full))) / scale
            error = error if np.isfinite(error) else np.inf
            smallest[name] = min(smallest.get(name, np.inf), error)
        if all(error <= FLOAT32 for error in smallest.values()):
            break
    for name, error in smallest.items():
        if error > FLOAT32:
            found.note(
                "float32",
                f"right in float64, but for inputs as given the gradient by {name} is off by "
                f"{error:.1e} of its largest element: something is computed in too few digits.",
                name=name,
            )


def gradients_at(
    found: Examination, values: Sequence[Any], dout: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray | None]] | None:
    """Run both passes on other inputs.

    Parameters
    ----------
    found : Examination
        Whose subject to run.
    values : sequence
        The inputs.
    dout : ndarray
        The gradient from above.

    Returns
    -------
    tuple or None
        The output and the gradients; None if one of the passes raises.
    """
    subject = found.subject
    try:
        out, cache, used = subject.call(values)
        raw = subject.back(dout.copy(), cache, used)
    except Exception:  # whatever a function under test may raise
        return None
    quiet = Examination(subject, out, dout, found.tolerance)
    gradients = align(quiet, list(raw) if isinstance(raw, tuple | list) else raw)
    return out, [
        g.astype(np.float64) if g is not None and g.dtype.kind in "fiub" else g for g in gradients
    ]


def _is_narrow(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.dtype != np.float64


def _moved(value: Any, rng: np.random.Generator) -> Any:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    return (value * (1 + 0.01 * rng.standard_normal(value.shape))).astype(value.dtype)


def _gradients(found: Examination, values: Sequence[Any]) -> list[np.ndarray | None] | Exception:
    """Run both passes on the values as they are, dout in the dtype of the output."""
    subject = found.subject
    try:
        out, cache, used = subject.call(values)
        dtype = out.dtype if out.dtype.kind == "f" else np.dtype(np.float64)
        raw = subject.back(found.dout.astype(dtype), cache, used)
    except Exception as error:  # whatever a function under test may raise
        return error
    quiet = Examination(subject, found.out, found.dout, found.tolerance)
    if isinstance(raw, tuple | list):
        raw = [None if each is None else np.array(each) for each in raw]
    return align(quiet, raw)
