"""The graph as a drawing of characters: a box for each node, lines between layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from rich.cells import cell_len

from chainrule.explain.graph import Graph
from chainrule.explain.layout import Layout, place

__all__ = ["draw"]

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_LINES = {
    _UP: "│", _DOWN: "│", _LEFT: "─", _RIGHT: "─",
    _UP | _DOWN: "│", _LEFT | _RIGHT: "─",
    _DOWN | _RIGHT: "┌", _DOWN | _LEFT: "┐", _UP | _RIGHT: "└", _UP | _LEFT: "┘",
    _UP | _DOWN | _RIGHT: "├", _UP | _DOWN | _LEFT: "┤",
    _DOWN | _LEFT | _RIGHT: "┬", _UP | _LEFT | _RIGHT: "┴",
    _UP | _DOWN | _LEFT | _RIGHT: "┼",
}  # fmt: skip


def draw(graph: Graph, value: Callable[[float], str], width: int) -> list[str] | None:
    """Draw a graph of numbers, inputs at the top.

    Parameters
    ----------
    graph : Graph
        The graph.
    value : callable
        Writes the value of a node.
    width : int
        Columns there are.

    Returns
    -------
    list of str or None
        Lines; None if the drawing would be wider. Where lines of two values cross, the
        horizontal one is interrupted; where a line divides, there is a branch.
    """
    texts = []
    for node in graph.nodes:
        title = f"{node.name} = {node.text}" if node.text else node.name
        texts.append((title, value(node.value)))
    sizes = [max(map(cell_len, text)) + 4 for text in texts]
    edges = {(edge.parent, edge.child) for node in graph.nodes for edge in node.edges}
    layout = place([float(size) for size in sizes], edges, gap=2.0)
    columns = _whole(layout, sizes)
    canvas = _Canvas()
    top = 0
    for row, layer in enumerate(layout.layers):
        if row:
            top = _channel(canvas, layout, columns, sizes, row, top)
        for point in layer:
            if point < len(sizes):
                _box(canvas, columns[point], top, sizes[point], texts[point], row)
                if any(edge[0] == point for edge in edges):
                    canvas.put(columns[point], top + 3, "┬")
            else:
                for line in range(top, top + 4):
                    canvas.put(columns[point], line, "│")
        top += 4
    lines = canvas.lines()
    return lines if max(map(cell_len, lines), default=0) <= width else None


@dataclass
class _Canvas:
    cells: dict[tuple[int, int], str] = field(default_factory=dict)

    def put(self, x: int, y: int, text: str) -> None:
        for character in text:
            self.cells[y, x] = character
            for extra in range(1, cell_len(character)):
                self.cells[y, x + extra] = ""
            x += cell_len(character)

    def lines(self) -> list[str]:
        height = max((y for y, _ in self.cells), default=-1) + 1
        left = min((x for _, x in self.cells), default=0)
        right = max((x for _, x in self.cells), default=0)
        return [
            "".join(self.cells.get((y, x), " ") for x in range(left, right + 1)).rstrip()
            for y in range(height)
        ]


def _whole(layout: Layout, sizes: list[int]) -> list[int]:
    """Round the centres to whole columns, keeping two columns between neighbours."""
    columns = [0] * len(layout.points)
    for layer in layout.layers:
        free = -(10**6)
        for point in layer:
            size = sizes[point] if point < len(sizes) else 1
            left = max(free, round(layout.points[point].x - size / 2))
            columns[point] = left + size // 2
            free = left + size + 2
    return columns


def _box(canvas: _Canvas, x: int, y: int, size: int, texts: tuple[str, str], row: int) -> None:
    left = x - size // 2
    canvas.put(left, y, "┌" + "─" * (size - 2) + "┐")
    for i, text in enumerate(texts, 1):
        canvas.put(left, y + i, f"│ {text}{' ' * (size - 4 - cell_len(text))} │")
    canvas.put(left, y + 3, "└" + "─" * (size - 2) + "┘")


def _channel(
    canvas: _Canvas, layout: Layout, columns: list[int], sizes: list[int], row: int, top: int
) -> int:
    """Draw the lines between two layers; return where the lower one begins.

    All lines of one value share a horizontal track. The end of a line avoids the columns in
    which other values start, so vertical pieces never meet.
    """
    upper = layout.layers[row - 1]
    arriving: dict[int, list[int]] = {point: [] for point in layout.layers[row]}
    for route in layout.routes.values():
        for above, below in pairwise(route):
            if below in arriving:
                arriving[below].append(above)
    starts = {columns[point]: point for point in upper}
    nets: dict[int, list[tuple[int, int]]] = {}
    taken: set[int] = set()
    for point in layout.layers[row]:
        sources = sorted(arriving[point], key=lambda each: columns[each])
        reach = max(0, sizes[point] // 2 - 2) if point < len(sizes) else 0
        middle = columns[point]
        span = range(middle - reach, middle + reach + 1)
        for each, wish in zip(sources, _wishes([columns[n] for n in sources], span), strict=True):
            port = _port(wish, each, span, starts, taken)
            taken |= {port - 1, port, port + 1}
            nets.setdefault(each, []).append((port, point))
            if point >= len(sizes):
                columns[point] = port
    tracks = _tracks(nets, columns)
    height = max(tracks.values(), default=-1) + 1
    marks: dict[tuple[int, int], dict[int, int]] = {}  # cell -> net -> directions

    def mark(x: int, y: int, net: int, directions: int) -> None:
        cell = marks.setdefault((y, x), {})
        cell[net] = cell.get(net, 0) | directions

    bottom = top + height + 1  # one line for the heads of arrows
    for net, ends in nets.items():
        start = columns[net]
        track = top + tracks[net] if net in tracks else None
        for x, _ in ends:
            if track is None:
                for y in range(top, bottom):
                    mark(x, y, net, _UP | _DOWN)
                continue
            for y in range(top, track):
                mark(start, y, net, _UP | _DOWN)
            mark(start, track, net, _UP)
            low, high = sorted((start, x))
            for column in range(low, high + 1):
                mark(column, track, net, (column > low) * _LEFT | (column < high) * _RIGHT)
            mark(x, track, net, _DOWN)
            for y in range(track + 1, bottom):
                mark(x, y, net, _UP | _DOWN)
    for (y, x), found in marks.items():
        upright = [d for d in found.values() if d & (_UP | _DOWN)]
        canvas.put(x, y, _LINES[upright[0] if upright else next(iter(found.values()))])
    for ends in nets.values():
        for x, point in ends:
            if point < len(sizes):
                canvas.put(x, bottom - 1, "▼")
    return bottom


def _wishes(starts: list[int], span: range) -> list[int]:
    """Where lines would best end on a box: below their starts, in order, two columns apart."""
    wishes: list[int] = []
    for start in starts:
        wish = min(max(start, span[0]), span[-1])
        wishes.append(max(wish, wishes[-1] + 2) if wishes else wish)
    last = span[-1]
    for i in reversed(range(len(wishes))):
        wishes[i] = min(wishes[i], last)
        last = wishes[i] - 2
    return wishes


def _port(wish: int, net: int, span: range, starts: dict[int, int], taken: set[int]) -> int:
    """The free column nearest to the one wished for, on the box if there is one."""
    near = sorted(
        range(wish - 500, wish + 500), key=lambda port: (port not in span, abs(port - wish))
    )
    return next(p for p in near if p not in taken and starts.get(p, net) == net)


def _tracks(nets: dict[int, list[tuple[int, int]]], columns: list[int]) -> dict[int, int]:
    """Give each value that goes sideways a row, so that few lines cross."""
    spans = {}
    for net, ends in nets.items():
        xs = [columns[net], *(x for x, _ in ends)]
        if max(xs) > min(xs):
            spans[net] = (min(xs), max(xs))

    def crossed(upper: int, lower: int) -> int:
        low, high = spans[lower]
        count = sum(low <= x <= high for x, _ in nets[upper] if x != columns[upper])
        return count + (spans[upper][0] <= columns[lower] <= spans[upper][1])

    order = sorted(spans, key=lambda net: spans[net])
    for _ in order:  # exchange neighbours while that helps
        for i in range(len(order) - 1):
            if crossed(order[i], order[i + 1]) > crossed(order[i + 1], order[i]):
                order[i], order[i + 1] = order[i + 1], order[i]
    tracks: dict[int, int] = {}
    for net in order:
        low, high = spans[net]
        above = [
            tracks[other]
            for other in tracks
            if spans[other][0] <= high + 1 and low <= spans[other][1] + 1
        ]
        tracks[net] = max(above, default=-1) + 1
    return tracks
