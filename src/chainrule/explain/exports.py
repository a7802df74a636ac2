"""An explanation in the languages of other programs: JSON, Markdown, LaTeX, Graphviz, Mermaid."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import __version__
from chainrule.explain.grammar import Call
from chainrule.explain.graph import Edge
from chainrule.explain.notation import GREEK_LETTERS, to_latex, to_text
from chainrule.explain.sweeps import COMPLEX_STEP, Pass
from chainrule.explain.tables import Cell, Table, all_tables, format_value

if TYPE_CHECKING:
    from chainrule.explain.explanation import Explanation

__all__ = ["to_dot", "to_json", "to_latex_document", "to_markdown", "to_mermaid"]

_PREAMBLE = r"""\documentclass{article}
\usepackage[a4paper, margin=2cm]{geometry}
\usepackage{amsmath, booktabs, longtable}
\setlength{\parindent}{0pt}
\newcommand{\apart}{\vphantom{\bigg|}}  % keeps fractions in rows below each other apart
\begin{document}
"""


def to_json(explanation: Explanation) -> str:
    """Write everything that an explanation knows.

    Parameters
    ----------
    explanation : Explanation
        What to write.

    Returns
    -------
    str
        One JSON object; numbers that JSON cannot hold are null.
    """
    graph = explanation.graph
    names = [node.name for node in graph.nodes]

    def by_name(values: Sequence[Any] | None) -> dict[str, Any] | None:
        return None if values is None else dict(zip(names, map(_plain, values), strict=True))

    def edge_record(edge: Edge) -> dict[str, Any]:
        formula, put_in = graph.formula(edge), graph.numbers(edge, 17)
        return {
            "by": names[edge.parent],
            "formula": None if formula is None else to_text(formula),
            "latex": None if formula is None else to_latex(formula),
            "numbers": None if put_in is None else to_text(put_in),
            "value": _plain(edge.value),
            "rule": {"tangent": edge.rule[0], "adjoint": edge.rule[1]} if edge.rule[0] else None,
        }

    def pass_record(each: Pass) -> dict[str, Any]:
        return {
            "from": names[each.edge.child],
            "to": names[each.edge.parent],
            "adjoint": _plain(each.carried),
            "local": _plain(each.edge.value),
            "adds": _plain(each.adds),
            "sum": _plain(each.total),
        }

    record = {
        "chainrule": __version__,
        "title": explanation.title,
        "point": {names[i]: _plain(graph.nodes[i].value) for i in graph.inputs},
        "inputs": explanation.input_names,
        "outputs": explanation.output_names,
        "step": explanation.step,
        "complex_step": COMPLEX_STEP,
        "nodes": [
            {
                "name": node.name,
                "kind": node.kind,
                "operation": node.operation or None,
                "expression": node.text or None,
                "latex": None if node.expression is None else to_latex(node.expression),
                "operands": [
                    names[o.node] if o.node is not None else _plain(o.value) for o in node.operands
                ],
                "value": _plain(node.value),
                "derivatives": [edge_record(edge) for edge in node.edges],
                "note": node.note or None,
                "kink": node.kink,
            }
            for node in graph.nodes
        ],
        "forward": [
            {"seed": sweep.seed, "tangents": by_name(sweep.tangents)}
            for sweep in explanation.forward
        ],
        "reverse": [
            {
                "output": sweep.output,
                "adjoints": by_name(sweep.adjoints),
                "passes": [pass_record(each) for each in sweep.passes],
            }
            for sweep in explanation.reverse
        ],
        "shifted": [
            {"point": each.label, "values": by_name(each.values)}
            for each in (*explanation.above, *explanation.below)
        ],
        "jacobians": [
            {
                "method": method.name,
                "jacobian": _plain(method.jacobian),
                "largest_error": method.error,
                "counts": asdict(method.counts),
                "why": method.why or None,
            }
            for method in explanation.methods
        ],
        "errors_against_step": [asdict(curve) for curve in explanation.curves],
        "notes": explanation.notes,
    }
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Numbers and arrays as JSON has them."""
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value.tolist()]
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, int | str | bool) else repr(value)


def to_markdown(explanation: Explanation) -> str:
    """Write the tables in Markdown, formulas between dollar signs, the graph as Mermaid.

    Parameters
    ----------
    explanation : Explanation
        What to write.

    Returns
    -------
    str
        As GitHub and most notebooks show it.
    """
    lines = [f"# Derivatives of `{explanation.title}`", "", _point(explanation), ""]
    lines += ["## Computation graph", "", "```mermaid", to_mermaid(explanation).rstrip(), "```", ""]
    for table in all_tables(explanation):
        lines += [f"## {table.title}", ""]
        if table.note:
            lines += [_escaped(table.note), ""]
        sides = ["---:" if i in table.right else "---" for i in range(len(table.columns))]
        rows = (table.columns, *table.rows)
        written = ["| " + " | ".join(_markdown_cell(cell) for cell in row) + " |" for row in rows]
        lines += [written[0], "| " + " | ".join(sides) + " |", *written[1:], ""]
    if explanation.notes:
        lines += ["## Notes", "", *(f"- {_escaped(note)}" for note in explanation.notes), ""]
    return "\n".join(lines)


def _point(explanation: Explanation) -> str:
    nodes = [explanation.graph.nodes[i] for i in explanation.graph.inputs]
    return "At " + ", ".join(
        f"{node.name} = {format_value(node.value, explanation.digits)}" for node in nodes
    ) + "."  # fmt: skip


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text)


def _markdown_cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return _escaped(cell)
    if isinstance(cell, tuple):
        return " ".join(_markdown_cell(each) for each in cell)
    return f"${to_latex(cell)}$"


def to_latex_document(explanation: Explanation) -> str:
    """Write the tables as a LaTeX document with amsmath, booktabs and longtable.

    Parameters
    ----------
    explanation : Explanation
        What to write.

    Returns
    -------
    str
        Complete; what is between ``\\begin{document}`` and its end can be put into another one.
    """
    lines = [_PREAMBLE, r"\section*{Derivatives}", rf"\texttt{{{_tex(explanation.title)}}}", ""]
    lines += [_tex(_point(explanation)), ""]
    for table in all_tables(explanation):
        lines += _latex_table(table)
    if explanation.notes:
        lines += [r"\subsection*{Notes}", r"\begin{itemize}"]
        lines += [rf"  \item {_tex(note)}" for note in explanation.notes]
        lines += [r"\end{itemize}"]
    return "\n".join([*lines, r"\end{document}", ""])


def _latex_table(table: Table) -> list[str]:
    sides = "".join("r" if i in table.right else "l" for i in range(len(table.columns)))
    body = [" & ".join(map(_latex_cell, row)) + r" \\" for row in (table.columns, *table.rows)]
    note = [_tex(table.note), ""] if table.note else []
    return [
        rf"\subsection*{{{_tex(table.title)}}}",
        *note,
        rf"\begin{{longtable}}[l]{{{sides}}}",
        r"  \toprule",
        f"  {body[0]}",
        r"  \midrule",
        r"  \endhead",
        *(f"  {line}" for line in body[1:]),
        r"  \bottomrule",
        r"\end{longtable}",
        "",
    ]


def _latex_cell(cell: Cell) -> str:
    if isinstance(cell, tuple):
        return " ".join(map(_latex_cell, cell))
    if not isinstance(cell, str):
        inside = to_latex(cell)
        fraction = isinstance(cell, Call) and cell.operation == "divide"
        return rf"$\displaystyle \apart {inside}$" if fraction else f"${inside}$"
    if re.fullmatch(r"[-\d.e+]+", cell):
        return f"${_number(cell)}$"
    return _tex(cell).replace(" * ", r" $\cdot$ ")  # a heading; code has its own signs


def _number(text: str) -> str:
    head, _, exponent = text.partition("e")
    return rf"{head} \cdot 10^{{{exponent}}}" if exponent else head


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "_": r"\_", "%": r"\%", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "→": r"$\to$", "∂": r"$\partial$", "…": r"\dots{}", "<": "$<$", ">": "$>$",
    **{letter: f"${command}$" for letter, command in GREEK_LETTERS.items()},
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


def to_dot(explanation: Explanation) -> str:
    """Write the graph for Graphviz.

    Parameters
    ----------
    explanation : Explanation
        What to write.

    Returns
    -------
    str
        A ``digraph``; edges bear the local derivatives.
    """
    graph = explanation.graph

    def quoted(*lines: str) -> str:
        escaped = [line.replace("\\", "\\\\").replace('"', '\\"') for line in lines]
        return '"' + "\\n".join(escaped) + '"'

    shapes = {"input": "ellipse", "intermediate": "box", "output": "box"}
    lines = [
        "digraph chainrule {",
        '  node [fontname="monospace", style="rounded"];',
        '  edge [fontname="monospace", fontsize=10];',
    ]
    for node in graph.nodes:
        title = f"{node.name} = {node.text}" if node.text else node.name
        label = quoted(title, format_value(node.value, explanation.digits))
        extra = ", penwidth=2" if node.kind == "output" else ""
        lines.append(f"  {quoted(node.name)} [label={label}, shape={shapes[node.kind]}{extra}];")
    for node in graph.nodes:
        for edge in node.edges:
            parent = graph.nodes[edge.parent].name
            local = _edge_label(edge, explanation)
            lines.append(f"  {quoted(parent)} -> {quoted(node.name)} [label={quoted(local)}];")
    return "\n".join([*lines, "}", ""])


def _edge_label(edge: Edge, explanation: Explanation) -> str:
    if edge.value is None:
        return edge.rule[0]
    return format_value(edge.value, explanation.digits)


def _entity(found: re.Match[str]) -> str:
    return f"#{ord(found[0])};"


def to_mermaid(explanation: Explanation) -> str:
    """Write the graph for Mermaid, which GitHub and many editors draw.

    Parameters
    ----------
    explanation : Explanation
        What to write.

    Returns
    -------
    str
        A ``flowchart``; edges bear the local derivatives.
    """
    graph = explanation.graph

    def quoted(*lines: str) -> str:
        coded = [re.sub(r"[^\w \-+=.,()\[\]/:∂@…]", _entity, line) for line in lines]
        return '"' + "<br>".join(coded) + '"'

    brackets = {"input": ("([", "])"), "intermediate": ("[", "]"), "output": ("[[", "]]")}
    lines = ["flowchart TD"]
    for node in graph.nodes:
        title = f"{node.name} = {node.text}" if node.text else node.name
        left, right = brackets[node.kind]
        label = quoted(title, format_value(node.value, explanation.digits))
        lines.append(f"  n{node.index}{left}{label}{right}")
    for node in graph.nodes:
        for edge in node.edges:
            label = quoted(_edge_label(edge, explanation))
            lines.append(f"  n{edge.parent} -->|{label}| n{node.index}")
    return "\n".join([*lines, ""])
