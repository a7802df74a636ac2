"""Known layers as a doctor knows them: the formula, its gradient, and how people get it wrong.

Each layer is a `Formula`: a forward, a backward, and `mistakes`, which yields what a backward with
a common bug would return. They are plain NumPy in float64, made for comparing and not for speed.
This file has the elementwise layers, linear ones, dropout and losses; `windows` and
`normalising` have the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import erf as _erf
from math import pi, prod, sqrt
from typing import Any

import numpy as np

__all__ = [
    "Elementwise",
    "Flatten",
    "Formula",
    "Linear",
    "Mistake",
    "Transpose",
    "agrees",
    "axis_sums",
    "elementwise_formulas",
    "scaling",
]

Arrays = list[np.ndarray]
Maybe = np.ndarray | None
erf = np.vectorize(_erf, otypes=[np.float64])


@dataclass(frozen=True)
class Mistake:
    """A bug and what it makes of the gradients.

    Parameters
    ----------
    code : str
        Short name of the kind of bug.
    sentence : str
        What the backward does.
    gradients : list of ndarray or None
        By the input and by each parameter; None where the bug changes nothing.
    """

    code: str
    sentence: str
    gradients: list[Maybe]


class Formula:
    """A layer of one input and perhaps parameters."""

    title: str

    def forward(self, x: np.ndarray, params: Arrays) -> np.ndarray:
        """Compute the output."""
        raise NotImplementedError

    def backward(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Arrays:
        """Compute the right gradients, by the input and then by each parameter."""
        raise NotImplementedError

    def mistakes(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Iterator[Mistake]:
        """Yield wrong gradients that are seen in practice."""
        yield from ()

    def terms(
        self, slot: int, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> list[tuple[str, str, np.ndarray]]:
        """Parts (code of a bug in it, name, value) that add up to the gradient of a slot."""
        return []

    def pattern(
        self, slot: int, analytic: np.ndarray, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> tuple[str, str] | None:
        """Code and sentence for where a wrong gradient differs, if that tells the bug."""
        return None


# --- elementwise ----------------------------------------------------------------------------


@dataclass
class Elementwise(Formula):
    """``out = function(x)`` element by element.

    Parameters
    ----------
    title : str
        Its name.
    function, slope : callable
        The function and its derivative, of an array.
    wrong : callable
        Of x, out and dout: yields (code, sentence, wrong slope).
    parts : callable, optional
        Of x: names and values of the terms of the derivative.
    kinked : bool
        Whether it has a kink at 0.
    """

    title: str
    function: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]
    wrong: Callable[[np.ndarray, np.ndarray, np.ndarray], list[tuple[str, str, np.ndarray]]]
    parts: Callable[[np.ndarray], list[tuple[str, np.ndarray]]] | None = None
    kinked: bool = False

    def forward(self, x: np.ndarray, params: Arrays) -> np.ndarray:
        """Apply the function."""
        return self.function(x)

    def backward(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Arrays:
        """``dx = dout slope(x)``."""
        return [dout * self.slope(x)]

    def mistakes(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Iterator[Mistake]:
        """Other slopes."""
        right = self.slope(x)
        yield Mistake(
            "local_missing", f"the derivative of {self.title} is left out: dx = dout", [dout]
        )
        yield Mistake(
            "upstream_ignored",
            f"dout is not used: dx is the derivative of {self.title} alone",
            [right],
        )
        sentence = f"dout and the derivative of {self.title} are added instead of multiplied"
        yield Mistake("upstream_added", sentence, [dout + right])
        for code, sentence, slope in self.wrong(x, self.function(x), dout):
            yield Mistake(code, sentence, [dout * slope])
            yield Mistake("upstream_ignored", f"dout is not used, and {sentence}", [slope * 1.0])
        shifted = [
            ("input_for_output", "the derivative is taken at the output instead of the input",
             self.function(x)),
            ("input_for_output", "the derivative is taken at dout instead of the input", dout),
        ]  # fmt: skip
        for code, sentence, at in shifted:
            code = "mask_wrong_tensor" if self.kinked else code
            yield Mistake(code, sentence, [dout * self.slope(at)])

    def pattern(
        self, slot: int, analytic: np.ndarray, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> tuple[str, str] | None:
        """Whether one side of a kink is right and the other not."""
        if not self.kinked:
            return None
        right = agrees(analytic, dout * self.slope(x))
        if right[x > 0].all() and (x < 0).any() and not right[x < 0].any():
            sentence = "where x > 0 the gradient is right, elsewhere it is not"
            return ("leaky_slope" if self.slope(-np.ones(1)) else "mask_wrong_tensor"), sentence
        return None

    def terms(
        self, slot: int, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> list[tuple[str, str, np.ndarray]]:
        """Those of the derivative, times dout."""
        found = [] if self.parts is None else self.parts(x)
        return [("wrong_term", name, dout * value) for name, value in found]


def _relu_wrong(
    x: np.ndarray, out: np.ndarray, dout: np.ndarray, low: float = 0.0
) -> list[tuple[str, str, np.ndarray]]:
    def mask(condition: np.ndarray) -> np.ndarray:
        return np.where(condition, 1.0, low)

    wrong = "mask_wrong_tensor"
    return [
        (wrong, "the mask is dout > 0 instead of x > 0", mask(dout > 0)),
        (wrong, "the mask is the wrong way round: x < 0 instead of x > 0", mask(x < 0)),
        (wrong, "the mask is x != 0 instead of x > 0", mask(x != 0)),
        (wrong, "the mask is x == 0 instead of x > 0", mask(x == 0)),
        (wrong, "the mask is x > 1 instead of x > 0", mask(x > 1)),
        (wrong, "the mask is x > -1 instead of x > 0", mask(x > -1)),
        (wrong, "the mask is x > mean(x) instead of x > 0", mask(x > x.mean())),
        (
            wrong,
            "the negative side gets the gradient -1 instead of 0",
            np.where(x > 0, 1, -1 / dout),
        ),
        (wrong, "the negative side gets the gradient 1 instead of 0", np.where(x > 0, 1, 1 / dout)),
        (wrong, "the negative side gets -dout instead of 0", np.where(x > 0, 1.0, -1.0)),
        (wrong, "dout is multiplied by x where x > 0 instead of by 1", np.where(x > 0, x, low)),
        (wrong, "dout is multiplied by the output instead of the mask", out),
        (wrong, "dout is multiplied by x instead of the mask", x),
        (wrong, "dout is multiplied by sign(x) instead of the mask", np.sign(x)),
    ]


def _leaky(slope: float) -> Elementwise:
    def wrong(x: np.ndarray, out: np.ndarray, dout: np.ndarray) -> list[Any]:
        missing = "leaky_slope"
        return [
            *_relu_wrong(x, out, dout, slope),
            (missing, "the negative side gets gradient 0 instead of the slope", x > 0),
            (missing, "the negative side gets gradient 1 instead of the slope", np.ones_like(x)),
            (missing, "the negative side gets the slope with the wrong sign",
             np.where(x > 0, 1.0, -slope)),
            (missing, "the negative side gets the slope twice", np.where(x > 0, 1.0, slope**2)),
            (missing, "dout is not used on the negative side",
             np.where(x > 0, 1.0, slope / dout)),
            (missing, "the negative side gets slope / dout", np.where(x > 0, 1.0, slope / dout**2)),
            (missing, "the negative side gets slope + dout",
             np.where(x > 0, 1.0, slope / dout + 1)),
            (missing, "the negative side gets slope * x", np.where(x > 0, 1.0, slope * x)),
            (missing, "the positive side gets the slope as well", np.full_like(x, slope)),
        ]  # fmt: skip

    return Elementwise(
        f"leaky ReLU with slope {slope:.4g}" if slope else "ReLU",
        lambda x: np.where(x > 0, x, slope * x),
        lambda x: np.where(x > 0, 1.0, slope),
        wrong if slope else _relu_wrong,
        kinked=True,
    )


def _sigmoid(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = 0.5 * (1 + np.tanh(0.5 * x))
    return result


def _sigmoid_wrong(x: np.ndarray, s: np.ndarray, dout: np.ndarray) -> list[Any]:
    return [
        ("input_for_output", "x (1 - x) instead of s (1 - s): the input is used where the output "
         "belongs", x * (1 - x)),
        ("input_for_output", "s (1 - x): the input is used where the output belongs", s * (1 - x)),
        ("input_for_output", "x (1 - s): the input is used where the output belongs", x * (1 - s)),
        ("missing_factor", "the factor 1 - s is missing", s),
        ("missing_factor", "the factor s is missing", 1 - s),
        ("wrong_term", "s (1 + s) instead of s (1 - s)", s * (1 + s)),
        ("wrong_term", "1 - s^2, the derivative of tanh, instead of s (1 - s)", 1 - s**2),
        ("wrong_term", "s^2 instead of s (1 - s)", s * s),
        ("extra_factor", "a factor s too many", s * s * (1 - s)),
        ("extra_factor", "a factor 1 - s too many", s * (1 - s) ** 2),
    ]  # fmt: skip


def _tanh_wrong(x: np.ndarray, t: np.ndarray, dout: np.ndarray) -> list[Any]:
    return [
        ("input_for_output", "1 - x^2 instead of 1 - tanh(x)^2: the input is used where the output "
         "belongs", 1 - x**2),
        ("missing_factor", "1 - tanh(x): the square is missing", 1 - t),
        ("wrong_term", "1 + tanh(x)^2 instead of 1 - tanh(x)^2", 1 + t**2),
        ("wrong_term", "tanh(x)^2 instead of 1 - tanh(x)^2", t**2),
        ("wrong_term", "t (1 - t), the derivative of a sigmoid, instead of 1 - t^2", t * (1 - t)),
        ("wrong_term", "1 - |tanh(x)|^3: the exponent is 3 instead of 2", 1 - t**3),
    ]  # fmt: skip


def _silu_parts(x: np.ndarray) -> list[tuple[str, np.ndarray]]:
    s = _sigmoid(x)
    return [("s", s), ("x s", x * s), ("-x s^2", -x * s**2)]


def _silu_wrong(x: np.ndarray, out: np.ndarray, dout: np.ndarray) -> list[Any]:
    s = _sigmoid(x)
    return [
        ("missing_factor", "the factor x is missing in the second term", s + s * (1 - s)),
        ("missing_factor", "the factor 1 - s is missing in the second term", s + x * s),
        ("missing_factor", "the factor s is missing in the second term", s + x * (1 - s)),
        ("input_for_output", "the output is used for the sigmoid", out + x * out * (1 - out)),
        ("wrong_term", "s + x s (1 + s): a sign is wrong", s + x * s * (1 + s)),
        ("wrong_term", "the first term is 1 instead of s", 1 + x * s * (1 - s)),
        ("wrong_term", "the first term is x instead of s", x + x * s * (1 - s)),
    ]  # fmt: skip


def _gelu_parts(x: np.ndarray) -> list[tuple[str, np.ndarray]]:
    phi = np.exp(-(x**2) / 2) / sqrt(2 * pi)
    return [("Phi(x)", 0.5 * (1 + erf(x / sqrt(2)))), ("x phi(x)", x * phi)]


def _gelu_wrong(x: np.ndarray, out: np.ndarray, dout: np.ndarray) -> list[Any]:
    (_, cdf), (_, product) = _gelu_parts(x)
    phi = np.exp(-(x**2) / 2) / sqrt(2 * pi)
    missing, wrong = "missing_factor", "wrong_constant"
    return [
        (missing, "the factor x is missing in x phi(x)", cdf + phi),
        (wrong, "phi(x) lacks 1 / sqrt(2 pi)", cdf + product * sqrt(2 * pi)),
        (wrong, "phi(x) has sqrt(pi) for sqrt(2 pi)", cdf + product * sqrt(2)),
        (wrong, "exp(-x^2) instead of exp(-x^2 / 2)",
         cdf + x * np.exp(-(x**2)) / sqrt(2 * pi)),
        (wrong, "exp(+x^2 / 2) instead of exp(-x^2 / 2)",
         cdf + x * np.exp(x**2 / 2) / sqrt(2 * pi)),
        (wrong, "erf(x) instead of erf(x / sqrt(2))", 0.5 * (1 + erf(x)) + product),
        (wrong, "erf(x sqrt(2)) instead of erf(x / sqrt(2))",
         0.5 * (1 + erf(x * sqrt(2))) + product),
        (wrong, "the derivative of the tanh approximation", _gelu_tanh_slope(x)),
    ]  # fmt: skip


def _gelu_tanh_parts(x: np.ndarray) -> list[tuple[str, np.ndarray]]:
    t = np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))
    inner = 0.5 * x * (1 - t**2) * sqrt(2 / pi)
    return [
        ("1/2", np.full_like(x, 0.5)),
        ("t / 2", 0.5 * t),
        ("the derivative of tanh times that of x", inner),
        ("the derivative of tanh times that of 0.044715 x^3", inner * 3 * 0.044715 * x**2),
    ]


def _gelu_tanh_slope(x: np.ndarray) -> np.ndarray:
    slope: np.ndarray = np.sum([value for _, value in _gelu_tanh_parts(x)], axis=0)
    return slope


def _gelu_tanh_wrong(x: np.ndarray, out: np.ndarray, dout: np.ndarray) -> list[Any]:
    (_, half), (_, t), _, (_, _) = _gelu_tanh_parts(x)
    tanh = 2 * t
    inner = sqrt(2 / pi) * (1 + 3 * 0.044715 * x**2)
    missing = "missing_factor"
    return [
        (missing, "the factor 1 - t^2 is missing", half + t + 0.5 * x * inner),
        (missing, "the factor x is missing in the second term",
         half + t + 0.5 * (1 - tanh**2) * inner),
        (missing, "the factor sqrt(2 / pi) is missing",
         half + t + 0.5 * x * (1 - tanh**2) * (1 + 3 * 0.044715 * x**2)),
        ("wrong_term", "1 + t^2 instead of 1 - t^2", half + t + 0.5 * x * (1 + tanh**2) * inner),
        ("wrong_constant", "the derivative of the exact GELU",
         np.sum([value for _, value in _gelu_parts(x)], axis=0)),
    ]  # fmt: skip


def elementwise_formulas(x: np.ndarray, out: np.ndarray) -> list[Formula]:
    """Return the activations that may lead from x to out; a leaky slope is read off."""
    found: list[Formula] = [_leaky(0.0)]
    negative = x < 0
    if negative.any():
        slopes = out[negative] / x[negative]
        if 1e-6 < abs(slopes[0]) < 1 and np.allclose(slopes, slopes[0], rtol=1e-9):
            found.append(_leaky(float(f"{slopes[0]:.12g}")))
    found += [
        Elementwise(
            "sigmoid", _sigmoid, lambda x: _sigmoid(x) * (1 - _sigmoid(x)), _sigmoid_wrong,
            lambda x: [("s", _sigmoid(x)), ("-s^2", -(_sigmoid(x) ** 2))],
        ),
        Elementwise(
            "tanh", np.tanh, lambda x: 1 - np.tanh(x) ** 2, _tanh_wrong,
            lambda x: [("1", np.ones_like(x)), ("-tanh(x)^2", -(np.tanh(x) ** 2))],
        ),
        Elementwise(
            "SiLU", lambda x: x * _sigmoid(x),
            lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))), _silu_wrong,
            _silu_parts,
        ),
        Elementwise(
            "GELU", lambda x: 0.5 * x * (1 + erf(x / sqrt(2))),
            lambda x: np.sum([value for _, value in _gelu_parts(x)], axis=0),
            _gelu_wrong, _gelu_parts,
        ),
        Elementwise(
            "GELU (tanh)",
            lambda x: 0.5 * x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))),
            _gelu_tanh_slope, _gelu_tanh_wrong, _gelu_tanh_parts,
        ),
        Elementwise(
            "exp", np.exp, np.exp,
            lambda x, out, dout: [("input_for_output", "x instead of exp(x)", x)],
        ),
        Elementwise(
            "square", np.square, lambda x: 2 * x,
            lambda x, out, dout: [("input_for_output", "2 out instead of 2 x", 2 * out)],
        ),
    ]  # fmt: skip
    return found


def agrees(analytic: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which elements are right; none where shapes differ."""
    if analytic.shape != right.shape:
        return np.zeros(right.shape, dtype=bool)
    size = float(np.max(np.abs(right), initial=0.0))
    values = np.asarray(analytic, np.float64)
    good: np.ndarray = np.isclose(values, right, rtol=1e-6, atol=1e-8 * size)
    return good


def scaling(scale: np.ndarray) -> Elementwise:
    """Dropout: a mask whose elements are 0 or one number, 1 / (1 - p)."""
    kept = scale != 0
    factor = float(np.max(scale))
    keep = 1 / factor
    wrong, lost = "dropout_mask", "dropout_scale"

    def mistakes(x: np.ndarray, out: np.ndarray, dout: np.ndarray) -> list[Any]:
        return [
            (lost, f"the mask is applied without its scale 1 / (1 - p) = {factor:.6g}", kept * 1.0),
            (lost, "the scale 1 / (1 - p) is applied twice", kept * factor**2),
            (lost, "dropped elements are multiplied by 1 - p instead of divided", kept * keep),
            (lost, "the scale is 1 / p instead of 1 / (1 - p)",
             kept / max(1 - keep, 1e-12)),
            (lost, "the scale is p instead of 1 / (1 - p)", kept * (1 - keep)),
            (wrong, "the mask is not applied: only the scale is", np.full_like(x, factor)),
            (wrong, "the mask is inverted: the dropped elements get the gradient",
             ~kept * factor),
            (wrong, "the mask is inverted and its scale is missing", ~kept * 1.0),
        ]  # fmt: skip

    return Elementwise("dropout", lambda x: x * scale, lambda x: scale * np.ones_like(x), mistakes)


# --- linear ---------------------------------------------------------------------------------


def axis_sums(
    terms: np.ndarray, right: tuple[int, ...], name: str
) -> Iterator[tuple[str, str, Any]]:
    """Yield what summing over other axes than the right ones gives; shapes may differ."""
    for bits in range(2**terms.ndim):
        axes = tuple(axis for axis in range(terms.ndim) if bits >> axis & 1)
        if axes == right:
            continue
        code, words = "wrong_axis", f"is summed over axes {axes} instead of {right}"
        if not axes:
            code, words = "missing_sum", f"is not summed over axes {right}, where it was broadcast"
        elif set(axes) < set(right):
            code, words = "missing_sum", f"is summed over axes {axes} only instead of {right}"
        yield code, f"the gradient by {name} {words}", terms.sum(axis=axes)
        if axes:
            count = prod(terms.shape[axis] for axis in axes)
            yield (
                code,
                f"the gradient by {name} is the mean and {words}",
                terms.sum(axis=axes) / count,
            )


@dataclass
class Linear(Formula):
    """``out = x weight (+ bias)``, with the weight as (D, F) or (F, D), examples as rows.

    Parameters
    ----------
    transposed : bool
        Whether the weight is (F, D).
    columns : bool
        Whether examples are columns: ``out = weight x``.
    has_bias : bool
        Whether there is a bias.
    title : str
        Its name.
    """

    transposed: bool
    columns: bool = False
    has_bias: bool = True
    title: str = "linear"

    def _rows(self, x: np.ndarray) -> np.ndarray:
        return x.T if self.columns else x.reshape(len(x), -1)

    def _matrix(self, weight: np.ndarray) -> np.ndarray:
        return weight.T if self.transposed else weight

    def forward(self, x: np.ndarray, params: Arrays) -> np.ndarray:
        """Multiply and add."""
        out: np.ndarray = self._rows(x) @ self._matrix(params[0])
        if self.has_bias:
            out = out + params[1].reshape(-1)
        return out.T if self.columns else out

    def backward(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Arrays:
        """``dx = dout W^T``, ``dW = x^T dout``, ``db = sum_n dout``."""
        d = dout.T if self.columns else dout
        dx = d @ self._matrix(params[0]).T
        dweight = self._rows(x).T @ d
        gradients = [
            dx.T if self.columns else dx.reshape(x.shape),
            dweight.T if self.transposed else dweight,
        ]
        return [*gradients, d.sum(axis=0).reshape(params[1].shape)] if self.has_bias else gradients

    def mistakes(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Iterator[Mistake]:
        """Transpositions, sums, sizes."""
        d = dout.T if self.columns else dout
        rows, matrix = self._rows(x), self._matrix(params[0])
        right = self.backward(dout, x, params)
        tail: list[Maybe] = [None] * (len(params) - 1)

        def by_x(value: np.ndarray) -> list[Maybe]:
            shaped = value.T if self.columns else value
            shaped = shaped.reshape(x.shape) if shaped.size == x.size else shaped
            return [shaped, None, *tail]

        def by_weight(value: np.ndarray) -> list[Maybe]:
            return [None, value.T if self.transposed else value, *tail]

        if d.shape[1] == matrix.shape[0]:
            sentence = "dx multiplies dout by the weight without transposing it"
            yield Mistake("transposed", sentence, by_x(d @ matrix))
        if not self.columns and x.ndim > 2:
            yield Mistake(
                "reshaped", "dx is not reshaped to the shape of x", [d @ matrix.T, None, *tail]
            )
        yield Mistake("transposed", "the weight gradient is transposed", [None, right[1].T, *tail])
        sentence = "the weight gradient is transposed and then reshaped to the weight's shape"
        yield Mistake("transposed", sentence, [None, right[1].T.reshape(params[0].shape), *tail])
        for words, value in _products(d, matrix, "dout", "the weight"):
            if value.shape == (len(d), matrix.shape[0]):
                yield Mistake("transposed", f"dx is {words}", by_x(value))
        for words, value in _products(rows, d, "x", "dout"):
            if value.shape == matrix.shape:
                yield Mistake("transposed", f"the weight gradient is {words}", by_weight(value))
        over = "overwritten"
        yield Mistake(over, "the weight gradient is that of the last example: each overwrites the "
                      "one before", by_weight(np.outer(rows[-1], d[-1])))  # fmt: skip
        yield Mistake("missing_term", "the weight gradient is that of the first example only",
                      by_weight(np.outer(rows[0], d[0])))  # fmt: skip
        if self.has_bias:
            for code, sentence, value in axis_sums(d, (0,), "the bias"):
                yield Mistake(code, sentence, [None, None, value])
            yield Mistake(
                over, "the bias gradient is that of the last example", [None, None, d[-1]]
            )
            yield Mistake("missing_term", "the bias gradient is that of the first example",
                          [None, None, d[0]])  # fmt: skip
            yield Mistake("wrong_axis", "the bias gradient keeps an axis of length 1",
                          [None, None, d.sum(axis=0, keepdims=True)])  # fmt: skip


def _products(
    a: np.ndarray, b: np.ndarray, first: str, second: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Matrix products of two arrays in both orders, transposed or not, where the shapes fit."""
    for left, right, names in ((a, b, (first, second)), (b, a, (second, first))):
        for i, p in enumerate((left, left.T)):
            for j, q in enumerate((right, right.T)):
                if p.shape[1] == q.shape[0]:
                    words = f"{names[0]}{'^T' * i} times {names[1]}{'^T' * j}"
                    yield words, p @ q


class Flatten(Formula):
    """All but the first axis in one."""

    title = "flatten"

    def forward(self, x: np.ndarray, params: Arrays) -> np.ndarray:
        """Reshape."""
        return x.reshape(len(x), -1)

    def backward(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Arrays:
        """Reshape back."""
        return [dout.reshape(x.shape)]

    def mistakes(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Iterator[Mistake]:
        """Reshapes in another order."""
        yield Mistake("reshaped", "dout is not reshaped to the shape of x", [dout])
        sentence = "dout is reshaped in column-major order"
        yield Mistake("reshaped", sentence, [dout.reshape(x.shape, order="F")])
        yield Mistake(
            "reshaped", "dout is transposed before it is reshaped", [dout.T.reshape(x.shape)]
        )
        yield Mistake("reshaped", "dx has the axes of x in reverse", [dout.reshape(x.shape[::-1])])


class Transpose(Formula):
    """Rows and columns exchanged, between layers that hold examples as columns and losses."""

    title = "transpose"

    def forward(self, x: np.ndarray, params: Arrays) -> np.ndarray:
        """Transpose."""
        return x.T

    def backward(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Arrays:
        """Transpose back."""
        return [dout.T]
