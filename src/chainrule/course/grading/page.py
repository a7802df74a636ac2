"""The feedback page: one HTML file with everything inside it, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

from chainrule import __version__
from chainrule.course.grading.results import Report, TestResult

__all__ = ["feedback_page"]

_WORDS = {
    "passed": "passed",
    "partial": "in part",
    "failed": "not right",
    "missing": "not submitted",
    "stopped": "stopped",
}


def feedback_page(report: Report, *, hidden: bool = False) -> str:
    """Return the page that a student reads.

    Parameters
    ----------
    report : Report
        Of one submission.
    hidden : bool, default False
        Whether to show hidden tests too, as for an instructor.

    Returns
    -------
    str
        HTML. Whatever comes from the submission is escaped, and the content security policy of
        the page forbids scripts and requests.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style = _asset("feedback.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    shown = [result for result in report.results if hidden or not result.hidden]
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(_asset("feedback.html.j2"))
    score = sum(result.score for result in shown)
    points = sum(result.points for result in shown)
    return template.render(
        version=__version__,
        style=Markup(style),
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'",
        title=report.title,
        name=report.submission,
        generation=_generation(report.generation),
        problem=report.problem,
        score=_points(score),
        points=_points(points),
        share=_percent(score, points),
        ring=f"{100 * score / points if points else 0:.2f}",
        counts=_counts(shown),
        withheld=len(report.results) - len(shown),
        exercises=_exercises(report, shown),
        skipped=report.skipped,
        protections=report.protections,
        digest=report.digest[:12],
        rubric=report.rubric[:12],
        seconds=f"{report.seconds:.1f}",
    )


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _generation(name: str) -> str:
    return {"A": "CS231n 2015, CS7643", "B": "CS231n from 2016"}.get(name, "")


def _points(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _percent(score: float, points: float) -> str:
    if not points:
        return "-"
    share = 100 * score / points
    # What is not all must not be rounded to all, nor something to nothing.
    return "99%" if 99 < share < 100 - 1e-9 else "1%" if 0 < share < 1 else f"{share:.0f}%"


def _counts(results: list[TestResult]) -> list[dict[str, Any]]:
    found = [(status, sum(r.status == status for r in results)) for status in _WORDS]
    return [{"status": s, "word": _WORDS[s], "count": n} for s, n in found if n]


def _exercises(report: Report, shown: list[TestResult]) -> list[dict[str, Any]]:
    groups: dict[str, list[TestResult]] = {}
    for result in shown:
        groups.setdefault(result.exercise, []).append(result)
    return [
        {
            "name": name,
            "title": report.titles.get(name, name),
            "score": _points(sum(r.score for r in results)),
            "points": _points(sum(r.points for r in results)),
            "width": f"{_ratio(results):.2f}",
            "status": _status(results),
            "word": _WORDS[_status(results)],
            "note": _common(results),
            "tests": [_test(result) for result in results],
        }
        for name, results in groups.items()
    ]


def _ratio(results: list[TestResult]) -> float:
    points = sum(r.points for r in results)
    return 100 * sum(r.score for r in results) / points if points else 0.0


def _status(results: list[TestResult]) -> str:
    states = {result.status for result in results}
    if len(states) == 1:
        return states.pop()
    return "partial" if any(result.score > 0 for result in results) else "failed"


def _common(results: list[TestResult]) -> str:
    """What is true of all tests of an exercise, said once: that its file is not there."""
    messages = {result.message for result in results}
    missing = all(result.status == "missing" for result in results)
    return messages.pop() if missing and len(messages) == 1 else ""


def _test(result: TestResult) -> dict[str, Any]:
    wrong = [finding for finding in result.findings if not finding.passed]
    grouped: dict[str, list[str]] = {}
    for finding in wrong:  # one error often fails several checks: it is said once
        grouped.setdefault(finding.message, []).append(finding.label)
    return {
        "title": result.title,
        "key": result.key,
        "status": result.status,
        "word": _WORDS[result.status],
        "score": _points(result.score),
        "points": _points(result.points),
        "hidden": result.hidden,
        "message": result.message,
        "right": list(dict.fromkeys(f.label for f in result.findings if f.passed)),
        "wrong": [
            {"labels": list(dict.fromkeys(labels)), "message": message}
            for message, labels in grouped.items()
        ],
        "diagnosis": [text.split("\n") for text in result.diagnosis],
        "trace": result.trace,
        "printed": result.printed.rstrip(),
    }
