"""Figures of gradient descent: the gap under its bound, paths over contours, steps that go up."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from chainrule.convex import Convergence, Descent, Problem, sgd_step_may_ascend
from chainrule.errors import ConfigError, InputError, explain
from chainrule.records import write_atomically
from chainrule.report.style import (
    INK,
    LIGHT,
    LIGHT_SURFACE,
    MUTED,
    RULE,
    halo,
    new_figure,
    readable,
    style_axes,
    title,
)

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["animate_descent", "ascent_figure", "descent_figure", "path_figure"]

_BLUE, _ORANGE, _GREEN = LIGHT[:3]
_TERRAIN = LinearSegmentedColormap.from_list(
    "terrain of f", [LIGHT_SURFACE, "#eaf2f9", "#d3e5f3", "#b7d3ea", "#98bfdf"]
)
_DOWN_UP = LinearSegmentedColormap.from_list(
    "down and up", ["#00507f", "#0072b2", "#9cc9e6", LIGHT_SURFACE, "#f5b98c", "#d55e00", "#8f3d00"]
)
_GRID = 241  # points of a contour picture along each axis
_FRAMES = 90
_FRAME_SECONDS = 0.07
_LAST_FRAME_SECONDS = 2.5


def descent_figure(
    study: Convergence, problem: Problem | None = None, descent: Descent | None = None
) -> Figure:
    """Draw the gap under its bound, and beside it the path where there are two dimensions.

    Parameters
    ----------
    study : Convergence
        From `chainrule.convex.convergence`.
    problem : Problem, optional
        What was descended; for the path.
    descent : Descent, optional
        A run on it; for the path, which is drawn in one and two dimensions.

    Returns
    -------
    Figure
        Both axes of the gap are logarithmic. Each dot is a run of its own, with the step size for
        its T; the straight line is ``B rho / sqrt(T)``. The curves belong to the longest run: the
        gap of the mean so far, and the bound for having stopped there. Gaps of zero are not drawn.

    Examples
    --------
    >>> from chainrule.convex import convergence, load_problem
    >>> figure = descent_figure(convergence(load_problem("line"), [10, 100]))
    >>> [ax.get_xscale() for ax in figure.axes]
    ['log']
    """
    with_path = problem is not None and descent is not None and problem.dimension <= 2
    figure = new_figure(10.4 if with_path else 6.4, 4.9)
    ratios = [1.35, 1.0] if with_path else [1.0]
    panels = figure.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0]
    _draw_gaps(panels[0], study)
    if with_path and problem is not None and descent is not None:
        _draw_path(panels[1], problem, descent)
    _legend(figure, 4 if with_path else 2)
    lines = wrap(readable(_headline(study), None), 150 if with_path else 95)  # 16 letters an inch
    figure.suptitle("\n".join(lines), fontsize=8.5, color=MUTED)
    return figure


def path_figure(problem: Problem, descent: Descent) -> Figure:
    """Draw the path of descent over the contours of f, or over its graph in one dimension.

    Parameters
    ----------
    problem : Problem
        What was descended; of one or two dimensions.
    descent : Descent
        A run on it.

    Returns
    -------
    Figure
        Dots are the points ``w_t``; the diamond is their mean, the star the minimiser, and the
        dashed circle the ball of radius B.

    Raises
    ------
    InputError
        If the problem has more than two dimensions.

    Examples
    --------
    >>> from chainrule.convex import gradient_descent, load_problem
    >>> problem = load_problem("bowl")
    >>> figure = path_figure(problem, gradient_descent(problem, 50))
    >>> figure.axes[0].get_xlabel()
    'first coordinate of w'
    """
    if problem.dimension > 2:
        rule = "have one or two dimensions"
        raise InputError(explain("path_figure", "problem", rule, problem.dimension))
    figure = new_figure(5.6, 5.2 if problem.dimension == 2 else 4.2)
    ax = figure.subplots()
    _draw_path(ax, problem, descent)
    _legend(figure, 3)
    return figure


def ascent_figure(largest_w: float = 4.0, largest_eta: float = 8.0) -> Figure:
    """Map how probably, and how far, a stochastic step on the two-term example goes up.

    Parameters
    ----------
    largest_w : float, default 4.0
        The maps span -largest_w to largest_w; positive.
    largest_eta : float, default 8.0
        They span step sizes up to this one; positive.

    Returns
    -------
    Figure
        The probability of ascent, the mean change of f, and its values for a few step sizes.

    Raises
    ------
    InputError
        If a range is not positive and finite.

    Examples
    --------
    >>> [ax.get_title(loc="left") for ax in ascent_figure().axes[:2]]
    ['Probability that f increases', 'Mean change of f']
    """
    for name, value in (("largest_w", largest_w), ("largest_eta", largest_eta)):
        if not 0 < value < math.inf:
            raise InputError(explain("ascent_figure", name, "be positive and finite", value))
    w = np.linspace(-largest_w, largest_w, 401)
    eta = np.linspace(largest_eta / 400, largest_eta, 400)
    steps = sgd_step_may_ascend(w[None], eta[:, None])
    figure = new_figure(11.6, 4.0)
    chance, change, cut = figure.subplots(1, 3)

    surely = np.asarray(steps.probability == 1)
    chance.contourf(w, eta, surely, levels=[-0.5, 0.5, 1.5], colors=["#fbe3d0", "#e58a4a"])
    edge = sgd_step_may_ascend(w, 1.0).threshold
    chance.plot(w, edge, color=INK, linewidth=1.2)
    middle = largest_eta * 0.86
    chance.text(0, middle, "1", ha="center", fontsize=15, fontweight="bold", color=INK)
    for side in (-1, 1):
        at = side * largest_w * 0.84
        chance.text(at, largest_eta * 0.4, "1/2", ha="center", fontsize=15, color=INK)
    title(chance, "Probability that f increases")

    mean = steps.expected_change
    norm = TwoSlopeNorm(0.0, min(float(mean.min()), -1e-9), max(float(mean.max()), 1e-9))
    image = change.pcolormesh(w, eta, mean, cmap=_DOWN_UP, norm=norm, rasterized=True)
    change.contour(w, eta, mean, levels=[0.0], colors=[INK], linewidths=1.2)
    bar = figure.colorbar(image, ax=change, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=0)
    title(change, "Mean change of f")

    for number, size in enumerate((0.5, 1.0, 2.0, 4.0)):
        along = sgd_step_may_ascend(w, size)
        colour = LIGHT[number]
        cut.plot(w, along.expected_change, color=colour, linewidth=1.6, label=f"$\\eta$ = {size:g}")
        cut.plot(w, along.full_change, color=colour, linewidth=1.0, dashes=(3, 2))
    cut.axhline(0.0, color=INK, linewidth=0.8)
    title(cut, "Mean change of f", "dashed: a full step")
    cut.legend(fontsize=8, frameon=False, labelcolor=INK, handlelength=1.6, loc="lower center")
    for ax in (chance, change, cut):
        style_axes(ax, grid=ax is cut)
        ax.set_xlabel("w", color=MUTED, fontsize=8.5)
        ax.set_xlim(-largest_w, largest_w)
    chance.set_xlabel(r"w; the edge is the step size $2\,|w|\,/\,\sigma(|w|)$")
    for ax in (chance, change):
        ax.set_ylabel("step size", color=MUTED, fontsize=8.5)
        ax.set_ylim(0, largest_eta)
    heading = r"$f(w) = -\ln(1 - \sigma(w)) - \ln\,\sigma(w)$, one term drawn for each step"
    figure.suptitle(heading, fontsize=9.5, color=MUTED)
    return figure


def animate_descent(
    problem: Problem, descent: Descent, path: str | Path, frames: int = _FRAMES
) -> None:
    """Write a run of descent as an animated picture.

    Parameters
    ----------
    problem : Problem
        What was descended.
    descent : Descent
        A run on it.
    path : str or Path
        A ``.gif`` file.
    frames : int, default 90
        How many pictures at most, 2 or more; later ones lie more steps apart.

    Raises
    ------
    ConfigError
        If the file's name does not end in ``.gif``.
    InputError
        If `frames` is below 2.
    RunError
        If the file cannot be written.

    Notes
    -----
    With one or two dimensions the path grows over f on the left; on the right, the gap of the mean
    so far under the bound for stopping there.

    Examples
    --------
    >>> import tempfile
    >>> from chainrule.convex import gradient_descent, load_problem
    >>> problem, file = load_problem("bowl"), Path(tempfile.mkdtemp(), "bowl.gif")
    >>> animate_descent(problem, gradient_descent(problem, 20), file, frames=3)
    >>> file.read_bytes()[:6]
    b'GIF89a'
    """
    if Path(path).suffix.lower() != ".gif":
        raise ConfigError(explain("animation", "the file's name", "end in .gif", repr(str(path))))
    if frames < 2:
        raise InputError(explain("animate_descent", "frames", "be 2 or more", frames))
    pictures = list(_frames(problem, descent, frames))
    palette = _palette(pictures[-1])  # one for all, or colours flicker
    flat = [_indexed(picture, palette) for picture in pictures]
    stream = io.BytesIO()
    durations = [int(1000 * _FRAME_SECONDS)] * (len(flat) - 1) + [int(1000 * _LAST_FRAME_SECONDS)]
    flat[0].save(stream, "GIF", save_all=True, append_images=flat[1:], duration=durations, loop=0)
    write_atomically(Path(path), stream.getvalue())


def _palette(picture: np.ndarray) -> np.ndarray:
    """Choose 256 colours (256, 3) of a picture, with our own among them, unchanged."""
    from PIL import Image

    colours = np.zeros((256, 3), dtype=np.int64)
    found = Image.fromarray(picture).quantize(256).getpalette() or []
    colours[: len(found) // 3] = np.reshape(found, (-1, 3))
    for name in (_BLUE, _ORANGE, _GREEN, INK, MUTED, LIGHT_SURFACE):
        colour = np.rint(255 * np.array(to_rgb(name))).astype(np.int64)
        colours[((colours - colour) ** 2).sum(axis=1).argmin()] = colour
    return colours


def _indexed(picture: np.ndarray, palette: np.ndarray) -> Image.Image:
    """Give each pixel the nearest colour; Pillow's own search sees every fourth level only."""
    from PIL import Image

    packed = picture.astype(np.int64) @ (1 << 16, 1 << 8, 1)
    seen, where = np.unique(packed, return_inverse=True)
    colours = np.stack([seen >> 16, seen >> 8 & 255, seen & 255], axis=1)
    nearest = ((colours[:, None] - palette) ** 2).sum(axis=2).argmin(axis=1)
    image = Image.fromarray(nearest[where].reshape(packed.shape).astype(np.uint8))
    image.putpalette(palette.ravel().tolist())
    return image


def _headline(study: Convergence) -> str:
    about = study.about or study.problem
    runs = f", mean of {study.runs} runs" if study.runs > 1 else ""
    way = f"{study.variant.replace('_', ' ')} steps{runs}, B = {study.radius:.3g}"
    return f"{about[0].upper()}{about[1:]}: {way}, rho = {study.rho:.3g}"


def _legend(figure: Figure, columns: int) -> None:
    """Draw one legend, of all axes, under the figure."""
    known: dict[str, Artist] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    figure.legend(
        known.values(),
        known.keys(),
        loc="outside lower center",
        ncols=min(columns, len(known)),
        fontsize=8,
        frameon=False,
        labelcolor=INK,
        handlelength=2.2,
    )


def _draw_gaps(ax: Axes, study: Convergence) -> None:
    """Draw gap and bound of each run, and of the longest one after each step."""
    positive = study.gaps > 0
    counts = np.array([point.steps for point in study.points], dtype=np.float64)
    bounds = [point.bound for point in study.points]
    ax.plot(counts, bounds, "-", color=_BLUE, linewidth=2.0, label="bound for T steps", zorder=3)
    if len(counts) == 1:
        ax.plot(counts, bounds, "_", color=_BLUE, markersize=14, markeredgewidth=2.0, zorder=3)
    some = [point for point in study.points if point.gap > 0]
    if some:
        x, y = [point.steps for point in some], np.array([point.gap for point in some])
        error = np.array([point.standard_error for point in some])
        low = np.minimum(error, 0.9 * y)
        ax.errorbar(
            x,
            y,
            yerr=np.stack([low, error]) if error.any() else None,
            fmt="o",
            color=_ORANGE,
            markersize=5.5,
            capsize=2.5,
            elinewidth=1.0,
            label="f(mean of w) - f(w*) after T steps",
            zorder=4,
        )
    faint: dict[str, Any] = {"linewidth": 1.0, "alpha": 0.55, "zorder": 2}
    ax.plot(study.times, study.bounds, color=_BLUE, label="bound on the way to the last T", **faint)
    way = (study.times[positive], study.gaps[positive])
    ax.plot(*way, color=_ORANGE, label="f(mean so far) - f(w*) on that way", **faint)
    start = study.f_zero - study.f_star
    if start > 0:
        ax.axhline(start, color=MUTED, linewidth=0.9, dashes=(4, 3), zorder=1)
        ax.annotate(
            "f(0) - f(w*)",
            (1.0, start),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 4),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=MUTED,
            path_effects=halo(),
        )
    style_axes(ax)
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(base=10, numticks=9))
        axis.set_major_formatter(FuncFormatter(_power))
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("steps")
    title(ax, "Distance from the minimum, and its bound")


def _power(value: float, _: float) -> str:
    return f"{value:,.4g}" if 1e-3 <= value <= 1e5 else f"$10^{{{round(math.log10(value))}}}$"


def _draw_path(ax: Axes, problem: Problem, descent: Descent) -> None:
    if problem.dimension == 2:
        _draw_terrain(ax, problem, descent)
        points = descent.path
        ax.set_xlabel("first coordinate of w")
        ax.set_ylabel("second coordinate of w")
    else:
        _draw_graph(ax, problem, descent)
        points = np.column_stack([descent.path[:, 0], descent.values])
        ax.set_xlabel("w")
        ax.set_ylabel("f(w)")
    line = "-" if problem.dimension == 2 else ""  # in one dimension it would hide the graph
    ax.plot(*points.T, line, color=_ORANGE, linewidth=0.9, alpha=0.75, zorder=3)
    size = 3.0 if len(points) <= 120 else 1.8
    ax.plot(*points.T, "o", color=_ORANGE, markersize=size, label="points of the path", zorder=4)
    _draw_ends(ax, problem, descent)
    title(ax, "Path", f"T = {descent.steps:,}, step size {descent.eta:.3g}")


def _draw_ends(ax: Axes, problem: Problem, descent: Descent) -> None:
    """Mark where descent begins, its mean, and the minimiser."""

    def place(w: np.ndarray) -> tuple[float, float]:
        return (float(w[0]), float(w[1]) if len(w) == 2 else problem.value(w))

    ends = (
        ("start", np.zeros(problem.dimension), "o", INK, 6.0),
        ("mean of w", descent.average, "D", _GREEN, 7.0),
        ("minimiser w*", problem.minimum.w, "*", INK, 12.0),
    )
    for label, w, marker, colour, size in ends:
        ax.plot(
            *([each] for each in place(w)),
            marker,
            color=colour,
            markersize=size,
            markeredgecolor=LIGHT_SURFACE,
            markeredgewidth=0.9,
            label=label,
            zorder=6,
        )


def _draw_terrain(ax: Axes, problem: Problem, descent: Descent) -> None:
    """Fill the contours of f around the path, and draw the ball."""
    (left, bottom), (right, top) = _window(problem, descent)
    x, y = np.linspace(left, right, _GRID), np.linspace(bottom, top, _GRID)
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    values = np.stack([problem.evaluate(row)[0] for row in grid])
    low = min(problem.minimum.value, float(values.min()))
    # Even steps of the root: a bowl's contours then lie evenly apart.
    levels = low + (float(values.max()) - low) * np.linspace(0, 1, 15) ** 2
    ax.contourf(x, y, values, levels=levels, cmap=_TERRAIN)
    ax.contour(x, y, values, levels=levels[1:-1], colors=["#7fa6c6"], linewidths=0.6)
    angle = np.linspace(0, 2 * np.pi, 361)
    rim = descent.radius * np.stack([np.cos(angle), np.sin(angle)])
    ax.plot(*rim, color=MUTED, linewidth=0.9, dashes=(4, 3), label="ball of radius B", zorder=2)
    ax.set_aspect("equal")
    style_axes(ax, grid=False)
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)


def _draw_graph(ax: Axes, problem: Problem, descent: Descent) -> None:
    """Draw f along its one dimension, around the path."""
    ends = np.array([descent.path.min(), descent.path.max(), problem.minimum.w[0], 0.0])
    room = 0.12 * max(float(np.ptp(ends)), 1e-3)
    w = np.linspace(ends.min() - room, ends.max() + room, 801)
    ax.plot(w, problem.evaluate(w[:, None])[0], color=_BLUE, linewidth=1.4, zorder=2)
    style_axes(ax)


def _window(problem: Problem, descent: Descent) -> tuple[np.ndarray, np.ndarray]:
    """Lower left and upper right corner of a square around the path and the minimiser."""
    shown = np.vstack([descent.path, descent.averages, problem.minimum.w, np.zeros(2)])
    low, high = shown.min(axis=0), shown.max(axis=0)
    middle, half = (low + high) / 2, 0.58 * float((high - low).max())
    return middle - half, middle + half


def _frames(problem: Problem, descent: Descent, frames: int) -> Iterator[np.ndarray]:
    """Draw the pictures of an animation, each as RGB bytes (H, W, 3)."""
    drawn = problem.dimension <= 2
    figure = new_figure(9.6 if drawn else 5.6, 4.4)
    *left, right = figure.subplots(1, 2 if drawn else 1, squeeze=False)[0]
    if left:
        _draw_path(left[0], problem, descent)
        walked, dots, _, mean, _ = left[0].lines[-5:]
        points = walked.get_xydata()
    gaps = descent.average_values - descent.f_star
    gaps = np.where(gaps > 0, gaps, np.nan)
    right.plot(descent.times, descent.bounds(), color=_BLUE, linewidth=1.8, label="bound")
    (curve,) = right.plot(descent.times, gaps, color=_ORANGE, linewidth=1.8, label="gap")
    (now,) = right.plot([1], [1], "o", color=_ORANGE, markersize=6)
    style_axes(right)
    right.set_xscale("log")
    right.set_yscale("log")
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_locator(LogLocator(base=10, numticks=9))
        axis.set_major_formatter(FuncFormatter(_power))
        axis.set_minor_formatter(NullFormatter())
    right.set_xlabel("step t")
    title(right, "f(mean so far) - f(w*), and its bound")
    limits = right.get_ylim()
    right.set_ylim(limits)
    right.grid(axis="both", color=RULE, linewidth=0.8)
    figure.suptitle(readable(problem.about or problem.name, None), fontsize=8.5, color=MUTED)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # settled: pictures must not shift
    width, height = (round(figure.dpi * inches) for inches in figure.get_size_inches())
    count = len(descent.times)
    chosen = np.unique(np.rint(np.geomspace(1, count, min(frames, count))).astype(int) - 1)
    for last in chosen:
        if left:
            for line in (walked, dots):
                line.set_data(points[: last + 1].T)
            average = descent.averages[last]
            value = float(descent.average_values[last])
            mean.set_data([average[0]], [average[1] if len(average) == 2 else value])
            title(left[0], "Path", f"t = {descent.times[last]:,} of {descent.steps:,}")
        curve.set_data(descent.times[: last + 1], gaps[: last + 1])
        now.set_data([descent.times[last]], [gaps[last]])
        stream = io.BytesIO()
        figure.savefig(stream, format="rgba", dpi=figure.dpi)
        yield np.frombuffer(stream.getvalue(), np.uint8).reshape(height, width, 4)[..., :3].copy()
