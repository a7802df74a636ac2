"""Where the nodes of a graph are drawn: in layers, with few crossings and straight long edges.

The method is Sugiyama's, in four stages: layers by longest path; invisible points where an edge
passes a layer; an order within each layer by medians and exchanges of neighbours; coordinates
that minimise the squared distances along edges, one layer at a time.

References
----------
K. Sugiyama, S. Tagawa, M. Toda, "Methods for visual understanding of hierarchical system
structures", IEEE Transactions on Systems, Man, and Cybernetics 11(2), 1981.
E. R. Gansner et al., "A technique for drawing directed graphs", IEEE Transactions on Software
Engineering 19(3), 1993.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Layout", "Point", "crossings", "place"]

_SWEEPS = 24
_STRAIGHT = 8.0  # how much more an edge between two invisible points wants to be straight


@dataclass(frozen=True)
class Point:
    """A node, or where an edge passes a layer.

    Parameters
    ----------
    layer : int
        From the top.
    x : float
        Of its centre.
    width : float
        What it takes up.
    """

    layer: int
    x: float
    width: float


@dataclass(frozen=True)
class Layout:
    """A drawing.

    Parameters
    ----------
    points : tuple of Point
        The nodes first, by index; then where edges pass layers.
    layers : tuple of tuple of int
        Points of each layer, from left to right.
    routes : dict of (int, int) to tuple of int
        By edge: the points it goes through, both ends included.
    """

    points: tuple[Point, ...]
    layers: tuple[tuple[int, ...], ...]
    routes: dict[tuple[int, int], tuple[int, ...]]

    @property
    def width(self) -> float:
        """From 0 to the rightmost border."""
        return max((point.x + point.width / 2 for point in self.points), default=0.0)


def place(widths: Sequence[float], edges: Iterable[tuple[int, int]], gap: float) -> Layout:
    """Lay out a graph without cycles.

    Parameters
    ----------
    widths : sequence of float
        Of each node.
    edges : iterable of (int, int)
        From a node to one with a higher index.
    gap : float
        Between neighbours in a layer.

    Returns
    -------
    Layout
        The leftmost border is at 0.

    Examples
    --------
    >>> layout = place([10, 10, 10], [(0, 2), (1, 2)], gap=4)
    >>> [(point.layer, point.x) for point in layout.points]
    [(0, 5.0), (0, 19.0), (1, 12.0)]
    """
    wanted = sorted(set(edges))
    depth = [0] * len(widths)
    for parent, child in sorted(wanted, key=lambda edge: edge[1]):
        depth[child] = max(depth[child], depth[parent] + 1)
    sizes, routes = list(widths), {}
    for parent, child in wanted:
        inner = range(depth[parent] + 1, depth[child])
        routes[parent, child] = (parent, *range(len(depth), len(depth) + len(inner)), child)
        depth.extend(inner)
        sizes.extend([0.0] * len(inner))
    layers: list[list[int]] = [[] for _ in range(max(depth, default=-1) + 1)]
    for point, layer in enumerate(depth):
        layers[layer].append(point)
    up: dict[int, list[int]] = {point: [] for point in range(len(depth))}
    down: dict[int, list[int]] = {point: [] for point in range(len(depth))}
    for route in routes.values():
        for above, below in pairwise(route):
            down[above].append(below)
            up[below].append(above)
    layers = _ordered(layers, up, down)
    xs = _coordinates(layers, up, down, sizes, gap, len(widths))
    points = tuple(Point(depth[i], xs[i], sizes[i]) for i in range(len(depth)))
    return Layout(points, tuple(map(tuple, layers)), routes)


def crossings(layers: Sequence[Sequence[int]], down: Mapping[int, Sequence[int]]) -> int:
    """Count how often edges cross.

    Parameters
    ----------
    layers : sequence of sequences of int
        Points from left to right.
    down : mapping of int to sequence of int
        What each point leads to in the layer below.

    Returns
    -------
    int
        Pairs of edges that cross.

    Examples
    --------
    >>> crossings([[0, 1], [2, 3]], {0: [3], 1: [2]})
    1
    """
    total = 0
    for upper, lower in pairwise(layers):
        order = {point: i for i, point in enumerate(lower)}
        ends = [sorted(order[below] for below in down[above]) for above in upper]
        for i, left in enumerate(ends):
            for right in ends[i + 1 :]:
                total += sum(a > b for a in left for b in right)
    return total


def _ordered(
    layers: list[list[int]], up: Mapping[int, list[int]], down: Mapping[int, list[int]]
) -> list[list[int]]:
    """Sort each layer by the medians of its neighbours, up and down in turn; keep the best."""
    best, fewest = [list(layer) for layer in layers], crossings(layers, down)
    for start in (0, 1):
        current = [list(layer)[:: 1 if start == 0 else -1] for layer in layers]
        for sweep in range(_SWEEPS):
            downward = sweep % 2 == 0
            order = range(1, len(layers)) if downward else range(len(layers) - 2, -1, -1)
            for row in order:
                fixed = current[row - 1 if downward else row + 1]
                places = {point: i for i, point in enumerate(fixed)}
                neighbours = up if downward else down
                current[row] = _by_median(current[row], places, neighbours)
            _exchange(current, up, down)
            count = crossings(current, down)
            if count < fewest:
                best, fewest = [list(layer) for layer in current], count
            if fewest == 0:
                return best
    return best


def _by_median(
    row: list[int], places: Mapping[int, int], neighbours: Mapping[int, list[int]]
) -> list[int]:
    """Sort points by where their neighbours are; those without any keep their place."""
    keys = {}
    for i, point in enumerate(row):
        found = sorted(places[each] for each in neighbours[point])
        keys[point] = (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2 if found else i
    return sorted(row, key=lambda point: keys[point])


def _exchange(
    layers: list[list[int]], up: Mapping[int, list[int]], down: Mapping[int, list[int]]
) -> None:
    """Exchange neighbours in a layer as long as that removes crossings."""
    for row, layer in enumerate(layers):
        places = {
            point: i
            for other in (row - 1, row + 1)
            if 0 <= other < len(layers)
            for i, point in enumerate(layers[other])
        }

        def cross(
            left: int,
            right: int,
            places: Mapping[int, int] = places,
        ) -> int:
            return sum(
                places[a] > places[b]
                for neighbours in (up, down)
                for a in neighbours[left]
                for b in neighbours[right]
            )

        improved = True
        while improved:
            improved = False
            for i in range(len(layer) - 1):
                if cross(layer[i], layer[i + 1]) > cross(layer[i + 1], layer[i]):
                    layer[i], layer[i + 1] = layer[i + 1], layer[i]
                    improved = True


def _coordinates(
    layers: Sequence[Sequence[int]],
    up: Mapping[int, list[int]],
    down: Mapping[int, list[int]],
    sizes: Sequence[float],
    gap: float,
    real: int,
) -> list[float]:
    """Move each layer to where its neighbours want it, keeping order and distances."""
    xs = [0.0] * len(sizes)
    for layer in layers:
        x = 0.0
        for point in layer:
            xs[point] = x + sizes[point] / 2
            x += sizes[point] + gap
    for sweep in range(2 * _SWEEPS):
        downward = sweep % 2 == 0
        for layer in layers if downward else reversed(layers):
            wishes, weights = [], []
            for point in layer:
                # Both sides count, the one just moved more: so the whole drawing settles.
                pairs = [(xs[n], 1.0 if downward else 0.2, n) for n in up[point]]
                pairs += [(xs[n], 0.2 if downward else 1.0, n) for n in down[point]]
                both = point >= real
                scaled = [(x, w * (_STRAIGHT if both or n >= real else 1.0)) for x, w, n in pairs]
                weight = sum(w for _, w in scaled)
                wishes.append(sum(x * w for x, w in scaled) / weight if weight else xs[point])
                weights.append(weight or 0.01)
            for point, x in zip(layer, _spread(layer, wishes, weights, sizes, gap), strict=True):
                xs[point] = x
    left = min((x - size / 2 for x, size in zip(xs, sizes, strict=True)), default=0.0)
    return [x - left for x in xs]


def _spread(
    layer: Sequence[int],
    wishes: Sequence[float],
    weights: Sequence[float],
    sizes: Sequence[float],
    gap: float,
) -> list[float]:
    """Least squares towards the wishes, with at least the gap between neighbours.

    Without the room that the points before it take up, each is at least where the one before it
    is: an isotonic regression, which pooling adjacent violators solves exactly.
    """
    offsets = [0.0]
    for left, right in pairwise(layer):
        offsets.append(offsets[-1] + (sizes[left] + sizes[right]) / 2 + gap)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, count
    for wish, weight, offset in zip(wishes, weights, offsets, strict=True):
        block = (wish - offset, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, total, count = blocks.pop()
            joined = total + block[1]
            block = (
                (mean * total + block[0] * block[1]) / joined,
                joined,
                count + block[2],
            )
        blocks.append(block)
    means = [mean for mean, _, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
