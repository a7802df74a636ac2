"""A part of the doctor's corpus, for every run; `benchmarks/measure_doctor.py` measures it all."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from chainrule.gradcheck import diagnose
from chainrule.layers import reference

SLOW = ("conv", "max_pool", "avg_pool", "course_conv", "course_max")


@pytest.fixture(scope="module")
def corpus() -> Any:
    """The modules of the corpus, which is no package that is installed."""
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        from doctor import correct, handwritten, measure, mutation
    finally:
        sys.path.remove(folder)
    return SimpleNamespace(
        correct=correct, handwritten=handwritten, measure=measure, mutation=mutation
    )


def is_quick(layer: str) -> bool:
    return not layer.startswith(SLOW)


def test_mutants_are_detected_and_named(corpus: Any) -> None:
    results = []
    for mutant in [*list(corpus.handwritten.edited())[::2], *corpus.mutation.mutants(9)]:
        if not is_quick(mutant.layer) or corpus.mutation.split(mutant.name) != "development":
            continue
        if mutant.layer in corpus.handwritten.STYLES:
            right = corpus.handwritten.style(mutant.layer)[1]
        else:
            right = getattr(reference, f"{mutant.layer}_backward")
        result = corpus.measure.judge(mutant, right)
        if result is not None:
            results.append(result)
    rates = corpus.measure.rates(results)
    assert rates["mutants"] >= 60
    assert [r.name for r in results if not r.detected] == []
    assert rates["right_cause"] >= 0.9
    assert rates["wrong"] <= 0.02 * rates["with_a_name"]


def test_right_backwards_raise_no_alarm(corpus: Any) -> None:
    alarms, count = [], 0
    for i, (name, forward, backward, case) in enumerate(corpus.correct.checks(1, 1)):
        if is_quick(name) and i % 3 == 0:
            count += 1
            found = diagnose(
                forward, backward, case.inputs, wrt=case.wrt, forward_kwargs=case.kwargs
            )
            if not found.ok or found.causes:
                alarms.append(f"{name}: {found}")
    assert count >= 150
    assert alarms == []


def test_the_halves_never_change(corpus: Any) -> None:
    """Which mutants were kept apart follows from their names."""
    halves = [corpus.mutation.split(name) for name in ("a", "a #2", "b", "e")]
    assert halves == ["development", "development", "development", "held out"]


def test_a_mutant_that_changes_nothing_is_none(corpus: Any) -> None:
    def backward(dout: np.ndarray, cache: Any) -> np.ndarray:
        return reference.relu_backward(dout, cache)

    mutant = corpus.mutation.Mutant("x", "relu", reference.relu_forward, backward, frozenset())
    assert corpus.measure.judge(mutant, reference.relu_backward) is None
