"""The steps that the page goes through: every value and every derivative, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.explain.grammar import Call, Expression, Name
from chainrule.explain.graph import Edge, Node
from chainrule.explain.notation import to_mathml, to_text
from chainrule.explain.sweeps import ForwardSweep, ReverseSweep
from chainrule.explain.tables import (
    Cell,
    derivative,
    format_value,
    number,
    numbers_of,
    pass_product,
    tangent_rule,
)

if TYPE_CHECKING:
    from chainrule.explain.explanation import Explanation

__all__ = ["Step", "Sweep", "all_sweeps", "equation", "markup"]


@dataclass(frozen=True)
class Step:
    """One step.

    Parameters
    ----------
    node : int
        The node that gets a number.
    edges : tuple of (int, int)
        The edges along which something comes: parent and child.
    badge : str
        The number that the node gets.
    cells : tuple of str
        Its row of the table, as HTML.
    lines : tuple of (str, str)
        What happens, as HTML: a label and an equation.
    say : str
        What happens, in words.
    """

    node: int
    edges: tuple[tuple[int, int], ...]
    badge: str
    cells: tuple[str, ...]
    lines: tuple[tuple[str, str], ...]
    say: str


@dataclass(frozen=True)
class Sweep:
    """One way through the graph.

    Parameters
    ----------
    key : str
        Names it in the page.
    kind : str
        ``"values"``, ``"forward"`` or ``"reverse"``.
    title : str
        Its heading.
    button : str
        Its name on a button, as HTML.
    note : str
        What it does.
    columns : tuple of str
        Heads of its table, as HTML.
    steps : tuple of Step
        In order.
    """

    key: str
    kind: str
    title: str
    button: str
    note: str
    columns: tuple[str, ...]
    steps: tuple[Step, ...]


def markup(cell: Cell) -> str:
    """Write a cell as HTML, expressions as MathML."""
    if isinstance(cell, str):
        return escape(cell)
    if isinstance(cell, tuple):
        return " ".join(map(markup, cell))
    return f'<math displaystyle="true">{to_mathml(cell)}</math>'


def equation(*sides: Cell, sign: str = "=") -> str:
    """Write ``a = b = c`` as HTML; sides that repeat the one before are left out."""
    kept: list[Cell] = []
    for side in sides:
        if not kept or _plain(side) != _plain(kept[-1]):
            kept.append(side)
    if any(isinstance(side, str | tuple) for side in kept):
        return f" {sign} ".join(map(markup, kept))
    inside = f"<mo>{sign}</mo>".join(
        to_mathml(side) for side in kept if not isinstance(side, str | tuple)
    )
    return f'<math displaystyle="true"><mrow>{inside}</mrow></math>'


def _plain(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, tuple):
        return " ".join(map(_plain, cell))
    return to_text(cell)


def all_sweeps(explanation: Explanation) -> list[Sweep]:
    """Return the steps of the values, of each sweep of forward mode and of each of reverse mode.

    Parameters
    ----------
    explanation : Explanation
        What to step through.

    Returns
    -------
    list of Sweep
        In the order in which they are shown.
    """
    return [
        _values(explanation),
        *(_forward(explanation, i, sweep) for i, sweep in enumerate(explanation.forward)),
        *(_reverse(explanation, i, sweep) for i, sweep in enumerate(explanation.reverse)),
    ]


def _edges(edges: Sequence[Edge]) -> tuple[tuple[int, int], ...]:
    return tuple(dict.fromkeys((edge.parent, edge.child) for edge in edges))


def _values(explanation: Explanation) -> Sweep:
    graph, digits = explanation.graph, explanation.digits
    steps = []
    for node in graph.nodes:
        value = format_value(node.value, digits)
        shown: Cell = value if np.ndim(node.value) else number(node.value, digits)
        operation: Cell = node.expression if node.expression is not None else node.text
        put_in = numbers_of(node, graph, digits)
        if node.kind == "input":
            cells = (markup(Name(node.name)), "input", "", value)
            lines = [("input", equation(Name(node.name), shown))]
            say = f"{node.name} is given: {value}."
        else:
            filled = [] if put_in is None else [put_in]
            cells = (
                markup(Name(node.name)),
                markup(operation),
                markup(put_in or ""),
                escape(value),
            )
            sides = [Name(node.name), operation, *filled, shown]
            lines = [("value", equation(*sides))]
            words = [node.name, node.text, *map(to_text, filled), value]
            say = " = ".join(dict.fromkeys(words)) + "."
        if node.note:
            lines.append(("kink" if node.kink else "branch", escape(node.note)))
            say += f" {node.note}."
        steps.append(Step(node.index, _edges(node.edges), value, cells, tuple(lines), say))
    return Sweep(
        "values",
        "values",
        "Forward values",
        "Values",
        "Each operation once, from the inputs to the outputs.",
        ("value", "operation", "with numbers", "is"),
        tuple(steps),
    )


def _local_line(explanation: Explanation, edge: Edge) -> tuple[str, str]:
    """The local derivative of an edge, with numbers put in."""
    graph, digits = explanation.graph, explanation.digits
    child, parent = graph.nodes[edge.child], graph.nodes[edge.parent]
    head = derivative(child.name, parent.name)
    formula, put_in = graph.formula(edge), graph.numbers(edge, digits)
    if formula is None or put_in is None or edge.value is None:
        return "local derivative", f"{markup(head)}: {escape(edge.rule[0])}"
    text = equation(head, formula, put_in, number(edge.value, digits))
    if child.note:
        text += f" <span class='as'>as {escape(child.note.partition(':')[0])}</span>"
    return "local derivative", text


def _forward(explanation: Explanation, index: int, sweep: ForwardSweep) -> Sweep:
    graph, digits, seed = explanation.graph, explanation.digits, sweep.seed
    steps = []
    for node in graph.nodes:
        tangent = sweep.tangents[node.index]
        value = format_value(tangent, digits)
        shown: Cell = value if np.ndim(tangent) else number(tangent, digits)
        head = derivative(node.name, seed)
        arrived = sweep.passes[node.index]
        lines: list[tuple[str, str]] = []
        if node.kind == "input":
            rule: Cell = "seed"
            put_in: Cell = ""
            lines.append(("seed", equation(head, shown)))
            say = f"Seed: the derivative of {node.name} by {seed} is {value}."
        elif not arrived:
            rule, put_in = "", ""
            lines.append(("tangent", equation(head, shown)))
            say = f"{node.name} does not depend on {seed}: its derivative is {value}."
        else:
            edges = [each.edge for each in arrived]
            rule = tangent_rule(
                edges, graph.formula, lambda e: derivative(graph.nodes[e.parent].name, seed)
            )
            put_in = _numbers(edges, sweep, digits)
            lines.append(("tangent", equation(head, rule, *([put_in] if put_in else []), shown)))
            lines += [_local_line(explanation, edge) for edge in edges]
            factors = [(e.edge.value, e.carried) for e in arrived if e.edge.value is not None]
            parts = " plus ".join(
                f"{format_value(local, digits)} times {format_value(carried, digits)}"
                for local, carried in factors
            )
            words = f": {parts}" if parts else ""
            say = f"The derivative of {node.name} by {seed} is {value}{words}."
        cells = (markup(head), markup(rule), markup(put_in), escape(value))
        concerned = _edges([each.edge for each in arrived])
        steps.append(Step(node.index, concerned, value, cells, tuple(lines), say))
    return Sweep(
        f"forward-{index}",
        "forward",
        f"Forward mode, seed {seed}",
        f"Forward from {markup(Name(seed))}",
        f"How fast every value changes with {seed}: one sweep in the order of computation.",
        ("tangent", "rule", "with numbers", "is"),
        tuple(steps),
    )


def _numbers(edges: Sequence[Edge], sweep: ForwardSweep, digits: int) -> Cell:
    if any(edge.value is None or np.ndim(sweep.tangents[edge.parent]) for edge in edges):
        return ""

    def local(edge: Edge) -> Expression | None:
        return None if edge.value is None else number(edge.value, digits)

    return tangent_rule(edges, local, lambda e: number(sweep.tangents[e.parent], digits))


def _reverse(explanation: Explanation, index: int, sweep: ReverseSweep) -> Sweep:
    graph, digits, output = explanation.graph, explanation.digits, sweep.output
    own = next(i for i, _, name in graph.elements(graph.outputs) if name == output)
    head = derivative(output, graph.nodes[own].name)
    first = format_value(_unit(graph.nodes[own], output), digits)
    steps = [
        Step(
            own,
            (),
            first,
            (markup(Name(output)), "seed", escape(first), equation(head, first)),
            (("seed", equation(head, first)),),
            f"Seed: the derivative of {output} by itself is 1.",
        )
    ]
    for each in sweep.passes:
        edge = each.edge
        child, parent = graph.nodes[edge.child], graph.nodes[edge.parent]
        total, adds = format_value(each.total, digits), format_value(each.adds, digits)
        target, source = derivative(output, parent.name), derivative(output, child.name)
        local = derivative(child.name, parent.name)
        product = pass_product(each.carried, edge, digits)
        if edge.value is not None and not np.ndim(each.total):
            shown = number(each.total, digits)
            moved: Expression = Call("multiply", (source, local))
            sides: list[Cell] = [target, moved, product, shown]
            sums: list[Cell] = [target, shown]
            if each.before is not None:
                earlier = number(each.before, digits)
                assert not isinstance(product, str | tuple)
                sides[1:3] = [Call("add", (earlier, moved)), Call("add", (earlier, product))]
                sums.insert(1, Call("add", (earlier, number(each.adds, digits))))
            line, so_far = equation(*sides), equation(*sums)
            multiplied = (
                f"{format_value(each.carried, digits)} times {format_value(edge.value, digits)}"
            )
        else:
            line = equation(target, edge.rule[1], total)
            so_far = equation(target, total)
            multiplied = f"its adjoint, through the operation {child.operation},"
        say = f"{child.name} hands {multiplied} to {parent.name}: it gets {adds}"
        say += f", in all {total}." if each.before is not None else "."
        moves = f"{markup(Name(child.name))} → {markup(Name(parent.name))}"
        label = "adjoint" if each.before is None else "adjoint, sum so far"
        steps.append(
            Step(
                parent.index,
                ((edge.parent, edge.child),),
                total,
                (moves, markup(product), escape(adds), so_far),
                ((label, line), _local_line(explanation, edge)),
                say,
            )
        )
    return Sweep(
        f"reverse-{index}",
        "reverse",
        f"Reverse mode, output {output}",
        f"Reverse from {markup(Name(output))}",
        f"How fast {output} changes with every value: one sweep back, sums growing at each value.",
        ("from → to", "adjoint · local", "adds", "sum so far"),
        tuple(steps),
    )


def _unit(node: Node, output: str) -> Any:
    unit = np.zeros(np.shape(node.value))
    for place in np.ndindex(unit.shape):
        if output.endswith(f"[{', '.join(map(str, place))}]") or not place:
            unit[place] = 1
    return unit[()]
