"""Graphs of expressions, and what the sweeps over them count."""

import numpy as np
import pytest

from chainrule.errors import ConfigError, DTypeError, InputError
from chainrule.explain import Explanation, explain
from chainrule.explain.notation import to_text


def texts(text, **point):
    return [(n.name, n.text) for n in explain(text, point).graph.nodes if n.kind != "input"]


def test_equal_subexpressions_are_one_node():
    assert texts("exp(x) + exp(x)*y", x=1, y=1) == [
        ("i1", "exp(x)"),
        ("i2", "i1*y"),
        ("f", "i1 + i2"),
    ]


def test_order_does_not_matter_where_it_does_not_matter():
    assert len(texts("x*y + y*x + max(x, y) + max(y, x)", x=1, y=2)) == 5
    assert len(texts("x + 1 + (1 + x)", x=1)) == 2
    assert len(texts("x - y + (y - x)", x=1, y=2)) == 3
    assert len(texts("x/y + y/x", x=1, y=2)) == 3


def test_outputs_share_nodes_too():
    assert texts("f1 = x*y; f2 = exp(x*y)", x=1, y=2) == [("f1", "x*y"), ("f2", "exp(f1)")]


def test_outputs_that_are_inputs_constants_or_equal_have_nodes_of_their_own():
    found = texts("f1 = x; f2 = 3; f3 = x*y; f4 = x*y", x=1, y=2)
    assert sorted(found) == [("f1", "x"), ("f2", "3"), ("f3", "x*y"), ("f4", "f3")]
    jacobian = explain("f1 = x; f2 = 3; f3 = x*y; f4 = x*y", x=1, y=2).jacobian()
    assert jacobian.tolist() == [[1, 0], [0, 0], [2, 1], [2, 1]]


def test_names_of_ones_own_are_kept_and_numbers_skip_them():
    assert texts("i1 = x*y; a = exp(i1); f = a + sin(x)", x=1, y=2) == [
        ("i1", "x*y"),
        ("a", "exp(i1)"),
        ("i2", "sin(x)"),
        ("f", "a + i2"),
    ]
    assert texts("f = i2*x + 1 + x", x=1, i2=3)[0] == ("i1", "i2*x")


def test_constant_parts_are_no_nodes():
    assert texts("(2/3)*x + exp(1) + -x**(1/2)", x=4) == [
        ("i1", "2/3*x"),
        ("i2", "i1 + exp(1)"),
        ("i3", "x**(1/2)"),
        ("i4", "-i3"),
        ("f", "i2 + i4"),
    ]


def test_formulas_with_names_and_numbers():
    graph = explain("f = x/y + 3*sigmoid(x)", x=2, y=-4).graph
    found = {
        (graph.nodes[edge.child].name, graph.nodes[edge.parent].name): (
            to_text(graph.formula(edge)),
            to_text(graph.numbers(edge, 4)),
        )
        for node in graph.nodes
        for edge in node.edges
    }
    assert found["i1", "x"] == ("1/y", "1/(-4)")
    assert found["i1", "y"] == ("-x/y**2", "-2/(-4)**2")
    assert found["i2", "x"] == ("i2*(1 - i2)", "0.8808*(1 - 0.8808)")
    assert found["i3", "i2"] == ("3", "3")


def test_branches_are_said():
    nodes = explain("max(x, 3) + min(x, y) + abs(y) + relu(x)", x=2, y=-1).graph.nodes
    assert [node.note for node in nodes if node.note] == ["x < 3", "x > y", "y < 0", "x > 0"]


def test_counts():
    """f = (x + y)(y + 1): 5 edges; by x only the two of its path carry something."""
    counts = {m.name: m.counts for m in explain("(x + y)*(y + 1)", x=2, y=3).methods}
    assert counts["forward difference"].evaluations == 3
    assert counts["backward difference"].evaluations == 3
    assert counts["central difference"].evaluations == 4
    assert counts["complex step"].evaluations == 2
    for name in ("forward difference", "central difference"):
        assert (counts[name].multiplications, counts[name].additions) == (2, 2)
    forward, reverse = counts["forward mode"], counts["reverse mode"]
    assert (forward.derivatives, forward.multiplications, forward.additions) == (5, 2 + 4, 1)
    assert (reverse.derivatives, reverse.multiplications, reverse.additions) == (5, 5, 1)
    assert (forward.evaluations, reverse.evaluations) == (1, 1)


def test_reverse_mode_is_cheaper_for_many_inputs_and_forward_mode_for_many_outputs():
    def multiplications(text, **point):
        methods = {m.name: m.counts.multiplications for m in explain(text, point).methods}
        return methods["forward mode"], methods["reverse mode"]

    forward, reverse = multiplications("sin(a*b*c*d)", a=1, b=2, c=3, d=4)
    assert forward > reverse
    forward, reverse = multiplications("s = sin(x); s; s**2; exp(s); 3*s", x=1)
    assert forward < reverse


def test_reverse_passes_grow_sums_in_order():
    (sweep,) = explain("f = x*y + x", x=2, y=3).reverse
    names = ["x", "y", "i1", "f"]
    found = [
        (names[p.edge.child], names[p.edge.parent], float(p.adds), float(p.total), p.before)
        for p in sweep.passes
    ]
    assert found == [
        ("f", "i1", 1.0, 1.0, None),
        ("f", "x", 1.0, 1.0, None),
        ("i1", "x", 3.0, 4.0, 1.0),
        ("i1", "y", 2.0, 2.0, None),
    ]


def test_the_step_that_floats_really_make_is_the_divisor():
    explained = explain("f = 3*x", x=1e8, step=1e-7)
    assert explained.jacobian("forward difference")[0, 0] == pytest.approx(3, rel=0.2)


def test_results_are_copies():
    explained = explain("f = x*y", x=1, y=2)
    explained.jacobian()[0, 0] = 99
    assert explained.jacobian()[0, 0] == 2


def test_methods_are_known_by_name():
    explained = explain("f = x*y", x=1, y=2)
    with pytest.raises(
        ConfigError, match=r"method 'reverse' is not known\. Did you mean 'reverse m"
    ):
        explained.jacobian("reverse")


@pytest.mark.parametrize(
    ("keywords", "kind", "said"),
    [
        ({"step": 0}, InputError, "step must be above 0; got 0.0"),
        ({"step": float("nan")}, InputError, "step must be above 0; got nan"),
        ({"step": "1"}, DTypeError, "step must be a real number; got '1'"),
        ({"digits": 1}, InputError, "digits must be an integer from 2 to 17; got 1"),
        ({"digits": 3.0}, InputError, "digits must be an integer from 2 to 17; got 3.0"),
        ({"x": "1"}, DTypeError, "x must be a real number; got '1'"),
        ({"x": [1, 2]}, DTypeError, r"x must be a real number; got \[1, 2\]"),
    ],
)
def test_arguments_are_checked(keywords, kind, said):
    with pytest.raises(kind, match=said):
        explain("f = x", **({"x": 1} | keywords))


def test_values_by_position_are_refused_for_expressions():
    with pytest.raises(ConfigError, match="expressions take their values by name"):
        explain("f = x", 1.0)
    with pytest.raises(ConfigError, match="expressions take their values by name"):
        explain("f = x", {"x": 1}, y=2)
    assert explain("f = step*x", {"x": 1, "step": 2}).jacobian().tolist() == [[2.0, 1.0]]


def test_too_many_inputs_and_outputs_are_refused():
    names = [f"x{i}" for i in range(13)]
    with pytest.raises(InputError, match=r"there must be from 1 to 12 inputs.*; got 13"):
        explain("+".join(names), dict.fromkeys(names, 1.0))
    with pytest.raises(InputError, match=r"there must be from 1 to 12 outputs.*; got 13"):
        explain("; ".join(f"{i}*x" for i in range(13)), x=1)


def test_an_explanation_can_be_made_of_a_graph():
    graph = explain("f = x*y", x=1, y=2).graph
    assert np.array_equal(Explanation(graph, "mine", 0.1, 3).jacobian(), [[2.0, 1.0]])
