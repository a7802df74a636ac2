"""Preprocessing that is fitted on the training split and stored with the run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike

from chainrule.data.hog import hog_color_features, hog_color_size
from chainrule.errors import (
    ConfigError,
    DTypeError,
    InputError,
    RunError,
    ShapeError,
    explain,
    nearest,
)

__all__ = [
    "PREPROCESSORS",
    "HogColor",
    "MeanImage",
    "NoPreprocessing",
    "PcaWhiten",
    "Preprocessor",
    "Standardize",
    "make_preprocessor",
    "preprocessor_from_state",
]

_CHUNK = 1024  # examples converted to float64 at a time: 25 MB for CIFAR-10


class Preprocessor(ABC):
    """What all preprocessing has in common.

    Attributes
    ----------
    name : str
        The registered name.

    Notes
    -----
    Bytes and floats are never mixed: an object fitted on uint8 images transforms uint8 images
    only, one fitted on floats floats only, because the two differ in scale. `transform` treats
    each example for itself, so that a batch and the whole split give the same, up to rounding
    in the matrix product of `PcaWhiten`.
    """

    name: ClassVar[str]
    _defaults: ClassVar[dict[str, Any]] = {}
    _tensor_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **options: Any) -> None:
        for key in options:
            if key not in self._defaults:
                remedy = nearest(key, self._defaults) if self._defaults else "It has no options."
                rule = f"be an option of {self.name!r}"
                raise ConfigError(explain("make_preprocessor", key, rule, "an unknown one", remedy))
        self._options: dict[str, Any] = {**self._defaults, **options}
        self._tensors: dict[str, np.ndarray] = {}
        self._input_shape: tuple[int, ...] | None = None
        self._bytes = False

    # -- what each kind defines -------------------------------------------------------------

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """Return the names of the options that the constructor takes."""
        return tuple(cls._defaults)

    @abstractmethod
    def _fit(self, x: np.ndarray) -> dict[str, np.ndarray]: ...

    @abstractmethod
    def _transform(self, x: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray: ...

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a transformed example.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of an example, (C, H, W) or (D,).

        Returns
        -------
        tuple of int
            The same, unless the kind of preprocessing says otherwise.
        """
        return tuple(input_shape)

    # -- what all do alike ------------------------------------------------------------------

    def fit(self, x_train: np.ndarray) -> Self:
        """Learn from the training split.

        Parameters
        ----------
        x_train : numpy.ndarray, shape (N, C, H, W) or (N, D)
            At least one example, uint8, float32 or float64; not modified.

        Returns
        -------
        Preprocessor
            This object.

        Raises
        ------
        ShapeError
            When `x_train` has another number of dimensions or no examples.
        DTypeError
            When it has another dtype.
        InputError
            When it holds a value that is not finite.
        """
        where = f"{self.name}.fit"
        if x_train.ndim not in (2, 4) or len(x_train) == 0:
            rule = "have shape (N, C, H, W) or (N, D) with N at least 1"
            raise ShapeError(explain(where, "x_train", rule, x_train.shape))
        _check_dtype(where, "x_train", x_train)
        if x_train.dtype != np.uint8 and not np.isfinite(x_train).all():
            raise InputError(explain(where, "x_train", "be finite", "nan or infinity"))
        self.output_shape(tuple(x_train.shape[1:]))  # refuses shapes this kind cannot treat
        self._input_shape = tuple(x_train.shape[1:])
        self._bytes = x_train.dtype == np.uint8
        self._tensors = self._fit(x_train)
        return self

    def transform(self, x: np.ndarray, dtype: DTypeLike = np.float32) -> np.ndarray:
        """Apply what was learnt.

        Parameters
        ----------
        x : numpy.ndarray, shape (N, ...)
            Examples of the shape and kind that were fitted; N may be 0. Not modified.
        dtype : dtype, default float32
            float32 or float64.

        Returns
        -------
        numpy.ndarray, shape (N,) + output_shape
            A new array.

        Raises
        ------
        InputError
            Before `fit`.
        ShapeError
            When an example has another shape than those fitted.
        DTypeError
            When `x` is bytes and floats were fitted or the other way round, or when `dtype` is
            no float32 or float64.
        """
        where = f"{self.name}.transform"
        target = np.dtype(dtype)
        if target not in (np.float32, np.float64):
            raise DTypeError(explain(where, "dtype", "be float32 or float64", target))
        if self._input_shape is None:
            remedy = "Call fit with the training split first."
            raise InputError(explain(where, "preprocessor", "be fitted", "a new one", remedy))
        if tuple(x.shape[1:]) != self._input_shape:
            rule = f"have shape (N, {', '.join(map(str, self._input_shape))})"
            raise ShapeError(explain(where, "x", rule, x.shape))
        _check_dtype(where, "x", x)
        if (x.dtype == np.uint8) != self._bytes:
            rule = f"be {'uint8' if self._bytes else 'floats'}, as the data it was fitted on"
            raise DTypeError(explain(where, "x", rule, x.dtype))
        return self._transform(x, target)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return all that `preprocessor_from_state` needs.

        Returns
        -------
        tensors : dict of str to numpy.ndarray
            What was learnt, float64.
        options : dict
            ``name``, ``input_shape``, ``bytes`` and the options; made of what JSON can hold.
        """
        shape = None if self._input_shape is None else list(self._input_shape)
        options = {"name": self.name, "input_shape": shape, "bytes": bool(self._bytes)}
        return dict(self._tensors), {**options, **self._options}

    def _restore(
        self, tensors: Mapping[str, np.ndarray], shape: list[int] | None, is_bytes: bool
    ) -> None:
        if shape is None:
            return
        for name in self._tensor_names:
            if name not in tensors:
                raise RunError(explain(self.name, "state", f"contain {name!r}", sorted(tensors)))
        self._input_shape = tuple(shape)
        self._bytes = is_bytes
        self._tensors = {name: np.array(tensors[name]) for name in self._tensor_names}

    def _unit(self) -> float:
        """What a value is divided by before all else: `scale` for bytes, 1 for floats."""
        return float(self._options["scale"]) if self._bytes else 1.0

    def _check_scale(self) -> None:
        scale = self._options["scale"]
        if not isinstance(scale, int | float) or not 0 < scale < float("inf"):
            raise ConfigError(explain(self.name, "scale", "be a positive number", scale))


class NoPreprocessing(Preprocessor):
    """Bytes divided by `scale`, floats as they are.

    Parameters
    ----------
    scale : float, default 255
        What uint8 values are divided by; 255 gives 0..1.
    """

    name = "none"
    _defaults: ClassVar[dict[str, Any]] = {"scale": 255.0}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._check_scale()

    def _fit(self, x: np.ndarray) -> dict[str, np.ndarray]:
        return {}

    def _transform(self, x: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        if not self._bytes:
            return x.astype(dtype)
        out: np.ndarray = np.divide(x, dtype.type(self._unit()), dtype=dtype)
        return out


class _Affine(Preprocessor):
    """``x * factor - offset``, each broadcast over the examples."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._check_scale()

    @abstractmethod
    def _factor_and_offset(self) -> tuple[np.ndarray, np.ndarray]: ...

    def _transform(self, x: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        factor, offset = self._factor_and_offset()
        out: np.ndarray = np.multiply(x, factor.astype(dtype), dtype=dtype)
        out -= offset.astype(dtype)
        return out


class MeanImage(_Affine):
    """Subtract the mean training example.

    Parameters
    ----------
    scale : float, default 255
        What uint8 values are divided by first. The course keeps pixels in 0..255: ``scale=1``.

    Notes
    -----
    ``x / scale - mean``; the mean, of the shape of an example, is kept in that unit in float64.
    For uint8 data its sum is exact.
    """

    name = "mean_image"
    _defaults: ClassVar[dict[str, Any]] = {"scale": 255.0}
    _tensor_names = ("mean",)

    def _fit(self, x: np.ndarray) -> dict[str, np.ndarray]:
        total = np.zeros(x.shape[1:])
        for start in range(0, len(x), _CHUNK):
            total += x[start : start + _CHUNK].sum(axis=0, dtype=np.float64)
        return {"mean": total / len(x) / self._unit()}

    def _factor_and_offset(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(1 / self._unit()), self._tensors["mean"]


class Standardize(_Affine):
    """Mean 0 and variance 1, for each channel of images and for each feature of others.

    Parameters
    ----------
    scale : float, default 255
        What uint8 values are divided by first; it cancels but for the units of the state.

    Notes
    -----
    ``(x / scale - mean) / std`` with the population's standard deviation (divisor N). Where a
    channel or feature is constant, up to rounding, `std` is taken as 1, so that it becomes 0.
    """

    name = "standardize"
    _defaults: ClassVar[dict[str, Any]] = {"scale": 255.0}
    _tensor_names = ("mean", "std")

    def _fit(self, x: np.ndarray) -> dict[str, np.ndarray]:
        axes = (0, 2, 3) if x.ndim == 4 else (0,)
        count = x.size // x.shape[1]
        shape = (x.shape[1], *([1] * (x.ndim - 2)))
        chunks = [slice(start, start + _CHUNK) for start in range(0, len(x), _CHUNK)]
        mean = sum(x[part].sum(axis=axes, dtype=np.float64) for part in chunks) / count
        centre = np.reshape(mean, shape)
        squares = sum(((x[part] - centre) ** 2).sum(axis=axes) for part in chunks)
        std = np.sqrt(squares / count)
        # The mean is rounded, so that the deviation of a constant feature is not quite 0.
        std[std <= 1e-12 * np.abs(mean)] = self._unit()
        unit = self._unit()
        return {"mean": np.reshape(mean / unit, shape), "std": np.reshape(std / unit, shape)}

    def _factor_and_offset(self) -> tuple[np.ndarray, np.ndarray]:
        mean, std = self._tensors["mean"], self._tensors["std"]
        return 1 / (self._unit() * std), mean / std


class PcaWhiten(Preprocessor):
    """Rotate onto the principal components and scale each to variance 1.

    Parameters
    ----------
    n_components : int, optional
        How many components to keep, largest variance first; by default all D = C * H * W.
    eps : float, default 1e-5
        Added to each variance, so that components without any are not blown up.
    scale : float, default 255
        What uint8 values are divided by first; `eps` is in that unit.

    Notes
    -----
    With the flattened examples as rows of X, mean m and covariance
    ``(X - m)^T (X - m) / N = U diag(lambda) U^T``, the result is
    ``(X - m) U / sqrt(lambda + eps)`` of shape (N, n_components): images become features.
    Covariance and eigenvectors are computed in float64; of each eigenvector the entry of largest
    magnitude is made positive. Fitting costs O(N D^2 + D^3), and the state holds D * n_components
    numbers (75 MB for all of CIFAR-10).
    """

    name = "pca_whiten"
    _defaults: ClassVar[dict[str, Any]] = {"n_components": None, "eps": 1e-5, "scale": 255.0}
    _tensor_names = ("mean", "projection")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._check_scale()
        count, eps = self._options["n_components"], self._options["eps"]
        if count is not None and not (isinstance(count, int) and count >= 1):
            rule = "be at least 1, or absent for all"
            raise ConfigError(explain(self.name, "n_components", rule, count))
        if not isinstance(eps, int | float) or not 0 <= eps < float("inf"):
            raise ConfigError(explain(self.name, "eps", "be at least 0", eps))

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return (n_components,).

        Parameters
        ----------
        input_shape : tuple of int
            Shape of an example, (C, H, W) or (D,).

        Returns
        -------
        tuple of int
            One number.

        Raises
        ------
        InputError
            When more components are wanted than there are.
        """
        size = int(np.prod(input_shape))
        count = self._options["n_components"]
        if count is not None and count > size:
            rule = f"be at most {size}, the size of an example"
            raise InputError(explain(self.name, "n_components", rule, count))
        return (size if count is None else count,)

    def _fit(self, x: np.ndarray) -> dict[str, np.ndarray]:
        flat = x.reshape(len(x), -1)
        unit = self._unit()
        total = np.zeros(flat.shape[1])
        for start in range(0, len(x), _CHUNK):
            total += flat[start : start + _CHUNK].sum(axis=0, dtype=np.float64)
        mean = total / len(x) / unit
        covariance = np.zeros((flat.shape[1], flat.shape[1]))
        for start in range(0, len(x), 4 * _CHUNK):
            part = flat[start : start + 4 * _CHUNK] / unit - mean
            covariance += part.T @ part  # NumPy calls the symmetric product, half the work
        variances, vectors = np.linalg.eigh(covariance / len(x))
        count = self.output_shape(x.shape[1:])[0]
        # Rounding turns variances of 0 into tiny ones of either sign.
        is_zero = variances <= len(variances) * np.finfo(np.float64).eps * variances[-1]
        variances = np.where(is_zero, 0, variances)[::-1][:count]
        vectors = vectors[:, ::-1][:, :count]
        largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
        length = np.sqrt(variances + self._options["eps"])
        # With eps = 0 a component without variance stays 0 instead of becoming infinite.
        weight = np.divide(np.sign(largest[0]), length, out=np.zeros(count), where=length > 0)
        return {"mean": mean, "projection": vectors * weight}

    def _transform(self, x: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        mean = self._tensors["mean"]
        flat = np.divide(x.reshape(len(x), mean.size), dtype.type(self._unit()), dtype=dtype)
        flat -= mean.astype(dtype)
        projected: np.ndarray = flat @ self._tensors["projection"].astype(dtype)
        return projected


class HogColor(Preprocessor):
    """Histograms of oriented gradients and of hue, standardised: the course's features.

    Parameters
    ----------
    orientations : int, default 9
        Directions that gradients are sorted into, over half a turn.
    pixels_per_cell : int, default 8
        Side of the square cells.
    cells_per_block : int, default 2
        Side, in cells, of the overlapping blocks in which contrast is normalised.
    hue_bins : int, default 10
        Bins of the colour histogram; 0 for none. Images with one channel have no hue and get
        none.

    Notes
    -----
    Each feature is brought to mean 0 and variance 1 over the training split. The features do
    not depend on the scale of the pixels but through the constant that guards flat blocks.

    References
    ----------
    Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005.
    """

    name = "hog_color"
    _defaults: ClassVar[dict[str, Any]] = {
        "orientations": 9,
        "pixels_per_cell": 8,
        "cells_per_block": 2,
        "hue_bins": 10,
    }
    _tensor_names = ("mean", "std")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for key, value in self._options.items():
            least = 0 if key == "hue_bins" else 1
            if type(value) is not int or value < least:
                raise ConfigError(explain(self.name, key, f"be at least {least}", value))

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of features, (F,).

        Parameters
        ----------
        input_shape : tuple of int
            Shape of an image, (C, H, W) with C 1 or 3.

        Returns
        -------
        tuple of int
            One number.

        Raises
        ------
        ShapeError
            When examples are no images, or smaller than a block.
        """
        return (hog_color_size(tuple(input_shape), **self._options),)

    def _fit(self, x: np.ndarray) -> dict[str, np.ndarray]:
        features = hog_color_features(x, **self._options)
        std = features.std(axis=0)
        return {"mean": features.mean(axis=0), "std": np.where(std > 1e-12, std, 1.0)}

    def _transform(self, x: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        features = hog_color_features(x, **self._options)
        features -= self._tensors["mean"]
        features /= self._tensors["std"]
        return features.astype(dtype)


#: All preprocessing by name.
PREPROCESSORS: dict[str, type[Preprocessor]] = {
    kind.name: kind for kind in (NoPreprocessing, MeanImage, Standardize, PcaWhiten, HogColor)
}


def make_preprocessor(name: str, **options: Any) -> Preprocessor:
    """Make preprocessing by its name.

    Parameters
    ----------
    name : str
        One of ``none``, ``mean_image``, ``standardize``, ``pca_whiten``, ``hog_color``.
    **options
        Options of that kind; see its class.

    Returns
    -------
    Preprocessor
        Not yet fitted.

    Raises
    ------
    ConfigError
        When the name or an option is unknown, or an option out of range.

    Examples
    --------
    >>> images = np.arange(2 * 1 * 2 * 2, dtype=np.uint8).reshape(2, 1, 2, 2)
    >>> make_preprocessor("mean_image", scale=1).fit(images).transform(images)[0, 0]
    array([[-2., -2.],
           [-2., -2.]], dtype=float32)
    """
    if name not in PREPROCESSORS:
        rule = f"be one of {', '.join(PREPROCESSORS)}"
        remedy = nearest(name, PREPROCESSORS)
        raise ConfigError(explain("make_preprocessor", "name", rule, repr(name), remedy))
    return PREPROCESSORS[name](**options)


def preprocessor_from_state(
    tensors: Mapping[str, np.ndarray], options: Mapping[str, Any]
) -> Preprocessor:
    """Make again what `Preprocessor.state` described.

    Parameters
    ----------
    tensors : mapping of str to numpy.ndarray
        What was learnt.
    options : mapping
        ``name``, ``input_shape``, ``bytes`` and options.

    Returns
    -------
    Preprocessor
        It transforms to the same bits as the one that gave the state.

    Raises
    ------
    RunError
        When something is missing.
    ConfigError
        When a name or option is unknown.

    Examples
    --------
    >>> images = np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)
    >>> fitted = make_preprocessor("mean_image").fit(images)
    >>> restored = preprocessor_from_state(*fitted.state())
    >>> bool((restored.transform(images) == fitted.transform(images)).all())
    True
    """
    rest = dict(options)
    try:
        name, shape, is_bytes = rest.pop("name"), rest.pop("input_shape"), rest.pop("bytes")
    except KeyError as error:
        rule = f"contain {error}"
        raise RunError(explain("preprocessor_from_state", "options", rule, "none")) from error
    preprocessor = make_preprocessor(name, **rest)
    preprocessor._restore(tensors, shape, is_bytes)
    return preprocessor


def _check_dtype(where: str, name: str, x: np.ndarray) -> None:
    if x.dtype not in (np.uint8, np.float32, np.float64):
        raise DTypeError(explain(where, name, "be uint8, float32 or float64", x.dtype))
