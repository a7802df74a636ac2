"""A first layer that is not trained but computed from the images: whitened patches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from chainrule.models.geometry import Pair, image_shape, two, windows
from chainrule.models.module import Mode, Module, Shape, Tensors

__all__ = ["Whiten2d"]

PATCHES = 500_000  # of which the covariance is taken; bounds time and memory


@dataclass(frozen=True)
class Whiten2d(Module):
    """Principal components of small patches of the images, scaled to unit variance, and their
    negatives: a fixed convolution.

    Its filters are computed once, from the examples that `Sequential.init` is given, and kept as
    a buffer: no gradient is needed for or below this layer. A ReLU behind it keeps both signs of
    each component.

    Parameters
    ----------
    components : int
        Leading principal components P, at most as many as a patch has numbers; the output has
        2 P channels.
    kernel_size : int or (int, int), default 3
        Patch height and width.
    padding : int or (int, int), default 0
        Zeros added on each side.
    eps : float, default 5e-4
        Added to the variances before they divide, so that noise is not blown up.
    name : str, default ""
        See `Module`.

    Notes
    -----
    With patches p of C KH KW numbers, the filters are ``e_i / sqrt(lambda_i + eps)`` for the
    eigenvectors e of ``mean(p p^T)`` with the largest eigenvalues lambda [1]_. The sign of an
    eigenvector is that which makes its largest element positive. Without examples the filters
    are those of white noise: single pixels.

    References
    ----------
    .. [1] D. Page, "How to train your ResNet", part 8, "Bag of tricks", 2019; K. Jordan,
       "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498, section 3.2.

    Examples
    --------
    >>> layer = Whiten2d(2, kernel_size=1)
    >>> images = np.random.default_rng(0).standard_normal((50, 2, 8, 8)) * [[[3.0]], [[0.1]]]
    >>> print(np.round(layer.fit(images)["weight"][:, :, 0, 0], 1) + 0.0)
    [[ 0.3  0. ]
     [ 0.   9.9]
     [-0.3  0. ]
     [ 0.  -9.9]]
    """

    pair: ClassVar[str] = "conv2d"
    kind: ClassVar[str] = "whiten2d"
    label: ClassVar[str] = "whiten"
    statistics: ClassVar[tuple[str, ...]] = ("weight",)

    components: int
    kernel_size: Pair = 3
    padding: Pair = 0
    eps: float = 5e-4

    def __post_init__(self) -> None:
        self._require(self.components >= 1, "components", "be at least 1")
        self._require(min(two(self.kernel_size)) >= 1, "kernel_size", "be at least 1")
        self._require(min(two(self.padding)) >= 0, "padding", "be at least 0")
        self._require(self.eps > 0, "eps", "be positive")

    def output_shape(self, input_shape: Shape) -> Shape:
        channels = 2 * min(self.components, math.prod(self._patch(input_shape)))
        return (channels, *windows(self, input_shape, self.kernel_size, 1, two(self.padding)))

    def buffers(self, input_shape: Shape) -> Tensors:
        patch = self._patch(input_shape)
        return {"weight": self._filters(np.eye(math.prod(patch)), patch)}

    def fit(self, x: np.ndarray) -> Tensors:
        """Return the filters for images (N, C, H, W), in float64."""
        patch = self._patch(x.shape[1:])
        seen = sliding_window_view(x, patch[1:], axis=(2, 3))  # (N, C, OH, OW, KH, KW)
        per_image = max(1, seen.shape[2] * seen.shape[3])
        images = seen[: max(1, PATCHES // per_image)]
        flat = images.transpose(0, 2, 3, 1, 4, 5).reshape(-1, math.prod(patch)).astype(np.float64)
        return {"weight": self._filters(flat.T @ flat / max(1, len(flat)), patch)}

    def flops(self, input_shape: Shape) -> int:
        patch = math.prod(self._patch(input_shape))
        return 2 * patch * math.prod(self.output_shape(input_shape))

    def arguments(self, tensors: Tensors, mode: Mode) -> tuple[Any, ...]:
        return (tensors["weight"], None, 1, two(self.padding), 1)

    def backward(
        self, function: Any, dout: np.ndarray, cache: Any, need_dx: bool
    ) -> tuple[np.ndarray | None, dict[str, np.ndarray | None]]:
        """Return dx: the filters are no parameters."""
        return function(dout, cache, need_dx=need_dx)[0], {}

    def _patch(self, input_shape: Shape) -> Shape:
        return (image_shape(self, input_shape)[0], *two(self.kernel_size))

    def _filters(self, covariance: np.ndarray, patch: Shape) -> np.ndarray:
        variances, vectors = np.linalg.eigh(covariance)
        leading = slice(None, -self.components - 1, -1)  # eigh sorts upwards
        filters = (vectors[:, leading] / np.sqrt(np.maximum(variances[leading], 0) + self.eps)).T
        largest = np.take_along_axis(filters, np.abs(filters).argmax(1)[:, None], axis=1)
        filters = (filters * np.sign(largest)).reshape(-1, *patch)
        return np.concatenate([filters, -filters])
