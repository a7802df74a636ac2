"""Results for other programs: Gradescope's ``results.json``, and CSV for a class."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from chainrule.course.grading.results import Report, TestResult

__all__ = ["csv_text", "feedback", "gradescope"]


def feedback(result: TestResult, *, short: bool = False) -> str:
    """Return what a student reads about one test, as plain text.

    Parameters
    ----------
    result : TestResult
        The test.
    short : bool, default False
        Without evidence, traces and output.

    Returns
    -------
    str
        Lines, none where everything is right.
    """
    lines = [result.message] if result.message else []
    lines += [f"{f.label}: {f.message}" for f in result.findings if not f.passed]
    for text in result.diagnosis:
        first, *evidence = text.split("\n")
        lines.append(f"Gradient doctor: {first}")
        lines += [] if short else [f"  {line}" for line in evidence]
    if not short:
        lines += [f"  at {line}" for line in result.trace]
        lines += ["printed:", result.printed.rstrip()] if result.printed.strip() else []
    return "\n".join(lines)


def gradescope(report: Report) -> dict[str, Any]:
    """Return a report in the form that Gradescope takes.

    Parameters
    ----------
    report : Report
        Of one submission.

    Returns
    -------
    dict
        For ``/autograder/results/results.json``. Hidden tests have the visibility
        ``after_published``, all others ``visible``.

    Notes
    -----
    The keys are those of https://gradescope-autograders.readthedocs.io/en/latest/specs/.
    """
    tests = [
        {
            "name": f"{report.titles.get(result.exercise, result.exercise)}: {result.title}",
            "number": str(number),
            "score": round(result.score, 4),
            "max_score": round(result.points, 4),
            "status": "passed" if result.status == "passed" else "failed",
            "output": feedback(result),
            "output_format": "text",
            "tags": [result.exercise],
            "visibility": "after_published" if result.hidden else "visible",
        }
        for number, result in enumerate(report.results, 1)
    ]
    words = report.problem or f"{report.score:g} of {report.points:g} points."
    return {
        "score": report.score,
        "execution_time": round(report.seconds, 1),
        "output": words if not any(result.hidden for result in report.results) else report.problem,
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def csv_text(reports: Iterable[Report]) -> str:
    """Return one line for each submission: total, and the points of each exercise.

    Parameters
    ----------
    reports : iterable of Report
        Of a class.

    Returns
    -------
    str
        CSV with a header. A name that a spreadsheet would take for a formula gets an apostrophe
        before it.
    """
    rows = list(reports)
    exercises = list(dict.fromkeys(name for report in rows for name in report.exercises()))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["submission", "score", "points", "generation", "stopped", "seconds", "problem"]
    writer.writerow([*header, *exercises])
    for report in rows:
        groups = report.exercises()
        scores = [
            f"{sum(result.score for result in groups[name]):.4g}" if name in groups else ""
            for name in exercises
        ]
        stopped = sum(result.status == "stopped" for result in report.results)
        own = [_harmless(report.submission), f"{report.score:g}", f"{report.points:g}"]
        own += [report.generation, str(stopped), f"{report.seconds:.1f}", _harmless(report.problem)]
        writer.writerow([*own, *scores])
    return text.getvalue()


def _harmless(text: str) -> str:
    line = " ".join(text.split())
    return f"'{line}" if line[:1] in ("=", "+", "-", "@") else line
