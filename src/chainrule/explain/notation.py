"""How expressions and numbers are written: as text, as LaTeX and as MathML.

The text is in the grammar of this room again, so it can be copied and explained in turn.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping
from html import escape

from chainrule.explain.grammar import Call, Expression, Name, Number
from chainrule.explain.operations import OPERATIONS

__all__ = [
    "GREEK_LETTERS",
    "PARTIAL",
    "format_number",
    "name_to_latex",
    "substitute",
    "to_latex",
    "to_mathml",
    "to_text",
]

_SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(1, 6)
_LEVELS = {
    "add": _SUM,
    "subtract": _SUM,
    "multiply": _PRODUCT,
    "divide": _PRODUCT,
    "negative": _SIGN,
    "power": _POWER,
}
# The levels that need no parentheses on the left and on the right of an operator. A sign on the
# right gets some, as in 2*(-1), for the eye.
_TERMS = (_SUM, _PRODUCT, _SIGN, _POWER, _ATOM)
_BARE = {
    "add": (_TERMS, (_PRODUCT, _POWER, _ATOM)),
    "subtract": (_TERMS, (_PRODUCT, _POWER, _ATOM)),
    "multiply": (_TERMS[1:], (_POWER, _ATOM)),
    "divide": (_TERMS[1:], (_POWER, _ATOM)),
    "power": ((_ATOM,), (_ATOM,)),
}
_SHORT = {"maximum": "max", "minimum": "min", "absolute": "abs"} | {
    f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")
}


def format_number(value: float, digits: int) -> str:
    """Write a number with so many significant digits.

    Parameters
    ----------
    value : float
        Any.
    digits : int
        At least 1; with 17, as many as it takes to read the same number back.

    Returns
    -------
    str
        As short as it gets: ``0.5``, ``1e-5``, ``inf``.

    Examples
    --------
    >>> format_number(47.3026, 5), format_number(1e-5, 5), format_number(-0.0, 5)
    ('47.303', '1e-5', '0')
    """
    text = f"{value:.{digits}g}" if digits < 17 else f"{float(value)!r}".removesuffix(".0")
    if "e" in text:
        head, _, exponent = text.partition("e")
        return f"{head}e{int(exponent)}"
    return "0" if text == "-0" else text


def substitute(expression: Expression, values: Mapping[str, Expression]) -> Expression:
    """Put expressions in the place of variables; those not named stay."""
    if isinstance(expression, Name):
        return values.get(expression.name, expression)
    if isinstance(expression, Call):
        arguments = tuple(substitute(each, values) for each in expression.arguments)
        return Call(expression.operation, arguments, expression.span)
    return expression


def _level(expression: Expression) -> int:
    if isinstance(expression, Call):
        return _LEVELS.get(expression.operation, _ATOM)
    if isinstance(expression, Number):
        return _SIGN if expression.text.startswith("-") else _ATOM
    return _ATOM


def to_text(expression: Expression) -> str:
    """Write an expression in the grammar.

    Parameters
    ----------
    expression : Expression
        What to write.

    Returns
    -------
    str
        With no more parentheses than needed.

    Examples
    --------
    >>> from chainrule.explain.grammar import parse
    >>> to_text(parse("((x)*y) - (1 - x)**2")[0].expression)
    'x*y - (1 - x)**2'
    """
    if isinstance(expression, Number):
        return expression.text
    if isinstance(expression, Name):
        return expression.name
    operation, arguments = expression.operation, expression.arguments
    level = _level(expression)
    if level == _ATOM:
        inside = ", ".join(map(to_text, arguments))
        return (
            inside if operation == "identity" else f"{_SHORT.get(operation, operation)}({inside})"
        )
    if operation == "negative":
        inside = to_text(arguments[0])
        return f"-{inside}" if _level(arguments[0]) >= _POWER else f"-({inside})"
    sides = [
        to_text(each) if _level(each) in levels else f"({to_text(each)})"
        for each, levels in zip(arguments, _BARE[operation], strict=True)
    ]
    symbol = OPERATIONS[operation].symbol
    return (f" {symbol} " if level == _SUM else symbol).join(sides)


class _Notation(ABC):
    """What LaTeX and MathML have in common: fractions, powers, roots and bars."""

    def write(self, expression: Expression) -> str:
        if isinstance(expression, Number):
            return self.number(expression)
        if isinstance(expression, Name):
            return self.name(expression.name)
        operation, arguments = expression.operation, expression.arguments
        if operation in ("add", "subtract"):
            symbol = OPERATIONS[operation].symbol
            return self.row(self.inside(arguments[0], _SUM), symbol, self.right(arguments[1]))
        if operation == "multiply":
            left, right = arguments
            return self.row(self.inside(left, _PRODUCT), "*", self.inside(right, _POWER))
        if operation == "divide":
            return self.fraction(self.write(arguments[0]), self.write(arguments[1]))
        if operation == "negative":
            return self.row("", "-", self.inside(arguments[0], _POWER))
        if operation == "power":
            return self.power(self.inside(arguments[0], _ATOM), self.write(arguments[1]))
        if operation == "square":
            return self.power(self.inside(arguments[0], _ATOM), self.number(Number(2, "2")))
        if operation == "exp":
            return self.power(self.name("e"), self.write(arguments[0]))
        if operation == "sqrt":
            return self.root(self.write(arguments[0]))
        if operation == "absolute":
            return self.bars(self.write(arguments[0]))
        if operation == "identity":
            return self.write(arguments[0])
        return self.function(operation, [self.write(each) for each in arguments])

    def inside(self, expression: Expression, lowest: int) -> str:
        text = self.write(expression)
        atomic = {"exp": _POWER, "square": _POWER, "divide": _POWER}
        level = _level(expression)
        if isinstance(expression, Call):
            level = atomic.get(expression.operation, level)
        if isinstance(expression, Number) and "e" in expression.text.lower() and lowest > _PRODUCT:
            level = min(level, _PRODUCT)  # 1.2 times a power of ten
        return text if level >= lowest else self.brackets(text)

    def right(self, expression: Expression) -> str:
        """Write the right side of a sum, where products stay as they are and signs do not."""
        return self.inside(expression, _PRODUCT if _level(expression) == _PRODUCT else _POWER)

    @abstractmethod
    def number(self, number: Number) -> str: ...
    @abstractmethod
    def name(self, name: str) -> str: ...
    @abstractmethod
    def row(self, left: str, symbol: str, right: str) -> str: ...
    @abstractmethod
    def fraction(self, above: str, below: str) -> str: ...
    @abstractmethod
    def power(self, base: str, exponent: str) -> str: ...
    @abstractmethod
    def root(self, inside: str) -> str: ...
    @abstractmethod
    def bars(self, inside: str) -> str: ...
    @abstractmethod
    def brackets(self, inside: str) -> str: ...
    @abstractmethod
    def function(self, operation: str, arguments: list[str]) -> str: ...


_SUBSCRIPTED = re.compile(r"(.*?[^\d_])_?(\d+)|(.+?)\[(.*)\]")
PARTIAL = "∂"  # a name that begins with it is a derivative


def _split(name: str) -> tuple[str, str]:
    """``w12``, ``w_12`` and ``w[12]`` are w with the subscript 12."""
    match = _SUBSCRIPTED.fullmatch(name)
    if match is None:
        return name, ""
    return (match[1], match[2]) if match[1] else (match[3], match[4])


class _Latex(_Notation):
    def number(self, number: Number) -> str:
        if number.text in ("pi", "inf", "-inf"):
            return number.text.replace("pi", r"\pi").replace("inf", r"\infty")
        head, _, exponent = number.text.lower().replace("_", "").partition("e")
        if exponent and head:
            return rf"{head} \cdot 10^{{{int(exponent)}}}"
        return head or "e"

    def name(self, name: str) -> str:
        if name.startswith(PARTIAL):
            return rf"\partial {self.name(name[1:])}".rstrip()
        stem, index = _split(name)
        if len(stem) > 1:
            upright = stem.replace("_", r"\_")
            stem = _GREEK.get(stem, rf"\mathrm{{{upright}}}")
        else:
            stem = GREEK_LETTERS.get(stem, stem)
        return f"{stem}_{{{index}}}" if index else stem

    def row(self, left: str, symbol: str, right: str) -> str:
        symbol = {"*": r"\cdot"}.get(symbol, symbol)
        return f"{left} {symbol} {right}" if left else f"{symbol}{right}"

    def fraction(self, above: str, below: str) -> str:
        return rf"\frac{{{above}}}{{{below}}}"

    def power(self, base: str, exponent: str) -> str:
        return f"{base}^{{{exponent}}}"

    def root(self, inside: str) -> str:
        return rf"\sqrt{{{inside}}}"

    def bars(self, inside: str) -> str:
        return rf"\left\lvert {inside}\right\rvert"

    def brackets(self, inside: str) -> str:
        return rf"\left({inside}\right)"

    def function(self, operation: str, arguments: list[str]) -> str:
        own = {
            "log": r"\ln",
            "log2": r"\log_{2}",
            "log10": r"\log_{10}",
            "sigmoid": r"\sigma",
            "maximum": r"\max",
            "minimum": r"\min",
            **{name: rf"\{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
            **{f"arc{name}": rf"\arc{name}" for name in ("sin", "cos", "tan")},
        }
        named = own.get(operation, rf"\operatorname{{{operation}}}")
        return named + self.brackets(", ".join(arguments))


def _letter(name: str, case: str = "SMALL") -> str:
    official = "LAMDA" if name == "lambda" else name.upper()
    return unicodedata.lookup(f"GREEK {case} LETTER {official}")


_GREEK = {
    name: rf"\{name}"
    for name in (
        *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"),
        *("lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi"),
        *("psi", "omega"),
    )
}
_CAPITALS = (
    "gamma",
    "delta",
    "theta",
    "lambda",
    "xi",
    "pi",
    "sigma",
    "upsilon",
    "phi",
    "psi",
    "omega",
)
GREEK_LETTERS = {_letter(name): command for name, command in _GREEK.items()} | {
    _letter(name, "CAPITAL"): rf"\{name.capitalize()}" for name in _CAPITALS
}


class _Mathml(_Notation):
    def number(self, number: Number) -> str:
        text = number.text.lower().replace("_", "")
        if text in ("pi", "e"):
            return self.name(text)
        sign = "<mo>&#x2212;</mo>" if text.startswith("-") else ""
        head, _, exponent = text.removeprefix("-").partition("e")
        plain = f"{sign}<mn>{'∞' if head == 'inf' else escape(head)}</mn>"
        if not exponent:
            return f"<mrow>{plain}</mrow>" if sign else plain
        ten = self.power("<mn>10</mn>", self.number(Number(0, str(int(exponent)))))
        return f"<mrow>{plain}<mo>·</mo>{ten}</mrow>"

    def name(self, name: str) -> str:
        if name.startswith(PARTIAL):
            rest = self.name(name[1:]) if name[1:] else ""
            return f"<mrow><mo>∂</mo>{rest}</mrow>"
        stem, index = _split(name)
        if stem in _GREEK:
            stem = _letter(stem)
        text = f"<mi>{escape(stem)}</mi>"
        return f"<msub>{text}<mn>{index}</mn></msub>" if index else text

    def row(self, left: str, symbol: str, right: str) -> str:
        symbol = {"*": "·", "-": "&#x2212;"}.get(symbol, symbol)
        form = "" if left else ' form="prefix"'
        return f"<mrow>{left}<mo{form}>{symbol}</mo>{right}</mrow>"

    def fraction(self, above: str, below: str) -> str:
        return f"<mfrac>{above}{below}</mfrac>"

    def power(self, base: str, exponent: str) -> str:
        return f"<msup>{base}{exponent}</msup>"

    def root(self, inside: str) -> str:
        return f"<msqrt>{inside}</msqrt>"

    def bars(self, inside: str) -> str:
        return f"<mrow><mo>|</mo>{inside}<mo>|</mo></mrow>"

    def brackets(self, inside: str) -> str:
        return f"<mrow><mo>(</mo>{inside}<mo>)</mo></mrow>"

    def function(self, operation: str, arguments: list[str]) -> str:
        own = {"log": "ln", "sigmoid": "&#x3C3;", "maximum": "max", "minimum": "min"}
        if operation in ("log2", "log10"):
            name = f"<msub><mi>log</mi><mn>{operation[3:]}</mn></msub>"
        else:
            name = f"<mi>{own.get(operation, operation)}</mi>"
        inside = "<mo>,</mo>".join(arguments)
        return f"<mrow>{name}<mo>&#x2061;</mo>{self.brackets(inside)}</mrow>"


_LATEX, _MATHML = _Latex(), _Mathml()


def to_latex(expression: Expression) -> str:
    r"""Write an expression in LaTeX, for mathematics mode.

    Parameters
    ----------
    expression : Expression
        What to write.

    Returns
    -------
    str
        LaTeX.

    Examples
    --------
    >>> from chainrule.explain.grammar import parse
    >>> to_latex(parse("w1/sqrt(1 - a**2)")[0].expression)
    '\\frac{w_{1}}{\\sqrt{1 - a^{2}}}'
    """
    return _LATEX.write(expression)


def name_to_latex(name: str) -> str:
    """Write the name of a variable in LaTeX: digits at its end are a subscript."""
    return _LATEX.name(name)


def to_mathml(expression: Expression) -> str:
    """Write an expression as presentation MathML, without the element ``math`` around it.

    Parameters
    ----------
    expression : Expression
        What to write.

    Returns
    -------
    str
        MathML.

    Examples
    --------
    >>> from chainrule.explain.grammar import parse
    >>> to_mathml(parse("x1/2")[0].expression)
    '<mfrac><msub><mi>x</mi><mn>1</mn></msub><mn>2</mn></mfrac>'
    """
    return _MATHML.write(expression)
