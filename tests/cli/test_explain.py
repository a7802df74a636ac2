"""chainrule explain: what it prints and writes, and what it refuses."""

import json
import subprocess
import sys

import pytest

COURSE = "f1 = exp(exp(w1)+exp(2*w2)) + sigmoid(exp(w1)+exp(2*w2)); f2 = w1*w2 + max(w1,w2)"
POINT = ("w1=1", "w2=-1")


def test_the_course(chainrule):
    done = chainrule("explain", COURSE, *POINT, "--step", "0.01")
    assert (done.code, done.err) == (0, "")
    for digits in ("47.303", "4.7102", "48.192", "4.7641"):
        assert digits in done.out
    assert "i4 = i1 + i3" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_width_follows_the_terminal_up_to_a_limit(chainrule, monkeypatch):
    widths = {}
    for columns in (60, 90, 300):
        monkeypatch.setenv("COLUMNS", str(columns))
        out = chainrule("explain", COURSE, *POINT).out
        widths[columns] = max(map(len, out.splitlines()))
    assert widths[60] <= 60
    assert 60 < widths[90] <= 90
    assert 90 < widths[300] <= 100


def test_digits(chainrule):
    out = chainrule("explain", COURSE, *POINT, "--digits", 9).out
    assert "47.3034096" in out
    assert "47.3034096" not in chainrule("explain", COURSE, *POINT).out


def test_values_may_be_expressions_of_numbers(chainrule):
    done = chainrule("explain", "f = sin(x)*y", "x=pi/2", "y=-1/4", "--json")
    assert done.json["point"] == {"x": 1.5707963267948966, "y": -0.25}


def test_json(chainrule):
    done = chainrule("explain", COURSE, *POINT, "--json")
    assert (done.code, done.err) == (0, "")
    jacobians = {each["method"]: each["jacobian"] for each in done.json["jacobians"]}
    assert jacobians["reverse mode"][0] == pytest.approx([47.3034096, 4.71019617], rel=1e-8)
    assert jacobians["complex step"][1] == pytest.approx([0, 1], abs=1e-12)


def test_files(chainrule, tmp_path):
    words = [
        *("--html", "a.html", "--markdown", "b.md", "--latex", "c.tex"),
        *("--dot", "new/d.dot", "--mermaid", "e.mmd"),
    ]
    done = chainrule("explain", COURSE, *POINT, *words)
    assert done.code == 0
    assert done.err.splitlines() == [
        "chainrule: page written to a.html",
        "chainrule: Markdown written to b.md",
        "chainrule: LaTeX written to c.tex",
        "chainrule: graph written to new/d.dot",
        "chainrule: graph written to e.mmd",
    ]
    assert done.out == chainrule("explain", COURSE, *POINT).out
    starts = {
        "a.html": "<!doctype html>", "b.md": "# Derivatives", "c.tex": "\\documentclass",
        "new/d.dot": "digraph", "e.mmd": "flowchart",
    }  # fmt: skip
    for name, start in starts.items():
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("html", "<!doctype"),
        ("markdown", "# D"),
        ("latex", "\\doc"),
        ("dot", "di"),
        ("mermaid", "fl"),
    ],
)
def test_one_of_them_may_go_to_standard_output(chainrule, form, start):
    done = chainrule("explain", "f = x*y", "x=1", "y=2", f"--{form}", "-")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(start)
    assert "Computation graph\n" not in done.out or form in ("html", "markdown")


def test_an_output_that_knows_ascii_alone(process):
    child = process(
        "explain", "f = x*y", "x=1", "y=2", env={"PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    )
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    assert out.isascii()
    assert "| f = x*y |" in out


def test_a_pipe_gets_no_colour(chainrule):
    assert "\033" not in chainrule("explain", "f = x*y", "x=1", "y=2").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "explain: the following arguments are required: EXPRESSIONS"),
        (["x*y"], "explain: no variable has a value. Give each one, such as: w1=1 w2=-1."),
        (["x*y", "x=1"], "explain: at column 3: 'y' has no value. Give it one: y=1."),
        (["x*", "x=1"], "explain: at column 3: the expression ends here"),
        (["x*yy", "x=1", "yy"], "'yy' is not of the form NAME=VALUE. Put the expressions into one"),
        (["x", "x="], "explain: x must be a number; got ''."),
        (["x", "x=1/0"], "explain: x must be a number; got '1/0'."),
        (["x", "x=1", "x=2"], "explain: x is given twice."),
        (["x", "x=1", "y=2"], "explain: y is given a value, but no expression uses it."),
        (["expp(x)", "x=1"], "there is no function 'expp'. Did you mean 'exp'?"),
        (
            ["x", "x=1", "--json", "--dot", "-"],
            "--dot - and --json ask for standard output at once",
        ),
        (["x", "x=1", "--htm", "a"], "option --htm is not known. Did you mean '--html'?"),
        (["x", "x=1", "--step", "a"], "explain: argument --step: invalid float value: 'a'."),
    ],
)
def test_wrong_usage(refused, words, said):
    assert said in refused(2, "explain", *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["f = log(x)", "x=-1"], "at column 5, 'log(x)': log needs a number above 0; got x = -1."),
        (["exp(x)", "x=1000"], "at column 1, 'exp(x)': the result is too large for a float64"),
        (["x", "x=1", "--step", "0"], "explain: step must be above 0; got 0.0."),
        (["x", "x=1", "--digits", "1"], "explain: digits must be an integer from 2 to 17; got 1."),
        (["x", "x=1", "--html", "file/a.html"], "file/a.html: could not be written"),
    ],
)  # fmt: skip
def test_failed(refused, tmp_path, words, said):
    (tmp_path / "file").write_text("")
    assert said in refused(1, "explain", *words)


def test_a_failure_leaves_no_file_behind(refused, tmp_path):
    refused(1, "explain", "log(x)", "x=-1", "--html", "a.html")
    assert list(tmp_path.iterdir()) == []


def test_it_loads_little():
    code = (
        "import json, sys\n"
        "from chainrule.cli import main\n"
        "try:\n    main(['explain', 'x*y', 'x=1', 'y=2'])\n"
        "finally:\n    sys.stderr.write(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0
    loaded = {name.partition(".")[0] for name in json.loads(done.stderr)}
    assert loaded & {"scipy", "matplotlib", "sklearn", "torch", "pydantic", "jinja2"} == set()
