"""The computation graph: each operation once, with its value and its local derivatives."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.errors import ConfigError, InputError, nearest
from chainrule.explain.grammar import (
    Call,
    Expression,
    Name,
    Number,
    Source,
    names_in,
    parse,
)
from chainrule.explain.notation import format_number, substitute, to_text
from chainrule.explain.operations import (
    FUNCTIONS,
    KINKS,
    OPERATIONS,
    choose_formulas,
)

__all__ = [
    "Edge",
    "Graph",
    "Node",
    "Operand",
    "apply",
    "evaluate",
    "graph_of_expressions",
    "read_value",
]

MOST_NODES = 300
_OUTPUT = re.compile(r"f\d*")


@dataclass(frozen=True)
class Operand:
    """What an operation is given: a node, or a constant.

    Parameters
    ----------
    node : int or None
        Index of the node; None for a constant.
    constant : Expression or None
        How the constant is written.
    value : float or ndarray
        Its value.
    """

    node: int | None
    constant: Expression | None
    value: Any


@dataclass(frozen=True)
class Edge:
    """From an operand to the result of an operation.

    Parameters
    ----------
    parent : int
        Index of the node that is the operand.
    child : int
        Index of the node that is the result.
    template : Expression or None
        The local derivative, in ``a``, ``b`` and ``y``; None where it is no number.
    value : float or None
        The local derivative.
    forward : callable
        Multiplies a tangent of the operand by the local derivative.
    backward : callable
        Multiplies an adjoint of the result by the (transposed) local derivative.
    rule : tuple of str
        How the two are written where the derivative is no number.
    """

    parent: int
    child: int
    template: Expression | None
    value: float | None
    forward: Callable[[Any], Any]
    backward: Callable[[Any], Any]
    rule: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Node:
    """One value of the computation.

    Parameters
    ----------
    index : int
        Its place in the order of computation.
    name : str
        ``w1``, ``i3``, ``f2``.
    kind : str
        ``"input"``, ``"intermediate"`` or ``"output"``.
    operation : str
        A key of `OPERATIONS`, or the name of a rule of `chainrule.autodiff`; empty for inputs.
    operands : tuple of Operand
        What the operation is given.
    value : float or ndarray
        Its value.
    edges : tuple of Edge
        From those operands that are nodes, in order.
    expression : Expression or None
        The operation on the names of the operands.
    note : str, default ""
        Which branch was taken, and where there is a kink, what is taken for the derivative.
    kink : bool, default False
        Whether the operation has no derivative here.
    text : str, default ""
        The operation in the names of nodes, as text; empty for inputs.
    """

    index: int
    name: str
    kind: str
    operation: str
    operands: tuple[Operand, ...]
    value: Any
    edges: tuple[Edge, ...]
    expression: Expression | None
    note: str = ""
    kink: bool = False
    text: str = ""


@dataclass(frozen=True)
class Graph:
    """A computation, in order.

    Parameters
    ----------
    nodes : tuple of Node
        In the order of computation, inputs first.
    inputs, outputs : tuple of int
        Indices of nodes.
    run : callable
        Computes the values of all nodes for a vector of inputs, float64 or complex128; raises
        `InputError` where an operation has no result.
    analytic : str, default ""
        Which operation has no complex derivative, if any.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    run: Callable[[np.ndarray], list[Any]] = field(repr=False)
    analytic: str = ""

    @property
    def scalar(self) -> bool:
        """Whether every value is a number."""
        return all(np.ndim(node.value) == 0 for node in self.nodes)

    def point(self) -> np.ndarray:
        """Return the inputs as one vector."""
        return np.concatenate([np.ravel(self.nodes[i].value) for i in self.inputs]).astype(float)

    def flat_outputs(self, values: Sequence[Any]) -> np.ndarray:
        """Return the outputs among the values of all nodes as one vector."""
        return np.concatenate([np.ravel(values[i]) for i in self.outputs])

    def elements(self, which: Sequence[int]) -> list[tuple[int, tuple[int, ...], str]]:
        """List the elements of nodes: the node, the place in its array, and a name."""
        found = []
        for index in which:
            node = self.nodes[index]
            for place in np.ndindex(np.shape(node.value)):
                label = f"[{', '.join(map(str, place))}]" if place else ""
                found.append((index, place, node.name + label))
        return found

    def formula(self, edge: Edge) -> Expression | None:
        """Return the local derivative in the names of nodes."""
        return self._filled(edge, lambda node: Name(node.name))

    def numbers(self, edge: Edge, digits: int) -> Expression | None:
        """Return the local derivative with numbers put in."""
        return self._filled(
            edge, lambda node: Number(node.value, format_number(node.value, digits))
        )

    def _filled(self, edge: Edge, write: Callable[[Node], Expression]) -> Expression | None:
        if edge.template is None:
            return None
        child = self.nodes[edge.child]
        values = {"y": write(child)}
        for letter, operand in zip("ab", child.operands, strict=False):
            if operand.node is not None:
                values[letter] = write(self.nodes[operand.node])
            elif operand.constant is not None:
                values[letter] = operand.constant
        return substitute(edge.template, values)

    def dependents(self, index: int) -> set[int]:
        """Return the nodes that a node has an influence on, itself included."""
        found = {index}
        for node in self.nodes:
            if any(edge.parent in found for edge in node.edges):
                found.add(node.index)
        return found

    def ancestors(self, index: int) -> set[int]:
        """Return the nodes that have an influence on a node, itself included."""
        found = {index}
        for node in reversed(self.nodes):
            if node.index in found:
                found |= {edge.parent for edge in node.edges}
        return found


class _Undefined(ArithmeticError):
    """An operation has no result for these operands."""


def apply(operation: str, operands: Sequence[Any], exact: bool = True) -> Any:
    """Apply an operation to numbers; say in words why it has no result where it has none."""
    row = OPERATIONS[operation]
    if exact and (needed := row.needs(*operands)):
        raise _Undefined(f"{operation} needs {needed}")
    with np.errstate(all="ignore"):
        value = np.asarray(row.value(*operands))[()]
    if not np.all(np.isfinite(value)):
        raise _Undefined("the result is too large for a float64 (above 1.8e308)")
    return value


def evaluate(expression: Expression, values: Mapping[str, Any]) -> Any:
    """Evaluate an expression for numbers by name."""
    if isinstance(expression, Number):
        return np.float64(expression.value)
    if isinstance(expression, Name):
        return values[expression.name]
    operands = [evaluate(each, values) for each in expression.arguments]
    return np.float64(apply(expression.operation, operands))


def read_value(name: str, text: str) -> float:
    """Read the value of a setting: a number, or an expression of numbers such as ``pi/2``.

    Parameters
    ----------
    name : str
        Of the variable, for messages.
    text : str
        What stands after ``=``.

    Returns
    -------
    float
        The value, finite.

    Raises
    ------
    ConfigError
        If it is no number.

    Examples
    --------
    >>> read_value("x", "-1e-3"), read_value("x", "1/4")
    (-0.001, 0.25)
    """
    message = f"explain: {name} must be a number; got {text!r}."
    try:
        (statement,) = parse(text)
        if statement.name or any(names_in(statement.expression)):
            raise ConfigError(message)
        return float(evaluate(statement.expression, {}))
    except (ConfigError, ValueError, ArithmeticError) as error:
        raise ConfigError(message) from error


@dataclass(frozen=True)
class _Step:
    """One operation before it has a name and a value."""

    operation: str
    operands: tuple[int | Expression, ...]
    span: tuple[int, int]
    words: tuple[str, ...]  # the operands as they were written


class _Builder:
    """Puts expressions into one list of operations, each of them once."""

    def __init__(self, source: Source, settings: Mapping[str, float]) -> None:
        self.source = source
        self.steps: list[_Step | str] = list(settings)  # a name alone is an input
        self.known: dict[str, int | Expression] = {
            name: index for index, name in enumerate(settings)
        }
        self.inputs = list(settings)
        self.used: set[str] = set()
        self.seen: dict[Any, int] = {}

    def add(self, expression: Expression) -> int | Expression:
        """Return the index of the node of an expression, or a constant expression."""
        if isinstance(expression, Number):
            return expression
        if isinstance(expression, Name):
            if expression.name not in self.known:
                self._unknown(expression)
            self.used.add(expression.name)
            return self.known[expression.name]
        operands = tuple(self.add(each) for each in expression.arguments)
        constants = tuple(each for each in operands if not isinstance(each, int))
        if len(constants) == len(operands):
            return Call(expression.operation, constants, expression.span)
        words = tuple(self.source.text[slice(*each.span)] for each in expression.arguments)
        return self.step(expression.operation, operands, expression.span, words)

    def step(
        self,
        operation: str,
        operands: tuple[int | Expression, ...],
        span: tuple[int, int],
        words: tuple[str, ...],
    ) -> int:
        keys = [each if isinstance(each, int) else to_text(each) for each in operands]
        if operation in ("add", "multiply", "maximum", "minimum"):
            keys.sort(key=lambda key: (isinstance(key, str), key))  # x*y and y*x are one node
        key = (operation, *keys)
        if key not in self.seen:
            self.steps.append(_Step(operation, operands, span, words))
            self.seen[key] = len(self.steps) - 1
            if len(self.steps) > MOST_NODES:
                raise ConfigError(f"explain: there are more than {MOST_NODES} operations.")
        return self.seen[key]

    def own(self, value: int | Expression, span: tuple[int, int]) -> int:
        """Make a node of its own for an output that is an input, a constant or another output."""
        self.steps.append(_Step("identity", (value,), span, ("",)))
        return len(self.steps) - 1

    def _unknown(self, name: Name) -> None:
        where = self.source.place(name.span[0], name.span[0])
        known = [*self.known, *FUNCTIONS]
        hint = nearest(name.name, known)
        if not hint.startswith("Did"):
            hint = ""
        message = (
            f"explain: {where}: {name.name!r} has no value. Give it one: {name.name}=1. {hint}"
        )
        raise ConfigError(message.rstrip())


def graph_of_expressions(text: str, settings: Mapping[str, float]) -> Graph:
    """Build the computation graph of expressions at a point.

    Parameters
    ----------
    text : str
        See `chainrule.explain.grammar.parse`.
    settings : mapping of str to float
        The value of each variable.

    Returns
    -------
    Graph
        All of its values are numbers.

    Raises
    ------
    ConfigError
        If the text is not of the grammar, or a variable has no value or no use.
    InputError
        If an operation has no result or no derivative at this point.

    Examples
    --------
    >>> graph = graph_of_expressions("f = (x + y)*(y + 1)", {"x": 2.0, "y": 3.0})
    >>> [(node.name, float(node.value)) for node in graph.nodes]
    [('x', 2.0), ('y', 3.0), ('i1', 5.0), ('i2', 4.0), ('f', 20.0)]
    """
    settings = _checked(settings)
    source = Source(text)
    builder = _Builder(source, settings)
    statements = parse(text, frozenset(settings))
    named = [s.name for s in statements]
    unnamed = [i for i, name in enumerate(named) if not name]
    taken = {*named, *settings}
    for count, position in enumerate(unnamed, 1):
        single = len(statements) == 1 and "f" not in taken
        named[position] = "f" if single else _free("f", count, taken)
        taken.add(named[position])
    results: dict[str, int | Expression] = {}
    spans = {}
    for name, statement in zip(named, statements, strict=True):
        if name in builder.known:
            what = "is a variable" if name in settings else "is assigned twice"
            raise ConfigError(f"explain: {source.place(*statement.span)}: {name!r} {what}.")
        results[name] = builder.known[name] = builder.add(statement.expression)
        spans[name] = statement.span
    if idle := [name for name in settings if name not in builder.used]:
        raise ConfigError(
            f"explain: {idle[0]} is given a value, but no expression uses it. "
            f"{nearest(idle[0], [n for n in settings if n in builder.used] or settings)}"
        )
    outputs: dict[str, int] = {}
    names: dict[int, str] = dict(enumerate(settings))
    for name, result in results.items():
        if name in builder.used and not _OUTPUT.fullmatch(name):
            if isinstance(result, int):
                names.setdefault(result, name)
            continue
        if not isinstance(result, int) or result < len(settings) or result in outputs.values():
            result = builder.own(result, spans[name])
        outputs[name] = result
        names[result] = name
    return _valued(builder, settings, names, outputs)


def _checked(settings: Mapping[str, float]) -> dict[str, float]:
    """Check the values of variables, and write their names as the parser will."""
    if not settings:
        raise ConfigError("explain: no variable has a value. Give each one, such as: w1=1 w2=-1.")
    found = {}
    for given, value in settings.items():
        name = unicodedata.normalize("NFKC", given)
        if not name.isidentifier():
            raise ConfigError(f"explain: {given!r} cannot be the name of a variable.")
        if name in FUNCTIONS:
            raise ConfigError(f"explain: {name!r} is a function and cannot be a variable.")
        if not math.isfinite(value):
            raise ConfigError(f"explain: {name} must be a finite number; got {value}.")
        found[name] = float(value)
    return found


def _free(stem: str, count: int, taken: set[str]) -> str:
    while f"{stem}{count}" in taken:
        count += 1
    return f"{stem}{count}"


def _valued(
    builder: _Builder, settings: Mapping[str, float], names: dict[int, str], outputs: dict[str, int]
) -> Graph:
    """Give each operation a name, a value and the local derivatives."""
    source, count = builder.source, 0
    taken = {*names.values()}
    nodes: list[Node] = []
    for index, step in enumerate(builder.steps):
        if isinstance(step, str):
            value = np.float64(settings[step])
            nodes.append(Node(index, step, "input", "", (), value, (), None))
            continue
        if index not in names:
            count += 1
            while f"i{count}" in taken:
                count += 1
            names[index] = f"i{count}"
        operands = tuple(_operand(each, nodes, source) for each in step.operands)
        kind = "output" if index in outputs.values() else "intermediate"
        nodes.append(_node(index, names[index], kind, step, operands, nodes, source))

    def run(point: np.ndarray) -> list[Any]:
        values: list[Any] = list(point)
        for node, step in zip(nodes, builder.steps, strict=True):
            if isinstance(step, str):
                continue
            given = [
                each.value if each.node is None else values[each.node] for each in node.operands
            ]
            try:
                values.append(apply(node.operation, given, not np.iscomplexobj(point)))
            except _Undefined as error:
                raise InputError(_undefined(str(error), step, given, source)) from None
        return values

    return Graph(tuple(nodes), tuple(range(len(settings))), tuple(outputs.values()), run)


def _operand(each: int | Expression, nodes: Sequence[Node], source: Source) -> Operand:
    if isinstance(each, int):
        return Operand(each, None, nodes[each].value)
    return Operand(None, each, _constant(each, source))


def _expression(operand: Operand, nodes: Sequence[Node]) -> Expression:
    if operand.node is not None:
        return Name(nodes[operand.node].name)
    assert operand.constant is not None
    return operand.constant


def _constant(expression: Expression, source: Source) -> float:
    """Evaluate a constant part of an expression, such as ``2/3``."""
    if isinstance(expression, Number):
        return np.float64(expression.value)
    assert isinstance(expression, Call)
    operands = [_constant(each, source) for each in expression.arguments]
    try:
        return np.float64(apply(expression.operation, operands))
    except _Undefined as error:
        raise InputError(f"explain: {source.place(*expression.span)}: {error}.") from None


def _node(
    index: int,
    name: str,
    kind: str,
    step: _Step,
    operands: tuple[Operand, ...],
    nodes: Sequence[Node],
    source: Source,
) -> Node:
    given = [operand.value for operand in operands]
    try:
        value = np.float64(apply(step.operation, given))
    except _Undefined as error:
        raise InputError(_undefined(str(error), step, given, source)) from None
    written = tuple(_expression(each, nodes) for each in operands)
    branch = choose_formulas(step.operation, given, [operand.node is None for operand in operands])
    letters = dict(zip("ab", given, strict=False)) | {"y": value}
    edges = []
    for operand, formula in zip(operands, branch.formulas, strict=True):
        if operand.node is None:
            continue
        template = parse(formula)[0].expression
        try:
            derivative = evaluate(template, letters)
        except ArithmeticError:
            raise InputError(
                f"explain: {source.place(*step.span)}: there is no derivative at "
                f"{_values(step, given)}."
            ) from None
        times = _times(derivative)
        edges.append(Edge(operand.node, index, template, derivative, times, times))
    note = _named(branch.because, written)
    if branch.kink:
        note = f"{note}: a kink; {KINKS[step.operation]}"
    expression = Call(step.operation, written)
    return Node(
        index, name, kind, step.operation, operands, value, tuple(edges), expression, note,
        branch.kink, to_text(expression),
    )  # fmt: skip


def _times(derivative: float) -> Callable[[Any], Any]:
    def multiply(value: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            return value * derivative

    return multiply


def _named(because: str, written: Sequence[Expression]) -> str:
    """Put the operands into ``a > b``."""
    letters = dict(zip("ab", map(to_text, written), strict=False))
    return " ".join(letters.get(word, word) for word in because.split())


def _values(step: _Step, given: Sequence[Any]) -> str:
    """What the operands that are no constants were: ``1000*w1 = 1000``."""
    shown = [
        f"{' '.join(word.split())} = {format_number(float(np.real(value)), 6)}"
        for operand, word, value in zip(step.operands, step.words, given, strict=True)
        if isinstance(operand, int)
    ]
    return " and ".join(dict.fromkeys(shown))


def _undefined(message: str, step: _Step, given: Sequence[Any], source: Source) -> str:
    return f"explain: {source.place(*step.span)}: {message}; got {_values(step, given)}."
