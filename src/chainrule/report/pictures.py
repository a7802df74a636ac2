"""Figures made of pictures: what the first layer looks for, and what was mistaken."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from chainrule.errors import InputError, ShapeError, explain
from chainrule.report.grid import stretch, to_channels_last
from chainrule.report.style import INK, LIGHT, new_figure, readable, title

__all__ = ["WeightPictures", "class_name", "first_layer_pictures", "mistakes", "weights"]

_COLUMNS = 8


@dataclass(frozen=True, eq=False)
class WeightPictures:
    """Weights of one layer as pictures.

    Attributes
    ----------
    name : str
        The parameter.
    tiles : ndarray, shape (T, H, W) or (T, H, W, 3)
        Values from 0 to 255, each tile stretched by itself.
    labels : tuple of str
        One per tile: the class, or the number of the unit.
    kind : str
        What one tile is: ``"class template"``, ``"unit"`` or ``"filter"``.
    total : int
        How many there are altogether; `tiles` may be a choice of them.
    """

    name: str
    tiles: np.ndarray
    labels: tuple[str, ...]
    kind: str
    total: int

    @property
    def description(self) -> str:
        """One sentence on what is shown."""
        shown, (height, width) = len(self.tiles), self.tiles.shape[1:3]
        what = f"{self.kind}{'s' if self.total != 1 else ''}"
        chosen = f"{shown} of {self.total} {what} (largest norm)" if shown < self.total else None
        return f"{chosen or f'{shown} {what}'}, {height} x {width} pixels, each on its own scale"


def first_layer_pictures(
    parameters: Mapping[str, np.ndarray],
    input_shape: Sequence[int] | None = None,
    classes: Sequence[str] = (),
    *,
    limit: int = 64,
) -> WeightPictures | None:
    """Find the weights that touch the input, and turn them into pictures.

    Parameters
    ----------
    parameters : mapping of str to ndarray
        Such as ``{"conv1.weight": ..., "conv1.bias": ...}``, in any order.
    input_shape : sequence of int, optional
        (C, H, W) of the images, or (N, C, H, W).
    classes : sequence of str, optional
        Names of the classes, for a layer with one row per class.
    limit : int, default 64
        With more filters or units than this, those of the largest norm are shown.

    Returns
    -------
    WeightPictures or None
        Convolution filters (F, C, k, k) as colour pictures if C is 3, as grey ones otherwise,
        one for each channel. Rows of a linear weight (F, D) in the shape of the input if D is
        its size. None if no weight fits.

    Examples
    --------
    >>> found = first_layer_pictures({"linear1.weight": np.eye(12)[:5]}, (3, 2, 2))
    >>> found.name, found.tiles.shape, found.description
    ('linear1.weight', (5, 2, 2, 3), '5 units, 2 x 2 pixels, each on its own scale')
    """
    shape = tuple(int(n) for n in input_shape[-3:]) if input_shape and len(input_shape) > 2 else ()
    for name in sorted(parameters, key=_natural):
        weight = np.asarray(parameters[name])
        if not weight.size:
            continue
        if weight.ndim == 4 and weight.shape[2] * weight.shape[3] > 1:
            if not shape or weight.shape[1] == shape[0]:
                return _filters(name, weight, limit)
        elif weight.ndim == 2 and shape and weight.shape[1] == np.prod(shape):
            return _rows(name, weight.reshape(-1, *shape), classes, limit)
    return None


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort ``conv2`` before ``conv10``."""
    return [(int(part or -1) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", name)]


def _filters(name: str, weight: np.ndarray, limit: int) -> WeightPictures:
    chosen = _largest(weight, limit)
    if weight.shape[1] in (1, 3):
        tiles, labels = weight[chosen], tuple(str(i) for i in chosen)
    else:
        per_filter = weight.shape[1]
        chosen = chosen[: max(1, limit // per_filter)]
        tiles = weight[chosen].reshape(-1, 1, *weight.shape[2:])[:limit]
        names = [f"{i}, channel {c}" for i in chosen for c in range(per_filter)]
        labels = tuple(names[:limit])
    return WeightPictures(name, _stretched(tiles), labels, "filter", len(weight))


def _rows(name: str, rows: np.ndarray, classes: Sequence[str], limit: int) -> WeightPictures:
    chosen = _largest(rows, limit)
    named = len(classes) == len(rows)
    labels = tuple(str(classes[i]) if named else str(i) for i in chosen)
    kind = "class template" if named else "unit"
    return WeightPictures(name, _stretched(rows[chosen]), labels, kind, len(rows))


def _largest(weight: np.ndarray, limit: int) -> np.ndarray:
    """Return the indices of the rows of the largest norm, in their own order."""
    flat = np.nan_to_num(weight.reshape(len(weight), -1).astype(np.float64))
    return np.sort(np.argsort(-np.linalg.norm(flat, axis=1), kind="stable")[:limit])


def _stretched(tiles: np.ndarray) -> np.ndarray:
    return np.stack([stretch(tile) for tile in to_channels_last(tiles)])


def weights(
    parameters: Mapping[str, np.ndarray],
    input_shape: Sequence[int] | None = None,
    classes: Sequence[str] = (),
    *,
    limit: int = 64,
) -> Figure:
    """Draw the weights of the first layer as a grid of pictures.

    Parameters
    ----------
    parameters : mapping of str to ndarray
        See `first_layer_pictures`.
    input_shape : sequence of int, optional
        (C, H, W) of the images, or (N, C, H, W).
    classes : sequence of str, optional
        Names of the classes.
    limit : int, default 64
        Most pictures to draw.

    Returns
    -------
    Figure
        One picture per filter, class template or hidden unit, each stretched to its own range;
        class templates carry the name of their class.

    Raises
    ------
    InputError
        If no weight has the shape of the input.

    Examples
    --------
    >>> len(weights({"conv1.weight": np.random.default_rng(0).normal(size=(6, 3, 5, 5))}).axes)
    1
    """
    found = first_layer_pictures(parameters, input_shape, classes, limit=limit)
    if found is None:
        raise InputError(
            explain(
                "weights",
                "parameters",
                "hold convolution filters, or a weight (F, D) with D the size of the input",
                {name: np.shape(value) for name, value in parameters.items()},
                "Pass input_shape=(C, H, W).",
            )
        )
    named = found.kind == "class template"
    figure = _mosaic(
        found.tiles,
        [[(label, INK)] for label in found.labels] if named else [],
        columns=5 if named and len(found.tiles) <= 20 else _COLUMNS,
    )
    title(figure.axes[0], found.name, found.description)
    return figure


def mistakes(
    images: np.ndarray,
    true: np.ndarray,
    predicted: np.ndarray,
    confidence: np.ndarray,
    classes: Sequence[str],
    *,
    limit: int = 32,
) -> Figure:
    """Draw the wrong answers that the network was surest of.

    Parameters
    ----------
    images : ndarray, shape (K, C, H, W)
        Values 0 to 255.
    true, predicted : ndarray of int, shape (K,)
        Classes.
    confidence : ndarray, shape (K,)
        Probability given to the predicted class, from 0 to 1.
    classes : sequence of str
        Names.
    limit : int, default 32
        Most pictures to draw; the most confident ones.

    Returns
    -------
    Figure
        Under each picture the true class, then the predicted one with its probability.

    Raises
    ------
    ShapeError
        If `images` has not four axes, is empty, or the other arrays have another length.

    Examples
    --------
    >>> figure = mistakes(np.zeros((1, 1, 8, 8)), [0], [1], [0.9], ["cat", "dog"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['cat', 'dog 90.0%']
    """
    images = np.asarray(images)
    if images.ndim != 4 or not len(images):
        raise ShapeError(explain("mistakes", "images", "have shape (K, C, H, W)", images.shape))
    for name, array in (("true", true), ("predicted", predicted), ("confidence", confidence)):
        if np.shape(array) != (len(images),):
            raise ShapeError(
                explain("mistakes", name, f"have shape ({len(images)},)", np.shape(array))
            )
    order = np.argsort(-np.asarray(confidence), kind="stable")[:limit]
    captions = [
        [
            (class_name(classes, true[i]), INK),
            (f"{class_name(classes, predicted[i])} {confidence[i]:.1%}", LIGHT[1]),
        ]
        for i in order
    ]
    figure = _mosaic(to_channels_last(images[order]), captions, columns=_COLUMNS)
    title(figure.axes[0], "Most confident mistakes", "first line true, second predicted")
    return figure


def class_name(classes: Sequence[str], index: int) -> str:
    """Return the name of a class, or its number where no name is known."""
    number = int(index)
    return str(classes[number]) if 0 <= number < len(classes) else str(number)


def _mosaic(
    tiles: np.ndarray, captions: Sequence[Sequence[tuple[str, str]]], columns: int
) -> Figure:
    """Draw pictures of values 0 to 255 in rows, with lines of text below each."""
    across = max(1, min(columns, len(tiles)))
    down = -(-len(tiles) // across)
    lines = max((len(caption) for caption in captions), default=0)
    ratio = tiles.shape[1] / tiles.shape[2]
    cell, gap, line = 1.0, 0.1, 0.165  # the unit is the width of a picture
    pitch = ratio * cell + gap + line * lines
    inches = 9.0 / max(across, 6)
    span = across * (cell + gap) - gap
    figure = new_figure(max(5.4, inches * span + 0.3), inches * (down * pitch) + 0.55)
    ax = figure.add_subplot()
    for index, tile in enumerate(tiles):
        row, col = divmod(index, across)
        left, top = col * (cell + gap), row * pitch
        ax.imshow(
            np.clip(np.rint(tile), 0, 255).astype(np.uint8),
            cmap="gray",
            vmin=0,
            vmax=255,
            extent=(left, left + cell, top + ratio * cell, top),
            interpolation="nearest",
        )
        for place, (text, colour) in enumerate(captions[index] if captions else ()):
            ax.text(
                left + cell / 2,
                top + ratio * cell + line * (place + 0.6),
                readable(text, 20),
                ha="center",
                va="center",
                fontsize=7.5,
                color=colour,
            )
    ax.set_xlim(0, max(span, 1.0))
    ax.set_ylim(down * pitch, 0)
    ax.set_aspect("equal")
    ax.set_anchor("NW")
    ax.set_axis_off()
    return figure
