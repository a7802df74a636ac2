"""Submissions for the grader's tests: complete ones of both generations, and parts of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chainrule.course.grading import default_rubric, find_protections, grade
from chainrule.course.grading.sandbox import Limits

WORK = Path(__file__).parent / "work"


def _write_student(generation, folder):
    """Write a complete, correct submission; return the folder around its ``cs231n``."""
    package = folder / "cs231n"
    for part in (WORK / "common", WORK / generation.lower()):
        for file in sorted(part.rglob("*.py.txt")):
            place = package / file.relative_to(part).with_suffix("")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    norms = package / "norms.py"
    if norms.exists():  # the second half of the layers of generation B
        with open(package / "layers.py", "a", encoding="utf-8") as layers:
            layers.write(norms.read_text(encoding="utf-8"))
        norms.unlink()
    return folder


def _change(student, file, old, new):
    """Put a bug into a submission."""
    path = student / "cs231n" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def _rubric_for(*tests, **settings):
    """A rubric of some tests alone, without points for speed."""
    rubric = default_rubric()
    kept = {}
    for key in tests:
        exercise, name = key.split("/")
        kept.setdefault(exercise, {})[name] = rubric.exercises[exercise].tests[name]
    exercises = {
        name: replace(rubric.exercises[name], points=100.0, tests=rules)
        for name, rules in kept.items()
    }
    limits = Limits(**settings.pop("limits", {}))
    return replace(rubric, exercises=exercises, limits=limits, **({"speed": 0.0} | settings))


def _grade_tests(student, *tests, protections=None, jobs=None, **settings):
    """Grade some tests; return their results by name."""
    rubric = _rubric_for(*tests, **settings)
    report = grade(student, rubric, protections=protections, jobs=jobs)
    return {result.key: result for result in report.results}


# Test modules cannot import this file, so they get its functions as fixtures.
write_student, change, grade_tests, rubric_for = (
    pytest.fixture(lambda made=made: made, name=made.__name__[1:], scope="session")
    for made in (_write_student, _change, _grade_tests, _rubric_for)
)


@pytest.fixture
def student_a(tmp_path):
    return _write_student("A", tmp_path / "student")


@pytest.fixture
def student_b(tmp_path):
    return _write_student("B", tmp_path / "student")


@pytest.fixture(scope="session")
def namespaces():
    """The protections of this machine, if it can shut processes in wholly."""
    found = find_protections()
    if found.mode == "plain":
        pytest.skip(f"no namespaces here: {found.why}")
    return found
