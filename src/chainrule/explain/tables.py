"""The tables of an explanation, for all forms of output: cells are words and expressions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.explain.grammar import Call, Expression, Name, Number
from chainrule.explain.graph import Edge, Graph, Node
from chainrule.explain.notation import PARTIAL, format_number, to_text
from chainrule.explain.sweeps import METHODS, ReverseSweep

if TYPE_CHECKING:
    from chainrule.explain.explanation import Explanation

__all__ = [
    "SHORT",
    "Cell",
    "Table",
    "all_tables",
    "derivative",
    "format_value",
    "number",
    "numbers_of",
    "pass_product",
    "tangent_rule",
]

Cell = str | Expression | tuple[str | Expression, ...]
SHORT = {
    METHODS[0]: "step +h",
    METHODS[1]: "step -h",
    METHODS[2]: "central",
    "complex step": "complex",
    "forward mode": "forward",
    "reverse mode": "reverse",
}
_SHOWN = 4  # numbers of an array that a table shows


@dataclass(frozen=True)
class Table:
    """A table.

    Parameters
    ----------
    key : str
        Names it for programs.
    title : str
        What it shows.
    note : str
        How to read it.
    columns : tuple of cells
        Heads.
    rows : tuple of tuples of cells
        Strings, expressions, or both one after another.
    right : tuple of int
        Columns aligned to the right.
    """

    key: str
    title: str
    note: str
    columns: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: tuple[int, ...] = ()


def derivative(of: str, by: str) -> Expression:
    """Write a derivative such as ``∂f1/∂w1``."""
    return Call("divide", (Name(PARTIAL + of), Name(PARTIAL + by)))


def format_value(value: Any, digits: int) -> str:
    """Write a number, or an array shortened to its first numbers and its shape."""
    if np.ndim(value) == 0:
        return format_number(float(value), digits)
    flat = np.ravel(value)
    digits = min(digits, 4)
    shown = ", ".join(format_number(float(each), digits) for each in flat[:_SHOWN])
    more = ", …" if flat.size > _SHOWN else ""
    shape = "x".join(map(str, np.shape(value)))
    return f"[{shown}{more}] ({shape})"


def number(value: Any, digits: int) -> Expression:
    """Put a number into an expression."""
    return Number(float(value), format_number(float(value), digits))


def numbers_of(node: Node, graph: Graph, digits: int) -> Expression | None:
    """Return the operation of a node with numbers put in; None for inputs and arrays."""
    if node.expression is None or not isinstance(node.expression, Call):
        return None
    given: list[Expression] = []
    for operand in node.operands:
        if operand.node is None:
            if operand.constant is None:
                return None
            given.append(operand.constant)
        elif np.ndim(operand.value):
            return None
        else:
            given.append(number(graph.nodes[operand.node].value, digits))
    return Call(node.operation, tuple(given))


def _known(expression: Expression | None, value: float) -> bool:
    """Whether an expression is just this number."""
    if isinstance(expression, Call) and expression.operation == "negative":
        return _known(expression.arguments[0], -value)
    return isinstance(expression, Number) and expression.value == value


def tangent_rule(
    edges: Sequence[Edge],
    local: Callable[[Edge], Expression | None],
    tangent: Callable[[Edge], Expression],
) -> Cell:
    """Write how a tangent follows from those of the operands.

    Parameters
    ----------
    edges : sequence of Edge
        Those through which something comes in.
    local : callable
        Writes a local derivative, in names or in numbers.
    tangent : callable
        Writes the tangent of the operand.

    Returns
    -------
    Cell
        A sum of products, without factors 1 and terms 0.
    """
    if any(edge.template is None for edge in edges):
        return " + ".join(edge.rule[0] for edge in edges)
    total: Expression | None = None
    for edge in edges:
        factor = local(edge)
        if factor is None or _known(factor, 0):
            continue
        negative = _known(factor, -1)
        term = tangent(edge)
        if not (negative or _known(factor, 1)):
            term = Call("multiply", (factor, term))
        if total is None:
            total = Call("negative", (term,)) if negative else term
        else:
            total = Call("subtract" if negative else "add", (total, term))
    return Number(0, "0") if total is None else total


def pass_product(carried: Any, edge: Edge, digits: int) -> Cell:
    """Write an adjoint times a local derivative, in numbers."""
    if edge.value is None or np.ndim(carried):
        return edge.rule[1]
    return Call("multiply", (number(carried, digits), number(edge.value, digits)))


def all_tables(explanation: Explanation) -> list[Table]:
    """Return the tables of an explanation in the order in which they are read.

    Parameters
    ----------
    explanation : Explanation
        What to show.

    Returns
    -------
    list of Table
        Values, local derivatives, shifted points, quotients, forward mode, reverse mode (one
        for each output), comparison.
    """
    return [
        _values(explanation),
        _locals(explanation),
        _shifted(explanation),
        *_quotients(explanation),
        _forward(explanation),
        *(_reverse(explanation, sweep) for sweep in explanation.reverse),
        _comparison(explanation),
    ]


def _values(explanation: Explanation) -> Table:
    graph, digits = explanation.graph, explanation.digits
    rows: list[tuple[Cell, ...]] = []
    for node in graph.nodes:
        put_in = numbers_of(node, graph, digits)
        rows.append(
            (
                Name(node.name),
                node.expression if node.expression is not None else node.text or "input",
                put_in if put_in is not None else "",
                format_value(node.value, digits),
            )
        )
    if not any(row[2] for row in rows):
        return Table(
            "values", "Forward values", "", ("value", "operation", "is"),
            tuple((row[0], row[1], row[3]) for row in rows),
        )  # fmt: skip
    columns = ("value", "operation", "with numbers", "is")
    note = "Each operation once, in the order of computation."
    return Table("values", "Forward values", note, columns, tuple(rows), (3,))


def _locals(explanation: Explanation) -> Table:
    graph, digits = explanation.graph, explanation.digits
    rows: list[tuple[Cell, ...]] = []
    for node in graph.nodes:
        for edge in node.edges:
            head = derivative(node.name, graph.nodes[edge.parent].name)
            formula = graph.formula(edge)
            if formula is None:
                rows.append((head, edge.rule[0], edge.rule[1], ""))
                continue
            because = f"as {node.note.partition(':')[0]}" if node.note else ""
            put_in: Cell = because or graph.numbers(edge, digits) or ""
            rows.append((head, formula, put_in, format_value(edge.value, digits)))
    if graph.scalar:
        columns = ("derivative", "formula", "with numbers", "is")
        note = "Of each operation by each of its operands."
    else:
        columns = ("derivative", "tangent, or formula", "adjoint, or numbers", "is")
        note = (
            "Of arrays: how a tangent ∂ goes through the operation, and how the adjoint g of its "
            "result goes back."
        )
    return Table("local", "Local derivatives", note, columns, tuple(rows), (3,))


def _shifted(explanation: Explanation) -> Table:
    graph, digits = explanation.graph, explanation.digits
    shown = list(explanation.above)
    if len(shown) <= 2:
        shown += explanation.below
    columns: list[Cell] = ["value", "at the point", *(each.label for each in shown)]
    rows: list[tuple[Cell, ...]] = []
    for node in graph.nodes:
        cells = [
            "undefined" if each.values is None else format_value(each.values[node.index], digits)
            for each in shown
        ]
        rows.append((Name(node.name), format_value(node.value, digits), *cells))
    return Table(
        "shifted",
        "Numerical differentiation: values at shifted points",
        f"h = {format_number(explanation.step, 6)}.",
        tuple(columns),
        tuple(rows),
        tuple(range(1, len(columns))),
    )


def _quotients(explanation: Explanation) -> list[Table]:
    digits = explanation.digits
    heads = (METHODS[0], METHODS[1], METHODS[2])
    matrices = [explanation.method(name).jacobian for name in heads]
    rows: list[tuple[Cell, ...]] = []
    for row, output in enumerate(explanation.output_names):
        for column, name in enumerate(explanation.input_names):
            found = [
                "undefined" if m is None or np.isnan(m[row, column]) else format_number(
                    float(m[row, column]), digits
                )
                for m in matrices
            ]  # fmt: skip
            rows.append((derivative(output, name), *found))
    columns: tuple[Cell, ...] = ("derivative", "(f(x+h) - f(x))/h", "(f(x) - f(x-h))/h",
                                 "(f(x+h) - f(x-h))/2h")  # fmt: skip
    title = "Numerical differentiation: one-sided and central quotients"
    note = f"h = {format_number(explanation.step, 6)}."
    return [Table("numeric", title, note, columns, tuple(rows), (1, 2, 3))]


def _forward(explanation: Explanation) -> Table:
    graph, digits = explanation.graph, explanation.digits
    heads = [derivative("v", sweep.seed) for sweep in explanation.forward]
    rows: list[tuple[Cell, ...]] = []
    for node in graph.nodes:
        rule: Cell = "seed"
        if node.kind != "input":
            rule = tangent_rule(
                node.edges, graph.formula, lambda e: Name(PARTIAL + graph.nodes[e.parent].name)
            )
        cells = [format_value(s.tangents[node.index], digits) for s in explanation.forward]
        rows.append((Name(node.name), rule, *cells))
    return Table(
        "forward",
        "Forward mode: one sweep an input",
        "Down each column: how fast every value v changes with one input.",
        ("v", Name("∂v"), *heads),
        tuple(rows),
        tuple(range(2, 2 + len(heads))),
    )


def _reverse(explanation: Explanation, sweep: ReverseSweep) -> Table:
    graph, digits = explanation.graph, explanation.digits
    output = sweep.output
    rows: list[tuple[Cell, ...]] = [
        ((Name(output),), "seed", "1", (derivative(output, output), "= 1"))
    ]
    for each in sweep.passes:
        child, parent = graph.nodes[each.edge.child].name, graph.nodes[each.edge.parent].name
        before = ""
        if each.before is not None and np.ndim(each.before) == 0:
            earlier, adds = number(each.before, digits), number(each.adds, digits)
            before = f"= {to_text(Call('add', (earlier, adds)))} "
        total: tuple[str | Expression, ...] = (
            derivative(output, parent),
            f"{before}= {format_value(each.total, digits)}",
        )
        rows.append(
            (
                (Name(child), "→", Name(parent)),
                pass_product(each.carried, each.edge, digits),
                format_value(each.adds, digits),
                total,
            )
        )
    return Table(
        f"reverse {output}",
        f"Reverse mode: the sweep for {output}",
        f"From {output} back: each value hands its adjoint, the derivative of {output} by it, "
        "times the local derivative to each operand, where the sum grows.",
        ("from → to", "adjoint * local", "adds", "sum so far"),
        tuple(rows),
        (2,),
    )


def _comparison(explanation: Explanation) -> Table:
    digits = explanation.digits
    methods = explanation.methods
    rows: list[tuple[Cell, ...]] = []
    for row, output in enumerate(explanation.output_names):
        for column, name in enumerate(explanation.input_names):
            cells = [
                "-" if m.jacobian is None or np.isnan(m.jacobian[row, column])
                else format_number(float(m.jacobian[row, column]), digits)
                for m in methods
            ]  # fmt: skip
            rows.append((derivative(output, name), *cells))
    counts = (
        ("evaluations of f", "evaluations"),
        ("local derivatives", "derivatives"),
        ("multiplications", "multiplications"),
        ("additions", "additions"),
    )
    errors = ["-" if m.error is None else format_number(m.error, 2) for m in methods]
    rows.append(("largest error", *errors))
    for label, key in counts:
        rows.append((label, *(str(getattr(m.counts, key)) for m in methods)))
    note = (
        f"h = {format_number(explanation.step, 6)}; the complex step is 1e-20. Errors are "
        "differences from reverse mode; forward mode and complex step are computed without it. "
        f"An evaluation of f carries out {_operations(explanation.graph)}; quotients count as "
        "multiplications, differences as additions."
    )
    heads: Sequence[Cell] = ["", *(SHORT[m.name] for m in methods)]
    right = tuple(range(1, len(heads)))
    return Table("comparison", "All Jacobians", note, tuple(heads), tuple(rows), right)


def _operations(graph: Graph) -> str:
    count = sum(node.kind != "input" and node.operation != "identity" for node in graph.nodes)
    return "1 operation" if count == 1 else f"{count} operations"
