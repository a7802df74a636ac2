"""Tests as data: calls to make of a student's code, and checks of what comes back.

::

    script = Script()
    out = script.call("cs231n.layers:affine_forward", x, w, b)
    dx = script.call("cs231n.layers:affine_backward", dout, out[1])
    checks = [Check("the output", out[0], expected), Check("dx", dx[0], expected_dx)]

`Script.to_job` is what the sandbox gets: the calls and their arguments. The checks, with what is
expected, never leave the grader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.course.grading.inside.codec import Other

__all__ = ["Check", "Plan", "Ref", "Script", "Speed", "Tolerance", "fault_of", "function", "target"]


@dataclass(frozen=True)
class Ref:
    """What an earlier step of a script returned, or a part of it.

    Attributes
    ----------
    step : int
        Number of the step.
    path : tuple
        Indices, keys, and names of attributes after a dot.
    """

    step: int
    path: tuple[Any, ...] = ()

    def __getitem__(self, key: int | str) -> Ref:
        return Ref(self.step, (*self.path, key))

    def attribute(self, name: str) -> Ref:
        """Return the attribute of that name."""
        return Ref(self.step, (*self.path, f".{name}"))

    def data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"$ref": self.step, "path": list(self.path)}


class Script:
    """Builds the list of steps of a test."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def call(self, what: str | tuple[Ref, str], *args: Any, **kwargs: Any) -> Ref:
        """Call ``"module:function"``, or a method of an earlier result."""
        return self._add(
            do="call", target=_target(what), args=_plain(list(args)), kwargs=_plain(kwargs)
        )

    def time(
        self, what: str | tuple[Ref, str], *args: Any, width: int, loops: int, rounds: int = 5
    ) -> Ref:
        """Call it several times, with the clock; beside it, a loop of `loops` dot products."""
        measure = {"width": width, "loops": loops, "rounds": rounds}
        return self._add(
            do="time", target=_target(what), args=_plain(list(args)), kwargs={}, **measure
        )

    def seed(self, seed: int) -> None:
        """Set the global generators of NumPy and of Python."""
        self._add(do="seed", seed=seed)

    def make(self, value: Any) -> Ref:
        """Make one object of plain data, which later steps share instead of getting copies."""
        return self._add(do="make", value=_plain(value))

    def update(self, on: Ref, values: Any) -> None:
        """Assign to items of a dict of the student's."""
        self._add(do="update", on=on.data(), values=_plain(values))

    def set(self, on: Ref, name: str, value: Any) -> None:
        """Assign to an attribute of an object of the student's."""
        self._add(do="set", on=on.data(), name=name, value=_plain(value))

    def _add(self, **step: Any) -> Ref:
        self.steps.append(step)
        return Ref(len(self.steps) - 1)

    def to_job(self, gives: Sequence[Ref]) -> dict[str, Any]:
        """Return the job for the sandbox, which answers with the values of `gives`."""
        return {
            "kind": "script",
            "script": {"steps": self.steps, "gives": [ref.data() for ref in gives]},
        }


def _target(what: str | tuple[Ref, str]) -> Any:
    return what if isinstance(what, str) else {"of": what[0].data(), "name": what[1]}


def target(name: str) -> dict[str, str]:
    """Return an argument that stands for a function of the student's, ``"module:function"``."""
    return {"$target": name}


def function(name: str, **values: Any) -> dict[str, Any]:
    """Return an argument that stands for a function of `inside.functions`, made with values."""
    return {"$function": name, "with": _plain(values)}


def _plain(value: Any) -> Any:
    if isinstance(value, Ref):
        return value.data()
    if isinstance(value, tuple):
        return {"$tuple": [_plain(item) for item in value]} if value else []
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be from what is expected.

    Attributes
    ----------
    relative : float
        Times the largest expected number of the array.
    absolute : float
        Added to that.
    """

    relative: float = 1e-6
    absolute: float = 1e-9

    def scaled(self, factor: float) -> Tolerance:
        """Return one that allows `factor` times as much."""
        return Tolerance(self.relative * factor, self.absolute * factor)


@dataclass(frozen=True)
class Check:
    """One thing that a test looks at; each is worth its weight of the test's points.

    Attributes
    ----------
    label : str
        What is looked at, for the student.
    ref : Ref
        Where it comes from.
    expected : object
        An array, a number, a string or a bool; a list of those; or a function of the value and
        the tolerance that returns what is wrong with it, or an empty string.
    weight : float
        Beside the other checks of the test.
    loose : float
        Factor of the tolerance, for long computations.
    any_of : tuple
        Other values that are as good.
    """

    label: str
    ref: Ref
    expected: Any
    weight: float = 1.0
    loose: float = 1.0
    any_of: tuple[Any, ...] = ()

    def fault(self, value: Any, tolerance: Tolerance) -> str:
        """Return what is wrong with a value, or an empty string."""
        if callable(self.expected):
            return str(self.expected(value, tolerance.scaled(self.loose)))
        allowed = tolerance.scaled(self.loose)
        fault = fault_of(value, self.expected, allowed)
        if fault and any(not fault_of(value, other, allowed) for other in self.any_of):
            return ""
        return fault


@dataclass(frozen=True)
class Speed:
    """Points for being fast enough, from a `Script.time` step.

    Attributes
    ----------
    label : str
        What is fast, for the student.
    ref : Ref
        The step.
    ratio : float
        How many times faster than the loop beside it.
    expected : object
        Of the result, which must be right.
    """

    label: str
    ref: Ref
    ratio: float
    expected: Check


@dataclass
class Plan:
    """One test, ready to run: what is called, what is checked, what the doctor is asked.

    Attributes
    ----------
    script : Script
        The calls.
    checks : list of Check
        For partial credit.
    speed : list of Speed
        For the points of speed, if the rubric gives any.
    diagnosis : list of dict
        Jobs for the doctor if a check fails that has the same place in `doctored`.
    """

    script: Script = field(default_factory=Script)
    checks: list[Check] = field(default_factory=list)
    speed: list[Speed] = field(default_factory=list)
    diagnosis: list[dict[str, Any]] = field(default_factory=list)

    def check(self, label: str, ref: Ref, expected: Any, **options: Any) -> None:
        """Add a check; see `Check`."""
        self.checks.append(Check(label, ref, expected, **options))

    def checks_of(
        self, refs: Ref, labels: str, expected: Sequence[Any], where: str = "", **options: Any
    ) -> None:
        """Add checks of the parts of one result; `labels` are separated by spaces."""
        for index, (label, value) in enumerate(zip(labels.split(), expected, strict=True)):
            self.check(f"{label}{where}", refs[index], value, **options)

    def diagnose(
        self, forward: str, backward: str, inputs: dict[str, np.ndarray], *after: Any, seed: int = 0
    ) -> None:
        """Ask the doctor about a pair of functions if a check fails."""
        self._ask(inputs, after, forward=forward, backward=backward, seed=seed)

    def diagnose_loss(self, loss: str, inputs: dict[str, np.ndarray], *after: Any) -> None:
        """Ask the doctor about a function that returns a loss and its gradient by the first."""
        self._ask(inputs, after, loss=loss, wrt=list(inputs)[:1])

    def diagnose_net(
        self,
        what: str,
        params: dict[str, np.ndarray],
        X: np.ndarray,
        y: np.ndarray,
        *,
        reg: float | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Ask the doctor about a network's loss and its dict of gradients.

        Generation A has functions of ``X, model, y, reg``; generation B has classes, made with
        `options`, that keep `params` and have a method ``loss(X, y)``.
        """
        about = {"options": options} if options is not None else {"reg": reg}
        inputs = {"X": X, **params, "y": y}
        self._ask(inputs, (), net=what, wrt=list(params), **_plain(about))

    def _ask(self, inputs: dict[str, np.ndarray], after: Sequence[Any], **about: Any) -> None:
        about |= {"inputs": inputs, "after": _plain(list(after))}
        self.diagnosis.append({"kind": "diagnose", "diagnosis": about})


Builder = Callable[[np.random.Generator], Plan]


def fault_of(value: Any, expected: Any, tolerance: Tolerance) -> str:
    """Compare a value of any kind with an expected one.

    Parameters
    ----------
    value : object
        From the sandbox: plain data, of any shape.
    expected : array_like, str, bool or None
        What it should be.
    tolerance : Tolerance
        For numbers.

    Returns
    -------
    str
        What is wrong, in words that give no expected number away; empty if nothing is.
    """
    if expected is None or isinstance(expected, str | bool):
        same = value == expected and type(value) is type(expected)
        return "" if same else f"it should be {expected!r}; yours is {_short(value)}"
    if value is None:
        return "it is None: is the function written yet?"
    try:
        got = np.asarray(value)
    except (ValueError, TypeError):
        got = None
    if isinstance(value, Other) or got is None or got.dtype.kind not in "biuf":
        return f"it should be an array of numbers; yours is {_short(value)}"
    want = np.asarray(expected)
    if got.shape != want.shape:
        if got.size == want.size == 1:
            got = got.reshape(want.shape)
        else:
            return f"its shape should be {_shape(want)}; yours is {_shape(got)}"
    return _difference(got.astype(float), want.astype(float), tolerance)


def _difference(got: np.ndarray, want: np.ndarray, tolerance: Tolerance) -> str:
    if want.size == 0:
        return ""
    lost = ~np.isfinite(got)
    if lost.any():
        what = "nan" if np.isnan(got[lost]).any() else "infinite"
        return f"{_share(int(lost.sum()), want.size)} {what}"
    scale = float(np.abs(want).max())
    wrong = np.abs(got - want) > tolerance.absolute + tolerance.relative * scale
    if not wrong.any():
        return ""
    worst = float(np.abs(got - want).max() / max(scale, 1e-300))
    text = f"{_share(int(wrong.sum()), want.size)} wrong, by up to {worst:.2g} times the largest"
    return text + _hint(got, want, tolerance, scale)


def _hint(got: np.ndarray, want: np.ndarray, tolerance: Tolerance, scale: float) -> str:
    """Say so where the two differ by one factor, or by a transposition."""
    allowed = tolerance.absolute + 10 * tolerance.relative * scale
    square = float((got * got).sum())
    factor = float((want * got).sum()) / square if square > 0 else 0.0
    if want.size > 1 and factor and np.all(np.abs(got * factor - want) <= allowed):
        if abs(factor + 1) < 1e-6:
            return "; all of it has the wrong sign"
        return f"; all of it is off by one factor, {1 / factor:.4g}"
    if want.size > 1 and square == 0:
        return "; all of it is 0"
    if (
        want.ndim == 2
        and want.shape[0] == want.shape[1]
        and np.all(np.abs(got.T - want) <= allowed)
    ):
        return "; it is transposed"
    shift = float((got - want).mean())
    if want.size > 1 and np.all(np.abs(got - want - shift) <= allowed):
        return "; all of it is off by the same amount"
    return ""


def _share(count: int, size: int) -> str:
    if size == 1:
        return "it is"
    if count == size:
        return f"all {size} of its numbers are"
    return f"{count} of its {size} numbers {'is' if count == 1 else 'are'}"


def _shape(array: np.ndarray) -> str:
    return "that of a single number" if array.ndim == 0 else str(array.shape)


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
