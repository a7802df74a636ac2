"""The operations that expressions are made of, and the formulas of their derivatives.

One row of `OPERATIONS` is one operation. Its derivatives are formulas in the grammar of this
room, of the operands ``a`` and ``b`` and the result ``y``; the derivative that a sweep uses is
this formula evaluated, so what is shown is what is computed. Where an operation has branches,
the formulas depend on the side the operands are on, and a kink is said to be one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["FUNCTIONS", "KINKS", "OPERATIONS", "Branch", "Operation", "choose_formulas"]


def _anything(*operands: float) -> str:
    """What operations need that have a result everywhere."""
    return ""


@dataclass(frozen=True)
class Branch:
    """The derivatives of an operation where its operands are.

    Parameters
    ----------
    formulas : tuple of str
        One for each operand.
    because : str, default ""
        What chose them, such as ``"a > b"``; empty where there is nothing to choose.
    kink : bool, default False
        Whether the operation has no derivative here, and the formulas are a convention.
    """

    formulas: tuple[str, ...]
    because: str = ""
    kink: bool = False


@dataclass(frozen=True)
class Operation:
    """One operation on numbers.

    Parameters
    ----------
    arity : int
        How many operands it takes.
    value : callable
        Its result, for float64 and complex128 numbers and arrays.
    derivatives : tuple of str, or callable
        Formulas of the derivative by each operand; or what finds a `Branch`, given the operands
        and which of them are constants.
    needs : callable, optional
        Given the operands, says what they had to be, such as ``"a number above 0"``, and returns
        an empty text where they are right.
    symbol : str, default ""
        How it is written between (or, with one operand, before) its operands.
    """

    arity: int
    value: Callable[..., Any]
    derivatives: tuple[str, ...] | Callable[[Sequence[float], Sequence[bool]], Branch]
    needs: Callable[..., str] = _anything
    symbol: str = ""


def choose_formulas(
    name: str, operands: Sequence[float], constant: Sequence[bool] | None = None
) -> Branch:
    """Choose the formulas of an operation's derivatives.

    Parameters
    ----------
    name : str
        A key of `OPERATIONS`.
    operands : sequence of float
        Where.
    constant : sequence of bool, optional
        Which operands are constants, as formulas may be simpler then; by default none.

    Returns
    -------
    Branch
        Its formulas are in ``a``, ``b`` and ``y``.

    Examples
    --------
    >>> choose_formulas("multiply", (2.0, 3.0)).formulas
    ('b', 'a')
    >>> choose_formulas("maximum", (2.0, 3.0)).because
    'a < b'
    """
    derivatives = OPERATIONS[name].derivatives
    if isinstance(derivatives, tuple):
        return Branch(derivatives)
    return derivatives(operands, constant or [False] * len(operands))


def _sigmoid(a: Any) -> Any:
    small = np.exp(np.where(np.real(a) < 0, a, -a))  # never overflows
    return np.where(np.real(a) < 0, small, 1) / (1 + small)


def _softplus(a: Any) -> Any:
    positive = np.real(a) > 0
    return np.where(positive, a, 0) + np.log1p(np.exp(np.where(positive, -a, a)))


def _absolute(a: Any) -> Any:
    return np.where(np.real(a) < 0, -a, a)  # np.abs of a complex number would not be analytic


def _relu(a: Any) -> Any:
    return np.where(np.real(a) > 0, a, 0 * a)


def _maximum(a: Any, b: Any) -> Any:
    return np.where(np.real(a) >= np.real(b), a, b)


def _minimum(a: Any, b: Any) -> Any:
    return np.where(np.real(a) <= np.real(b), a, b)


def _power_branch(operands: Sequence[float], constant: Sequence[bool]) -> Branch:
    base, exponent = operands
    if not constant[1]:
        # x**y is 0 for x = 0 and every y above 0.
        return Branch(("b*a**(b - 1)", "0" if base == 0 and exponent > 0 else "y*log(a)"))
    simple = {0.0: "0", 1.0: "1", 2.0: "2*a"}
    rest = float(exponent) - 1
    general = f"b*a**{int(rest)}" if rest.is_integer() and rest > 0 else "b*a**(b - 1)"
    return Branch((simple.get(float(exponent), general), "y*log(a)"))


def _absolute_branch(operands: Sequence[float], constant: Sequence[bool]) -> Branch:
    if operands[0] == 0:
        return Branch(("0",), "a = 0", kink=True)
    return Branch(("1",), "a > 0") if operands[0] > 0 else Branch(("-1",), "a < 0")


def _relu_branch(operands: Sequence[float], constant: Sequence[bool]) -> Branch:
    if operands[0] == 0:
        return Branch(("0",), "a = 0", kink=True)
    return Branch(("1",), "a > 0") if operands[0] > 0 else Branch(("0",), "a < 0")


def _maximum_branch(operands: Sequence[float], constant: Sequence[bool]) -> Branch:
    a, b = operands
    if a == b:
        return Branch(("1/2", "1/2"), "a = b", kink=True)
    return Branch(("1", "0"), "a > b") if a > b else Branch(("0", "1"), "a < b")


def _minimum_branch(operands: Sequence[float], constant: Sequence[bool]) -> Branch:
    a, b = operands
    if a == b:
        return Branch(("1/2", "1/2"), "a = b", kink=True)
    return Branch(("1", "0"), "a < b") if a < b else Branch(("0", "1"), "a > b")


def _above(limit: float) -> Callable[[float], str]:
    return lambda a: "" if a > limit else f"a number above {limit:g}"


def _at_least(limit: float) -> Callable[[float], str]:
    return lambda a: "" if a >= limit else f"a number of at least {limit:g}"


def _inside(a: float) -> str:
    return "" if -1 < a < 1 else "a number between -1 and 1, both excluded"


def _within(a: float) -> str:
    return "" if -1 <= a <= 1 else "a number from -1 to 1"


def _divisor(a: float, b: float) -> str:
    return "" if b != 0 else "a divisor other than 0"


def _power_needs(a: float, b: float) -> str:
    if a == 0 and b < 0:
        return "a base other than 0 for a negative exponent"
    if a < 0 and not float(b).is_integer():
        return "a base of at least 0 for an exponent that is no integer"
    return ""


OPERATIONS: dict[str, Operation] = {
    "identity": Operation(1, lambda a: a, ("1",)),
    "add": Operation(2, lambda a, b: a + b, ("1", "1"), symbol="+"),
    "subtract": Operation(2, lambda a, b: a - b, ("1", "-1"), symbol="-"),
    "multiply": Operation(2, lambda a, b: a * b, ("b", "a"), symbol="*"),
    "divide": Operation(2, lambda a, b: a / b, ("1/b", "-a/b**2"), _divisor, symbol="/"),
    "negative": Operation(1, lambda a: -a, ("-1",), symbol="-"),
    "power": Operation(2, np.power, _power_branch, _power_needs, symbol="**"),
    "square": Operation(1, lambda a: a * a, ("2*a",)),
    "sqrt": Operation(1, np.sqrt, ("1/(2*y)",), _at_least(0)),
    "exp": Operation(1, np.exp, ("exp(a)",)),
    "expm1": Operation(1, np.expm1, ("exp(a)",)),
    "log": Operation(1, np.log, ("1/a",), _above(0)),
    "log2": Operation(1, lambda a: np.log(a) / np.log(2), ("1/(a*log(2))",), _above(0)),
    "log10": Operation(1, lambda a: np.log(a) / np.log(10), ("1/(a*log(10))",), _above(0)),
    "log1p": Operation(1, np.log1p, ("1/(1 + a)",), _above(-1)),
    "sin": Operation(1, np.sin, ("cos(a)",)),
    "cos": Operation(1, np.cos, ("-sin(a)",)),
    "tan": Operation(1, np.tan, ("1 + y**2",)),
    "arcsin": Operation(1, np.arcsin, ("1/sqrt(1 - a**2)",), _within),
    "arccos": Operation(1, np.arccos, ("-1/sqrt(1 - a**2)",), _within),
    "arctan": Operation(1, np.arctan, ("1/(1 + a**2)",)),
    "sinh": Operation(1, np.sinh, ("cosh(a)",)),
    "cosh": Operation(1, np.cosh, ("sinh(a)",)),
    "tanh": Operation(1, np.tanh, ("1 - y**2",)),
    "arcsinh": Operation(1, np.arcsinh, ("1/sqrt(a**2 + 1)",)),
    "arccosh": Operation(1, np.arccosh, ("1/sqrt(a**2 - 1)",), _at_least(1)),
    "arctanh": Operation(1, np.arctanh, ("1/(1 - a**2)",), _inside),
    "sigmoid": Operation(1, _sigmoid, ("y*(1 - y)",)),
    "softplus": Operation(1, _softplus, ("sigmoid(a)",)),
    "absolute": Operation(1, _absolute, _absolute_branch),
    "relu": Operation(1, _relu, _relu_branch),
    "maximum": Operation(2, _maximum, _maximum_branch),
    "minimum": Operation(2, _minimum, _minimum_branch),
}

# What may be written in front of parentheses, and which operation it is.
FUNCTIONS: dict[str, str] = {
    **{
        name: name
        for name in (
            *("square", "sqrt", "exp", "expm1", "log", "log2", "log10", "log1p"),
            *("sin", "cos", "tan", "arcsin", "arccos", "arctan"),
            *("sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh"),
            *("sigmoid", "softplus", "relu", "maximum", "minimum"),
        )
    },
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "abs": "absolute",
    "absolute": "absolute",
    "ln": "log",
    "max": "maximum",
    "min": "minimum",
    "pow": "power",
    "power": "power",
}

# What is taken for the derivative where there is none.
KINKS: dict[str, str] = {
    "absolute": "the derivative of abs at 0 is taken to be 0",
    "relu": "the derivative of relu at 0 is taken to be 0",
    "maximum": "at a tie, half of the derivative of max goes to each side",
    "minimum": "at a tie, half of the derivative of min goes to each side",
}
