"""``chainrule grade``: the homework of CS231n and CS7643, graded.

Nothing is imported before the command runs, as for all commands.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chainrule.cli.parser import Command, argument, choice
from chainrule.errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import Progress

    from chainrule.course.grading import Report, Rubric

__all__ = ["GRADE"]

_STATES = {
    "passed": "pass",
    "partial": "part",
    "failed": "FAIL",
    "missing": "none",
    "stopped": "STOP",
}


def _grade(options: Namespace) -> int:
    """Grade one submission, or a class."""
    if options.write_rubric is not None:
        return _write_rubric(options)
    if options.protections:
        return _show_protections(options)
    if options.submission is None:
        raise ConfigError("grade: SUBMISSION must be given. See: chainrule grade --help")
    single = [f"--{name}" for name in ("html", "gradescope") if getattr(options, name) is not None]
    several = [f"--{name}" for name in ("csv", "out") if getattr(options, name) is not None]
    if options.whole_class and single:
        raise ConfigError(f"grade: {single[0]} is for one submission; --class writes all to --out.")
    if several and not options.whole_class:
        raise ConfigError(f"grade: {several[0]} is for a class. Add --class.")
    if options.jobs is not None and options.jobs < 1:
        raise ConfigError(f"grade: --jobs must be at least 1; got {options.jobs}.")
    rubric = _rubric(options)
    return _grade_class(options, rubric) if options.whole_class else _grade_one(options, rubric)


def _rubric(options: Namespace) -> Rubric:
    from chainrule.course.grading import default_rubric, read_rubric

    rubric = default_rubric() if options.rubric is None else read_rubric(Path(options.rubric))
    if options.generation is not None:
        rubric = replace(rubric, generation=options.generation)
    return rubric.only(options.exercise) if options.exercise else rubric


def _write_rubric(options: Namespace) -> int:
    from chainrule.cli.output import say
    from chainrule.course.grading import rubric_text
    from chainrule.records import write_atomically

    path = Path(options.write_rubric)
    if path.exists():
        raise ConfigError(f"grade: {path} exists already. Remove it, or give another name.")
    write_atomically(path, rubric_text().encode())
    say(f"rubric written to {path}; grade by it with: chainrule grade SUBMISSION --rubric {path}")
    return 0


def _show_protections(options: Namespace) -> int:
    from chainrule.course.grading import find_protections

    words = find_protections().words()
    if options.json is not None:
        _write_json(options.json, words)
        return 0
    width = max(map(len, words))
    sys.stdout.write("".join(f"{name:{width}}  {text}\n" for name, text in words.items()))
    return 0


def _grade_one(options: Namespace, rubric: Rubric) -> int:
    from chainrule.course.grading import find_protections, grade
    from chainrule.course.grading.outputs import gradescope
    from chainrule.course.grading.page import feedback_page
    from chainrule.records import write_atomically, write_json

    protections = find_protections()
    _warn(protections.mode)
    with _bar() as bar:
        task = bar.add_task("grading", total=None, status="")

        def progress(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, status=name)

        report = grade(
            options.submission,
            rubric,
            jobs=options.jobs,
            protections=protections,
            progress=progress,
        )
    if options.json != "-":
        _show(report, options.hidden)
    if options.json is not None:
        _write_json(options.json, report.data())
    if options.gradescope is not None:
        write_json(Path(options.gradescope), gradescope(report))
        _written("results", options.gradescope)
    if options.html is not None:
        page = feedback_page(report, hidden=options.hidden)
        write_atomically(Path(options.html), page.encode())
        _written("feedback", options.html)
    return 0


def _grade_class(options: Namespace, rubric: Rubric) -> int:
    from chainrule.cli.output import say
    from chainrule.course.grading import find_protections
    from chainrule.course.grading.classes import grade_class
    from chainrule.course.grading.outputs import csv_text
    from chainrule.records import write_atomically

    folder = Path(options.submission)
    out = (
        Path(options.out) if options.out is not None else folder.with_name(f"{folder.name}-grades")
    )
    protections = find_protections()
    _warn(protections.mode)
    with _bar() as bar:
        task = bar.add_task("grading", total=None, status="")

        def progress(done: int, total: int, report: Report, kept: bool) -> None:
            words = report.problem or f"{report.score:g} of {report.points:g}"
            if bar.console.is_terminal:
                bar.update(task, completed=done, total=total, status=report.submission)
            else:
                say(f"{done} of {total}: {report.submission}: {words}{' (kept)' if kept else ''}")

        reports = grade_class(
            folder, out, rubric, jobs=options.jobs, protections=protections, progress=progress
        )
    if options.csv is not None and options.csv != "-":
        write_atomically(Path(options.csv), csv_text(reports).encode())
        _written("grades", options.csv)
    if options.json is not None:
        _write_json(options.json, [report.data() for report in reports])
    if options.csv == "-":
        sys.stdout.write(csv_text(reports))
    elif options.json != "-":
        _show_class(reports)
    say(f"feedback on each submission is in {out}")
    return 0


def _warn(mode: str) -> None:
    from chainrule.cli.output import say

    if mode == "plain":
        say("this machine has no namespaces for tests. See: chainrule grade --protections")


@contextmanager
def _bar() -> Iterator[Progress]:
    """A progress bar, on terminals only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, force_terminal=sys.stderr.isatty())
    columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.fields[status]}"))
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield progress


def _show(report: Report, hidden: bool) -> None:
    """Print a table: exercises, their tests, and what is wrong."""
    from chainrule.course.grading.outputs import feedback

    shown = [result for result in report.results if hidden or not result.hidden]
    names = [f"{result.exercise}/{result.title}" for result in shown]
    width = max(map(len, names), default=0)
    exercise = ""
    for result in shown:
        if result.exercise != exercise:
            exercise = result.exercise
            group = [each for each in shown if each.exercise == exercise]
            points = f"{sum(r.score for r in group):.1f} of {sum(r.points for r in group):.1f}"
            sys.stdout.write(f"{report.titles[exercise]} ({exercise}): {points}\n")
        score = f"{result.score:5.1f} of {result.points:4.1f}"
        sys.stdout.write(f"  {_STATES[result.status]}  {score}  {result.title}\n")
        text = feedback(result, short=True)
        sys.stdout.write("".join(f"        {line}\n" for line in text.splitlines()))
    total = f"{sum(r.score for r in shown):.1f} of {sum(r.points for r in shown):.1f}"
    sys.stdout.write(f"{'-' * min(width, 40)}\n{report.submission}: {total} points\n")
    if len(shown) < len(report.results):
        sys.stdout.write(f"{len(report.results) - len(shown)} hidden tests are not shown.\n")


def _show_class(reports: list[Report]) -> None:
    width = max(len(report.submission) for report in reports)
    for report in reports:
        words = report.problem or f"{report.score:7.1f} of {report.points:g}"
        sys.stdout.write(f"{report.submission:{width}}  {words}\n")


def _write_json(where: str, data: Any) -> None:
    from chainrule.records import write_json

    if where == "-":
        sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")
    else:
        write_json(Path(where), data)
        _written("results", where)


def _written(what: str, where: str) -> None:
    from chainrule.cli.output import say

    say(f"{what} written to {where}")


GRADE = Command(
    "grade",
    "Grade CS231n homework, each test in a process that is shut in.",
    "SUBMISSION [options]\n       chainrule grade FOLDER --class [options]",
    _grade,
    (
        argument(
            "submission",
            metavar="SUBMISSION",
            nargs="?",
            help="a folder cs231n or one around it, a .py file, or a .zip of these",
        ),
        argument(
            "--exercise",
            action="append",
            metavar="NAME",
            help="grade this exercise only; may be given several times",
        ),
        argument("--rubric", metavar="FILE", help="points and limits, as --write-rubric has them"),
        argument(
            "--write-rubric",
            metavar="FILE",
            help="write the default rubric, to be edited, and do nothing else",
        ),
        argument(
            "--generation",
            type=choice("A", "B"),
            metavar="A|B",
            help="A: CS231n 2015 and CS7643; B: CS231n from 2016 (default: as the files tell)",
        ),
        argument("--json", metavar="OUT", help="write all results, for programs; - to print them"),
        argument("--html", metavar="FILE", help="write the feedback page"),
        argument("--gradescope", metavar="FILE", help="write results.json for Gradescope"),
        argument("--hidden", action="store_true", help="show hidden tests too, to an instructor"),
        argument(
            "--class",
            dest="whole_class",
            action="store_true",
            help="SUBMISSION is a folder of submissions; what was graded before is kept",
        ),
        argument("--csv", metavar="FILE", help="with --class, a line for each submission"),
        argument("--out", metavar="DIR", help="with --class, for results (default: FOLDER-grades)"),
        argument("--jobs", type=int, metavar="N", help="tests at a time (default: one a core)"),
        argument(
            "--protections",
            action="store_true",
            help="show what shuts submissions in on this machine, and do nothing else",
        ),
    ),
    (
        "chainrule grade assignment2/cs231n --html feedback.html",
        "chainrule grade layers.py --exercise layers --exercise conv",
        "chainrule grade --write-rubric rubric.toml",
        "chainrule grade submissions/ --class --rubric rubric.toml --csv grades.csv",
    ),
)
