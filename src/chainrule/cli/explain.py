"""The command ``explain``: derivatives of expressions, by every method, step by step."""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from chainrule.cli.parser import Command, argument
from chainrule.errors import ConfigError

if TYPE_CHECKING:
    from chainrule.explain import Explanation

__all__ = ["EXPLAIN"]

WIDTH = 100  # of tables on wider terminals
FORMS = {  # option -> what it writes
    "html": "page",
    "markdown": "Markdown",
    "latex": "LaTeX",
    "dot": "graph",
    "mermaid": "graph",
}
GRAMMAR = """\
expressions are NAME = EXPRESSION, separated by ';'. Those not used by others,
and f, f1, f2, ..., are the outputs; without names they are called f, or f1, f2.
  numbers    1, 0.5, 1e-3, pi, e
  operators  + - * / ** and parentheses
  functions  exp expm1 log log2 log10 log1p sqrt square pow sigmoid softplus
             relu abs max min sin cos tan asin acos atan sinh cosh tanh
             asinh acosh atanh
Put them in quotes, and begin with 'f = ' where they would begin with a minus.
Values are numbers or expressions of numbers, such as x=-1/3 or x=pi/2.
"""


def _explain(options: Namespace) -> int:
    """Explain the derivatives of expressions."""
    from chainrule.explain import explain
    from chainrule.records import write_atomically

    wanted = {form: name for form in FORMS if (name := getattr(options, form)) is not None}
    to_output = [f"--{form} -" for form, name in wanted.items() if name == "-"]
    to_output += ["--json"] if options.json else []
    if len(to_output) > 1:
        raise ConfigError(
            f"explain: {' and '.join(to_output)} ask for standard output at once. Give one."
        )
    explained = explain(
        options.expression, _point(options.settings), step=options.step, digits=options.digits
    )
    written = {form: getattr(explained, f"to_{form}")() for form in wanted}
    for form, name in wanted.items():
        if name != "-":
            write_atomically(Path(name), written[form].encode())
            sys.stderr.write(f"chainrule: {FORMS[form]} written to {name}\n")
    if options.json:
        sys.stdout.write(explained.to_json())
    elif to_output:
        sys.stdout.write(next(written[form] for form, name in wanted.items() if name == "-"))
    else:
        sys.stdout.write(_text(explained))
    return 0


def _point(words: list[str]) -> dict[str, float]:
    """Read the values of the variables."""
    from chainrule.explain import read_value

    point: dict[str, float] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(
                f"explain: {word!r} is not of the form NAME=VALUE. Put the expressions into one "
                "pair of quotes."
            )
        name = name.strip()
        if name in point:
            raise ConfigError(f"explain: {name} is given twice.")
        point[name] = read_value(name, value)
    return point


def _text(explained: Explanation) -> str:
    """As wide as the terminal, in what characters standard output can hold."""
    import os

    width = max(40, min(shutil.get_terminal_size().columns, WIDTH))
    try:
        "┌─│▼→∂●◆▲".encode(sys.stdout.encoding)
        ascii_only = False
    except (UnicodeEncodeError, LookupError):
        ascii_only = True
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return explained.to_text(width, colour=colour, ascii_only=ascii_only)


EXPLAIN = Command(
    "explain",
    "Explain derivatives: graph, every method as a table, a page.",
    "EXPRESSIONS NAME=VALUE ... [options]",
    _explain,
    (
        argument("expression", metavar="EXPRESSIONS", help='such as "f1 = x*sin(y); f2 = x + y"'),
        argument("settings", metavar="NAME=VALUE", nargs="*", help="where, such as x=1 y=-0.5"),
        argument(
            "--step",
            metavar="H",
            type=float,
            default=0.01,
            help="of numerical differentiation (default: 0.01)",
        ),
        argument(
            "--digits",
            metavar="N",
            type=int,
            default=5,
            help="significant digits shown, 2 to 17 (default: 5)",
        ),
        argument("--html", metavar="FILE", help="write a page that steps through all sweeps"),
        argument(
            "--markdown", metavar="FILE", help="write the tables in Markdown, as a marking key"
        ),
        argument("--latex", metavar="FILE", help="write the tables in LaTeX, as a marking key"),
        argument("--dot", metavar="FILE", help="write the graph for Graphviz"),
        argument("--mermaid", metavar="FILE", help="write the graph for Mermaid"),
        argument("--json", action="store_true", help="print JSON, for programs: everything"),
    ),
    (
        'chainrule explain "f = (x + y)*(y + 1)" x=2 y=3',
        'chainrule explain "f1 = x*y + max(x, y); f2 = exp(x)" x=1 y=-1 --html f.html',
        'chainrule explain "log(1 + x**2)" x=pi/2 --step 1e-6 --digits 9',
        'chainrule explain "x/y" x=1 y=2 --latex key.tex --dot graph.dot',
    ),
    f"FILE may be - for standard output.\n\n{GRAMMAR}",
)
