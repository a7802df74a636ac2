"""The pictures of the page, as SVG: the graph, and the errors against the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from rich.cells import cell_len

from chainrule.explain.layout import Layout, place
from chainrule.explain.sweeps import Curve
from chainrule.explain.tables import SHORT, format_value

if TYPE_CHECKING:
    from chainrule.explain.explanation import Explanation

__all__ = ["curve_svg", "graph_svg"]

_LETTER = 7.3  # width of a letter of 12 px monospace
_HEIGHT, _BETWEEN, _GAP, _MARGIN = 58.0, 46.0, 14.0, 6.0
_LONGEST = 18


def graph_svg(explanation: Explanation) -> tuple[str, float]:
    """Draw the graph.

    Parameters
    ----------
    explanation : Explanation
        What to draw.

    Returns
    -------
    svg : str
        An ``svg`` element. Node i is ``#n{i}``, the edge from i to j is ``#e{i}-{j}``.
    width : float
        Of the drawing at its full size, in pixels.
    """
    graph = explanation.graph
    names, values = [], []
    for node in graph.nodes:
        names.append(_cut(node.text or "input"))
        values.append(_cut(format_value(node.value, min(explanation.digits, 6))))
    widths = [
        max(cell_len(node.name) + 2 + cell_len(value), cell_len(text), 9) * _LETTER + 18
        for node, text, value in zip(graph.nodes, names, values, strict=True)
    ]
    edges = {(edge.parent, edge.child): edge for node in graph.nodes for edge in node.edges}
    layout = place(widths, edges, _GAP)
    width = layout.width + 2 * _MARGIN
    height = len(layout.layers) * (_HEIGHT + _BETWEEN) - _BETWEEN + 2 * _MARGIN
    parts = []
    for (parent, child), (path, x, y) in _paths(layout, widths).items():
        edge = edges[parent, child]
        label = "" if edge.value is None else format_value(edge.value, 4)
        parts.append(
            f'<g class="edge" id="e{parent}-{child}"><path d="{path}" marker-end="url(#head)"/>'
            f'<text x="{x:.1f}" y="{y:.1f}">{escape(label)}</text></g>'
        )
    for node, text, value in zip(graph.nodes, names, values, strict=True):
        point = layout.points[node.index]
        left = _MARGIN + point.x - point.width / 2
        top = _MARGIN + point.layer * (_HEIGHT + _BETWEEN)
        full = f"{node.name} = {node.text}" if node.text else node.name
        parts.append(
            f'<g class="node {node.kind}" id="n{node.index}">'
            f"<title>{escape(full)}</title>"
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{point.width:.1f}" '
            f'height="{_HEIGHT:g}" rx="9"/>'
            f'<text class="name" x="{left + 9:.1f}" y="{top + 17:.1f}">{escape(node.name)}</text>'
            f'<text class="is" x="{left + point.width - 9:.1f}" y="{top + 17:.1f}">'
            f"{escape(value)}</text>"
            f'<text class="op" x="{left + 9:.1f}" y="{top + 33:.1f}">{escape(text)}</text>'
            f'<text class="badge" x="{left + point.width - 9:.1f}" y="{top + 50:.1f}"></text></g>'
        )
    count = len(graph.nodes) - len(graph.inputs)
    words = "; ".join(f"{node.name} = {node.text}" for node in graph.nodes if node.text)
    svg = (
        f'<svg class="graph" role="img" aria-labelledby="graph-title graph-words" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">'
        f'<title id="graph-title">Computation graph with {count} operations</title>'
        f'<desc id="graph-words">{escape(words)}</desc>'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="10" '
        'markerHeight="10" markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
        '<path d="M0 0.8 L8 4 L0 7.2 Z"/></marker>'
        f"</defs>{''.join(parts)}</svg>"
    )
    return svg, width


def _cut(text: str) -> str:
    return text if cell_len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _paths(
    layout: Layout, widths: Sequence[float]
) -> dict[tuple[int, int], tuple[str, float, float]]:
    """For each edge its path, which bends between layers only, and a place for a label."""
    starts: dict[int, list[tuple[float, tuple[int, int]]]] = {}
    ends: dict[int, list[tuple[float, tuple[int, int]]]] = {}
    for edge, route in layout.routes.items():
        starts.setdefault(edge[0], []).append((layout.points[route[1]].x, edge))
        ends.setdefault(edge[1], []).append((layout.points[route[-2]].x, edge))
    first = _ports(starts, layout, widths, 14)
    last = _ports(ends, layout, widths, 22)
    found = {}
    for edge, route in layout.routes.items():
        x = _MARGIN + first[edge]
        y = _MARGIN + layout.points[edge[0]].layer * (_HEIGHT + _BETWEEN) + _HEIGHT
        parts = [f"M{x:.1f} {y:.1f}"]
        label = (x, y)
        for point in route[1:]:
            final = point == edge[1]
            to = _MARGIN + (last[edge] if final else layout.points[point].x)
            down = y + _BETWEEN - (2 if final else 0)
            middle = (y + down) / 2
            parts.append(f"C{x:.1f} {middle:.1f} {to:.1f} {middle:.1f} {to:.1f} {down:.1f}")
            label = ((x + to) / 2, middle + 4)
            x, y = to, down
            if not final:
                y += _HEIGHT
                parts.append(f"L{x:.1f} {y:.1f}")
        found[edge] = (" ".join(parts), *label)
    return found


def _ports(
    meeting: dict[int, list[tuple[float, tuple[int, int]]]],
    layout: Layout,
    widths: Sequence[float],
    wide: float,
) -> dict[tuple[int, int], float]:
    """Where edges touch a node: side by side, in the order of where they come from."""
    ports = {}
    for node, edges in meeting.items():
        gap = min(wide, (widths[node] - 24) / max(1, len(edges)))
        for i, (_, edge) in enumerate(sorted(edges)):
            ports[edge] = layout.points[node].x + (i - (len(edges) - 1) / 2) * gap
    return ports


_WIDTH, _TALL, _LEFT, _RIGHT, _TOP, _BOTTOM = 420, 300, 46, 12, 12, 40
_LOWEST = -17


def curve_svg(curves: Sequence[Curve]) -> str:
    """Draw the errors against the step, both logarithmic.

    Parameters
    ----------
    curves : sequence of Curve
        One for each method.

    Returns
    -------
    str
        An ``svg`` element; the colours are the classes ``s0``, ``s1`` and ``s2``.
    """
    known = [e for curve in curves for e in curve.errors if e]
    top = min(4, max((math.ceil(math.log10(error)) for error in known), default=0))
    steps = curves[0].steps
    low, high = math.log10(steps[-1]), math.log10(steps[0])

    def across(step: float) -> float:
        share = (high - math.log10(step)) / (high - low)
        return _LEFT + 6 + share * (_WIDTH - _LEFT - _RIGHT - 12)

    def down(error: float) -> float:
        decade = max(_LOWEST, min(top, math.log10(error))) if error > 0 else _LOWEST
        return _TOP + (top - decade) / (top - _LOWEST) * (_TALL - _TOP - _BOTTOM)

    parts = []
    for decade in range(top - top % 4, _LOWEST - 1, -4):
        y = down(10.0**decade)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" class="end">1e{decade}</text>')
    y = down(0.0)
    parts.append(f'<path class="axis" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
    for decade in range(0, round(low) - 1, -4):
        x = across(10.0**decade)
        parts.append(f'<path class="axis" d="M{x:.1f} {y:.1f}v4"/>')
        parts.append(f'<text x="{x:.1f}" y="{y + 17:.1f}" class="mid">1e{decade}</text>')
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_TALL - 6}" class="mid">step h</text>'
    )
    for colour, curve in enumerate(curves):
        pieces, pen = [], "M"
        marks = []
        for step, error in zip(curve.steps, curve.errors, strict=True):
            if error is None:
                pen = "M"
                continue
            x, y = across(step), down(error)
            pieces.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
            marks.append(_mark(colour, x, y))
        if pieces:
            parts.append(f'<path class="line s{colour}" d="{" ".join(pieces)}"/>')
        parts.append(f'<g class="f{colour}">{"".join(marks)}</g>')
    words = ", ".join(SHORT[curve.name] for curve in curves)
    return (
        f'<svg class="curve" role="img" aria-labelledby="curve-title curve-words" '
        f'viewBox="0 0 {_WIDTH} {_TALL}"><title id="curve-title">Error against step</title>'
        f'<desc id="curve-words">{escape(words)}; the numbers are in the table below.</desc>'
        f"{''.join(parts)}</svg>"
    )


def _mark(kind: int, x: float, y: float) -> str:
    """A circle, a diamond or a triangle: not by colour alone."""
    if kind == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    if kind == 1:
        return f'<path d="M{x:.1f} {y - 4:.1f}l4 4l-4 4l-4-4z"/>'
    return f'<path d="M{x:.1f} {y - 4:.1f}l4 7h-8z"/>'
