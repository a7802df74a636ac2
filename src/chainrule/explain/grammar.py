"""The grammar of expressions: text in, a small tree out. Nothing is ever evaluated by Python.

The text is read by Python's own parser and the syntax tree walked node by node; whatever is not
a number, a name, an arithmetic operator or a call of a known function is refused, with its
position.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from chainrule.errors import ConfigError, nearest
from chainrule.explain.operations import FUNCTIONS, OPERATIONS

__all__ = [
    "CONSTANTS",
    "Call",
    "Expression",
    "Name",
    "Number",
    "Source",
    "Statement",
    "names_in",
    "parse",
]

LONGEST = 4000  # characters
DEEPEST = 60  # levels of parentheses and operators
CONSTANTS = {"pi": math.pi, "e": math.e}

_EMPTY = 'explain: the expression is empty. Write one such as "f = x*y".'
_BINARY = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "power",
}
_EXTREMA = ("maximum", "minimum")
_FOREIGN = {
    ast.Attribute: "a dot between names. Write exp(x), not np.exp(x)",
    ast.Compare: "a comparison",
    ast.IfExp: "'if'",
    ast.BoolOp: "'and' or 'or'",
    ast.Subscript: "square brackets. Write each number as a variable of its own",
    ast.List: "a list",
    ast.Tuple: "a tuple. Separate outputs by ';'",
    ast.Lambda: "'lambda'",
    ast.JoinedStr: "a text",
    ast.AugAssign: "an operator before '='",
    ast.AnnAssign: "a type",
    ast.NamedExpr: "':='",
    ast.BitXor: "'^'. Write ** for a power",
    ast.Mod: "'%'",
    ast.FloorDiv: "'//'",
    ast.MatMult: "'@'",
}


@dataclass(frozen=True)
class Source:
    """The text of expressions, to say where in it something is."""

    text: str

    def place(self, start: int, end: int) -> str:
        """Name a place: ``at column 3, 'log(x)'``, with the line where there are several."""
        before = self.text[:start]
        column = start - (before.rfind("\n") + 1) + 1
        line = f"line {before.count(chr(10)) + 1}, " if "\n" in self.text.strip() else ""
        words = " ".join(self.text[start:end].split())
        words = words if len(words) <= 40 else words[:39] + "…"
        return f"at {line}column {column}" + (f", {words!r}" if words else "")


@dataclass(frozen=True)
class Number:
    """A constant: its value, and how it was written."""

    value: float
    text: str
    span: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Name:
    """A variable."""

    name: str
    span: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Call:
    """An operation on expressions; its name is a key of `OPERATIONS`."""

    operation: str
    arguments: tuple[Expression, ...]
    span: tuple[int, int] = (0, 0)


Expression = Number | Name | Call


@dataclass(frozen=True)
class Statement:
    """``name = expression``; the name is empty where none was given."""

    name: str
    expression: Expression
    span: tuple[int, int]


@lru_cache(maxsize=1024)
def parse(text: str, shadowed: frozenset[str] = frozenset()) -> tuple[Statement, ...]:
    """Parse expressions.

    Parameters
    ----------
    text : str
        ``name = expression``, or an expression alone; several are separated by ``;`` or lines.
    shadowed : frozenset of str, default frozenset()
        Names that are variables even where they are constants otherwise, such as ``e``.

    Returns
    -------
    tuple of Statement
        In order, at least one.

    Raises
    ------
    ConfigError
        If the text is not of the grammar; the message has the position.

    Examples
    --------
    >>> parse("f = x*y")[0].expression.operation
    'multiply'
    >>> parse("f = (x")
    Traceback (most recent call last):
    ...
    chainrule.errors.ConfigError: explain: at column 5: this parenthesis is never closed.
    """
    return _Reader(text, shadowed).statements()


class _Reader:
    def __init__(self, text: str, shadowed: frozenset[str]) -> None:
        self.source = Source(text)
        self.text = text
        self.names = set(shadowed)
        self.starts = [0]  # of the lines that Python's parser sees
        self.lines = [b""]

    def statements(self) -> tuple[Statement, ...]:
        if len(self.text) > LONGEST:
            raise ConfigError(
                f"explain: the expression has {len(self.text):,} characters; at most "
                f"{LONGEST:,} are read."
            )
        for i, character in enumerate(self.text):
            if not character.isprintable() and character not in "\n\t":
                self._refuse((i, i), "a character that cannot be printed")
        indented = next((i for i, c in enumerate(self.text) if not c.isspace()), None)
        if indented is None:
            raise ConfigError(_EMPTY)
        found = []
        for node in self._tree(indented).body:
            span = self._span(node)
            if isinstance(node, ast.Expr):
                found.append(Statement("", self._expression(node.value, 0), span))
            elif isinstance(node, ast.Assign):
                target = node.targets[0]
                if len(node.targets) > 1:
                    self._refuse(span, "two '=' in a row")
                if not isinstance(target, ast.Name):
                    self._refuse(self._span(target), "what is on the left of '=' is no name")
                if target.id in FUNCTIONS:
                    self._refuse(self._span(target), f"{target.id!r} is a function")
                expression = self._expression(node.value, 0)
                self.names.add(target.id)
                found.append(Statement(target.id, expression, span))
            else:
                self._foreign(node)
        if not found:  # a remark
            raise ConfigError(_EMPTY)
        return tuple(found)

    def _tree(self, indented: int) -> ast.Module:
        text = self.text[indented:]
        lines = text.splitlines(keepends=True)
        bare = [line.lstrip(" \t") for line in lines]  # as a text in a program is indented
        self.lines = [*(line.encode() for line in bare), b""]
        self.starts = [
            indented + sum(map(len, lines[: i + 1])) - len(each)
            for i, each in enumerate([*bare, ""])
        ]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's advice on its own syntax
                return ast.parse("".join(bare))
        except SyntaxError as error:
            self._syntax(error)
        except (RecursionError, MemoryError, ValueError):
            raise ConfigError(
                f"explain: the expression is nested too deeply; at most {DEEPEST} levels are read."
            ) from None

    def _syntax(self, error: SyntaxError) -> NoReturn:
        """Say in the words of this grammar what Python's parser says in its own."""
        line = min((error.lineno or 1), len(self.starts)) - 1
        start = min(self.starts[line] + (error.offset or 1) - 1, len(self.text))
        end = start
        if error.end_lineno == error.lineno and (error.end_offset or 0) > (error.offset or 0):
            end = start + (error.end_offset or 0) - (error.offset or 0)
        said = (error.msg or "").lower()
        before = self.text[:start].rstrip()[-1:]
        after = self.text[start : start + 1]
        touching = (before.isalnum() or before in ("_", ")")) and (after.isalnum() or after == "(")
        if "never closed" in said:
            message = "this parenthesis is never closed"
        elif "unmatched" in said or "does not match" in said:
            message = "this parenthesis was never opened"
        elif "too many nested" in said:
            message = f"nested too deeply; at most {DEEPEST} levels are read"
        elif "cannot assign" in said:
            message = "what is on the left of '=' is no name"
        elif "comma" in said or "invalid decimal" in said or touching:
            message = "two values follow each other. Write * for a product, ; between outputs"
        elif start >= len(self.text.rstrip()):
            message = "the expression ends here, where a value was expected"
        else:
            message = "this is no expression"
        self._refuse((start, end), message)

    def _expression(self, node: ast.expr, depth: int) -> Expression:
        span = self._span(node)
        if depth > DEEPEST:
            self._refuse(span, f"nested too deeply; at most {DEEPEST} levels are read")
        if isinstance(node, ast.Constant):
            return self._number(node.value, span)
        if isinstance(node, ast.Name):
            if node.id in CONSTANTS and node.id not in self.names:
                return Number(CONSTANTS[node.id], node.id, span)
            if node.id in FUNCTIONS and node.id not in self.names:
                self._refuse(span, f"{node.id!r} is a function. Write {node.id}(...)")
            return Name(node.id, span)
        if isinstance(node, ast.BinOp):
            if type(node.op) not in _BINARY:
                self._foreign(node.op, span)
            sides = (self._expression(side, depth + 1) for side in (node.left, node.right))
            return Call(_BINARY[type(node.op)], tuple(sides), span)
        if isinstance(node, ast.UnaryOp):
            operand = self._expression(node.operand, depth + 1)
            if isinstance(node.op, ast.UAdd):
                return operand
            if isinstance(node.op, ast.USub):
                return Call("negative", (operand,), span)
            self._refuse(span, "is not part of the grammar: 'not' or '~'")
        if not isinstance(node, ast.Call):
            self._foreign(node)
        return self._function(node, span, depth)

    def _function(self, node: ast.Call, span: tuple[int, int], depth: int) -> Expression:
        if not isinstance(node.func, ast.Name):
            if isinstance(node.func, ast.Attribute):
                self._foreign(node.func)
            self._refuse(span, "two values follow each other. Write * for a product")
        name = node.func.id
        if name not in FUNCTIONS:
            where = self._span(node.func)
            hint = nearest(name, FUNCTIONS)
            if name in self.names or len(name) == 1:
                hint = f"For a product, write {name}*(...)."
            self._refuse(where, f"there is no function {name!r}. {hint}")
        if node.keywords or any(isinstance(each, ast.Starred) for each in node.args):
            self._refuse(span, "arguments are written one after another, without names or *")
        operation = FUNCTIONS[name]
        arity = OPERATIONS[operation].arity
        many = operation in _EXTREMA and len(node.args) > arity
        if len(node.args) != arity and not many:
            wanted = "one argument" if arity == 1 else "two arguments"
            wanted = "two or more arguments" if operation in _EXTREMA else wanted
            self._refuse(span, f"{name} takes {wanted}; got {len(node.args)}")
        arguments = [self._expression(each, depth + 1) for each in node.args]
        while len(arguments) > arity:  # max(a, b, c) is max(max(a, b), c)
            arguments[:2] = [Call(operation, tuple(arguments[:2]), span)]
        return Call(operation, tuple(arguments), span)

    def _number(self, value: object, span: tuple[int, int]) -> Number:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self._refuse(span, "only real numbers are read")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self._refuse(span, "this number is too large for a float64")
        return Number(number, self.text[span[0] : span[1]], span)

    def _span(self, node: ast.AST) -> tuple[int, int]:
        """Where in the text a node is; the parser counts bytes of a line."""

        def position(line: int, column: int) -> int:
            return self.starts[line - 1] + len(self.lines[line - 1][:column].decode())

        places = (getattr(node, name) for name in _PLACES)
        line, column, end_line, end_column = places
        return position(line, column), position(end_line, end_column)

    def _foreign(self, node: ast.AST, span: tuple[int, int] | None = None) -> NoReturn:
        where = span or self._span(node)
        what = _FOREIGN.get(type(node))
        if what is None and isinstance(node, ast.stmt):
            what = "a statement"
        self._refuse(where, f"is not part of the grammar: {what or 'this'}")

    def _refuse(self, span: tuple[int, int], message: str) -> NoReturn:
        stop = "" if message.endswith((".", "?")) else "."
        raise ConfigError(f"explain: {self.source.place(*span)}: {message}{stop}")


_PLACES: Sequence[str] = ("lineno", "col_offset", "end_lineno", "end_col_offset")


def names_in(expression: Expression) -> Iterator[Name]:
    """Yield the variables of an expression, in order, each as often as it occurs."""
    if isinstance(expression, Name):
        yield expression
    elif isinstance(expression, Call):
        for argument in expression.arguments:
            yield from names_in(argument)
