"""The graph of a Python function, as chainrule's automatic differentiation traces it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.autodiff import Node as Traced
from chainrule.autodiff import trace
from chainrule.errors import DTypeError, InputError
from chainrule.errors import explain as word
from chainrule.explain.grammar import Call, Expression, Name, Number, parse
from chainrule.explain.graph import MOST_NODES, Edge, Graph, Node, Operand, evaluate
from chainrule.explain.notation import to_text
from chainrule.explain.operations import KINKS, OPERATIONS, choose_formulas

__all__ = ["graph_of_function"]

_KINKS = KINKS | {
    "max": "at a tie, all winners get the same part of the derivative of max",
    "min": "at a tie, all winners get the same part of the derivative of min",
}
_LARGEST = 1000  # elements of an input; the number of inputs in all is limited elsewhere
_OWN_NAMES = {"abs": "absolute", "positive": "identity"}

# Rules that are linear in each operand: their tangent goes the way of their value.
_LINEAR = {
    *("sum", "mean", "cumsum", "reshape", "transpose", "broadcast_to", "getitem", "scatter"),
    *("concatenate", "stack", "pad", "flip", "roll", "tile", "repeat", "diagonal", "where"),
    *("take_along_axis", "matmul", "einsum"),
}
# What can be computed with complex numbers, besides the operations of the grammar.
_ANALYTIC = _LINEAR | {"prod", "cumprod", "solve", "inv", "det", "reciprocal", "exp2"}

# How a tangent goes through an operation on arrays, for each operand, and an adjoint g back.
_ARRAY_RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "add": (("∂{a}", "g"), ("∂{b}", "g")),
    "subtract": (("∂{a}", "g"), ("-∂{b}", "-g")),
    "negative": (("-∂{a}", "-g"),),
    "multiply": (("{b}*∂{a}", "{b}*g"), ("{a}*∂{b}", "{a}*g")),
    "divide": (("∂{a}/{b}", "g/{b}"), ("-{y}/{b}*∂{b}", "-{y}/{b}*g")),
    "power": (
        ("{b}*{a}**({b} - 1)*∂{a}", "{b}*{a}**({b} - 1)*g"),
        ("{y}*log({a})*∂{b}", "{y}*log({a})*g"),
    ),
    "matmul": (("∂{a} @ {b}", "g @ {b}.T"), ("{a} @ ∂{b}", "{a}.T @ g")),
    "maximum": (("∂{a} where {a} > {b}", "g where {a} > {b}"), ("∂{b} elsewhere", "g elsewhere")),
    "minimum": (("∂{a} where {a} < {b}", "g where {a} < {b}"), ("∂{b} elsewhere", "g elsewhere")),
    "absolute": (("sign({a})*∂{a}", "sign({a})*g"),),
    "relu": (("∂{a} where {a} > 0", "g where {a} > 0"),),
}


def graph_of_function(f: Callable[..., Any], args: Sequence[Any]) -> Graph:
    """Build the computation graph of a function at a point.

    Parameters
    ----------
    f : callable
        Written with NumPy; returns a number or an array, or a tuple, list or dict of them.
    args : sequence of numbers and array_like
        Where.

    Returns
    -------
    Graph
        The inputs have the names of the parameters.

    Raises
    ------
    DTypeError
        If f cannot be called, or an argument is no real number or array.
    InputError
        If an argument is too large, or a value is not finite.

    Examples
    --------
    >>> graph = graph_of_function(lambda x, y: x * y + x * y, [2.0, 3.0])
    >>> [(node.name, node.text) for node in graph.nodes]
    [('x', ''), ('y', ''), ('i1', 'x*y'), ('f', 'i1 + i1')]
    """
    if not callable(f):
        raise DTypeError(word("explain", "f", "be a text or a function", type(f).__name__))
    names = _parameters(f, len(args))
    point = [_as_real(name, value) for name, value in zip(names, args, strict=True)]
    return _Reader(f, names, point).graph()


def _parameters(f: Callable[..., Any], count: int) -> list[str]:
    """The names of the first parameters; x1, x2, ... where they have none."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [each.name for each in parameters if each.kind in kinds][:count]
    rest = count - len(names)
    if rest and not names:
        return ["x"] if rest == 1 else [f"x{i}" for i in range(1, rest + 1)]
    return names + [f"x{i}" for i in range(len(names) + 1, count + 1)]


def _as_real(name: str, value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise DTypeError(word("explain", name, "be a real number or array", repr(value)))
    if array.size > _LARGEST:
        raise InputError(word("explain", name, f"have at most {_LARGEST} elements", array.size))
    if not np.all(np.isfinite(array)):
        raise InputError(word("explain", name, "be finite", repr(value)))
    return array.astype(np.float64)[()]


class _Reader:
    """Turns a trace into a graph, operations that were carried out twice into one node."""

    def __init__(self, f: Callable[..., Any], names: list[str], point: list[Any]) -> None:
        self.f, self.names, self.point = f, names, point
        self.traced: list[Traced] = []  # of each node of the graph
        self.nodes: list[Node] = []
        self.same: dict[int, int] = {}  # index in the trace -> that of the first one like it
        self.place: dict[int, int] = {}  # that -> index in the graph

    def graph(self) -> Graph:
        found = self._trace(self.point)
        same = self.same = self._merged(found.nodes, self._needed(found.nodes, found.outputs))
        if len(set(same.values())) > MOST_NODES:
            raise InputError(
                f"explain: the function carries out {len(set(same.values())):,} operations; at "
                f"most {MOST_NODES} are shown. Operations on whole arrays count once."
            )
        inputs = {node.index for node in found.inputs}
        labels: dict[int, str] = {}  # of nodes that are results, by index in the trace
        results: list[tuple[str, Traced]] = []
        for i, traced in enumerate(found.outputs, 1):
            label = self._free("f" if len(found.outputs) == 1 else f"f{i}")
            results.append((label, traced))
            if same[traced.index] not in inputs:
                labels.setdefault(same[traced.index], label)
        for traced, name in zip(found.inputs, self.names, strict=True):
            value = _real(traced.value)
            self._append(traced, Node(len(self.nodes), name, "input", "", (), value, (), None))
        count = 0
        for traced in found.nodes:
            if traced.index in inputs or same.get(traced.index) != traced.index:
                continue
            kind = "output" if traced.index in labels else "intermediate"
            if kind == "intermediate":
                count += 1
            name = labels.get(traced.index) or self._free(f"i{count}")
            build = self._constant if traced.rule is None else self._operation
            self._append(traced, build(traced, name, kind))
        outputs: list[int] = []
        for label, traced in results:
            index = self.place[same[traced.index]]
            copied = self.nodes[index].kind == "input" or index in outputs
            outputs.append(self._copy(traced, label) if copied else index)
        others = {node.operation for node in self.nodes} - {"", "constant"}
        foreign = sorted(others - set(OPERATIONS) - _ANALYTIC)
        return Graph(
            tuple(self.nodes),
            tuple(range(len(self.names))),
            tuple(outputs),
            self._runner(_way(found.nodes)),
            foreign[0] if foreign else "",
        )

    def _trace(self, point: Sequence[Any]) -> Any:
        with np.errstate(all="ignore"):
            return trace(self.f, *point)

    def _kind(self, node: Traced) -> str:
        return "" if node.rule is None else node.rule.name

    def _needed(self, nodes: Sequence[Traced], outputs: Sequence[Traced]) -> set[int]:
        """What the outputs depend on; the rest was computed in vain."""
        found = {node.index for node in outputs}
        for node in reversed(nodes):
            if node.index in found:
                found |= {parent.index for parent in node.parents if parent is not None}
        return found

    def _merged(self, nodes: Sequence[Traced], needed: set[int]) -> dict[int, int]:
        """For each node that is needed, or an input, the first one that is the same."""
        same: dict[int, int] = {}
        seen: dict[Any, int] = {}
        for node in nodes:
            if node.rule is None:
                same[node.index] = node.index
            elif node.index in needed:
                key = self._key(node, same)
                same[node.index] = node.index if key is None else seen.setdefault(key, node.index)
        return same

    def _free(self, name: str) -> str:
        return name + "_" if name in self.names else name

    def _append(self, traced: Traced, node: Node) -> None:
        self.place[traced.index] = node.index
        self.traced.append(traced)
        self.nodes.append(node)

    def _key(self, traced: Traced, same: Mapping[int, int]) -> Any:
        """Equal for operations that are the same; None where that cannot be told."""
        parts = [
            ("node", same[parent.index]) if parent is not None else _frozen(argument)
            for parent, argument in zip(traced.parents, traced.args, strict=False)
        ]
        parts += [_frozen(value) for _, value in sorted(traced.kwargs.items())]
        return None if None in parts else (self._kind(traced), *parts)

    def _constant(self, traced: Traced, name: str, kind: str) -> Node:
        value = _real(traced.value)
        index = len(self.nodes)
        return Node(index, name, kind, "constant", (), value, (), None, text="a constant")

    def _operation(self, traced: Traced, name: str, role: str) -> Node:
        index = len(self.nodes)
        kind = _OWN_NAMES.get(self._kind(traced), self._kind(traced))
        value = _real(traced.value)
        operands = []
        for parent, argument in zip(traced.parents, traced.args, strict=False):
            if parent is not None:
                operands.append(
                    Operand(self.place[self.same[parent.index]], None, _real(parent.value))
                )
            else:
                operands.append(Operand(None, _written(argument), argument))
        if not np.all(np.isfinite(value)):
            words = _text(kind, [_short(o, self.nodes) for o in operands], traced.kwargs)
            raise InputError(
                f"explain: {name} = {words} is not finite at this point; a logarithm, a quotient "
                "or a power may be out of its domain, or the result too large for a float64."
            )
        plain = (
            np.ndim(value) == 0
            and kind in OPERATIONS
            and len(operands) == OPERATIONS[kind].arity
            and all(np.ndim(o.value) == 0 and (o.node is not None or o.constant) for o in operands)
        )
        edges, note, kink = self._edges(traced, index, kind, operands, value, plain)
        expression = None
        if plain:
            expression = Call(kind, tuple(_name(o, self.nodes) for o in operands))
        if expression is not None:
            text = to_text(expression)
        else:
            text = _text(kind, [_short(o, self.nodes) for o in operands], traced.kwargs)
        return Node(
            index, name, role, kind, tuple(operands), value, tuple(edges), expression,
            note, kink, text,
        )  # fmt: skip

    def _edges(
        self,
        traced: Traced,
        index: int,
        kind: str,
        operands: Sequence[Operand],
        value: Any,
        plain: bool,
    ) -> tuple[list[Edge], str, bool]:
        rule = traced.rule
        assert rule is not None
        args, kwargs, out = tuple(traced.args), dict(traced.kwargs), traced.value
        branch = None
        if plain:
            given = [float(operand.value) for operand in operands]
            branch = choose_formulas(kind, given, [operand.node is None for operand in operands])
        written = [_short(operand, self.nodes) for operand in operands] + ["?", "?"]
        edges = []
        for i, operand in enumerate(operands):
            forward, backward = rule.jvp[i], rule.vjp[i]
            if operand.node is None or forward is None or backward is None:
                continue

            def pushed(t: Any, forward: Any = forward) -> Any:
                with np.errstate(all="ignore"):
                    return forward(t, out, *args, **kwargs)

            def pulled(g: Any, backward: Any = backward) -> Any:
                with np.errstate(all="ignore"):
                    return backward(g, out, *args, **kwargs)

            number: Any = None
            template: Expression | None = None
            if np.ndim(value) == 0 and np.ndim(operand.value) == 0:
                number = np.float64(pushed(1.0))
                if not np.isfinite(number):
                    by = self.nodes[operand.node].name
                    raise InputError(
                        f"explain: {kind} has no derivative by {by} at {by} = {operand.value:.6g}."
                    )
                template = Number(float(number), f"{float(number):.6g}")
                if branch is not None:
                    own = parse(branch.formulas[i])[0].expression
                    letters = dict(zip("ab", given, strict=False)) | {"y": float(value)}
                    # Another convention at ties makes the formula wrong: the number is right.
                    if np.isclose(evaluate(own, letters), number, rtol=1e-6, atol=1e-12):
                        template = own
            table = _ARRAY_RULES.get(kind)
            if table is not None and i < len(table):
                a, b = written[:2]
                pushing, pulling = (each.format(a=a, b=b, y="y") for each in table[i])
                texts = (pushing, pulling)
            elif kind in OPERATIONS and OPERATIONS[kind].arity == 1:
                formula = OPERATIONS[kind].derivatives
                local = formula[0] if isinstance(formula, tuple) else "J"
                local = re.sub(r"\ba\b", written[0], local)
                local = f"({local})" if re.search(r"[ /]", local) else local
                texts = (f"{local}*∂{written[0]}", f"{local}*g")
            elif kind in _LINEAR:
                moved = [f"∂{word}" if k == i else word for k, word in enumerate(written)]
                back = {"sum": "g, for each element", "mean": "g/n, for each element"}
                texts = (
                    _text(kind, moved[: len(operands)], kwargs),
                    back.get(kind, f"g, back through {kind}"),
                )
            else:
                texts = (f"J @ ∂{written[i]}", "J.T @ g")
            edges.append(Edge(operand.node, index, template, number, pushed, pulled, texts))
        note, kink = "", False
        if branch is not None and branch.because:
            letters_of = {"a": written[0], "b": written[1]}
            note = " ".join(letters_of.get(each, each) for each in branch.because.split())
            kink = branch.kink
            if kink:
                note = f"{note}: a kink; {_convention(kind, kwargs)}"
        elif kind in _KINKS and not plain and len(operands):
            ties = _count_ties(kind, [operand.value for operand in operands], kwargs)
            if ties:
                places = "1 place" if ties == 1 else f"{ties} places"
                note = f"there is a kink in {places}; {_convention(kind, kwargs)}"
                kink = True
        return edges, note, kink

    def _copy(self, traced: Traced, label: str) -> int:
        """Make a node of its own for a result that is an input, or has another name already."""
        node = self.nodes[self.place[self.same[traced.index]]]
        here = len(self.nodes)

        def unchanged(derivative: Any) -> Any:
            return derivative

        scalar = np.ndim(node.value) == 0
        edge = Edge(
            node.index,
            here,
            Number(1.0, "1") if scalar else None,
            np.float64(1) if scalar else None,
            unchanged,
            unchanged,
            (f"∂{node.name}", "g"),
        )
        operands = (Operand(node.index, None, node.value),)
        expression = Call("identity", (Name(node.name),))
        self.traced.append(traced)
        self.nodes.append(
            Node(here, label, "output", "identity", operands, node.value, (edge,), expression,
                 text=node.name)
        )  # fmt: skip
        return here

    def _runner(self, way: list[Any]) -> Callable[[np.ndarray], list[Any]]:
        nodes, traced_of = tuple(self.nodes), tuple(self.traced)
        inputs = len(self.names)

        def split(point: np.ndarray) -> list[Any]:
            parts, start = [], 0
            for node in nodes[:inputs]:
                size = int(np.size(node.value))
                parts.append(point[start : start + size].reshape(np.shape(node.value))[()])
                start += size
            return parts

        def run(point: np.ndarray) -> list[Any]:
            parts = split(point)
            if np.iscomplexobj(point):
                return _replay(nodes, traced_of, parts)
            again = self._trace(parts)
            if _way(again.nodes) != way:
                raise InputError("explain: the function takes another way at a shifted point.")
            values = [_real(again.nodes[each.index].value) for each in traced_of]
            if not all(np.all(np.isfinite(value)) for value in values):
                raise InputError("explain: a value at a shifted point is not finite.")
            return values

        return run


def _convention(kind: str, options: Mapping[str, Any]) -> str:
    """Which derivative is taken at a kink."""
    if options.get("ties", "split") == "split":
        return _KINKS[kind]
    return f"the {options['ties']} one takes the derivative"


def _count_ties(kind: str, values: Sequence[Any], options: Mapping[str, Any]) -> int:
    """At how many places an operation on arrays has a kink."""
    if kind in ("max", "min"):
        axis = options["axis"]
        winner = getattr(np, kind)(values[0], axis=axis, keepdims=True)
        return int(np.sum(np.sum(values[0] == winner, axis=axis) > 1))
    return int(np.sum(np.equal(values[0], values[1] if len(values) > 1 else 0.0)))


def _replay(nodes: Sequence[Node], traced: Sequence[Traced], parts: list[Any]) -> list[Any]:
    """Carry out the operations again with complex numbers."""
    values: list[Any] = list(parts)
    for node, source in zip(nodes[len(parts) :], traced[len(parts) :], strict=True):
        given = [o.value if o.node is None else values[o.node] for o in node.operands]
        with np.errstate(all="ignore"):
            if node.operation == "constant":
                values.append(node.value)
            elif node.operation in OPERATIONS and len(given) == OPERATIONS[node.operation].arity:
                values.append(OPERATIONS[node.operation].value(*given))
            else:
                assert source.rule is not None
                values.append(source.rule.value(*given, **dict(source.kwargs)))
        if not np.all(np.isfinite(values[-1])):
            raise InputError("explain: a value at a shifted point is not finite.")
    return values


def _way(nodes: Sequence[Traced]) -> list[Any]:
    """The operations that were carried out, and on what."""
    return [
        (
            None if node.rule is None else node.rule.name,
            [None if p is None else p.index for p in node.parents],
        )
        for node in nodes
    ]


def _real(value: Any) -> Any:
    return np.asarray(value, dtype=np.float64)[()]


def _frozen(value: Any) -> Any:
    """What two equal constants have in common; None where that cannot be told."""
    if isinstance(value, np.ndarray | np.generic):
        return (value.dtype.str, np.shape(value), value.tobytes())
    if isinstance(value, tuple | list):
        parts = tuple(map(_frozen, value))
        return None if None in parts else ("sequence", parts)
    if value is None or isinstance(value, int | float | str | bool | slice | type(Ellipsis)):
        return (type(value).__name__, repr(value))
    return None


def _written(argument: Any) -> Expression | None:
    if np.ndim(argument) == 0 and isinstance(argument, int | float | np.generic | np.ndarray):
        return Number(float(argument), f"{float(argument):.6g}")
    return None


def _name(operand: Operand, nodes: Sequence[Node]) -> Expression:
    if operand.node is not None:
        return Name(nodes[operand.node].name)
    assert operand.constant is not None
    return operand.constant


def _short(operand: Operand, nodes: Sequence[Node]) -> str:
    if operand.node is not None:
        return nodes[operand.node].name
    return to_text(operand.constant) if operand.constant is not None else "const"


def _text(kind: str, words: Sequence[str], options: Mapping[str, Any]) -> str:
    """Write an operation on named operands, with what is said of axes and indices."""
    if kind == "matmul":
        return " @ ".join(words)
    if kind == "getitem":
        return f"{words[0]}[{_index(options.get('index'))}]"
    if kind in OPERATIONS and OPERATIONS[kind].symbol and len(words) == OPERATIONS[kind].arity:
        return to_text(Call(kind, tuple(Name(each) for each in words)))
    axis = options.get("axis")
    return f"{kind}({', '.join(words)}{'' if axis is None else f', axis={axis}'})"


def _index(index: Any) -> str:
    """Write what stands between square brackets."""
    if isinstance(index, tuple):
        return ", ".join(map(_index, index))
    if isinstance(index, slice):
        ends = ["" if each is None else str(each) for each in (index.start, index.stop)]
        return ":".join(ends) + ("" if index.step in (None, 1) else f":{index.step}")
    if isinstance(index, np.ndarray):
        return str(index.tolist()) if index.size <= 6 else "..."
    return "..." if index is Ellipsis else str(index)
