"""Derivatives of a graph, by every method, with each number on the way.

Forward mode goes through the graph once for each input and carries along how fast each value
changes with it. Reverse mode goes back through it once for each output and gathers at each value
how fast the output changes with it. Differences and the complex step evaluate the graph only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.errors import InputError
from chainrule.explain.graph import Edge, Graph

__all__ = [
    "COMPLEX_STEP",
    "METHODS",
    "Counts",
    "Curve",
    "ForwardSweep",
    "Method",
    "Pass",
    "ReverseSweep",
    "Shifted",
    "complex_step",
    "difference_counts",
    "differences",
    "error_curve",
    "forward_counts",
    "forward_sweep",
    "reverse_counts",
    "reverse_sweep",
]

COMPLEX_STEP = 1e-20
METHODS = ("forward difference", "backward difference", "central difference")


@dataclass(frozen=True)
class Pass:
    """A derivative on its way along one edge.

    Parameters
    ----------
    edge : Edge
        The way.
    carried : float or ndarray
        In forward mode the tangent of the operand, in reverse mode the adjoint of the result.
    adds : float or ndarray
        What arrives: `carried` times the local derivative.
    total : float or ndarray
        The sum at the other end, this included.
    before : float or ndarray or None
        That sum without this; None if this is the first to arrive.
    """

    edge: Edge
    carried: Any
    adds: Any
    total: Any
    before: Any


@dataclass(frozen=True)
class ForwardSweep:
    """One sweep of forward mode.

    Parameters
    ----------
    seed : str
        The input that changes at rate 1.
    tangents : tuple
        Of each node: its derivative by the seed.
    passes : tuple of tuple of Pass
        Of each node: what came in from its operands, in order; empty where nothing depends on
        the seed.
    """

    seed: str
    tangents: tuple[Any, ...]
    passes: tuple[tuple[Pass, ...], ...]


@dataclass(frozen=True)
class ReverseSweep:
    """One sweep of reverse mode.

    Parameters
    ----------
    output : str
        The output whose derivatives are gathered.
    adjoints : tuple
        Of each node: the derivative of the output by it.
    passes : tuple of Pass
        In the order in which they happen, from the output back to the inputs.
    """

    output: str
    adjoints: tuple[Any, ...]
    passes: tuple[Pass, ...]


@dataclass(frozen=True)
class Counts:
    """What a Jacobian costs.

    Parameters
    ----------
    evaluations : int
        How often all operations of the graph are carried out; complex ones for the complex step.
    derivatives : int
        How many local derivatives are computed.
    multiplications, additions : int
        What else it takes: products of derivatives and their sums, or divisions by the step and
        subtractions. On arrays an operation counts once, whatever the size.
    """

    evaluations: int
    derivatives: int
    multiplications: int
    additions: int


@dataclass(frozen=True)
class Method:
    """A Jacobian and how it was found.

    Parameters
    ----------
    name : str
        Of the method.
    jacobian : ndarray or None, shape (outputs, inputs)
        None where the method cannot be used here.
    counts : Counts
        What it costs.
    error : float or None
        Largest absolute difference from reverse mode.
    why : str, default ""
        Why there is no Jacobian, or no number in a column of it.
    """

    name: str
    jacobian: np.ndarray | None
    counts: Counts
    error: float | None
    why: str = ""


@dataclass(frozen=True)
class Shifted:
    """All values at a point a step away.

    Parameters
    ----------
    label : str
        Such as ``"w1 + h"``.
    values : tuple or None
        Of each node; None where the computation has no result there.
    """

    label: str
    values: tuple[Any, ...] | None


@dataclass(frozen=True)
class Curve:
    """Error of a Jacobian against the step.

    Parameters
    ----------
    name : str
        Of the method.
    steps : tuple of float
        From large to small.
    errors : tuple of float or None
        Largest difference from reverse mode, divided by the largest entry of the Jacobian or
        by 1, whichever is larger.
        None where a value that is needed does not exist.
    """

    name: str
    steps: tuple[float, ...]
    errors: tuple[float | None, ...]


def forward_sweep(graph: Graph, index: int, place: tuple[int, ...], seed: str) -> ForwardSweep:
    """Carry the derivatives by one input through a graph.

    Parameters
    ----------
    graph : Graph
        The graph.
    index : int
        Of the input.
    place : tuple of int
        Of the element in it; empty for a number.
    seed : str
        Name of that element.

    Returns
    -------
    ForwardSweep
        With all numbers on the way.
    """
    reached = graph.dependents(index)
    tangents: list[Any] = []
    passes: list[tuple[Pass, ...]] = []
    for node in graph.nodes:
        arrived: list[Pass] = []
        total = _unit(node.value, place if node.index == index else None)
        for edge in node.edges:
            if edge.parent in reached:
                carried = tangents[edge.parent]
                adds = _shaped(edge.forward(carried), node.value)
                before = arrived[-1].total if arrived else None
                total = adds if before is None else before + adds
                arrived.append(Pass(edge, carried, adds, total, before))
        tangents.append(total)
        passes.append(tuple(arrived))
    _refuse_overflow(tangents, graph, lambda name: f"of {name} by {seed}")
    return ForwardSweep(seed, tuple(tangents), tuple(passes))


def reverse_sweep(graph: Graph, index: int, place: tuple[int, ...], output: str) -> ReverseSweep:
    """Gather the derivatives of one output, going back through a graph.

    Parameters
    ----------
    graph : Graph
        The graph.
    index : int
        Of the output.
    place : tuple of int
        Of the element in it; empty for a number.
    output : str
        Name of that element.

    Returns
    -------
    ReverseSweep
        With all numbers on the way.
    """
    concerned = graph.ancestors(index)
    adjoints: list[Any] = [_unit(node.value, None) for node in graph.nodes]
    adjoints[index] = _unit(graph.nodes[index].value, place)
    passes: list[Pass] = []
    reached: set[int] = set()
    for node in reversed(graph.nodes):
        if node.index not in concerned:
            continue
        for edge in node.edges:
            adds = _shaped(edge.backward(adjoints[node.index]), graph.nodes[edge.parent].value)
            before = adjoints[edge.parent] if edge.parent in reached else None
            adjoints[edge.parent] = adds if before is None else before + adds
            reached.add(edge.parent)
            passes.append(Pass(edge, adjoints[node.index], adds, adjoints[edge.parent], before))
    _refuse_overflow(adjoints, graph, lambda name: f"of {output} by {name}")
    return ReverseSweep(output, tuple(adjoints), tuple(passes))


def _unit(value: Any, place: tuple[int, ...] | None) -> Any:
    """Zeros in the shape of a value, with a one at a place."""
    zeros = np.zeros(np.shape(value))
    if place is not None:
        zeros[place] = 1.0
    return zeros if zeros.ndim else np.float64(zeros)


def _shaped(derivative: Any, value: Any) -> Any:
    array = np.broadcast_to(np.asarray(derivative, dtype=np.float64), np.shape(value))
    return array if array.ndim else np.float64(array)


def _refuse_overflow(derivatives: Sequence[Any], graph: Graph, words: Callable[[str], str]) -> None:
    for node, derivative in zip(graph.nodes, derivatives, strict=True):
        if not np.all(np.isfinite(derivative)):
            raise InputError(
                f"explain: the derivative {words(node.name)} is too large for a float64 "
                "(above 1.8e308)."
            )


def forward_counts(sweeps: Sequence[ForwardSweep], graph: Graph) -> Counts:
    """Count what forward mode takes for a whole Jacobian."""
    passes = [arrived for sweep in sweeps for arrived in sweep.passes]
    return Counts(
        evaluations=1,
        derivatives=sum(len(node.edges) for node in graph.nodes),
        multiplications=sum(map(len, passes)),
        additions=sum(max(0, len(arrived) - 1) for arrived in passes),
    )


def reverse_counts(sweeps: Sequence[ReverseSweep], graph: Graph) -> Counts:
    """Count what reverse mode takes for a whole Jacobian."""
    additions = 0
    for sweep in sweeps:
        parents = [each.edge.parent for each in sweep.passes]
        additions += len(parents) - len(set(parents))  # the first to arrive is not added
    return Counts(
        evaluations=1,
        derivatives=sum(len(node.edges) for node in graph.nodes),
        multiplications=sum(len(sweep.passes) for sweep in sweeps),
        additions=additions,
    )


def differences(
    graph: Graph, step: float
) -> tuple[list[Shifted], list[Shifted], dict[str, tuple[np.ndarray, str]]]:
    """Differentiate numerically with one step.

    Parameters
    ----------
    graph : Graph
        The graph.
    step : float
        Above 0.

    Returns
    -------
    above, below : list of Shifted
        All values with each input shifted up, and down.
    jacobians : dict of str to (ndarray, str)
        By method; NaN where a value does not exist, and the reason.
    """
    point = graph.point()
    centre = graph.flat_outputs([node.value for node in graph.nodes])
    labels = [label for _, _, label in graph.elements(graph.inputs)]
    above: list[Shifted] = []
    below: list[Shifted] = []
    reasons: list[str] = []
    for column, label in enumerate(labels):
        for sign, found in (("+", above), ("-", below)):
            moved = point.copy()
            moved[column] += step if sign == "+" else -step
            try:
                values: tuple[Any, ...] | None = tuple(graph.run(moved))
            except InputError as error:
                values = None
                reasons.append(str(error).removeprefix("explain: "))
            found.append(Shifted(f"{label} {sign} h", values))

    def outputs(shifted: Shifted) -> np.ndarray:
        if shifted.values is None:
            return np.full(len(centre), np.nan)
        return graph.flat_outputs(shifted.values)

    up = np.array([outputs(each) for each in above]).T
    down = np.array([outputs(each) for each in below]).T
    middle = centre[:, None]
    # The inputs that floats really have; at large inputs the step is not the one asked for.
    width_up, width_down = (point + step) - point, point - (point - step)
    with np.errstate(all="ignore"):
        jacobians = {
            METHODS[0]: (up - middle) / width_up,
            METHODS[1]: (middle - down) / width_down,
            METHODS[2]: (up - down) / (width_up + width_down),
        }
    why = reasons[0] if reasons else ""
    return above, below, {name: (j, why) for name, j in jacobians.items()}


def difference_counts(method: str, graph: Graph) -> Counts:
    """Count what differences take for a whole Jacobian."""
    columns = len(graph.point())
    entries = columns * len(graph.elements(graph.outputs))
    evaluations = 2 * columns if method == METHODS[2] else columns + 1
    return Counts(evaluations, 0, entries, entries)


def complex_step(graph: Graph, step: float = COMPLEX_STEP) -> np.ndarray:
    """Differentiate by a step along the imaginary axis.

    Parameters
    ----------
    graph : Graph
        One with complex derivatives.
    step : float, default 1e-20
        Above 0. Its truncation error is of the order of its square, and nothing is subtracted.

    Returns
    -------
    ndarray, shape (outputs, inputs)
        The Jacobian, exact to rounding for a tiny step.
    """
    point = graph.point()
    columns = []
    for column in range(len(point)):
        moved = point.astype(np.complex128)
        moved[column] += 1j * step
        columns.append(graph.flat_outputs(graph.run(moved)).imag / step)
    return np.array(columns).T


def error_curve(graph: Graph, exact: np.ndarray, with_complex: bool) -> list[Curve]:
    """Measure how the error of numerical Jacobians depends on the step.

    Parameters
    ----------
    graph : Graph
        The graph.
    exact : ndarray, shape (outputs, inputs)
        Its Jacobian.
    with_complex : bool
        Whether the complex step can be used.

    Returns
    -------
    list of Curve
        For forward and central differences, and for the complex step.
    """
    steps = tuple(float(f"{10 ** (-k / 2):.6g}") for k in range(33))
    largest = float(np.max(np.abs(exact), initial=1.0))
    errors: dict[str, list[float | None]] = {METHODS[0]: [], METHODS[2]: []}
    if with_complex:
        errors["complex step"] = []
    for step in steps:
        _, _, jacobians = differences(graph, step)
        found = {name: jacobians[name][0] for name in (METHODS[0], METHODS[2])}
        if with_complex:
            try:
                found["complex step"] = complex_step(graph, step)
            except InputError:
                found["complex step"] = np.full(exact.shape, np.nan)
        for name, jacobian in found.items():
            error = float(np.max(np.abs(jacobian - exact), initial=0.0)) / largest
            errors[name].append(error if np.isfinite(error) else None)
    return [Curve(name, steps, tuple(values)) for name, values in errors.items()]
