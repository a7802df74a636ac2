"""Figures of how good a classifier is, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import Affine2D

from chainrule.errors import ShapeError, explain
from chainrule.report.style import (
    HEAT,
    HEAT_GAMMA,
    INK,
    LIGHT,
    MUTED,
    halo,
    ink_on,
    new_figure,
    readable,
    style_axes,
    title,
)

__all__ = [
    "Confusion",
    "class_accuracies",
    "class_accuracy",
    "confusion_matrix",
    "largest_confusions",
    "row_shares",
]

_FEW, _MANY = 12, 30  # classes; sizes shrink beyond each
_ABSENT = "#9aa3af"  # colour of a count of zero


@dataclass(frozen=True)
class Confusion:
    """Examples of one class taken for another.

    Attributes
    ----------
    true, predicted : str
        The classes.
    count : int
        How many.
    share : float
        As a fraction of all examples of the true class.
    """

    true: str
    predicted: str
    count: int
    share: float


def row_shares(confusion: np.ndarray) -> np.ndarray:
    """Divide each row by its sum; rows without examples stay zero.

    Examples
    --------
    >>> row_shares(np.array([[3, 1], [0, 0]]))
    array([[0.75, 0.25],
           [0.  , 0.  ]])
    """
    counts = np.asarray(confusion, dtype=np.float64)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0))


def class_accuracies(confusion: np.ndarray) -> np.ndarray:
    """Return the accuracy on each class (its recall), NaN for classes without examples.

    Examples
    --------
    >>> class_accuracies(np.array([[3, 1], [0, 0]]))
    array([0.75,  nan])
    """
    shares = np.diagonal(row_shares(confusion)).copy()
    shares[np.asarray(confusion).sum(axis=1) == 0] = np.nan
    return shares


def largest_confusions(
    confusion: np.ndarray, classes: Sequence[str], limit: int = 10
) -> list[Confusion]:
    """List the most frequent mistakes, by number of examples.

    Parameters
    ----------
    confusion : ndarray, shape (C, C)
        Counts; rows are true classes, columns predicted ones.
    classes : sequence of str, length C
        Names.
    limit : int, default 10
        Longest list.

    Returns
    -------
    list of Confusion
        Sorted, without pairs that never occurred.

    Examples
    --------
    >>> [c.count for c in largest_confusions(np.array([[8, 2], [3, 7]]), ["cat", "dog"])]
    [3, 2]
    """
    counts, names = _checked("largest_confusions", confusion, classes)
    shares = row_shares(counts)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    pairs = [divmod(int(place), len(counts)) for place in order]
    return [
        Confusion(names[i], names[j], int(counts[i, j]), float(shares[i, j]))
        for i, j in pairs
        if wrong[i, j] > 0
    ]


def confusion_matrix(
    confusion: np.ndarray, classes: Sequence[str], *, heading: str = "Confusion matrix"
) -> Figure:
    """Draw which class was taken for which.

    Parameters
    ----------
    confusion : ndarray, shape (C, C)
        Counts; rows are true classes, columns predicted ones.
    classes : sequence of str, length C
        Names.
    heading : str, default "Confusion matrix"
        Title.

    Returns
    -------
    Figure
        Colours are shares of the true class, on a square-root scale so that rare confusions
        show; numbers are counts. The figure grows with C, so that numbers stay legible.

    Raises
    ------
    ShapeError
        If `confusion` is not square or `classes` has another length.

    Examples
    --------
    >>> figure = confusion_matrix(np.array([[8, 2], [3, 7]]), ["cat", "dog"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['8', '2', '3', '7']
    """
    counts, names = _checked("confusion_matrix", confusion, classes)
    number = len(counts)
    cell, digits, letters = _sizes(number)
    side = max(2.6, cell * number)
    figure = new_figure(side + 2.2, side + 1.5)
    ax = figure.add_subplot()
    norm = PowerNorm(HEAT_GAMMA, vmin=0.0, vmax=1.0)
    shares = row_shares(counts)
    image = ax.imshow(shares, cmap=HEAT, norm=norm)
    inks = np.apply_along_axis(ink_on, 2, HEAT(norm(shares)))
    if number <= _FEW:
        for (row, col), count in np.ndenumerate(counts):
            ink = inks[row, col] if count else _ABSENT
            ax.text(col, row, f"{count}", ha="center", va="center", fontsize=digits, color=ink)
    else:
        _stamp_numbers(ax, counts, inks, digits)
    labels = [readable(name, 18) for name in names]
    ax.set_xticks(range(number), labels, rotation=45 if number <= _FEW else 90)
    for label in ax.get_xticklabels():
        label.set_horizontalalignment("right" if number <= _FEW else "center")
        label.set_rotation_mode("anchor" if number <= _FEW else "default")
    ax.set_yticks(range(number), labels)
    ax.set(xlabel="predicted", ylabel="true")
    title(ax, heading)
    style_axes(ax, grid=False)
    ax.tick_params(length=0, labelsize=letters, labelcolor=INK)
    for edge in ("left", "bottom"):
        ax.spines[edge].set_visible(False)
    ax.set_xticks(np.arange(0.5, number - 1), minor=True)
    ax.set_yticks(np.arange(0.5, number - 1), minor=True)
    ax.grid(which="minor", color="white", linewidth=1.0 if number <= _MANY else 0.4)
    ticks = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1]
    bar = figure.colorbar(image, ax=ax, ticks=ticks, shrink=0.85, aspect=30, pad=0.02)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=2)
    bar.ax.set_ylabel("share of the true class", fontsize=8.5, color=MUTED)
    bar.outline.set_visible(False)
    return figure


def _sizes(number: int) -> tuple[float, float, float]:
    """Return inches per cell, and points of the counts and of the names, for so many classes."""
    if number <= _FEW:
        return 0.52, 9.5, 9.0
    return (0.36, 7.0, 8.0) if number <= _MANY else (0.24, 5.0, 6.0)


def _stamp_numbers(ax: Axes, counts: np.ndarray, inks: np.ndarray, size: float) -> None:
    """Write the counts that are not zero, each distinct number as one shape stamped many times.

    A hundred classes have ten thousand cells; laying out a text for each would take ten seconds.
    """
    for count in np.unique(counts[counts > 0]):
        shape = TextPath((0, 0), f"{count}", size=size)
        box = shape.get_extents()
        centred = shape.transformed(Affine2D().translate(-(box.x0 + box.x1) / 2, -box.height / 2))
        extent = 2 * float(np.abs(np.asarray(centred.vertices)).max())  # markers are scaled to 1
        for ink in np.unique(inks[counts == count]):
            rows, columns = np.nonzero((counts == count) & (inks == ink))
            ax.plot(
                columns,
                rows,
                linestyle="",
                marker=centred,
                markersize=extent,
                markerfacecolor=str(ink),
                markeredgewidth=0,
            )


def class_accuracy(
    confusion: np.ndarray, classes: Sequence[str], *, heading: str = "Accuracy by class"
) -> Figure:
    """Draw the accuracy on each class as bars, the best class at the top.

    Parameters
    ----------
    confusion : ndarray, shape (C, C)
        Counts; rows are true classes, columns predicted ones.
    classes : sequence of str, length C
        Names.
    heading : str, default "Accuracy by class"
        Title.

    Returns
    -------
    Figure
        Classes without examples are left out; a dashed line is the accuracy on all examples.

    Raises
    ------
    ShapeError
        If `confusion` is not square or `classes` has another length.

    Examples
    --------
    >>> figure = class_accuracy(np.array([[5, 5], [1, 9]]), ["cat", "dog"])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['dog', 'cat']
    """
    counts, names = _checked("class_accuracy", confusion, classes)
    accuracies = class_accuracies(counts)
    order = [int(i) for i in np.argsort(-accuracies, kind="stable") if counts[i].sum()]
    values = accuracies[order]
    row = 0.3 if len(order) <= 30 else 0.17
    figure = new_figure(6.4, 1.1 + row * max(1, len(order)))
    ax = figure.add_subplot()
    places = np.arange(len(order))
    ax.barh(places, values, height=0.68, color=LIGHT[0])
    letters = 9 if len(order) <= 30 else 6.5
    for place, value in enumerate(values.tolist()):
        ax.text(
            value + 0.008,
            place,
            f"{value:.1%}",
            va="center",
            fontsize=letters - 1,
            color=INK,
            path_effects=halo(),
            zorder=4,
        )
    overall = np.trace(counts) / max(1, counts.sum())
    ax.axvline(overall, color=LIGHT[1], linewidth=1.2, linestyle=(0, (5, 3)), zorder=3)
    ax.set_yticks(places, [readable(names[i], 18) for i in order])
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.set_xlim(0, 1.1)
    ax.set_xticks(np.arange(0, 1.01, 0.2))
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    title(ax, heading, f"dashed: {overall:.1%} of all examples")
    style_axes(ax, grid=False)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0, labelsize=letters, labelcolor=INK)
    return figure


def _checked(
    where: str, confusion: np.ndarray, classes: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    counts = np.asarray(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ShapeError(explain(where, "confusion", "have shape (C, C)", counts.shape))
    if len(classes) != len(counts):
        raise ShapeError(
            explain(where, "classes", f"name the {len(counts)} rows of confusion", len(classes))
        )
    return counts.astype(np.int64), [str(name) for name in classes]
