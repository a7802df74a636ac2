"""Run the tests of a rubric on a submission and give the points."""

from __future__ import annotations

import math
import os
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.course.grading.exercises import EXERCISES, TESTS, Test
from chainrule.course.grading.protections import Protections, find_protections
from chainrule.course.grading.results import Finding, Report, TestResult
from chainrule.course.grading.rubric import Rubric, TestRules, default_rubric
from chainrule.course.grading.sandbox import Outcome, Sandbox
from chainrule.course.grading.script import Check, Plan, Speed, Tolerance
from chainrule.course.grading.submission import Submission, collect, generation_of
from chainrule.errors import DataFormatError

__all__ = ["Progress", "cores", "grade"]

Progress = Callable[[int, int, str], None]
_LONGEST = 4000  # letters of a message, of what is printed


def grade(
    source: str | Path,
    rubric: Rubric | None = None,
    *,
    generation: str | None = None,
    jobs: int | None = None,
    protections: Protections | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """Grade one submission.

    Parameters
    ----------
    source : str or Path
        See `submission.collect`.
    rubric : Rubric, optional
        By default all exercises.
    generation : {"A", "B"}, optional
        By default what the rubric says, or what the files tell.
    jobs : int, optional
        Tests at a time; by default as many as there are cores.
    protections : Protections, optional
        By default the best that this machine has.
    progress : callable, optional
        Told how many tests are done, of how many, and which was the last.
    stop : threading.Event, optional
        Ends grading early when it is set, from another thread.

    Returns
    -------
    Report
        Whatever the submission does.

    Raises
    ------
    DataMissingError, DataFormatError
        If there is no submission, or nothing to grade in it.
    KeyboardInterrupt
        If `stop` was set.
    """
    stop = stop or threading.Event()
    rubric = rubric or default_rubric()
    shut_in = protections or find_protections()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chainrule-grade-") as folder:
        submission = collect(Path(source), Path(folder))
        which = generation or (rubric.generation if rubric.generation != "auto" else "")
        which = which or generation_of(submission)
        tests = list(_chosen(rubric, which, submission))
        if not tests:
            raise DataFormatError(f"{source}: the rubric has no test for generation {which}.")
        report = Report(
            submission.name, submission.digest, rubric.digest(), rubric.title, which,
            titles={test.exercise: EXERCISES[test.exercise].title for test, _, _ in tests},
            skipped=list(submission.skipped), protections=shut_in.words(),
        )  # fmt: skip
        with Sandbox(
            submission.folder, shut_in.mode, rubric.forbid, audit=shut_in.audit, stop=stop
        ) as sandbox:
            marker = _Marker(sandbox, submission, rubric, which)
            with ThreadPoolExecutor(max(1, jobs or cores())) as pool:
                waiting = {pool.submit(marker.mark, *each): each[0].key for each in tests}
                try:
                    done = {}
                    for future in as_completed(waiting):
                        done[waiting[future]] = future.result()
                        if progress is not None:
                            progress(len(done), len(tests), waiting[future])
                except BaseException:  # Ctrl-C: what runs is ended, what waits never starts
                    pool.shutdown(wait=False, cancel_futures=True)
                    stop.set()
                    raise
    if stop.is_set():
        raise KeyboardInterrupt
    report.results = [done[test.key] for test, _, _ in tests]
    report.seconds = round(time.monotonic() - start, 3)
    return report


def cores() -> int:
    """Return how many tests this process may run at a time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chosen(
    rubric: Rubric, generation: str, submission: Submission
) -> Iterator[tuple[Test, TestRules, float]]:
    """The tests to run, with their rules and points."""
    for name, rules in rubric.exercises.items():
        tests = [
            test
            for test in TESTS
            if test.exercise == name and generation in test.generations and test.name in rules.tests
        ]
        if rubric.absent == "skip" and not any(
            _submitted(t, generation, submission) for t in tests
        ):
            continue
        total = sum(rules.tests[test.name].weight for test in tests)
        for test in tests:
            own = rules.tests[test.name]
            share = own.weight / total if total else 0.0
            hidden = own.hidden or rules.hidden
            yield test, replace(own, hidden=hidden), rules.points * share


def _submitted(test: Test, generation: str, submission: Submission) -> bool:
    plan = test.build(np.random.default_rng(0), generation)
    return not _lacking(plan, submission)


def _modules(tree: Any) -> Iterator[str]:
    """Names of the modules of the submission that a script calls."""
    if isinstance(tree, dict):
        for key in ("target", "$target"):
            if isinstance(tree.get(key), str):
                yield tree[key].partition(":")[0]
        for item in tree.values():
            yield from _modules(item)
    elif isinstance(tree, list):
        for item in tree:
            yield from _modules(item)


def _lacking(plan: Plan, submission: Submission) -> list[str]:
    """Files that a test calls and that were not submitted."""
    needed = {name.replace(".", "/") for name in _modules(plan.script.steps) if "cs231n" in name}
    found = set(submission.files)
    lacking = {name for name in needed if not found & {f"{name}.py", f"{name}/__init__.py"}}
    return sorted(f"{name}.py" for name in lacking)


class _Marker:
    """Marks the tests of one submission, several at a time."""

    def __init__(
        self, sandbox: Sandbox, submission: Submission, rubric: Rubric, generation: str
    ) -> None:
        self.sandbox = sandbox
        self.submission = submission
        self.rubric = rubric
        self.generation = generation
        self._broken: dict[str, Outcome] = {}  # modules whose import ended a process
        self._lock = threading.Lock()

    def mark(self, test: Test, rules: TestRules, points: float) -> TestResult:
        rng = np.random.default_rng([self.rubric.seed, zlib.crc32(test.key.encode())])
        plan = test.build(rng, self.generation)
        result = TestResult(
            test.key, test.exercise, test.title, "failed", 0.0, points, hidden=rules.hidden
        )
        if lacking := _lacking(plan, self.submission):
            result.status = "missing"
            result.message = (
                f"{' and '.join(lacking)} {'was' if len(lacking) == 1 else 'were'} not submitted."
            )
            return result
        limits = self.rubric.limits
        if rules.seconds is not None:
            limits = replace(limits, seconds=rules.seconds)
        outcome = self._known_end(plan)
        if outcome is None:
            refs = [check.ref for check in plan.checks]
            refs += [ref for speed in plan.speed for ref in (speed.ref, speed.expected.ref)]
            outcome = self.sandbox.run(plan.script.to_job(refs), limits)
            result.seconds = round(outcome.seconds, 3)
            self._remember(outcome, plan)
        result.printed = _clean(outcome.output) if self.rubric.printed else ""
        answers = _answers(outcome, len(plan.checks) + 2 * len(plan.speed))
        if answers is None:
            result.status, result.message = "stopped", self._words(outcome, plan)
            return result
        fraction = self._judge(plan, answers, result)
        result.score = points * fraction
        whole = math.isclose(fraction, 1.0)
        result.score = points if whole else result.score
        result.status = "passed" if whole else "partial" if fraction > 0 else "failed"
        if (
            any(each.get("error", {}).get("kind") == "missing" for each in answers)
            and fraction == 0
        ):
            result.status = "missing"
        checks = zip(plan.checks, result.findings, answers, strict=False)  # without the speed
        wrong = any(not finding.passed and "value" in answer for _, finding, answer in checks)
        if wrong and self.rubric.diagnosis:
            self._diagnose(plan, limits, result)
        return result

    def _known_end(self, plan: Plan) -> Outcome | None:
        with self._lock:
            ends = [
                self._broken[name] for name in _modules(plan.script.steps) if name in self._broken
            ]
        return ends[0] if ends else None

    def _remember(self, outcome: Outcome, plan: Plan) -> None:
        """Keep in mind that a module cannot be imported: each try could cost the whole time."""
        last = outcome.progress[-1] if outcome.progress else ""
        if outcome.ended != "answered" and last.startswith("import "):
            name = last.removeprefix("import ")
            if name in set(_modules(plan.script.steps)):  # whatever the process may say
                with self._lock:
                    self._broken.setdefault(name, outcome)

    def _words(self, outcome: Outcome, plan: Plan) -> str:
        """Say why a test has no answer, and where it stood."""
        last = outcome.progress[-1] if outcome.progress else ""
        where = ""
        if last.startswith("import "):
            where = f" while {last.removeprefix('import ')} was imported"
        elif steps := [words for words in outcome.progress if words.startswith("step ")]:
            number = int(steps[-1].removeprefix("step ")) if steps[-1][5:].isdigit() else -1
            if 0 <= number < len(plan.script.steps):
                where = f" in {_called(plan.script.steps[number])}"
        return _clean(f"The test was stopped: {outcome.message}{where}.")

    def _judge(self, plan: Plan, answers: list[dict[str, Any]], result: TestResult) -> float:
        total = got = 0.0
        traces: list[str] = []
        for check, answer in zip(plan.checks, answers, strict=False):
            total += check.weight
            error = answer.get("error")
            if isinstance(error, dict):
                fault = _clean(error.get("message", "it failed"))
                if error.get("kind") == "empty":
                    fault = f"not written yet ({fault})"
                trace = error.get("trace")
                traces += map(_clean, trace) if isinstance(trace, list) else []
            else:
                fault = _clean(_fault(check, answer["value"], self.rubric.tolerance))
            got += 0.0 if fault else check.weight
            result.findings.append(Finding(check.label, not fault, fault))
        if self.rubric.trace:
            result.trace = list(dict.fromkeys(traces))[:8]
        fraction = got / total if total else 1.0
        share = self.rubric.speed if plan.speed else 0.0
        if not share:
            return fraction
        fast = 0.0
        rest = answers[len(plan.checks) :]
        for index, speed in enumerate(plan.speed):
            finding = self._speed(speed, rest[2 * index], rest[2 * index + 1], fraction)
            result.findings.append(finding)
            fast += finding.passed / len(plan.speed)
        return (1 - share) * fraction + share * fast

    def _speed(
        self, speed: Speed, timed: dict[str, Any], out: dict[str, Any], fraction: float
    ) -> Finding:
        label = f"speed, {speed.label}"
        if "value" not in timed or fraction < 1:
            return Finding(label, False, "counts once the results are right")
        wrong = _fault(speed.expected, out.get("value"), self.rubric.tolerance.scaled(10))
        if wrong:
            return Finding(label, False, f"the result on larger arrays is not right: {wrong}")
        times = timed["value"] if isinstance(timed["value"], dict) else {}
        ours, loop = times.get("seconds"), times.get("loop_seconds")
        if not isinstance(ours, float) or not isinstance(loop, float) or ours <= 0:
            return Finding(label, False, "it could not be timed")
        needed = speed.ratio / max(self.rubric.generous, 1e-9)
        factor = loop / ours
        words = f"{factor:.2g} times as fast as the loop, of {needed:.2g}"
        return Finding(label, factor >= needed, "" if factor >= needed else words)

    def _diagnose(self, plan: Plan, limits: Any, result: TestResult) -> None:
        for job in plan.diagnosis:
            outcome = self.sandbox.run(job, limits)
            answer = outcome.answer if isinstance(outcome.answer, dict) else {}
            causes = answer.get("causes")
            if answer.get("ok") is True and "net" in job["diagnosis"]:
                continue  # the fault may be one of deeper networks only
            if answer.get("ok") is True:
                result.diagnosis.append(
                    "The backward agrees with your own forward: look for the fault in the forward."
                )
            elif isinstance(causes, list):
                for cause in causes[:3]:
                    lines = cause if isinstance(cause, list) else [cause]
                    text = "\n".join(str(line) for line in lines[:6])
                    result.diagnosis.append(_clean(text))


def _fault(check: Check, value: Any, tolerance: Tolerance) -> str:
    """What is wrong with a value; it may be anything that plain data can be."""
    try:
        return check.fault(value, tolerance)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return f"it could not be compared ({type(error).__name__})"


def _clean(text: object) -> str:
    """Text of the submission's as it may be shown: no control characters, not endless."""
    shown = str(text)[:_LONGEST].encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in shown)


def _answers(outcome: Outcome, count: int) -> list[dict[str, Any]] | None:
    """The answer to each reference, if the process gave one of that form; it may lie."""
    gives = outcome.answer.get("gives") if isinstance(outcome.answer, dict) else None
    if not isinstance(gives, list) or len(gives) != count:
        if outcome.ended == "answered":
            outcome.message = "its results are not what was asked for"
        return None
    answers = [each if isinstance(each, dict) else {} for each in gives]
    empty = {"error": {"kind": "error", "message": "there is no result"}}
    return [
        each if "value" in each or isinstance(each.get("error"), dict) else empty
        for each in answers
    ]


def _called(step: dict[str, Any]) -> str:
    what = step.get("target")
    if isinstance(what, dict):
        return str(what.get("name"))
    return str(what).partition(":")[2] if what else str(step.get("do"))
