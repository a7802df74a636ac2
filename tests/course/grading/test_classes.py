"""A class is graded in parallel, can be interrupted, and keeps what was done."""

import json
import shutil

import pytest

from chainrule.course.grading import classes
from chainrule.course.grading.classes import grade_class
from chainrule.errors import DataMissingError


@pytest.fixture
def school(tmp_path, write_student):
    """Three submissions, one of which is empty, and a file that is none."""
    folder = tmp_path / "school"
    write_student("A", folder / "ada")
    write_student("A", folder / "bob")
    (folder / "empty").mkdir()
    (folder / "readme.txt").write_text("x", encoding="utf-8")
    (folder / ".hidden").mkdir()
    return folder


@pytest.fixture
def run(school, tmp_path, rubric_for):
    def grade_all(rubric=None):
        told = []
        reports = grade_class(
            school, tmp_path / "out", rubric or rubric_for("layers/relu_forward"), jobs=2,
            progress=lambda done, total, report, kept: told.append((report.submission, kept)),
        )  # fmt: skip
        return reports, dict(told)

    return grade_all


def test_grades_are_kept_until_something_changes(run, school, change, rubric_for, tmp_path):
    reports, told = run()
    assert [(r.submission, r.score) for r in reports] == [("ada", 100), ("bob", 100), ("empty", 0)]
    assert "there is no Python file" in reports[2].problem
    assert told == {"ada": False, "bob": False, "empty": False}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"{name}.{kind}" for name in ("ada", "bob", "empty") for kind in ("json", "html")
    }
    again, told = run()
    assert told == {"ada": True, "bob": True, "empty": False}
    assert again[:2] == reports[:2]
    change(school / "bob", "layers.py", "np.maximum(x, 0), x", "x, x")
    changed, told = run()
    assert told == {"ada": True, "bob": False, "empty": False}
    assert changed[1].score == 0
    _, told = run(rubric_for("layers/relu_forward", seed=7))
    assert told == {"ada": False, "bob": False, "empty": False}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"mark": 3}', '{"format": 1}'])
def test_damaged_records_are_made_again(run, tmp_path, content):
    run()
    record = tmp_path / "out" / "ada.json"
    if content.startswith('{"format'):  # the right mark on a record that cannot be read
        content = json.dumps({"mark": json.loads(record.read_text(encoding="utf-8"))["mark"]})
    record.write_text(content, encoding="utf-8")
    _, told = run()
    assert told["ada"] is False
    assert run()[1]["ada"] is True


def test_an_interruption_keeps_what_is_done(run, school, monkeypatch, tmp_path):
    shutil.rmtree(school / "empty")
    whole = classes.grade

    def interrupted(path, *arguments, **options):
        if path.name == "bob":
            raise KeyboardInterrupt
        return whole(path, *arguments, **options)

    monkeypatch.setattr(classes, "grade", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert not (tmp_path / "out" / "bob.json").exists()
    monkeypatch.setattr(classes, "grade", whole)
    reports, told = run()
    assert told["bob"] is False
    assert [report.score for report in reports] == [100, 100]


def test_folders_without_submissions(tmp_path, rubric_for):
    rubric = rubric_for("layers/relu_forward")
    with pytest.raises(DataMissingError, match="no such folder"):
        grade_class(tmp_path / "none", tmp_path / "out", rubric)
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataMissingError, match="no submission in this folder"):
        grade_class(tmp_path / "bare", tmp_path / "out", rubric)
