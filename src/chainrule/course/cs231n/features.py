"""``cs231n.features``: hand-made features of images, on chainrule's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from chainrule.course import generations
from chainrule.course.arrays import as_floats, say
from chainrule.data.hog import hog_features, hue_histogram
from chainrule.errors import InputError, ShapeError, explain

__all__ = ["color_histogram_hsv", "extract_features", "hog_feature", "rgb2gray"]

_GREY = np.array([0.299, 0.587, 0.144])  # the course's weights, last digit and all


def rgb2gray(rgb: np.ndarray) -> np.ndarray:
    """Turn a colour image into a grey one.

    Parameters
    ----------
    rgb : ndarray, shape (H, W, 3)
        Red, green and blue.

    Returns
    -------
    ndarray of float64, shape (H, W)
        0.299 red + 0.587 green + 0.144 blue.
    """
    grey: np.ndarray = np.asarray(rgb)[..., :3] @ _GREY
    return grey


def _one_image(where: str, im: np.ndarray) -> np.ndarray:
    """An image (H, W) or (H, W, C) as a batch (1, C, H, W)."""
    (image,) = as_floats(where, im=im)
    if image.ndim not in (2, 3):
        raise ShapeError(explain(where, "im", "have shape (H, W) or (H, W, 3)", image.shape))
    return np.atleast_3d(image).transpose(2, 0, 1)[None]


def hog_feature(im: np.ndarray) -> np.ndarray:
    """Compute a histogram of oriented gradients.

    Parameters
    ----------
    im : ndarray, shape (H, W) or (H, W, 3)
        An image.

    Returns
    -------
    ndarray of float64, shape (F,)
        9 directions in cells of 8 x 8 pixels, normalised over blocks of 2 x 2 cells: 324 numbers
        for 32 x 32 pixels. (The course's own, without blocks, has 144.)
    """
    image = _one_image("hog_feature", im)
    if image.shape[1] == 3:
        image = rgb2gray(image[0].transpose(1, 2, 0))[None, None]
    features: np.ndarray = hog_features(image)[0]
    return features


def color_histogram_hsv(
    im: np.ndarray, nbin: int = 10, xmin: float = 0, xmax: float = 255, normalized: bool = True
) -> np.ndarray:
    """Compute the histogram of an image's hues.

    Parameters
    ----------
    im : ndarray, shape (H, W, 3)
        A colour image, on any scale from 0: hue does not depend on it.
    nbin : int, default 10
        Number of intervals.
    xmin, xmax : float, default 0 and 255
        Range of the hues; xmin must be 0.
    normalized : bool, default True
        Whether the bins are shares of all pixels. Otherwise they are counts times the width of
        a bin, as in the course.

    Returns
    -------
    ndarray of float64, shape (nbin,)
        The histogram.

    Raises
    ------
    InputError
        If xmin is not 0 or xmax not above it.
    ShapeError
        If the image has no three channels.
    """
    where = "color_histogram_hsv"
    if xmin != 0 or not xmax > 0:
        raise InputError(explain(where, "xmin and xmax", "be 0 and above 0", (xmin, xmax)))
    image = _one_image(where, im)
    if image.shape[1] != 3:
        raise ShapeError(explain(where, "im", "have shape (H, W, 3)", np.shape(im)))
    shares: np.ndarray = hue_histogram(image, nbin)[0]
    if not normalized:
        shares = shares * (image[0, 0].size * xmax / nbin)
    return shares


def extract_features(
    imgs: np.ndarray,
    feature_fns: Sequence[Callable[[np.ndarray], np.ndarray]],
    verbose: bool = False,
) -> np.ndarray:
    """Apply functions to each image and put their results side by side.

    Parameters
    ----------
    imgs : ndarray, shape (N, H, W, C)
        Images.
    feature_fns : sequence of callable
        Each takes an image (H, W, C) and returns a vector.
    verbose : bool, default False
        Whether to say how far it is, each 1,000 images.

    Returns
    -------
    ndarray of float64, shape (N, F)
        A row for each image; a column, (F, N), where `chainrule.course.use` chose generation A.

    Raises
    ------
    InputError
        If there are no functions.
    """
    if not feature_fns:
        raise InputError(explain("extract_features", "feature_fns", "hold a function", "none"))
    count = len(imgs)
    features = np.empty((0, 0))
    for index, image in enumerate(imgs):
        row = np.concatenate([np.ravel(function(image.squeeze())) for function in feature_fns])
        if index == 0:
            features = np.empty((count, row.size))
        features[index] = row
        if verbose and index % 1000 == 999:
            say(f"Done extracting features for {index + 1} / {count} images")
    return features.T if generations.generation() == "A" else features
