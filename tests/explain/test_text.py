"""The terminal's form: a drawing that says what the graph is, tables, notes, widths, characters."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, assume, given, settings

from chainrule.errors import ChainruleError
from chainrule.explain import explain
from chainrule.explain.drawing import draw
from chainrule.explain.text import slope

HELP = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "expressions.py")))
COURSE = "f1 = exp(exp(w1)+exp(2*w2)) + sigmoid(exp(w1)+exp(2*w2)); f2 = w1*w2 + max(w1,w2)"


@pytest.fixture(scope="module")
def course():
    return explain(COURSE, w1=1, w2=-1)


SMALL = """\
    ┌───┐   ┌───┐
    │ x │   │ y │
    │ 2 │   │ 3 │
    └─┬─┘   └─┬─┘
      │     ┌─┴───┐
      ▼     ▼     ▼
┌────────────┐  ┌────────────┐
│ i1 = x + y │  │ i2 = y + 1 │
│ 5          │  │ 4          │
└──────┬─────┘  └──────┬─────┘
       └──┐       ┌────┘
          ▼       ▼
        ┌───────────┐
        │ f = i1*i2 │
        │ 20        │
        └───────────┘"""


def drawing(explained, width=1000):
    return draw(explained.graph, lambda value: f"{value:.5g}", width)


def test_a_small_drawing():
    assert "\n".join(drawing(explain("(x + y)*(y + 1)", x=2, y=3))) == SMALL


MOVES = {"┌": "dr", "┐": "dl", "└": "ur", "┘": "ul", "├": "udr", "┤": "udl"}
MOVES |= {"┬": "dlr", "┴": "ulr", "┼": "udlr", "│": "ud", "─": "lr", "▼": "ud"}
STEP = {"u": (-1, 0), "d": (1, 0), "l": (0, -1), "r": (0, 1)}
OPPOSITE = {"u": "d", "d": "u", "l": "r", "r": "l"}


def boxes(lines):
    """Title -> (top, left, bottom, right) of the boxes in a drawing."""
    found = {}
    for y, line in enumerate(lines[:-3]):
        for match in re.finditer(r"(?=(┌─+┐))", line):
            left, right = match.start(), match.start() + len(match[1]) - 1
            sides = {lines[y + i][x] for i in (1, 2) for x in (left, right)}
            if sides == {"│"} and lines[y + 3][left] + lines[y + 3][right] == "└┘":
                title = lines[y + 1][left + 1 : right].strip().partition(" = ")[0]
                found[title] = (y, left, y + 3, right)
    return found


def reached(lines, boxes_, name):
    """The boxes that the line from the foot of a box leads to, followed as an eye would.

    A horizontal line is interrupted by the vertical one that it crosses: the eye goes on.
    """
    _, left, bottom, right = boxes_[name]
    tops = {(box[0], x): title for title, box in boxes_.items() for x in range(box[1], box[3] + 1)}
    stack = [(bottom, x, "d") for x in range(left, right + 1) if lines[bottom][x] == "┬"]
    seen, found = set(), set()
    while stack:
        y, x, way = stack.pop()
        y, x = y + STEP[way][0], x + STEP[way][1]
        if (y, x, way) in seen:
            continue
        seen.add((y, x, way))
        if (y, x) in tops and way == "d":
            found.add(tops[y, x])
            continue
        character = lines[y][x] if x < len(lines[y]) else " "
        moves = MOVES.get(character, "")
        if OPPOSITE[way] in moves:
            stack += [(y, x, move) for move in moves if move != OPPOSITE[way]]
        elif character == "│" and way in "lr":  # a crossing
            stack.append((y, x, way))
    return found


def edges_of(explained):
    nodes = explained.graph.nodes
    return {(nodes[e.parent].name, nodes[e.child].name) for node in nodes for e in node.edges}


def check_lines(explained):
    lines = drawing(explained)
    width = max(map(len, lines))
    lines = [line.ljust(width) for line in lines]
    found = boxes(lines)
    assert set(found) == {node.name for node in explained.graph.nodes}
    pairs = {(name, to) for name in found for to in reached(lines, found, name)}
    assert pairs == edges_of(explained)
    for name, (top, left, _, right) in found.items():  # and each with an arrow of its own
        heads = lines[top - 1][left : right + 1].count("▼") if top else 0
        assert heads == sum(child == name for _, child in pairs)


def test_lines_end_on_boxes_where_both_come_from_the_same_side():
    check_lines(explain("min(y, z) + max(z, max(y, z))", y=1, z=2))


def test_the_lines_of_the_course_lead_where_the_edges_do(course):
    check_lines(course)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(text=HELP.texts(deepest=9))
def test_the_lines_lead_where_the_edges_do(text):
    used = {name for name in "xyz" if re.search(rf"\b{name}\b", text)}
    assume(used)
    try:
        explained = explain(text, {name: 0.5 + 0.25 * i for i, name in enumerate(sorted(used))})
    except ChainruleError:
        assume(False)
    check_lines(explained)


@pytest.mark.parametrize("width", [80, 90, 100, 140])
def test_everything_fits(course, width):
    assert max(map(len, course.to_text(width).splitlines())) <= width


def test_a_graph_that_is_too_wide_is_listed(course):
    text = course.to_text(60)
    assert "┌" not in text
    assert "  i4  = i1 + i3      → i5, i6\n" in text
    assert max(map(len, text.splitlines())) <= 60


def test_ascii(course):
    text = course.to_text(100, ascii_only=True)
    assert text.isascii()
    assert "| i4 = i1 + i3 |" in text
    assert "df1/dw1" in text


def test_colour_is_given_on_request_only(course):
    assert "\033" not in course.to_text()
    assert "\033[1mComputation graph\033[0m" in course.to_text(colour=True)


def section(text, title):
    rest = text.partition(f"{title}\n")[2]
    return rest.partition("\n\n")[0]


def test_tables_of_the_course(course):
    text = course.to_text(100)
    assert "f1    │ i5 + i6       17.35 + 0.94551     18.296" in section(text, "Forward values")
    forward = section(text, "Forward mode: one sweep an input")
    assert "  f1 │ ∂i5 + ∂i6          47.303     4.7102" in forward
    assert "  i6 │ i6*(1 - i6)*∂i4   0.14006   0.013946" in forward
    reverse = section(text, "Reverse mode: the sweep for f1")
    assert "i5 → i4   │ 1*17.35" in reverse
    assert "∂f1/∂i4 = 0.051525 + 17.35 = 17.402" in reverse
    assert "as w1 > w2" in section(text, "Local derivatives")
    jacobians = section(text, "All Jacobians")
    assert re.search(r"∂f1/∂w1 +│ +48.192 +46.44 +47.316 +47.303 +47.303 +47.303", jacobians)
    assert re.search(r"multiplications +│ +4 +4 +4 +4 +21 +15", jacobians)
    curve = section(text, "Error against the step, both logarithmic")
    assert "● one-sided: slope 1.00, least error" in curve
    assert "◆ central: slope 2.00, least error" in curve


def test_str_and_repr(course):
    assert str(course) == course.to_text().rstrip("\n")
    assert repr(course) == "<Explanation of f1, f2 by w1, w2: 10 operations>"


def test_kinks_are_pointed_out():
    text = explain("f = max(x, y) + abs(x - y) + relu(x - y)", x=2, y=2).to_text()
    notes = section(text, "Notes")
    assert (
        "max(x, y), where x = y: a kink; at a tie, half of the derivative of max goes to" in notes
    )
    assert "abs(i2), where i2 = 0: a kink; the derivative of abs at 0 is taken to be 0." in notes
    assert "relu(i2), where i2 = 0: a kink; the derivative of relu at 0 is taken to be 0." in notes


def test_a_kink_that_the_step_crosses_is_pointed_out():
    notes = explain("max(x, y)", x=2, y=1.999, step=0.01).notes
    assert len(notes) == 1
    assert (
        "f = max(x, y), where x > y, but not at y + h: the differences step across a kink"
        in notes[0]
    )
    assert explain("max(x, y)", x=2, y=1.9, step=0.01).notes == []


def test_points_without_a_value_are_left_out():
    explained = explain("f = log(x)", x=0.005, step=0.01)
    text = explained.to_text()
    assert "undefined" in section(text, "Numerical differentiation: values at shifted points")
    assert "backward difference: at column 5, 'log(x)': log needs a number above 0" in text
    assert explained.jacobian().tolist() == [[200.0]]


def test_slopes_are_those_of_the_truncation_error(course):
    by_name = {curve.name: slope(curve) for curve in course.curves}
    assert by_name["forward difference"] == pytest.approx(1, abs=0.02)
    assert by_name["central difference"] == pytest.approx(2, abs=0.02)
    assert by_name["complex step"] == pytest.approx(2, abs=0.02)


def test_rounding_shows_in_differences_but_not_in_the_complex_step(course):
    last = {
        curve.name: [error for error in curve.errors[-5:] if error is not None]
        for curve in course.curves
    }
    assert min(last["forward difference"]) > 1e-4
    assert min(last["central difference"]) > 1e-4
    assert max(last["complex step"]) < 1e-14
