"""What grading finds out: results of tests, and reports on submissions, as plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from chainrule.errors import DataFormatError

__all__ = ["FORMAT", "Finding", "Report", "TestResult", "report_from"]

FORMAT = "chainrule-grade-1"


@dataclass
class Finding:
    """One check of a test.

    Attributes
    ----------
    label : str
        What was looked at.
    passed : bool
        Whether it is right.
    message : str
        What is wrong.
    """

    label: str
    passed: bool
    message: str = ""


@dataclass
class TestResult:
    """What became of one test.

    Attributes
    ----------
    key : str
        ``exercise/name``.
    exercise, title : str
        For people.
    status : {"passed", "partial", "failed", "missing", "stopped"}
        "missing" if what it tests was not submitted; "stopped" if its process was ended or ended
        by itself.
    score, points : float
        What it got, and what it could get.
    findings : list of Finding
        Check by check.
    message : str
        What is true of the test as a whole.
    diagnosis : list of str
        What the gradient doctor says.
    trace : list of str
        Lines of the student's code where an error arose.
    printed : str
        The beginning of what it printed.
    hidden : bool
        Whether it is kept from the student.
    seconds : float
        How long it ran.
    """

    key: str
    exercise: str
    title: str
    status: str
    score: float
    points: float
    findings: list[Finding] = field(default_factory=list)
    message: str = ""
    diagnosis: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    printed: str = ""
    hidden: bool = False
    seconds: float = 0.0

    __test__ = False  # pytest collects classes of this name otherwise


@dataclass
class Report:
    """The grades of one submission.

    Attributes
    ----------
    submission, digest : str
        Its name, and the checksum of its files.
    rubric : str
        The checksum of the rubric.
    title : str
        Of the assignment.
    generation : {"A", "B"}
        Of the course.
    results : list of TestResult
        In the order of the rubric.
    titles : dict of str to str
        Of the exercises.
    skipped : list of str
        Files that were left out, and why.
    protections : dict of str to str
        What kept the submission shut in.
    problem : str
        Why there are no results, if there are none.
    seconds : float
        That grading took.
    """

    submission: str
    digest: str
    rubric: str
    title: str
    generation: str
    results: list[TestResult] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    protections: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    seconds: float = 0.0

    @property
    def score(self) -> float:
        """Return the points of all tests."""
        return round(sum(result.score for result in self.results), 4)

    @property
    def points(self) -> float:
        """Return the points that all tests could get."""
        return round(sum(result.points for result in self.results), 4)

    def exercises(self) -> dict[str, list[TestResult]]:
        """Return the results by exercise."""
        found: dict[str, list[TestResult]] = {}
        for result in self.results:
            found.setdefault(result.exercise, []).append(result)
        return found

    def data(self) -> dict[str, Any]:
        """Return it as data for JSON."""
        return {"format": FORMAT, "score": self.score, "points": self.points, **asdict(self)}


def report_from(data: Mapping[str, Any]) -> Report:
    """Return the report that `Report.data` was called on.

    Raises
    ------
    DataFormatError
        If it is no such record.
    """
    values = {key: value for key, value in data.items() if key not in ("format", "score", "points")}
    try:
        if data["format"] != FORMAT:
            raise DataFormatError("it is of another version")
        results = [
            TestResult(**{**one, "findings": [Finding(**each) for each in one["findings"]]})
            for one in values["results"]
        ]
        return Report(**{**values, "results": results})
    except (KeyError, TypeError) as error:
        raise DataFormatError(f"this is no record of grading ({error}).") from error
