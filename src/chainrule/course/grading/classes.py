"""Grade a folder of submissions, several at a time, so that it can be interrupted."""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from chainrule import __version__
from chainrule.course.grading.marking import cores, grade
from chainrule.course.grading.page import feedback_page
from chainrule.course.grading.protections import Protections, find_protections
from chainrule.course.grading.results import Report, report_from
from chainrule.course.grading.rubric import Rubric
from chainrule.course.grading.submission import collect
from chainrule.errors import ChainruleError, DataFormatError, DataMissingError
from chainrule.records import write_atomically, write_json

__all__ = ["grade_class", "submissions_in"]

ClassProgress = Callable[[int, int, Report, bool], None]


def submissions_in(folder: Path) -> list[Path]:
    """Return the submissions in a folder: its folders, zip files and Python files.

    Raises
    ------
    DataMissingError
        If there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise DataMissingError(f"{folder}: there is no such folder of submissions.")
    found = [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith((".", "_"))
        and (path.is_dir() or path.suffix in (".zip", ".py"))
    ]
    if not found:
        raise DataMissingError(f"{folder}: there is no submission in this folder.")
    return found


def grade_class(
    folder: Path,
    out: Path,
    rubric: Rubric,
    *,
    jobs: int | None = None,
    protections: Protections | None = None,
    progress: ClassProgress | None = None,
) -> list[Report]:
    """Grade every submission of a folder.

    Parameters
    ----------
    folder : Path
        See `submissions_in`.
    out : Path
        Gets ``NAME.json`` and ``NAME.html`` of each submission. One whose files, rubric and
        chainrule are those of its ``NAME.json`` is not graded again.
    rubric : Rubric
        For all of them.
    jobs : int, optional
        Submissions at a time; by default as many as there are cores.
    protections : Protections, optional
        By default the best that this machine has.
    progress : callable, optional
        Told how many are done, of how many, the report of the last, and whether it was kept.

    Returns
    -------
    list of Report
        In the order of their names; one that cannot be graded has a `problem`.

    Raises
    ------
    DataMissingError
        If there is nothing to grade.
    RunError
        If results cannot be written.
    """
    paths = submissions_in(folder)
    shut_in = protections or find_protections()
    stop = threading.Event()
    reports: dict[Path, Report] = {}
    with ThreadPoolExecutor(max(1, jobs or cores())) as pool:
        waiting: dict[Future[tuple[Report, bool]], Path] = {
            pool.submit(_one, path, out, rubric, shut_in, stop): path for path in paths
        }
        try:
            while waiting:
                # A limit, since only then does Ctrl-C come through at once.
                done, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    path = waiting.pop(future)
                    reports[path], kept = future.result()
                    if progress is not None:
                        progress(len(reports), len(paths), reports[path], kept)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [reports[path] for path in paths]


def _one(
    path: Path, out: Path, rubric: Rubric, shut_in: Protections, stop: threading.Event
) -> tuple[Report, bool]:
    record = out / f"{path.name}.json"
    try:
        with tempfile.TemporaryDirectory(prefix="chainrule-grade-") as scratch:
            digest = collect(path, Path(scratch)).digest
        mark = hashlib.sha256(f"{__version__} {rubric.digest()} {digest}".encode()).hexdigest()
        kept = _kept(record, mark)
        if kept is not None:
            return kept, True
        report = grade(path, rubric, jobs=1, protections=shut_in, stop=stop)
        report.submission = path.name
    except (DataMissingError, DataFormatError) as error:
        report, mark = (
            Report(path.name, "", rubric.digest(), rubric.title, "", problem=str(error)),
            "",
        )
    write_atomically(out / f"{path.name}.html", feedback_page(report).encode())
    write_json(record, {"mark": mark, **report.data()})
    return report, False


def _kept(record: Path, mark: str) -> Report | None:
    """The report of an earlier time, if it is still true."""
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
        if data.pop("mark") != mark:
            return None
        return report_from(data)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, ChainruleError):
        return None
