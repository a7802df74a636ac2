"""The course's pictures: learning curves and first-layer filters.

This module and `chainrule.report` are the only ones that import matplotlib. Figures are built from
`Figure` alone, without pyplot, so that no display is needed and no setting changed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from chainrule.course.cs231n.vis_utils import visualize_grid
from chainrule.course.pytorch.logs import TrainingLog
from chainrule.records import write_atomically

__all__ = ["draw_accuracy", "draw_filters", "draw_losses", "save_figure", "save_grid"]

_BLUE, _VERMILION, _GREY = "#0072b2", "#d55e00", "#596270"  # Okabe and Ito's
_GRID_SIDE = 640  # pixels that a grid of filters has at least


def _axes(title: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    axes.set_xlabel("epoch", color=_GREY)
    axes.set_ylabel(y, color=_GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_GREY, labelsize=9)
    axes.grid(axis="y", color="#e4e8ed")
    axes.set_axisbelow(True)
    return figure, axes


def draw_losses(log: TrainingLog, name: str) -> Figure:
    """Draw the losses of training batches and of the validation images.

    Parameters
    ----------
    log : TrainingLog
        What is drawn.
    name : str
        The model's, for the title.

    Returns
    -------
    matplotlib.figure.Figure
        Losses against epochs.
    """
    figure, axes = _axes(f"{name}: loss", "cross-entropy")
    axes.plot(log.epochs, log.train_losses, color=_BLUE, linewidth=0.9, label="training batch")
    axes.plot(log.epochs, log.val_losses, color=_VERMILION, linewidth=1.8, label="validation")
    _trim_start(axes, [log.train_losses, log.val_losses])
    axes.legend(frameon=False, fontsize=9)
    return figure


def _trim_start(axes: Axes, curves: Sequence[np.ndarray]) -> None:
    """Keep a few large losses of the first steps from pressing the rest to the bottom."""
    values = np.concatenate(curves)
    usual = float(np.percentile(values, 98))
    if values.max() > 2 * usual:
        axes.set_ylim(top=1.15 * usual)


def draw_accuracy(log: TrainingLog, name: str) -> Figure:
    """Draw the accuracy on the validation images.

    Parameters
    ----------
    log : TrainingLog
        What is drawn. Where the log has come to its end, the test accuracy is a line across.
    name : str
        The model's, for the title.

    Returns
    -------
    matplotlib.figure.Figure
        Per cent against epochs.
    """
    figure, axes = _axes(f"{name}: validation accuracy", "per cent")
    axes.plot(log.epochs, log.val_accs, color=_VERMILION, linewidth=1.8, label="validation")
    if log.test_accuracy is not None:
        label = f"test, at the end: {log.test_accuracy:.1f} %"
        axes.axhline(log.test_accuracy, color=_GREY, linewidth=1, linestyle="--", label=label)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def draw_filters(filters: np.ndarray, names: Sequence[str] = ()) -> Figure:
    """Draw filters side by side, all on one scale.

    Parameters
    ----------
    filters : ndarray, shape (N, H, W, 3)
        Weights of any range. The smallest of all becomes 0 and the largest 1, so that filters can
        be compared; a grid of `save_grid` stretches each one by itself.
    names : sequence of str, optional
        A title for each.

    Returns
    -------
    matplotlib.figure.Figure
        Five in a row, or more of many.
    """
    low, high = float(filters.min()), float(filters.max())
    scaled = (filters - low) / (high - low) if high > low else np.full(filters.shape, 0.5)
    columns = max(5, ceil(1.2 * len(filters) ** 0.5))
    rows = ceil(len(filters) / columns)
    inches = max(0.4, min(1.3, 13 / columns))
    if not names:  # one picture, since hundreds of axes take a minute to draw
        figure = Figure(figsize=(inches * columns, inches * rows), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(_mosaic(scaled, rows, columns), interpolation="nearest")
        axes.set_axis_off()
        return figure
    figure = Figure(figsize=(inches * columns, (inches + 0.15) * rows), layout="constrained")
    for index, (image, name) in enumerate(zip(scaled, names, strict=True)):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(image, interpolation="nearest")
        axes.set_title(name, fontsize=9)
        axes.set_axis_off()
    return figure


def _mosaic(images: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Put images (N, H, W, 3) into rows, with white between them."""
    count, height, width, _ = images.shape
    gap = max(1, height // 10)
    tiles = np.ones((rows * columns, height + gap, width + gap, 3))
    tiles[:count, :height, :width] = images
    lines = tiles.reshape(rows, columns, height + gap, width + gap, 3).transpose(0, 2, 1, 3, 4)
    return lines.reshape(rows * (height + gap), columns * (width + gap), 3)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What to write.
    path : Path
        Replaced as a whole or not at all.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    write_atomically(path, content.getvalue())


def save_grid(filters: np.ndarray, path: Path) -> None:
    """Write filters as one PNG, a square of pictures, each stretched to its full contrast.

    Parameters
    ----------
    filters : ndarray, shape (N, H, W, 3)
        Weights of any range.
    path : Path
        Replaced as a whole or not at all.
    """
    grid = visualize_grid(filters, padding=1).astype(np.uint8)
    factor = max(1, ceil(_GRID_SIDE / max(grid.shape[:2])))
    picture = Image.fromarray(grid.repeat(factor, axis=0).repeat(factor, axis=1))
    content = io.BytesIO()
    picture.save(content, format="PNG")
    write_atomically(path, content.getvalue())
