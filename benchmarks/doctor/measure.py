"""Run the doctor on the corpus: detection, right causes, false alarms."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.errors import ChainruleError
from chainrule.gradcheck import diagnose
from doctor.cases import Case, cases
from doctor.mutation import Mutant, split

__all__ = ["Result", "judge", "rates"]

CHANGE = 1e-6  # a mutant whose gradients differ by less is none


@dataclass(frozen=True)
class Result:
    """What the doctor said of one mutant.

    Parameters
    ----------
    name, layer, half : str
        Which mutant, and the half of the corpus it is in.
    labels : list of str
        Codes that name the bug.
    change : float
        By how much it changes a gradient.
    detected : bool
        Whether the doctor said that something is off.
    codes : list of str
        The causes it named.
    verdict : {"right", "wrong", "not recognised", "honest", "guessed", "missed"}
        For a bug with a name: named rightly, wrongly, or not. For one without: said so, or guessed.
    """

    name: str
    layer: str
    half: str
    labels: list[str]
    change: float
    detected: bool
    codes: list[str]
    verdict: str


def gradients(
    forward: Callable[..., Any], backward: Callable[..., Any], case: Case
) -> list[np.ndarray | None]:
    """Gradients with a fixed dout; losses get none."""
    kwargs = {
        name: np.random.default_rng(3) if isinstance(value, np.random.Generator) else value
        for name, value in case.kwargs.items()
    }
    out, cache, *_ = forward(*(a.copy() for a in case.inputs), **kwargs)
    if np.ndim(out):
        dout = np.random.default_rng(1).standard_normal(np.shape(out))
        raw = backward(dout, cache)
    else:
        raw = backward(cache)
    found = list(raw) if isinstance(raw, tuple | list) else [raw]
    return [None if each is None else np.array(each) for each in found]


def live_case(mutant: Mutant, right: Callable[..., Any]) -> tuple[Case, float] | None:
    """The first inputs at which a mutant differs by more than 1e-6 and does not raise."""
    for case in [*cases(mutant.layer), *kink_cases(mutant.layer)]:
        expected = gradients(mutant.forward, right, case)
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                found = gradients(mutant.forward, mutant.backward, case)
        except (Exception, ChainruleError):  # any test sees that: not counted
            continue
        change = difference(expected, found)
        if change > CHANGE:
            return case, change
    return None


def difference(a: list[np.ndarray | None], b: list[np.ndarray | None]) -> float:
    """The largest, infinite where shapes differ."""
    if len(a) != len(b):
        return np.inf
    largest = 0.0
    for left, right in zip(a, b, strict=True):
        if left is None or right is None:
            largest = max(largest, 0.0 if left is right else np.inf)
            continue
        if left.shape != right.shape:
            return np.inf
        with np.errstate(all="ignore"):
            gap = np.max(np.abs(left - right), initial=0.0)
        largest = max(largest, float(np.nan_to_num(gap, nan=np.inf)))
    return largest


def kink_cases(layer: str) -> list[Case]:
    """Inputs at exactly the kinks."""
    if layer in ("relu", "leaky_relu", "course_relu"):
        return [Case((np.array([[0.0, 1.5, -2.0], [0.5, 0.0, -0.3]]),))]
    if layer in ("multiclass_hinge", "course_svm"):
        scores = np.array([[1.0, 0.0, 0.3], [0.2, 0.9, 1.2], [0.5, 1.5, -1.0]])
        return [Case((scores, np.array([0, 2, 1])))]
    if layer == "affine_relu":
        made = cases(layer)[0]
        x, w, b = made.inputs
        return [Case((x, w, b * 0)), Case((x * 0, w, b * 0))]
    return []


def judge(mutant: Mutant, right: Callable[..., Any]) -> Result | None:
    """Let the doctor look at a mutant; None if it is no mutant, or only raises."""
    found = live_case(mutant, right)
    if found is None and mutant.labels & {"modifies_input", "none", "count"}:
        found = cases(mutant.layer)[0], np.inf
    if found is None:
        return None
    case, change = found
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        diagnosis = diagnose(
            mutant.forward,
            mutant.backward,
            case.inputs,
            wrt=case.wrt,
            forward_kwargs=case.kwargs,
        )
    codes = [cause.code for cause in (*diagnosis.causes, *diagnosis.remarks)]
    detected = not diagnosis.ok or bool(codes)
    if not detected:
        verdict = "missed"
    elif mutant.labels:
        named = codes[0] if codes else ""
        if named in mutant.labels:
            verdict = "right"
        else:
            verdict = "not recognised" if named in ("unrecognised", "nan", "shape") else "wrong"
    else:
        verdict = "honest" if codes[0] in ("unrecognised", "nan", "shape") else "guessed"
    labels, half = sorted(mutant.labels), split(mutant.name)
    return Result(mutant.name, mutant.layer, half, labels, change, detected, codes, verdict)


def rates(results: Iterable[Result]) -> dict[str, Any]:
    """Counts and shares."""
    kept = list(results)
    named = [r for r in kept if r.labels]
    nameless = [r for r in kept if not r.labels]

    def share(part: int, whole: int) -> float:
        return part / whole if whole else float("nan")

    def count(flags: Iterable[bool]) -> int:
        return sum(flags)

    layers = sorted({r.layer for r in named})
    by_layer = [
        share(
            count(r.verdict == "right" for r in named if r.layer == layer),
            count(r.layer == layer for r in named),
        )
        for layer in layers
    ]
    return {
        "mutants": len(kept),
        "detected": count(r.detected for r in kept),
        "detection": share(count(r.detected for r in kept), len(kept)),
        "with_a_name": len(named),
        "right": count(r.verdict == "right" for r in named),
        "wrong": count(r.verdict == "wrong" for r in named),
        "not_recognised": count(r.verdict == "not recognised" for r in named),
        "right_cause": share(count(r.verdict == "right" for r in named), len(named)),
        "right_but_only_where": count(
            r.verdict == "right" and r.codes[0] == "wrong_derivative" for r in named
        ),
        "right_cause_mean_of_layers": float(np.mean(by_layer)) if by_layer else float("nan"),
        "without_a_name": len(nameless),
        "honest": count(r.verdict == "honest" for r in nameless),
        "guessed": count(r.verdict == "guessed" for r in nameless),
    }
