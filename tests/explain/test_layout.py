"""Layouts: nothing overlaps, edges go downward past nodes, few lines cross."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.explain.layout import crossings, place

GAP = 10.0


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 14))
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=24)) if pairs else []
    widths = draw(st.lists(st.floats(10, 120), min_size=count, max_size=count))
    return widths, edges


def below(layout):
    found = {i: [] for i in range(len(layout.points))}
    for route in layout.routes.values():
        for upper, lower in itertools.pairwise(route):
            found[upper].append(lower)
    return found


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_neighbours_keep_their_distance(graph):
    layout = place(*graph, GAP)
    for layer in layout.layers:
        for left, right in itertools.pairwise(layer):
            a, b = layout.points[left], layout.points[right]
            assert b.x - a.x >= (a.width + b.width) / 2 + GAP - 1e-6
    assert min(p.x - p.width / 2 for p in layout.points) == pytest.approx(0, abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_edges_go_one_layer_at_a_time_through_points_of_their_own(graph):
    widths, edges = graph
    layout = place(widths, edges, GAP)
    assert set(layout.routes) == set(edges)
    inner = []
    for (parent, child), route in layout.routes.items():
        assert (route[0], route[-1]) == (parent, child)
        depths = [layout.points[point].layer for point in route]
        assert depths == list(range(depths[0], depths[-1] + 1))
        inner += route[1:-1]
    assert len(set(inner)) == len(inner)
    assert all(point >= len(widths) for point in inner)
    assert sorted(itertools.chain(*layout.layers)) == list(range(len(layout.points)))


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_ordering_does_not_add_crossings(graph):
    widths, edges = graph
    layout = place(widths, edges, GAP)
    down = below(layout)
    as_given = [sorted(layer) for layer in layout.layers]
    assert crossings(layout.layers, down) <= crossings(as_given, down)


@pytest.mark.parametrize(
    "edges",
    [
        [(0, 3), (1, 2)],
        [(0, 2), (1, 3), (2, 5), (3, 4)],
        [(0, 5), (1, 4), (2, 3), (3, 8), (4, 7), (5, 6)],
        [(0, 4), (1, 4), (1, 5), (2, 5), (2, 6), (3, 6)],  # a zigzag
        [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5), (2, 6)],  # a tree
    ],
)
def test_planar_drawings_are_found(edges):
    layout = place([20.0] * 10, edges, GAP)
    assert crossings(layout.layers, below(layout)) == 0


def test_the_graph_of_the_course_has_the_crossing_it_must_have():
    """K(2,2) within two layers, w1 and w2 to w1*w2 and max(w1, w2), cannot do without."""
    edges = [(0, 2), (1, 3), (3, 4), (2, 5), (4, 5), (5, 6), (5, 7), (6, 8), (7, 8)]
    edges += [(0, 9), (1, 9), (0, 10), (1, 10), (9, 11), (10, 11)]
    layout = place([20.0] * 12, edges, GAP)
    assert crossings(layout.layers, below(layout)) == 1


def test_long_edges_are_straight_where_they_pass():
    layout = place([20.0] * 6, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5)], GAP)
    xs = [layout.points[point].x for point in layout.routes[0, 5][1:-1]]
    assert max(xs) - min(xs) < 1


def test_an_empty_graph():
    layout = place([], [], GAP)
    assert (layout.points, layout.layers, layout.width) == ((), (), 0.0)
