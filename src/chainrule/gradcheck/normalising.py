"""What the doctor knows of normalisation: batch, layer and group norm are one formula."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chainrule.gradcheck.formulas import Arrays, Formula, Mistake, axis_sums

__all__ = ["Normalise", "RunningNormalise"]

Axes = tuple[int, ...]


@dataclass
class Normalise(Formula):
    """``weight (x - mean) / sqrt(var + eps) + bias``, mean and variance over some axes.

    Parameters
    ----------
    title : str
        Its name.
    grouped : tuple of int
        Shape in which mean and variance are taken.
    axes : tuple of int
        Over these axes of it.
    weight_shape : tuple of int
        The weight's shape beside x.
    eps : float
        Added to the variance.
    affine : bool
        Whether there are weight and bias.
    """

    title: str
    grouped: tuple[int, ...]
    axes: Axes
    weight_shape: tuple[int, ...]
    eps: float
    affine: bool = True

    def _statistics(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normalised x, and 1 / std; both in the grouped shape."""
        g = x.reshape(self.grouped)
        centred = g - g.mean(axis=self.axes, keepdims=True)
        inv_std = 1 / np.sqrt((centred**2).mean(axis=self.axes, keepdims=True) + self.eps)
        return centred * inv_std, inv_std

    def _weight(self, params: Arrays) -> np.ndarray:
        return params[0].reshape(self.weight_shape) if self.affine else np.ones(())

    def _sum_axes(self, ndim: int) -> Axes:
        shape = self.weight_shape
        return tuple(a for a in range(ndim) if a >= len(shape) or shape[a] == 1)

    def forward(self, x: np.ndarray, params: Arrays) -> np.ndarray:
        """Normalise, scale and shift."""
        out: np.ndarray = self._statistics(x)[0].reshape(x.shape) * self._weight(params)
        return out + params[1].reshape(self.weight_shape) if self.affine else out

    def backward(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Arrays:
        """Through the values, the mean and the variance."""
        parts = self._parts(dout, x, params)
        dx = np.sum([value for _, _, value in parts], axis=0)
        if not self.affine:
            return [dx]
        x_hat = self._statistics(x)[0].reshape(x.shape)
        axes = self._sum_axes(x.ndim)
        return [
            dx,
            (dout * x_hat).sum(axis=axes).reshape(params[0].shape),
            dout.sum(axis=axes).reshape(params[1].shape),
        ]

    def _parts(
        self, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> list[tuple[str, str, np.ndarray]]:
        x_hat, inv_std = self._statistics(x)
        d = (dout * self._weight(params)).reshape(self.grouped)
        mean = np.broadcast_to(d.mean(axis=self.axes, keepdims=True), d.shape)
        slope = x_hat * (d * x_hat).mean(axis=self.axes, keepdims=True)
        return [
            ("wrong_term", "the term through x itself", (d * inv_std).reshape(x.shape)),
            ("norm_mean_path", "the path through the mean", (-mean * inv_std).reshape(x.shape)),
            ("norm_var_path", "the path through the variance", (-slope * inv_std).reshape(x.shape)),
        ]

    def terms(
        self, slot: int, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> list[tuple[str, str, np.ndarray]]:
        """The three paths from x to the output."""
        return self._parts(dout, x, params) if slot == 0 else []

    def pattern(
        self, slot: int, analytic: np.ndarray, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> tuple[str, str] | None:
        """Whether dx is off by a constant in each group, or by a multiple of normalised x."""
        count = int(np.prod([self.grouped[a] for a in self.axes]))
        if slot or count < 3 or analytic.shape != x.shape:
            return None
        right = self.backward(dout, x, params)[0]
        rest = (analytic - right).reshape(self.grouped)
        x_hat, _ = self._statistics(x)
        mean = rest.mean(axis=self.axes, keepdims=True)
        square = (x_hat**2).mean(axis=self.axes, keepdims=True)
        along = x_hat * ((rest * x_hat).mean(axis=self.axes, keepdims=True) / square)

        def explains(part: np.ndarray) -> bool:
            size = float(np.max(np.abs(rest)))
            return bool(np.max(np.abs(rest - part)) < 1e-6 * size)

        if explains(mean + 0 * rest):
            words = "dx is off by the same number for all elements that share a mean"
            return "norm_mean_path", f"{words}: the path through the mean is wrong"
        if explains(along):
            words = "dx is off by a multiple of normalised x"
            return "norm_var_path", f"{words}: the path through the variance is wrong"
        if count > 3 and explains(mean + along):
            words = "dx is off by what the paths through mean and variance give"
            return "norm_mean_path", f"{words}: both are wrong"
        return None

    def mistakes(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Iterator[Mistake]:
        """Paths, factors and axes of dx; factors and sums of the parameters' gradients."""
        tail: list[np.ndarray | None] = [None] * len(params)
        (_, _, direct), (_, _, mean), (_, _, var) = self._parts(dout, x, params)
        paths, through_var = "norm_mean_path", "norm_var_path"
        candidates = [
            (paths, "the path through the mean is missing", direct + var),
            (through_var, "the path through the variance is missing", direct + mean),
            (paths, "the paths through mean and variance are missing", direct),
            (paths, "the path through the mean has the wrong sign", direct - mean + var),
            (through_var, "the path through the variance has the wrong sign", direct + mean - var),
            (through_var, "the paths through mean and variance have the wrong sign",
             direct - mean - var),
            ("wrong_term", "the term through x itself is missing", mean + var),
            ("wrong_term", "only the path through the mean is there", mean),
            ("wrong_term", "only the path through the variance is there", var),
        ]  # fmt: skip
        candidates += list(self._wrong_factors(dout, x, params))
        for code, sentence, value in candidates:
            yield Mistake(code, sentence, [value, *tail])
        if self.affine:
            yield from self._wrong_parameters(dout, x)

    def _wrong_factors(
        self, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> Iterator[tuple[str, str, np.ndarray]]:
        x_hat, inv_std = self._statistics(x)
        shape, axes, ndim = self.grouped, self.axes, len(self.grouped)
        raw, weighted = dout.reshape(shape), (dout * self._weight(params)).reshape(shape)
        count = int(np.prod([shape[a] for a in axes]))
        centred = x_hat / inv_std

        def combine(
            d: np.ndarray, outer: np.ndarray | float, hat: np.ndarray = x_hat, over: Axes = axes,
            m: float = 1.0, v: float = 1.0, left: np.ndarray | None = None,
        ) -> np.ndarray:  # fmt: skip
            mean = d.mean(axis=over, keepdims=True)
            slope = (d * hat).mean(axis=over, keepdims=True)
            first = hat if left is None else left
            dx: np.ndarray = ((d - m * mean - v * first * slope) * outer).reshape(x.shape)
            return dx

        missing, mean_code, var_code = "missing_factor", "norm_mean_path", "norm_var_path"
        if self.affine:
            yield missing, "the weight is missing from dx", combine(raw, inv_std)
            twice = (dout * self._weight(params) ** 2).reshape(shape)
            yield "extra_factor", "the weight is applied twice in dx", combine(twice, inv_std)
            yield (
                missing,
                "dx is divided by the weight",
                combine((dout / self._weight(params)).reshape(shape), inv_std),
            )
        yield missing, "the factor 1 / std is missing", combine(weighted, 1.0)
        ignored = "upstream_ignored"
        yield ignored, "dx is 1 / std alone", inv_std
        yield ignored, "dx is 1 / std alone", np.broadcast_to(inv_std, shape).reshape(x.shape)
        mean, slope = (
            (weighted * factor).mean(axis=axes, keepdims=True) for factor in (1.0, x_hat)
        )
        yield (
            "wrong_term",
            "the term through x itself is 1 instead of dout weight",
            ((1 - mean - x_hat * slope) * inv_std).reshape(x.shape),
        )
        yield "extra_factor", "1 / std is applied twice", combine(weighted, inv_std**2)
        yield missing, "dx is multiplied by std instead of divided", combine(weighted, 1 / inv_std)
        yield "extra_factor", "dx is divided by std^3", combine(weighted, inv_std**3)
        yield (
            mean_code,
            "the path through the mean is not divided by the count",
            combine(weighted, inv_std, m=count),
        )
        yield (
            var_code,
            "the path through the variance is not divided by the count",
            combine(weighted, inv_std, v=count),
        )
        yield (
            mean_code,
            "the paths through mean and variance are not divided by the count",
            combine(weighted, inv_std, m=count, v=count),
        )
        yield (
            mean_code,
            "the path through the mean is divided by the count twice",
            combine(weighted, inv_std, m=1 / count),
        )
        yield (
            var_code,
            "the path through the variance is divided by the count twice",
            combine(weighted, inv_std, v=1 / count),
        )
        yield (
            mean_code,
            "the paths are divided by the count twice",
            combine(weighted, inv_std, m=1 / count, v=1 / count),
        )
        for left, right, words in (
            (x.reshape(shape), None, "x is used for normalised x"),
            (centred, None, "x - mean is used for normalised x"),
        ):
            code = "input_for_output"
            yield (
                code,
                f"{words} in the path through the variance",
                combine(weighted, inv_std, hat=left, left=right),
            )
            yield (
                code,
                f"{words} outside the sum of the path through the variance",
                combine(weighted, inv_std, left=left),
            )
            yield (
                code,
                f"{words} inside the sum of the path through the variance",
                combine(weighted, inv_std, hat=left, left=x_hat),
            )
        yield (
            var_code,
            "normalised x is missing outside the sum over the variance's path",
            combine(weighted, inv_std, left=np.ones_like(x_hat)),
        )
        mean = weighted.mean(axis=axes, keepdims=True)
        yield (
            var_code,
            "normalised x is missing inside the sum over the variance's path",
            ((weighted - mean - x_hat * mean) * inv_std).reshape(x.shape),
        )
        slope = (raw * x_hat).mean(axis=axes, keepdims=True)
        yield (
            missing,
            "the weight is missing in the path through the variance",
            ((weighted - mean - x_hat * slope) * inv_std).reshape(x.shape),
        )
        slope = (weighted * x_hat).mean(axis=axes, keepdims=True)
        yield (
            missing,
            "the weight is missing in the path through the mean",
            ((weighted - raw.mean(axis=axes, keepdims=True) - x_hat * slope) * inv_std).reshape(
                x.shape
            ),
        )
        yield (
            missing,
            "the weight is missing in the term through x itself",
            ((raw - mean - x_hat * slope) * inv_std).reshape(x.shape),
        )
        for bits in range(1, 2**ndim):
            over = tuple(a for a in range(ndim) if bits >> a & 1)
            if over != axes:
                words = f"means are taken over axes {over} instead of {axes}"
                yield "wrong_axis", words, combine(weighted, inv_std, over=over)

    def _wrong_parameters(self, dout: np.ndarray, x: np.ndarray) -> Iterator[Mistake]:
        x_hat, inv_std = (each for each in self._statistics(x))
        axes = self._sum_axes(x.ndim)
        hat = x_hat.reshape(x.shape)
        centred = (x_hat / inv_std).reshape(x.shape)
        for code, sentence, value in (
            ("input_for_output", "the weight gradient uses x instead of normalised x", dout * x),
            ("missing_factor", "the weight gradient uses x - mean without / std", dout * centred),
            ("missing_factor", "the weight gradient lacks normalised x", dout),
            ("upstream_ignored", "the weight gradient does not use dout", hat),
            ("extra_factor", "the weight gradient has normalised x squared", dout * hat**2),
            ("upstream_added", "the weight gradient adds dout and normalised x", dout + hat),
            ("extra_factor", "the weight gradient is divided by std once more",
             dout * hat * np.broadcast_to(inv_std, self.grouped).reshape(x.shape)),
        ):  # fmt: skip
            yield Mistake(code, sentence, [None, value.sum(axis=axes), None])
        sentence = "the bias gradient has normalised x in it: it is that of the weight"
        yield Mistake("extra_factor", sentence, [None, None, (dout * hat).sum(axis=axes)])
        for code, sentence, value in axis_sums(dout * hat, axes, "the weight"):
            yield Mistake(code, sentence, [None, value, None])
        for code, sentence, value in axis_sums(dout, axes, "the bias"):
            yield Mistake(code, sentence, [None, None, value])


@dataclass
class RunningNormalise(Formula):
    """``weight (x - mean) / sqrt(var + eps) + bias`` with given mean and variance.

    Parameters
    ----------
    shape : tuple of int
        Shape of the parameters beside x.
    eps : float
        Added to the variance.
    title : str
        Its name.
    """

    shape: tuple[int, ...]
    eps: float
    title: str = "batch norm with running statistics"

    def _split(self, params: Arrays) -> tuple[np.ndarray, ...]:
        weight, bias, mean, var = (p.reshape(self.shape) for p in params)
        return weight, bias, mean, 1 / np.sqrt(var + self.eps)

    def forward(self, x: np.ndarray, params: Arrays) -> np.ndarray:
        """Normalise, scale and shift."""
        weight, bias, mean, inv_std = self._split(params)
        out: np.ndarray = weight * (x - mean) * inv_std + bias
        return out

    def backward(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Arrays:
        """All arguments are constants to each other."""
        weight, _, mean, inv_std = self._split(params)
        axes = tuple(a for a in range(x.ndim) if self.shape[a] == 1)
        x_hat = (x - mean) * inv_std
        return [
            dout * weight * inv_std,
            (dout * x_hat).sum(axis=axes).reshape(params[0].shape),
            dout.sum(axis=axes).reshape(params[1].shape),
            (-dout * weight * inv_std).sum(axis=axes).reshape(params[2].shape),
            (-0.5 * dout * weight * x_hat * inv_std**2).sum(axis=axes).reshape(params[3].shape),
        ]

    def mistakes(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Iterator[Mistake]:
        """The formula of training, and factors."""
        weight, _, mean, inv_std = self._split(params)
        axes = tuple(a for a in range(x.ndim) if self.shape[a] == 1)
        x_hat = (x - mean) * inv_std
        d = dout * weight
        training = (
            d - d.mean(axis=axes, keepdims=True)
            - x_hat * (d * x_hat).mean(axis=axes, keepdims=True)
        ) * inv_std  # fmt: skip
        none: list[np.ndarray | None] = [None] * 4
        sentence = "dx goes through the batch's mean and variance, which were not used"
        yield Mistake("norm_mean_path", sentence, [training, *none])
        missing = "missing_factor"
        yield Mistake(missing, "the weight is missing from dx", [dout * inv_std, *none])
        yield Mistake(missing, "the factor 1 / std is missing", [d, *none])
        yield Mistake("extra_factor", "1 / std is applied twice", [d * inv_std**2, *none])
        sentence = "dx is multiplied by std instead of divided"
        yield Mistake(missing, sentence, [d / inv_std, *none])
        for code, sentence, value in (
            ("input_for_output", "the weight gradient uses x instead of normalised x", dout * x),
            (missing, "the weight gradient lacks normalised x", dout),
            ("upstream_ignored", "the weight gradient does not use dout", x_hat),
            (missing, "the weight gradient uses x - mean without / std", dout * (x - mean)),
        ):
            yield Mistake(code, sentence, [None, value.sum(axis=axes), *none[:3]])
        for code, sentence, value in axis_sums(dout * x_hat, axes, "the weight"):
            yield Mistake(code, sentence, [None, value, *none[:3]])
        for code, sentence, value in axis_sums(dout, axes, "the bias"):
            yield Mistake(code, sentence, [None, None, value, *none[:2]])
