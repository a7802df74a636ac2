"""The problems that ``chainrule descend`` knows by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import MappingProxyType

import numpy as np

from chainrule.convex.linear import LinearModel
from chainrule.convex.problems import Problem
from chainrule.convex.shapes import GeometricMedian, LargestDeviation, QuadraticBowl
from chainrule.errors import ConfigError, explain, nearest

__all__ = ["PROBLEMS", "load_problem"]


def load_problem(name: str) -> Problem:
    """Build one of the problems that are known by name.

    Parameters
    ----------
    name : str
        A key of `PROBLEMS`.

    Returns
    -------
    Problem
        The same object for the same name, so that its minimum is found once.

    Raises
    ------
    ConfigError
        If there is no such problem; the message names the nearest.

    Examples
    --------
    >>> problem = load_problem("logistic_iris")
    >>> problem.dimension, problem.num_terms
    (5, 100)
    >>> problem.minimum.gap < 1e-9
    True
    """
    if name not in PROBLEMS:
        hint = nearest(str(name), PROBLEMS)
        rule = "be the name of a problem"
        raise ConfigError(explain("load_problem", "name", rule, repr(name), hint))
    return _built(name)


@cache
def _built(name: str) -> Problem:
    return PROBLEMS[name][1](name, PROBLEMS[name][0])


def _standardised(x: np.ndarray, constant: bool = True) -> np.ndarray:
    """Columns of mean 0 and deviation 1, constant ones left out, and a column of ones."""
    spread = x.std(axis=0)
    x = (x - x.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    return np.column_stack([x, np.ones(len(x))]) if constant else x


def _two_classes(data: str, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples of two classes of a data set of scikit-learn, labelled -1 and 1."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{data}")(return_X_y=True)
    chosen = (y == first) | (y == second)
    return x[chosen].astype(np.float64), np.where(y[chosen] == second, 1.0, -1.0)


def _classifier(
    loss: str, data: str, first: int, second: int, l2: float = 0.0
) -> Callable[[str, str], Problem]:
    def build(name: str, about: str) -> Problem:
        x, y = _two_classes(data, first, second)
        return LinearModel(name, loss, _standardised(x), y, l2, about)

    return build


def _petals(loss: str) -> Callable[[str, str], Problem]:
    def build(name: str, about: str) -> Problem:
        x, y = _two_classes("iris", 1, 2)
        return LinearModel(name, loss, _standardised(x[:, 2:], constant=False), y, about=about)

    return build


def _diabetes(name: str, about: str) -> Problem:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return LinearModel(name, "absolute", _standardised(x), (y - y.mean()) / y.std(), about=about)


def _deviations(name: str, about: str) -> Problem:
    from sklearn.datasets import load_iris

    lengths = load_iris().data[:, 2]
    return LinearModel(name, "absolute", np.ones((len(lengths), 1)), lengths, about=about)


def _line(name: str, about: str) -> Problem:
    x = np.linspace(-1.0, 1.0, 9)
    y = 0.5 + 1.5 * x + 0.1 * np.array([1, -2, 0, 2, -1, 1, 0, -2, 0])
    y[-1] = -2.0  # the outlier
    return LinearModel(name, "absolute", np.column_stack([np.ones_like(x), x]), y, about=about)


def _median(name: str, about: str) -> Problem:
    points = [[-1.0, 0.2], [0.4, 2.6], [1.2, 1.0], [2.4, 1.6], [2.8, -0.6], [3.4, 2.4], [0.6, -0.8]]
    return GeometricMedian(name, points, about)


def _bowl(name: str, about: str) -> Problem:
    centres = [[2.4, 1.6], [1.6, 1.0], [2.6, 0.4], [1.4, 1.0]]
    return QuadraticBowl(name, [[1.0, 0.6], [0.6, 2.0]], centres, about)


def _valley(name: str, about: str) -> Problem:
    return QuadraticBowl(name, [[0.1, 0.0], [0.0, 4.0]], [[3.0, 0.4], [1.0, 0.6]], about)


def _kink(name: str, about: str) -> Problem:
    return LargestDeviation(name, [1.0], about)


def _worst_case(name: str, about: str) -> Problem:
    return LargestDeviation(name, np.full(100, 0.1), about)


def _two_terms(name: str, about: str) -> Problem:
    return LinearModel(name, "logistic", [[1.0], [1.0]], [-1.0, 1.0], about=about)


Build = Callable[[str, str], Problem]

PROBLEMS: MappingProxyType[str, tuple[str, Build]] = MappingProxyType(
    {
        "logistic_iris": (
            "logistic regression, iris versicolor and virginica",
            _classifier("logistic", "iris", 1, 2),
        ),
        "logistic_cancer": (
            "logistic regression, breast cancer, L2 penalty 0.01",
            _classifier("logistic", "breast_cancer", 0, 1, 0.01),
        ),
        "logistic_digits": (
            "logistic regression, digits 3 and 8, L2 penalty 0.01",
            _classifier("logistic", "digits", 3, 8, 0.01),
        ),
        "hinge_iris": (
            "hinge loss, iris versicolor and virginica",
            _classifier("hinge", "iris", 1, 2),
        ),
        "hinge_cancer": (
            "hinge loss, breast cancer, L2 penalty 0.01 (a support vector machine)",
            _classifier("hinge", "breast_cancer", 0, 1, 0.01),
        ),
        "hinge_digits": (
            "hinge loss, digits 3 and 8, L2 penalty 0.01 (a support vector machine)",
            _classifier("hinge", "digits", 3, 8, 0.01),
        ),
        "absolute_diabetes": ("least absolute deviations, progress of diabetes", _diabetes),
        "logistic_petals": (
            "logistic regression in two dimensions, petals of the two irises",
            _petals("logistic"),
        ),
        "hinge_petals": (
            "hinge loss in two dimensions, petals of the two irises",
            _petals("hinge"),
        ),
        "line": ("a line through points with an outlier, least absolute deviations", _line),
        "geometric_median": ("mean distance to seven points of the plane", _median),
        "bowl": ("the mean of four paraboloids in two dimensions", _bowl),
        "valley": ("a paraboloid 40 times as steep one way as the other", _valley),
        "deviations": ("mean distance to the petal lengths of all irises, a median", _deviations),
        "kink": ("f(w) = |w - 1|", _kink),
        "worst_case": (
            "the largest |w_i - 0.1| in 100 dimensions, where T = 100 attains the bound",
            _worst_case,
        ),
        "two_terms": ("half of f1 + f2 = ln(1 + e^w) + ln(1 + e^-w)", _two_terms),
    }
)
"""Name -> what it is, and what builds it."""
