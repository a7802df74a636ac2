"""``chainrule grade`` at the command line."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chainrule.cli import main


@pytest.fixture
def chainrule(capfd, tmp_path, monkeypatch):
    """Run a command line; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        out, err = capfd.readouterr()
        return end.value.code, out, err

    return run


def test_a_submission_and_its_files(chainrule, student_b, change, tmp_path):
    change(student_b, "layers.py", "dx = (dout @ w.T)", "dx = -(dout @ w.T)")
    words = [
        "--exercise",
        "layers",
        "--json",
        "a.json",
        "--html",
        "a.html",
        "--gradescope",
        "g.json",
    ]
    code, out, err = chainrule("grade", student_b, *words)
    assert code == 0
    assert "Affine layer and ReLU (layers): 12.5 of 15.0" in out
    assert "  part    5.0 of  7.5  Affine layer, backward" in out
    assert "Gradient doctor: the gradient by its input has the wrong sign" in out
    assert out.endswith("student: 12.5 of 15.0 points\n")
    assert "feedback written to a.html" in err
    record = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert (record["score"], record["points"]) == (12.5, 15)
    assert json.loads((tmp_path / "g.json").read_text(encoding="utf-8"))["score"] == 12.5
    assert (tmp_path / "a.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_json_on_standard_output(chainrule, student_a):
    code, out, _ = chainrule("grade", student_a, "--exercise", "gradient_check", "--json", "-")
    assert code == 0
    assert json.loads(out)["score"] == 5


def test_hidden_tests_are_shown_to_instructors_only(chainrule, student_a, tmp_path):
    (tmp_path / "r.toml").write_text("[exercises.gradient_check]\nhidden = true", encoding="utf-8")
    _, out, _ = chainrule("grade", student_a, "--rubric", "r.toml")
    assert "Gradient of" not in out
    assert "2 hidden tests are not shown." in out
    assert "Gradient of" in chainrule("grade", student_a, "--rubric", "r.toml", "--hidden")[1]


def test_the_rubric_is_written_once(chainrule, tmp_path, student_a):
    assert chainrule("grade", "--write-rubric", "r.toml")[0] == 0
    code, out, err = chainrule("grade", "--write-rubric", "r.toml")
    assert (code, out) == (2, "")
    assert "r.toml exists already" in err


def test_a_class(chainrule, student_a, tmp_path):
    student_a.rename(tmp_path / "ada")
    (tmp_path / "class").mkdir()
    (tmp_path / "ada").rename(tmp_path / "class" / "ada")
    words = ["grade", "class", "--class", "--exercise", "gradient_check", "--csv", "grades.csv"]
    code, out, err = chainrule(*words, "--jobs", 1)
    assert (code, out) == (0, "ada      5.0 of 5\n")
    assert "1 of 1: ada: 5 of 5\n" in err
    with open(tmp_path / "grades.csv", encoding="utf-8") as file:
        assert [row["score"] for row in csv.DictReader(file)] == ["5"]
    assert (tmp_path / "class-grades" / "ada.html").exists()
    assert "(kept)" in chainrule(*words)[2]
    assert chainrule(*words[:-1], "-")[1].startswith("submission,score,")


def test_protections(chainrule):
    code, out, _ = chainrule("grade", "--protections")
    assert code == 0
    assert "audit hook" in out
    assert json.loads(chainrule("grade", "--protections", "--json", "-")[1])["audit hook"] == "yes"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "SUBMISSION must be given"),
        (["student", "--exercise", "softmx"], 2, "'softmx' is not known. Did you mean 'softmax'?"),
        (["student", "--generation", "C"], 2, "'C' is not known"),
        (["student", "--csv", "x"], 2, "--csv is for a class. Add --class."),
        (["student", "--class", "--html", "x"], 2, "--html is for one submission"),
        (["student", "--jobs", "0"], 2, "--jobs must be at least 1"),
        (["student", "--rubric", "none.toml"], 3, "there is no such rubric"),
        (["nothing"], 3, "there is no such submission"),
        (["nothing", "--class"], 3, "there is no such folder"),
        (["student", "--exercise", "optim", "--generation", "A"], 1, "no test for generation A"),
    ],
)
def test_one_line_says_what_is_wrong(chainrule, student_a, words, code, message):
    got, out, err = chainrule("grade", *words)
    assert (got, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.fixture
def endless(student_a, change, tmp_path):
    """Grading of a submission that never ends, once its test runs."""
    change(student_a, "layers.py", "return np.maximum(x, 0), x", "while True: pass")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    rubric = tmp_path / "r.toml"
    rubric.write_text("limits.seconds = 1000\n[exercises.layers]", encoding="utf-8")
    child = subprocess.Popen(
        [sys.executable, "-m", "chainrule", "grade", str(student_a), "--rubric", str(rubric)],
        env=os.environ | {"TMPDIR": str(scratch)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while child.poll() is None and not any("layers.py" in files for *_, files in os.walk(scratch)):
        time.sleep(0.05)
    time.sleep(1)
    yield child, scratch
    child.kill()
    child.communicate()


def test_ctrl_c_ends_everything(endless):
    child, scratch = endless
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err == "chainrule: interrupted.\n"
    assert list(scratch.iterdir()) == []


def test_a_grader_that_is_killed_leaves_nothing_running(endless, namespaces):
    if namespaces.mode != "root":
        pytest.skip("the kernel forgets the wish to end with the parent in a user namespace")
    child, scratch = endless
    assert running(scratch)
    child.kill()
    child.wait(timeout=60)
    for _ in range(200):
        if not running(scratch):
            return
        time.sleep(0.05)
    raise AssertionError(running(scratch))


def running(scratch):
    """Processes of tests whose files are in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"GRADER={scratch}".encode() in entry.read_bytes():
                found.append(entry.parent.name)
        except OSError:
            continue
    return found
