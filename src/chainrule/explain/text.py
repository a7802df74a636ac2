"""An explanation as text, for terminals and for ``print``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.cells import cell_len

from chainrule.explain.drawing import draw
from chainrule.explain.notation import format_number, to_text
from chainrule.explain.sweeps import Curve
from chainrule.explain.tables import SHORT, Cell, Table, all_tables, format_value

if TYPE_CHECKING:
    from chainrule.explain.explanation import Explanation

__all__ = ["cell_text", "render", "slope"]

_ASCII = str.maketrans("┌┐└┘├┤┬┴┼─│▼→∂…●◆▲", "+++++++++-|v>d~ox+")
_MARKS = {"forward difference": "●", "central difference": "◆", "complex step": "▲"}
_BOLD, _FAINT, _PLAIN = "\033[1m", "\033[2m", "\033[0m"
_LOWEST = -17  # the decade in which an error of 0 is drawn
_LONGEST_CELL = 44


def render(explanation: Explanation, width: int, colour: bool, ascii_only: bool) -> str:
    """Write an explanation as text.

    Parameters
    ----------
    explanation : Explanation
        What to show.
    width : int
        Columns there are; tables and the drawing keep to them where they can.
    colour : bool
        Whether to use bold and faint letters.
    ascii_only : bool
        Whether to write ASCII alone.

    Returns
    -------
    str
        Lines, the last of them ended.
    """
    point = ", ".join(
        f"{explanation.graph.nodes[i].name} = "
        f"{format_value(explanation.graph.nodes[i].value, explanation.digits)}"
        for i in explanation.graph.inputs
    )
    lines = [*_wrapped(explanation.title, width), *_wrapped(f"at {point}", width), ""]
    lines += [f"{_BOLD}Computation graph{_PLAIN}"]
    drawing = draw(
        explanation.graph, lambda value: format_value(value, explanation.digits), width - 2
    )
    lines += [f"  {line}" for line in drawing] if drawing else _listed(explanation)
    lines.append("")
    for table in all_tables(explanation):
        lines += [*_table(table, width), ""]
    lines += [*_plot(explanation.curves, width), ""]
    if explanation.notes:
        lines.append(f"{_BOLD}Notes{_PLAIN}")
        for note in explanation.notes:
            first, *rest = _wrapped(note, width - 4)
            lines += [f"  * {first}", *(f"    {line}" for line in rest)]
        lines.append("")
    text = "\n".join(lines)
    if ascii_only:
        text = text.translate(_ASCII).encode("ascii", "backslashreplace").decode()
    if not colour:
        for code in (_BOLD, _FAINT, _PLAIN):
            text = text.replace(code, "")
    return text


def _wrapped(text: str, width: int) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and cell_len(line) + 1 + cell_len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def _listed(explanation: Explanation) -> list[str]:
    """The graph line by line, where a drawing would be too wide."""
    graph = explanation.graph
    goes: dict[int, list[str]] = {node.index: [] for node in graph.nodes}
    for node in graph.nodes:
        for parent in dict.fromkeys(edge.parent for edge in node.edges):
            goes[parent].append(node.name)
    rows = [
        (node.name, f"= {node.text}" if node.text else "input", ", ".join(goes[node.index]))
        for node in graph.nodes
    ]
    left, middle = (max(cell_len(row[i]) for row in rows) for i in (0, 1))
    return [
        f"  {_pad(name, left)}  {_pad(text, middle)}  {'→ ' + to if to else ''}".rstrip()
        for name, text, to in rows
    ]


def cell_text(cell: Cell) -> str:
    """Write a cell of a table as text."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, tuple):
        return " ".join(map(cell_text, cell))
    return to_text(cell)


def _table(table: Table, width: int) -> list[str]:
    """A table; where it is too wide, its last columns follow below, with the first one again."""
    cells = [[_cut(cell_text(cell)) for cell in row] for row in (table.columns, *table.rows)]
    sizes = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    lines = [f"{_BOLD}{table.title}{_PLAIN}"]
    if table.note:
        lines += [f"{_FAINT}{line}{_PLAIN}" for line in _wrapped(table.note, width)]
    for columns in _groups(sizes, width - 2):
        for number, row in enumerate(cells):
            padded = [_pad(row[i], sizes[i], i in table.right) for i in columns]
            text = f"  {padded[0]} │ {'   '.join(padded[1:])}".rstrip()
            lines.append(f"{_BOLD}{text}{_PLAIN}" if number == 0 else text)
            if number == 0:
                rule = sum(sizes[i] for i in columns[1:]) + 3 * (len(columns) - 2)
                lines.append(f"  {'─' * sizes[0]}─┼─{'─' * rule}")
    return lines


def _groups(sizes: Sequence[int], width: int) -> list[list[int]]:
    """Which columns stand side by side; the first is in every group."""
    groups, current, used = [], [0], sizes[0]
    for i in range(1, len(sizes)):
        if len(current) > 1 and used + 3 + sizes[i] > width:
            groups.append(current)
            current, used = [0], sizes[0]
        current.append(i)
        used += 3 + sizes[i]
    return [*groups, current]


def _cut(text: str) -> str:
    return text if cell_len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"


def _pad(text: str, size: int, right: bool = False) -> str:
    space = " " * (size - cell_len(text))
    return space + text if right else text + space


def slope(curve: Curve) -> float | None:
    """Measure how fast an error falls with the step where truncation rules.

    Parameters
    ----------
    curve : Curve
        Errors against steps.

    Returns
    -------
    float or None
        The median slope of log error against log step, between steps of 0.1 and the first error
        below 1e-7 or the smallest error; None where there are too few points.
    """
    points = [
        (math.log10(h), math.log10(error))
        for h, error in zip(curve.steps, curve.errors, strict=True)
        if error is not None and error > 0 and h <= 0.1
    ]
    if not points:
        return None
    least = min(points, key=lambda point: point[1])
    falling = [p for p in points if p[0] >= least[0] and p[1] > max(-10.0, least[1] + 1)]
    slopes = sorted((a[1] - b[1]) / (a[0] - b[0]) for a, b in pairwise(falling))
    return slopes[len(slopes) // 2] if len(slopes) >= 2 else None


def _plot(curves: Iterable[Curve], width: int) -> list[str]:
    """Errors against the step, one column of characters for a step and one line for a decade."""
    curves = list(curves)
    steps = curves[0].steps
    across = 2 if width >= 8 + 2 * len(steps) else 1
    known = [e for curve in curves for e in curve.errors if e]
    top = min(4, max((math.ceil(math.log10(error)) for error in known), default=0))
    grid = [[" "] * (across * len(steps)) for _ in range(top - _LOWEST + 1)]
    for curve in reversed(curves):
        for column, error in enumerate(curve.errors):
            if error is not None:
                decade = round(math.log10(error)) if error > 0 else _LOWEST
                line = top - min(top, max(_LOWEST, decade))
                grid[line][across * column] = _MARKS[curve.name]
    lines = [
        f"{_BOLD}Error against the step, both logarithmic{_PLAIN}",
        *(
            f"{_FAINT}{line}{_PLAIN}"
            for line in _wrapped(
                "Relative to the largest entry of the Jacobian, or to 1. To the right the step "
                "shrinks: the error of truncation falls, until rounding makes it grow again.",
                width,
            )
        ),
    ]
    for number, row in enumerate(grid):
        decade = top - number
        label = f"1e{decade}" if decade % 4 == 0 else ("0" if decade == _LOWEST else "")
        lines.append(f"  {label:>6} │ {''.join(row)}".rstrip())
    lines.append(f"  {'─' * 7}┼{'─' * (across * len(steps) + 1)}")
    axis = ""
    for column in range(0, len(steps), 8):
        axis = _pad(axis, across * column) + f"1e{round(math.log10(steps[column]))}"
    lines.append(f"  {'h':>6} │ {axis}")
    for curve in curves:
        found = [(e, h) for h, e in zip(curve.steps, curve.errors, strict=True) if e is not None]
        fall = slope(curve)
        words = [f"slope {fall:.2f}"] if fall is not None else []
        least = min(found, default=None, key=lambda each: each[0])
        if least is not None:
            lowest, h = (format_number(each, 2) for each in least)
            words.append(f"least error {lowest} at h = {h}")
        name = {**SHORT, "forward difference": "one-sided"}[curve.name]
        lines.append(f"  {_MARKS[curve.name]} {name}: {', '.join(words) or 'undefined'}")
    return lines
