"""JSON, Markdown, LaTeX, Graphviz and Mermaid."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from chainrule.errors import ConfigError, RunError
from chainrule.explain import explain

COURSE = "f1 = exp(exp(w1)+exp(2*w2)) + sigmoid(exp(w1)+exp(2*w2)); f2 = w1*w2 + max(w1,w2)"


@pytest.fixture(scope="module")
def course():
    return explain(COURSE, w1=1, w2=-1)


@pytest.fixture(scope="module")
def arrays():
    def loss(weight, b):
        return np.exp(weight * 2 + b), np.abs(b)

    return explain(loss, [0.5, -0.3], 0.0)


@pytest.fixture(params=["course", "arrays", "log"])
def each(request):
    if request.param == "log":  # some points are out of its domain
        return explain("f = log(x)*y", x=0.005, y=1)
    return request.getfixturevalue(request.param)


def strict(text):
    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def test_json_has_everything(course):
    record = strict(course.to_json())
    assert record["title"] == COURSE
    assert record["point"] == {"w1": 1.0, "w2": -1.0}
    assert (record["inputs"], record["outputs"]) == (["w1", "w2"], ["f1", "f2"])
    nodes = {node["name"]: node for node in record["nodes"]}
    assert nodes["i4"]["expression"] == "i1 + i3"
    assert nodes["i2"]["operands"] == [2.0, "w2"]
    (derivative,) = nodes["i6"]["derivatives"]
    value = nodes["i6"]["value"]
    assert derivative["value"] == pytest.approx(0.05152497867072621, rel=1e-14)
    assert {key: derivative[key] for key in ("by", "formula", "latex", "numbers", "rule")} == {
        "by": "i4",
        "formula": "i6*(1 - i6)",
        "latex": r"i_{6} \cdot \left(1 - i_{6}\right)",
        "numbers": f"{value!r}*(1 - {value!r})",
        "rule": None,
    }
    assert nodes["i8"]["note"] == "w1 > w2"
    jacobians = {each["method"]: each for each in record["jacobians"]}
    assert set(jacobians) == {
        "forward difference", "backward difference", "central difference", "complex step",
        "forward mode", "reverse mode",
    }  # fmt: skip
    assert jacobians["reverse mode"]["jacobian"] == course.jacobian().tolist()
    assert jacobians["reverse mode"]["counts"]["multiplications"] == 15
    by_forward = record["forward"][0]["tangents"]["f1"]
    assert by_forward == pytest.approx(course.jacobian()[0, 0], rel=1e-14)
    assert record["reverse"][0]["adjoints"]["w2"] == course.jacobian()[0, 1]
    passed = record["reverse"][0]["passes"][3]
    assert (passed["from"], passed["to"], passed["adjoint"]) == ("i5", "i4", 1.0)
    assert passed["local"] == passed["adds"] == nodes["i5"]["value"]
    assert passed["sum"] == pytest.approx(passed["adds"] + derivative["value"], rel=1e-15)
    assert [each["point"] for each in record["shifted"]] == ["w1 + h", "w2 + h", "w1 - h", "w2 - h"]
    assert [each["name"] for each in record["errors_against_step"]] == [
        "forward difference", "central difference", "complex step",
    ]  # fmt: skip
    assert len(record["errors_against_step"][0]["steps"]) == 33


def test_json_of_every_kind_is_strict(each):
    assert strict(each.to_json())["outputs"] == each.output_names


def test_markdown_tables_have_as_many_cells_as_heads(each):
    text = each.to_markdown()
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.M)
    assert len(tables) == 6 + len(each.output_names)
    for table in tables:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(counts) == 1, table


def test_markdown(course):
    text = course.to_markdown()
    assert text.startswith(f"# Derivatives of `{COURSE}`\n")
    assert "```mermaid\nflowchart TD\n" in text
    assert (
        r"| $\frac{\partial i_{6}}{\partial i_{4}}$ | $i_{6} \cdot \left(1 - i_{6}\right)$ |"
        in text
    )
    assert "47.303" in text


def test_names_cannot_become_markdown():
    text = explain("f = abs(my_rate)*2", my_rate=0).to_markdown()
    assert r"- i1 = abs(my\_rate), where my\_rate = 0: a kink" in text


def test_latex_is_balanced(each):
    text = each.to_latex()
    assert re.findall(r"\\begin\{(\w+)\}", text).count("longtable") == 6 + len(each.output_names)
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    body = re.sub(r"\\[{}$&#_%]", "", text)
    assert body.count("{") == body.count("}")
    assert body.count("$") % 2 == 0
    for line in text.splitlines():
        if line.endswith(r"\\"):
            assert re.sub(r"\\&", "", line).count("&") >= 2
    assert text.isascii()


def test_latex_rows_have_as_many_cells_as_columns(each):
    for sides, body in re.findall(
        r"\\begin\{longtable\}\[l\]\{(\w+)\}(.*?)\\end\{longtable\}", each.to_latex(), re.S
    ):
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert rows
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(sides)}


def test_names_cannot_leave_their_place_in_latex():
    text = explain("my_rate*x_2", my_rate=1, x_2=3).to_latex()
    assert r"\texttt{my\_rate*x\_2}" in text
    assert r"$\mathrm{my\_rate}$" in text


def test_expressions_in_latex_read_as_they_were_written():
    text = explain("θ = λ**2; f = max(θ, 2*λ)", λ=2).to_latex()
    assert r"\texttt{$\theta$ = $\lambda$**2; f = max($\theta$, 2*$\lambda$)}" in text
    assert r"adjoint $\cdot$ local" in text
    assert text.isascii()  # what pdflatex sets without further packages


def test_dot(course):
    text = course.to_dot()
    assert text.startswith("digraph chainrule {\n")
    assert '  "i4" [label="i4 = i1 + i3\\n2.8536", shape=box];\n' in text
    assert '  "i4" -> "i5" [label="17.35"];\n' in text
    assert len(re.findall(" -> ", text)) == 15
    if program := shutil.which("dot"):
        subprocess.run([program, "-Tsvg"], input=text.encode(), check=True, capture_output=True)


def test_mermaid(course):
    text = course.to_mermaid()
    assert text.startswith("flowchart TD\n")
    assert '  n5["i4 = i1 + i3<br>2.8536"]\n' in text
    assert '  n5 -->|"17.35"| n6\n' in text
    assert len(re.findall("-->", text)) == 15


def test_mermaid_labels_hold_nothing_that_mermaid_would_read(each):
    for label in re.findall(r'"(.*?)"', each.to_mermaid()):
        plain = re.sub(r"#\d+;|<br>", "", label)
        assert not set(plain) & set('"<>&|#*`{};')


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.html", "<!doctype html>"),
        ("b.json", "{"),
        ("c.md", "# Derivatives"),
        ("d.tex", "\\documentclass"),
        ("e.dot", "digraph"),
        ("f.mmd", "flowchart"),
        ("new/folder/g.TXT", "f = x*y"),
    ],
)
def test_save(tmp_path, name, start):
    explained = explain("f = x*y", x=1, y=2)
    path = explained.save(tmp_path / name)
    assert path == tmp_path / name
    assert path.read_text(encoding="utf-8").startswith(start)
    assert [each.name for each in path.parent.iterdir()] == [path.name]  # nothing temporary


def test_save_refuses_other_names(tmp_path):
    explained = explain("f = x*y", x=1, y=2)
    with pytest.raises(ConfigError, match=r"path must end in .html, .json.*; got .*a.pdf"):
        explained.save(tmp_path / "a.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="could not be written"):
        explained.save(tmp_path / "file" / "a.html")
