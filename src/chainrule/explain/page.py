"""An explanation as one web page: everything inside it, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from chainrule import __version__
from chainrule.explain.grammar import Name
from chainrule.explain.notation import format_number
from chainrule.explain.picture import curve_svg, graph_svg
from chainrule.explain.stepping import all_sweeps, equation, markup
from chainrule.explain.sweeps import METHODS
from chainrule.explain.tables import SHORT, all_tables, format_value, number
from chainrule.explain.text import slope

if TYPE_CHECKING:
    from chainrule.explain.explanation import Explanation

__all__ = ["COLOURS", "COLOURS_DARK", "render_page"]

# Those of the report page: c0 for forward mode, c1 for reverse mode, c2 for what is exact.
COLOURS = {
    "page": "#f5f7f9", "surface": "#ffffff", "raised": "#ffffff", "ink": "#1a1f26",
    "muted": "#596270", "rule": "#e4e8ed", "axis": "#b8c0ca", "link": "#00588a",
    "focus": "#0072b2", "warning": "#b3261e", "c0": "#0072b2", "c1": "#d55e00", "c2": "#008a64",
    "t0": "#00588a", "t1": "#b34f00", "t2": "#00694c",
    "b0": "#e3f1fa", "b1": "#fdeee3", "b2": "#e2f4ee",
}  # fmt: skip
COLOURS_DARK = {
    "page": "#0e1116", "surface": "#171b21", "raised": "#222831", "ink": "#e8ecf1",
    "muted": "#a2acb9", "rule": "#2b323b", "axis": "#4a5360", "link": "#7cc2f7",
    "focus": "#7cc2f7", "warning": "#ff8a80", "c0": "#58b0f0", "c1": "#ff9655", "c2": "#3ecf9f",
    "t0": "#7cc2f7", "t1": "#ff9655", "t2": "#3ecf9f",
    "b0": "#12283a", "b1": "#35200f", "b2": "#0f2c24",
}  # fmt: skip

_LEAST = 0.78  # of its size, to which the graph may be made smaller


def render_page(explanation: Explanation) -> str:
    """Return an explanation as one HTML document.

    Parameters
    ----------
    explanation : Explanation
        What to show.

    Returns
    -------
    str
        HTML with its style, its script and its pictures inside. Its content security policy
        forbids every request, and every script but its own by its hash. Without scripts it
        shows all steps as tables.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    graph = explanation.graph
    drawing, width = graph_svg(explanation)
    # Letters stay legible: what is too wide for a screen is scrolled.
    least = f"@media screen {{ .graph {{ min-width: {_LEAST * width:.0f}px; }} }}\n"
    style = _theme() + _asset("explain.css") + least
    script = _asset("explain.js")
    point = [
        equation(
            Name(graph.nodes[i].name),
            number(graph.nodes[i].value, 12)
            if graph.scalar
            else format_value(graph.nodes[i].value, 6),
        )
        for i in graph.inputs
    ]
    tables = [
        {
            "key": table.key,
            "title": table.title,
            "note": table.note,
            "columns": [Markup(markup(cell)) for cell in table.columns],
            "rows": [[Markup(markup(cell)) for cell in row] for row in table.rows],
            "right": table.right,
        }
        for table in all_tables(explanation)
        if table.key in ("local", "shifted", "numeric", "comparison")
    ]
    view: dict[str, Any] = {
        "version": __version__,
        "policy": _policy(style, script),
        "style": Markup(style),
        "script": Markup(script),
        "title": explanation.title,
        "lines": [line.strip() for line in explanation.title.split(";")],
        "point": [Markup(text) for text in point],
        "graph": Markup(drawing),
        "sweeps": all_sweeps(explanation),
        "tables": {table["key"]: table for table in tables},
        "curve": Markup(curve_svg(explanation.curves)),
        "curves": _curves(explanation),
        "notes": explanation.notes,
        "markup": Markup,
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(_asset("explain.html.j2")).render(view)


def _curves(explanation: Explanation) -> dict[str, Any]:
    names = {**SHORT, METHODS[0]: "one-sided"}
    legend = []
    for curve in explanation.curves:
        fall = slope(curve)
        legend.append((names[curve.name], "" if fall is None else f"slope {fall:.2f}"))
    rows = [
        [format_number(h, 2), *("-" if e is None else format_number(e, 2) for e in errors)]
        for h, *errors in zip(
            explanation.curves[0].steps, *(c.errors for c in explanation.curves), strict=True
        )
    ]
    return {"legend": legend, "rows": rows}


def _asset(name: str) -> str:
    return (resources.files("chainrule.explain") / "assets" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    def hashed(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; img-src data:; style-src {hashed(style)}; "
        f"script-src {hashed(script)}; base-uri 'none'; form-action 'none'"
    )


def _theme() -> str:
    def block(colours: Mapping[str, str]) -> str:
        return "".join(f"--{name}:{value};" for name, value in colours.items())

    return (
        f":root{{color-scheme:light dark;{block(COLOURS)}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{block(COLOURS_DARK)}}}}}\n"
    )
