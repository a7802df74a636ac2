"""Gradescope, CSV and the feedback page, from a report made by hand."""

import csv
import html
import io
import json
import re

import pytest

from chainrule.course.grading import Finding, Report, TestResult
from chainrule.course.grading.outputs import csv_text, feedback, gradescope
from chainrule.course.grading.page import feedback_page
from chainrule.course.grading.results import report_from
from chainrule.errors import DataFormatError

EVIL = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"


@pytest.fixture
def report():
    wrong = [
        Finding("dx", False, "all 6 of its numbers are wrong"), Finding("dw", True),
        Finding("db", False, EVIL), Finding("dc", False, EVIL),
    ]  # fmt: skip
    results = [
        TestResult("conv/forward", "conv", "Forward", "passed", 5.0, 5.0, [Finding("out", True)]),
        TestResult("conv/backward", "conv", "Backward", "partial", 2.5, 10.0, wrong,
                   diagnosis=["the sign is wrong\n  dx[0] is 1, right is -1"],
                   trace=["layers.py:3"], printed=EVIL),
        TestResult("optim/adam", "optim", "Adam", "stopped", 0.0, 5.0, message="it ran too long"),
        TestResult("optim/sgd", "optim", "SGD", "passed", 5.0, 5.0, hidden=True),
    ]  # fmt: skip
    titles = {"conv": "Convolution", "optim": "Update rules"}
    return Report(EVIL, "d" * 64, "r" * 64, "CS231n", "B", results, titles, [EVIL], {"user": EVIL})


def test_gradescope(report):
    record = json.loads(json.dumps(gradescope(report)))
    assert record["score"] == 12.5
    assert set(record) == {
        "score", "execution_time", "output", "output_format", "visibility", "stdout_visibility",
        "tests",
    }  # fmt: skip
    first, second, _, hidden = record["tests"]
    assert first == {
        "name": "Convolution: Forward", "number": "1", "score": 5.0, "max_score": 5.0,
        "status": "passed", "output": "", "output_format": "text", "tags": ["conv"],
        "visibility": "visible",
    }  # fmt: skip
    assert second["status"] == "failed"
    assert "Gradient doctor: the sign is wrong" in second["output"]
    assert "dx[0] is 1, right is -1" in second["output"]
    assert hidden["visibility"] == "after_published"


def test_feedback_in_short(report):
    text = feedback(report.results[1], short=True)
    assert text.splitlines()[0] == "dx: all 6 of its numbers are wrong"
    assert text.splitlines()[-1] == "Gradient doctor: the sign is wrong"


def test_csv_of_a_class(report):
    other = Report("=HYPERLINK()", "", "", "CS231n", "", problem="there is\nnothing")
    rows = list(csv.DictReader(io.StringIO(csv_text([report, other]))))
    assert rows[0]["score"] == "12.5"
    assert (rows[0]["conv"], rows[0]["optim"], rows[0]["stopped"]) == ("7.5", "5", "1")
    assert rows[1]["submission"] == "'=HYPERLINK()"
    assert (rows[1]["problem"], rows[1]["conv"]) == ("there is nothing", "")


def test_records_come_back(report):
    assert report_from(json.loads(json.dumps(report.data()))) == report
    with pytest.raises(DataFormatError, match="no record of grading"):
        report_from({"format": "chainrule-grade-1"})
    with pytest.raises(DataFormatError, match="another version"):
        report_from({"format": "x", "results": []})


def test_the_page_shows_what_a_student_needs(report):
    page = feedback_page(report)
    text = html.unescape(re.sub(r"<[^>]+>", " ", page.partition("</style>")[2]))
    for words in ("7.5  / 15", "the sign is wrong", "dx[0] is 1", "layers.py:3", "it ran too long"):
        assert words in text
    assert "1 hidden test is not shown" in text
    assert "SGD" not in text
    assert "SGD" in feedback_page(report, hidden=True)
    assert "db, dc" in text  # one message for both


def test_nothing_from_a_submission_gets_into_the_markup(report):
    page = feedback_page(report, hidden=True)
    assert "<script" not in page
    assert "<img" not in page
    assert "{{ 7 * 7 }}" in page
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert html.unescape(policy).startswith("default-src 'none'; style-src 'sha256-")
    assert "http:" not in page
    assert "https:" not in page


def test_a_page_of_a_submission_that_could_not_be_graded():
    problem = Report("ada", "", "", "CS231n", "", problem="there is no Python file")
    assert "there is no Python file" in feedback_page(problem)
