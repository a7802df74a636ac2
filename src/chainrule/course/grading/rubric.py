"""What counts how much, and under which limits: the file that an instructor edits."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from chainrule.course.grading.exercises import EXERCISES, TESTS, Test
from chainrule.course.grading.sandbox import Limits
from chainrule.course.grading.script import Tolerance
from chainrule.errors import ConfigError, DataMissingError, explain, nearest

__all__ = ["ExerciseRules", "Rubric", "TestRules", "default_rubric", "read_rubric", "rubric_text"]

_FORBIDDEN = ("chainrule", "torch", "tensorflow", "jax", "autograd", "sklearn", "keras")


@dataclass(frozen=True)
class TestRules:
    """What the rubric says of one test.

    Attributes
    ----------
    weight : float
        Its share of the points of its exercise.
    hidden : bool
        Whether its result is kept from the student.
    seconds : float or None
        A time limit of its own.
    """

    weight: float = 1.0
    hidden: bool = False
    seconds: float | None = None

    __test__ = False  # pytest collects classes of this name otherwise


@dataclass(frozen=True)
class ExerciseRules:
    """What the rubric says of one exercise.

    Attributes
    ----------
    points : float
        For the whole of it.
    hidden : bool
        Whether all its results are kept from the student.
    tests : dict of str to TestRules
        Those that are run.
    """

    points: float
    hidden: bool = False
    tests: dict[str, TestRules] = field(default_factory=dict)


@dataclass(frozen=True)
class Rubric:
    """How submissions are graded.

    Attributes
    ----------
    title : str
        Of the assignment, for reports.
    generation : {"auto", "A", "B"}
        Of the course; "auto" tells by the files of a submission.
    seed : int
        Of the random arguments of tests; another one gives other numbers.
    absent : {"zero", "skip"}
        What an exercise is worth of which no file was submitted.
    speed : float
        Share of a test's points that its speed is worth, where speed is measured.
    generous : float
        Factor by which the speed that is asked for is lowered.
    limits : Limits
        Of each test.
    tolerance : Tolerance
        Of numbers.
    forbid : tuple of str
        Packages that a submission may not import.
    diagnosis, trace, printed : bool
        Whether students see what the gradient doctor says, the lines of their code at which an
        error arose, and what their code printed.
    exercises : dict of str to ExerciseRules
        Those that are graded.
    """

    title: str = "CS231n"
    generation: str = "auto"
    seed: int = 231
    absent: str = "zero"
    speed: float = 0.1
    generous: float = 1.0
    limits: Limits = field(default_factory=Limits)
    tolerance: Tolerance = field(default_factory=Tolerance)
    forbid: tuple[str, ...] = _FORBIDDEN
    diagnosis: bool = True
    trace: bool = True
    printed: bool = True
    exercises: dict[str, ExerciseRules] = field(default_factory=dict)

    def digest(self) -> str:
        """Return what is different for rubrics that grade differently."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def only(self, exercises: list[str]) -> Rubric:
        """Return the rubric of some exercises alone."""
        for name in exercises:
            if name not in self.exercises:
                known = nearest(name, self.exercises)
                raise ConfigError(f"grade: exercise {name!r} is not known. {known}")
        kept = {name: rules for name, rules in self.exercises.items() if name in exercises}
        return replace(self, exercises=kept)


def default_rubric() -> Rubric:
    """Return the rubric that is used where none is given: all exercises of both generations."""
    exercises = {}
    for name, exercise in EXERCISES.items():
        tests = {test.name: TestRules(test.weight) for test in _tests_of(name)}
        exercises[name] = ExerciseRules(exercise.points, tests=tests)
    return Rubric(exercises=exercises)


def _tests_of(exercise: str) -> list[Test]:
    return [test for test in TESTS if test.exercise == exercise]


def read_rubric(path: Path) -> Rubric:
    """Read a rubric.

    Parameters
    ----------
    path : Path
        A TOML file as `rubric_text` shows it; what it leaves out is as by default, but if it
        names any exercise then those that it does not name are not graded.

    Returns
    -------
    Rubric
        Checked.

    Raises
    ------
    DataMissingError
        If there is no such file.
    ConfigError
        If it is no TOML, or a key or value is not understood.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataMissingError(f"{path}: there is no such rubric.") from error
    except OSError as error:
        raise ConfigError(f"{path}: could not be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML ({error}).") from error
    return _Reader(str(path)).rubric(content)


class _Reader:
    """Turns the content of a file into a rubric and says what is wrong with it."""

    def __init__(self, where: str) -> None:
        self.where = where

    def rubric(self, content: dict[str, Any]) -> Rubric:
        default = default_rubric()
        sections = {"limits", "tolerance", "feedback", "speed", "exercises"}
        plain = {"title": str, "generation": str, "seed": int, "absent": str, "forbid": list}
        self._known("", content, {*sections, *plain})
        values: dict[str, Any] = {
            key: self._typed(key, content[key], kind)
            for key, kind in plain.items()
            if key in content
        }
        for key, allowed in (("generation", ("auto", "A", "B")), ("absent", ("zero", "skip"))):
            if values.get(key, allowed[0]) not in allowed:
                raise self._wrong(key, f"be one of {', '.join(allowed)}", values[key])
        if "forbid" in values:
            values["forbid"] = tuple(self._typed("forbid", each, str) for each in values["forbid"])
        limits = self._numbers("limits", content, asdict(default.limits))
        for key in ("memory_mb", "disk_mb", "output_kb", "processes"):
            limits[key] = int(limits[key])
        tolerance = self._numbers("tolerance", content, asdict(default.tolerance))
        speed = self._numbers(
            "speed", content, {"share": default.speed, "generous": default.generous}
        )
        if speed["share"] > 1:
            raise self._wrong("speed.share", "be at most 1", speed["share"])
        shown = self._section("feedback", content)
        self._known("feedback", shown, {"diagnosis", "trace", "printed"})
        values |= {key: self._typed(f"feedback.{key}", on, bool) for key, on in shown.items()}
        exercises = default.exercises
        if "exercises" in content:
            given = self._section("exercises", content)
            self._known("exercises", given, exercises)
            exercises = {
                name: self._exercise(
                    name, self._typed(f"exercises.{name}", about, dict), exercises[name]
                )
                for name, about in given.items()
            }
        return replace(
            default, **values, exercises=exercises, limits=Limits(**limits),
            tolerance=Tolerance(**tolerance), speed=speed["share"], generous=speed["generous"],
        )  # fmt: skip

    def _exercise(self, name: str, about: dict[str, Any], default: ExerciseRules) -> ExerciseRules:
        where = f"exercises.{name}"
        self._known(where, about, {field.name for field in fields(ExerciseRules)})
        points = self._number(f"{where}.points", about.get("points", default.points))
        hidden = self._typed(f"{where}.hidden", about.get("hidden", False), bool)
        tests = default.tests
        if "tests" in about:
            given = self._typed(f"{where}.tests", about["tests"], dict)
            self._known(f"{where}.tests", given, tests)
            tests = {
                key: self._test(f"{where}.tests.{key}", rules, tests[key])
                for key, rules in given.items()
            }
        return ExerciseRules(points, hidden, tests)

    def _test(self, where: str, about: Any, default: TestRules) -> TestRules:
        if isinstance(about, int | float) and not isinstance(about, bool):
            return replace(default, weight=self._number(where, about))
        about = self._typed(where, about, dict)
        self._known(where, about, {field.name for field in fields(TestRules)})
        values: dict[str, Any] = {}
        for key, value in about.items():
            checker = self._number if key != "hidden" else self._flag
            values[key] = checker(f"{where}.{key}", value)
        return replace(default, **values)

    def _flag(self, key: str, value: Any) -> Any:
        return self._typed(key, value, bool)

    def _section(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._typed(name, content.get(name, {}), dict)
        return found

    def _numbers(
        self, section: str, content: dict[str, Any], default: Mapping[str, float]
    ) -> dict[str, Any]:
        given = self._section(section, content)
        self._known(section, given, default)
        return {**default, **{k: self._number(f"{section}.{k}", v) for k, v in given.items()}}

    def _number(self, key: str, value: Any) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise self._wrong(key, "be a number of 0 or more", repr(value))
        return float(value)

    def _typed(self, key: str, value: Any, kind: type) -> Any:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            names = {str: "a string", int: "a whole number", bool: "true or false", list: "a list",
                     dict: "a table"}  # fmt: skip
            raise self._wrong(key, f"be {names[kind]}", repr(value))
        return value

    def _known(self, where: str, given: Mapping[str, Any], known: Any) -> None:
        for key in given:
            if key not in known:
                place = f"{where}.{key}" if where else key
                raise ConfigError(f"{self.where}: {place} is not known. {nearest(key, known)}")

    def _wrong(self, key: str, rule: str, got: object) -> ConfigError:
        return ConfigError(explain(self.where, key, rule, got))


def rubric_text(rubric: Rubric | None = None) -> str:
    """Return a rubric as the file that an instructor edits, with comments.

    Parameters
    ----------
    rubric : Rubric, optional
        By default that of `default_rubric`.

    Returns
    -------
    str
        TOML; `read_rubric` reads it back as the same rubric.
    """
    rubric = rubric or default_rubric()
    limits, tolerance = rubric.limits, rubric.tolerance
    flags = {key: str(getattr(rubric, key)).lower() for key in ("diagnosis", "trace", "printed")}
    text = f"""\
# How `chainrule grade --rubric THIS_FILE` grades. What is left out is as by default, but
# exercises and tests that are not named here are not graded.

title = {json.dumps(rubric.title)}

# "A" (CS231n 2015, CS7643), "B" (CS231n from 2016), or "auto": as the files tell
generation = "{rubric.generation}"

# of the arguments of tests: change it each term
seed = {rubric.seed}

# exercises of which no file was submitted get "zero" points, or "skip" them
absent = "{rubric.absent}"

# packages that a submission may not import
forbid = {json.dumps(list(rubric.forbid))}

[limits]  # of each test; "processes" counts threads too
seconds = {limits.seconds:g}
memory_mb = {limits.memory_mb}
disk_mb = {limits.disk_mb}
output_kb = {limits.output_kb}
processes = {limits.processes}

[tolerance]  # absolute + relative times the largest expected number of an array
relative = {tolerance.relative:g}
absolute = {tolerance.absolute:g}

# Of vectorised functions, beside a plain loop on the same machine. The share is that of the
# test's points, given only where the results are right; generous = 2 asks for half the speed.
[speed]
share = {rubric.speed:g}
generous = {rubric.generous:g}

# What students see: the words of the gradient doctor, the lines of their code at which an error
# arose, and what their code printed.
[feedback]
diagnosis = {flags["diagnosis"]}
trace = {flags["trace"]}
printed = {flags["printed"]}"""
    lines = text.split("\n")
    for name, rules in rubric.exercises.items():
        exercise = EXERCISES[name]
        which = {"A": "generation A", "B": "generation B", "AB": "both generations"}
        lines += [
            "",
            f"[exercises.{name}]   # {exercise.title} ({which[exercise.generations]})",
            f"points = {rules.points:g}",
            f"hidden = {str(rules.hidden).lower()}",
            f"[exercises.{name}.tests]",
        ]
        titles = {test.name: test.title for test in _tests_of(name)}
        for key, test in rules.tests.items():
            text = f"{test.weight:g}"
            if test.hidden or test.seconds is not None:
                own = f", seconds = {test.seconds:g}" if test.seconds is not None else ""
                text = f"{{ weight = {test.weight:g}, hidden = {str(test.hidden).lower()}{own} }}"
            lines.append(f"{key} = {text}   # {titles[key]}")
    return "\n".join(lines) + "\n"
