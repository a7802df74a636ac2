"""An explanation: a computation and its derivatives, found by every method and shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.errors import ConfigError, DTypeError, InputError, nearest
from chainrule.errors import explain as word
from chainrule.explain import sweeps
from chainrule.explain.graph import Graph, graph_of_expressions

__all__ = ["Explanation", "explain"]

MOST_INPUTS = 12
MOST_OUTPUTS = 12
_FORMS = {
    ".html": "to_html",
    ".htm": "to_html",
    ".json": "to_json",
    ".md": "to_markdown",
    ".tex": "to_latex",
    ".dot": "to_dot",
    ".gv": "to_dot",
    ".mmd": "to_mermaid",
    ".mermaid": "to_mermaid",
    ".txt": "to_text",
}


class Explanation:
    """A computation and its derivatives, found by every method.

    Made by `explain`. In a notebook it shows itself; ``print`` writes its tables.

    Parameters
    ----------
    graph : Graph
        The computation.
    title : str
        What is explained: the expressions, or the name of the function.
    step : float
        Of numerical differentiation.
    digits : int
        Significant digits of what is shown; results keep all of theirs.

    Attributes
    ----------
    input_names, output_names : list of str
        Of the numbers that go in and come out; elements of arrays as ``x[0]``.
    forward : list of ForwardSweep
        One for each input.
    reverse : list of ReverseSweep
        One for each output.
    above, below : list of Shifted
        All values with one input shifted up, and down, by the step.
    methods : list of Method
        All Jacobians, with errors and counts.
    notes : list of str
        Kinks and ties, and whatever else is worth knowing.
    """

    def __init__(self, graph: Graph, title: str, step: float, digits: int) -> None:
        self.graph, self.title, self.step, self.digits = graph, title, step, digits
        inputs, outputs = graph.elements(graph.inputs), graph.elements(graph.outputs)
        self.input_names = [name for _, _, name in inputs]
        self.output_names = [name for _, _, name in outputs]
        self.forward = [sweeps.forward_sweep(graph, *each) for each in inputs]
        self.reverse = [sweeps.reverse_sweep(graph, *each) for each in outputs]
        self.above, self.below, differences = sweeps.differences(graph, step)
        exact = np.array(
            [[sweep.adjoints[i][p] for i, p, _ in inputs] for sweep in self.reverse], dtype=float
        )
        by_forward = np.array(
            [[sweep.tangents[i][p] for sweep in self.forward] for i, p, _ in outputs], dtype=float
        )
        self.methods: list[sweeps.Method] = []

        def add(name: str, found: np.ndarray | None, counts: sweeps.Counts, why: str = "") -> None:
            error = None
            if found is not None and not np.isnan(found).any():
                error = float(np.max(np.abs(found - exact)))
            self.methods.append(sweeps.Method(name, found, counts, error, why))

        for name, (found, why) in differences.items():
            counts = sweeps.difference_counts(name, graph)
            add(name, found, counts, why if np.isnan(found).any() else "")
        size = len(inputs)
        counts = sweeps.Counts(size, 0, exact.size, 0)
        if graph.analytic:
            add("complex step", None, counts, f"{graph.analytic} has no complex derivative")
        else:
            add("complex step", sweeps.complex_step(graph), counts)
        add("forward mode", by_forward, sweeps.forward_counts(self.forward, graph))
        add("reverse mode", exact, sweeps.reverse_counts(self.reverse, graph))
        self.notes = [
            f"{node.name} = {node.text}, where {node.note}." for node in graph.nodes if node.kink
        ]
        self.notes += self._near_kinks()
        self.notes += [f"{m.name}: {m.why}".rstrip(".") + "." for m in self.methods if m.why]

    def _near_kinks(self) -> list[str]:
        """Kinks that the numerical differences step across."""

        def side(operands: list[Any]) -> Any:
            """Above 0 on one side of a kink, below 0 on the other."""
            return operands[0] - (operands[1] if len(operands) > 1 else 0.0)

        found = []
        for node in self.graph.nodes:
            if node.kink or not node.note:
                continue
            here = side([operand.value for operand in node.operands])
            for shifted in (*self.above, *self.below):
                if shifted.values is None:
                    continue
                there = side(
                    [o.value if o.node is None else shifted.values[o.node] for o in node.operands]
                )
                if here * there < 0:
                    found.append(
                        f"{node.name} = {node.text}, where {node.note}, but not at "
                        f"{shifted.label}: the differences step across a kink and mix its sides."
                    )
                    break
        return found

    @cached_property
    def curves(self) -> list[sweeps.Curve]:
        """Errors against the step, for differences and the complex step."""
        return sweeps.error_curve(self.graph, self.jacobian(), not self.graph.analytic)

    def method(self, name: str) -> sweeps.Method:
        """Return what one method found.

        Parameters
        ----------
        name : str
            ``"forward difference"``, ``"backward difference"``, ``"central difference"``,
            ``"complex step"``, ``"forward mode"`` or ``"reverse mode"``.

        Returns
        -------
        Method
            Its Jacobian, cost and error.
        """
        for method in self.methods:
            if method.name == name:
                return method
        known = [method.name for method in self.methods]
        raise ConfigError(f"explain: method {name!r} is not known. {nearest(name, known)}")

    def jacobian(self, method: str = "reverse mode") -> np.ndarray:
        """Return a Jacobian.

        Parameters
        ----------
        method : str, default "reverse mode"
            See `method`.

        Returns
        -------
        ndarray, shape (outputs, inputs)
            A copy. NaN where the method has no result.
        """
        found = self.method(method).jacobian
        if found is None:
            return np.full((len(self.output_names), len(self.input_names)), np.nan)
        return found.copy()

    def to_text(self, width: int = 100, *, colour: bool = False, ascii_only: bool = False) -> str:
        """Return everything as text.

        Parameters
        ----------
        width : int, default 100
            Columns there are.
        colour : bool, default False
            Whether the terminal shows bold and faint letters.
        ascii_only : bool, default False
            Use no characters but those of ASCII.

        Returns
        -------
        str
            Drawing, tables and curve.
        """
        from chainrule.explain.text import render

        return render(self, width, colour, ascii_only)

    def to_html(self) -> str:
        """Return a page that steps through all sweeps; it needs nothing but itself."""
        from chainrule.explain.page import render_page

        return render_page(self)

    def to_json(self) -> str:
        """Return everything as JSON."""
        from chainrule.explain.exports import to_json

        return to_json(self)

    def to_markdown(self) -> str:
        """Return the tables in Markdown, with formulas between dollar signs."""
        from chainrule.explain.exports import to_markdown

        return to_markdown(self)

    def to_latex(self) -> str:
        """Return the tables in LaTeX, for a document with amsmath and booktabs."""
        from chainrule.explain.exports import to_latex_document

        return to_latex_document(self)

    def to_dot(self) -> str:
        """Return the graph in the language of Graphviz."""
        from chainrule.explain.exports import to_dot

        return to_dot(self)

    def to_mermaid(self) -> str:
        """Return the graph in the language of Mermaid."""
        from chainrule.explain.exports import to_mermaid

        return to_mermaid(self)

    def save(self, path: str | Path) -> Path:
        """Write a file; the end of its name says in which form.

        Parameters
        ----------
        path : str or Path
            Ends in .html, .json, .md, .tex, .dot, .mmd or .txt. Its folder is made.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ConfigError
            If the name ends otherwise.
        RunError
            If the file cannot be written; one that was there is as it was.
        """
        from chainrule.records import write_atomically

        path = Path(path)
        form = _FORMS.get(path.suffix.lower())
        if form is None:
            raise ConfigError(
                word("explain", "path", "end in .html, .json, .md, .tex, .dot, .mmd or .txt", path)
            )
        write_atomically(path, getattr(self, form)().encode())
        return path

    def __str__(self) -> str:
        return self.to_text().rstrip("\n")

    def __repr__(self) -> str:
        count = len(self.graph.nodes) - len(self.graph.inputs)
        outputs, inputs = ", ".join(self.output_names), ", ".join(self.input_names)
        operations = "operation" if count == 1 else "operations"
        return f"<Explanation of {outputs} by {inputs}: {count} {operations}>"

    def _repr_html_(self) -> str:
        page = escape(self.to_html(), quote=True)
        return (
            f'<iframe srcdoc="{page}" sandbox="allow-scripts" title="chainrule explain" '
            'style="width:100%;height:56rem;max-height:90vh;border:0;border-radius:12px"></iframe>'
        )


def explain(
    f: str | Callable[..., Any], /, *args: Any, step: float = 0.01, digits: int = 5, **settings: Any
) -> Explanation:
    """Explain the derivatives of expressions, or of a function of numbers and small arrays.

    Parameters
    ----------
    f : str or callable
        Expressions in the grammar of the command ``chainrule explain``, such as
        ``"f = x*sin(y)"``; they are parsed and never run. Or a function written with NumPy,
        which is called and traced.
    *args : numbers or array_like
        Where, for a function: one for each of its arguments, with at most 12 numbers in all.
    step : float, default 0.01
        Of numerical differentiation; above 0.
    digits : int, default 5
        Significant digits of what is shown, from 2 to 17.
    **settings : float
        Where, for expressions: the value of each variable. For a variable named ``step`` or
        ``digits``, give a mapping of all values as the one argument.

    Returns
    -------
    Explanation
        Prints, draws, steps through and exports the computation and its derivatives.

    Raises
    ------
    ConfigError
        If an expression is not of the grammar, or a variable has no value or no use.
    InputError
        If an operation has no result or no derivative at this point, or `step`, `digits` or the
        size of an array is out of range.
    DTypeError
        If `f` is neither text nor callable, or an argument is no real number or array.

    Examples
    --------
    >>> explained = explain("f1 = x*sin(y); f2 = max(x, y)", x=2, y=0)
    >>> explained
    <Explanation of f1, f2 by x, y: 3 operations>
    >>> explained.jacobian()
    array([[0., 2.],
           [1., 0.]])
    >>> import numpy as np
    >>> explain(lambda x, w: np.sum(np.tanh(x * w)), [0.0, 1.0], 2.0).jacobian().round(4)
    array([[2.    , 0.1413, 0.0707]])
    """
    step, digits = _checked(step, digits)
    if isinstance(f, str):
        point: Mapping[str, Any] = settings
        if args:
            if len(args) > 1 or not isinstance(args[0], Mapping) or settings:
                raise ConfigError(
                    "explain: expressions take their values by name, such as explain(f, x=1, y=2)."
                )
            point = args[0]
        values = {name: _real(name, value) for name, value in point.items()}
        title = "; ".join(line.strip(" ;") for line in f.strip().splitlines() if line.strip(" ;"))
        explanation_graph = graph_of_expressions(f, values)
    else:
        from chainrule.explain.functions import graph_of_function

        if settings:
            raise ConfigError(
                "explain: a function takes its values in order, such as explain(f, 1.0, 2.0)."
            )
        title = getattr(f, "__name__", type(f).__name__)
        title = "a function" if title == "<lambda>" else title
        explanation_graph = graph_of_function(f, args)
    for which, most in (("inputs", MOST_INPUTS), ("outputs", MOST_OUTPUTS)):
        count = len(explanation_graph.elements(getattr(explanation_graph, which)))
        if not 1 <= count <= most:
            raise InputError(
                f"explain: there must be from 1 to {most} {which}, counting each number of an "
                f"array; got {count}. Every one of them gets a table of its own."
            )
    return Explanation(explanation_graph, title, step, digits)


def _checked(step: Any, digits: Any) -> tuple[float, int]:
    step = _real("step", step)
    if not (math.isfinite(step) and step > 0):
        raise InputError(word("explain", "step", "be above 0", step))
    if isinstance(digits, bool) or not isinstance(digits, int) or not 2 <= digits <= 17:
        raise InputError(word("explain", "digits", "be an integer from 2 to 17", digits))
    return step, digits


def _real(name: str, value: Any) -> float:
    if np.ndim(value) or np.asarray(value).dtype.kind not in "iuf":
        raise DTypeError(word("explain", name, "be a real number", repr(value)))
    return float(value)
