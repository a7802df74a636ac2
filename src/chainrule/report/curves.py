"""Figures of what changed during training: learning curves, updates, activations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from chainrule.errors import InputError, RunError, explain
from chainrule.records import RunDirectory
from chainrule.report.charts import (
    Chart,
    Metrics,
    activation_charts,
    column,
    learning_charts,
    of_kind,
    update_chart,
)
from chainrule.report.style import (
    DASHES,
    INK,
    LIGHT,
    MUTED,
    WARNING,
    halo,
    legend_below,
    new_figure,
    readable,
    style_axes,
    title,
)

__all__ = ["activation_statistics", "compare_runs", "learning_curves", "update_ratios"]


def learning_curves(metrics: Metrics) -> Figure:
    """Draw loss, accuracy and learning rate over the steps of training.

    Parameters
    ----------
    metrics : sequence of mapping
        Records as in ``metrics.jsonl``: those of kind ``"step"`` and ``"evaluation"`` are used.

    Returns
    -------
    Figure
        Loss and accuracy side by side (loss alone where accuracies are unknown), the learning
        rate below. The loss has a logarithmic axis if it falls by more than a factor of 50.

    Raises
    ------
    InputError
        If `metrics` holds no finite loss, accuracy or learning rate.

    Notes
    -----
    The faint line is the loss of each logged batch, the strong one its centred Gaussian average
    (`chainrule.report.smooth`). Points are evaluations on whole sets; the best one is ringed.
    A vertical red line is the first step whose loss was not finite.

    Examples
    --------
    >>> figure = learning_curves([{"kind": "step", "step": s, "loss": 2 / s} for s in range(1, 9)])
    >>> [ax.get_ylabel() for ax in figure.axes]
    ['loss']
    """
    charts = {chart.key: chart for chart in learning_charts(metrics)}
    if not charts:
        raise _nothing("learning_curves", "a finite loss, accuracy or learning rate")
    tall = [charts[key] for key in ("loss", "accuracy") if key in charts]
    rate = charts.get("lr")
    figure = new_figure(9.6 if len(tall) != 1 else 6.4, (3.6 if tall else 0) + (1.6 if rate else 0))
    rows = ([3.0] if tall else []) + ([1.0] if rate else [])
    grid = figure.add_gridspec(len(rows), max(1, len(tall)), height_ratios=rows)
    for place, chart in enumerate(tall):
        ax = figure.add_subplot(grid[0, place])
        _draw(ax, chart)
        _name_lines(ax)
    if rate:
        _draw(figure.add_subplot(grid[-1, :]), rate)
    figure.axes[-1].set_xlabel("step")
    return figure


def update_ratios(metrics: Metrics) -> Figure:
    """Draw, for each parameter, how large its updates were beside its weights.

    Parameters
    ----------
    metrics : sequence of mapping
        Records as in ``metrics.jsonl``: those of kind ``"layers"`` are used.

    Returns
    -------
    Figure
        ``norm(update) / norm(weight)`` over steps, logarithmic, with a guide at 1e-3. Parameters
        of one layer share a colour; biases are dotted.

    Raises
    ------
    InputError
        If `metrics` holds no update ratio.

    Notes
    -----
    A common rule of thumb asks for about 1e-3: far below, the learning rate is too small; far
    above, too large. Parameters that start at zero, as biases do, begin with large ratios.

    References
    ----------
    A. Karpathy, CS231n notes, "Ratio of weights:updates". https://cs231n.github.io/neural-networks-3/

    Examples
    --------
    >>> record = {"kind": "layers", "step": 1, "parameters": {"w": {"update_ratio": 1e-3}}}
    >>> update_ratios([record]).axes[0].get_yscale()
    'log'
    """
    chart = update_chart(metrics)
    if chart is None:
        raise _nothing("update_ratios", "update ratios (records of kind 'layers')")
    figure = new_figure(9.6, 4.4)
    ax = figure.add_subplot()
    _draw(ax, chart)
    ax.set_xlabel("step")
    legend_below(figure, ax, 4)
    return figure


def activation_statistics(metrics: Metrics) -> Figure:
    """Draw mean, standard deviation and share of zeros of each layer's output over the steps.

    Parameters
    ----------
    metrics : sequence of mapping
        Records as in ``metrics.jsonl``: those of kind ``"layers"`` are used.

    Returns
    -------
    Figure
        One panel per statistic that was recorded, one line per layer.

    Raises
    ------
    InputError
        If `metrics` holds no activation statistics.

    Examples
    --------
    >>> layers = {"relu1": {"activation_std": 0.8, "activation_zeros": 0.5}}
    >>> figure = activation_statistics([{"kind": "layers", "step": 1, "layers": layers}])
    >>> [ax.get_ylabel() for ax in figure.axes]
    ['standard deviation', 'share of zeros']
    """
    charts = activation_charts(metrics)
    if not charts:
        raise _nothing("activation_statistics", "activations (records of kind 'layers')")
    figure = new_figure(3.6 * len(charts) + 0.4, 3.6)
    for place, chart in enumerate(charts):
        ax = figure.add_subplot(1, len(charts), place + 1)
        _draw(ax, chart)
        ax.set_xlabel("step")
    legend_below(figure, figure.axes[0], 3 * len(charts))
    return figure


def compare_runs(paths: Sequence[str | Path]) -> Figure:
    """Overlay the validation curves of several runs.

    Parameters
    ----------
    paths : sequence of str or Path
        Run directories.

    Returns
    -------
    Figure
        Validation loss and, where known, validation accuracy over the steps; one line per run,
        named by its directory.

    Raises
    ------
    InputError
        If `paths` is empty.
    RunError
        If one of them is no run directory, or none has been evaluated.

    Examples
    --------
    >>> import tempfile
    >>> from chainrule.records import MetricsLog, new_run_directory
    >>> run = new_run_directory(Path(tempfile.mkdtemp()), ["mlp", "digits"], b"seed = 1")
    >>> with MetricsLog(run.metrics_path) as log:
    ...     log.append({"kind": "evaluation", "step": 100, "val_loss": 0.5})
    >>> [ax.get_ylabel() for ax in compare_runs([run.path]).axes]
    ['validation loss']
    """
    if not paths:
        raise InputError(explain("compare_runs", "paths", "name at least one run", "none"))
    runs = [(run.name, run.metrics("evaluation")) for run in map(RunDirectory, paths)]
    wanted = (("val_loss", "validation loss"), ("val_accuracy", "validation accuracy"))
    drawn = {
        key: [(n, *column(of_kind(m, "evaluation"), key)) for n, m in runs] for key, _ in wanted
    }
    panels = [(k, t) for k, t in wanted if any(np.isfinite(v).any() for _, _, v in drawn[k])]
    if not panels:
        raise RunError(
            explain("compare_runs", "the runs", "have been evaluated", "no validation result")
        )
    figure = new_figure(4.8 * len(panels), 4.0)
    for place, (key, heading) in enumerate(panels):
        ax = figure.add_subplot(1, len(panels), place + 1)
        for index, (name, steps, values) in enumerate(drawn[key]):
            ax.plot(
                steps,
                values,
                color=LIGHT[index % len(LIGHT)],
                linestyle=_pattern(2 * (index // len(LIGHT))),
                linewidth=1.7,
                marker="o",
                markersize=3.2,
                label=readable(name, 48),
            )
        title(ax, heading.capitalize())
        ax.set(xlabel="step", ylabel=heading)
        if key == "val_accuracy":
            ax.yaxis.set_major_formatter(_percent)
        style_axes(ax)
    legend_below(figure, figure.axes[0], 2)
    return figure


def _draw(ax: Axes, chart: Chart) -> None:
    """Draw one chart into an axes."""
    for series in chart.series:
        colour = LIGHT[series.colour]
        if series.style == "raw":
            ax.plot(
                series.steps, series.values, color=colour, linewidth=0.6, alpha=0.28, zorder=1.5
            )
            continue
        points = series.style == "points"
        ax.plot(
            series.steps,
            series.values,
            color=colour,
            linewidth=1.2 if points or series.dash else 1.7,
            linestyle=_pattern(series.dash),
            marker="o" if points or len(series.steps) == 1 else "",
            markersize=3.6,
            label=readable(series.name),
            zorder=3 if points else 2.5,
        )
    if chart.log:
        ax.set_yscale("log")
    limits = chart.limits()
    if limits:
        ax.set_ylim(*limits)
    if chart.unit == "percent":
        ax.yaxis.set_major_formatter(_percent)
    if chart.guide is not None:
        _guide(ax, chart.guide)
    if chart.mark:
        _ring(ax, chart)
    if chart.broken_at is not None:
        ax.axvline(chart.broken_at, color=WARNING, linewidth=1.2)
        ax.annotate(
            "not finite",
            (chart.broken_at, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-4, -4),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=8,
            color=WARNING,
        )
    title(ax, chart.title)
    ax.set_ylabel(chart.label)
    ax.margins(x=0.02)
    style_axes(ax)


def _guide(ax: Axes, value: float) -> None:
    ax.axhline(value, color=MUTED, linewidth=1.0, linestyle=(0, (6, 4)), zorder=1.8)
    ax.annotate(
        f"{value:g}, a common aim",
        (1.0, value),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=MUTED,
        path_effects=halo(),
        zorder=4,
    )


def _ring(ax: Axes, chart: Chart) -> None:
    mark = chart.mark
    if mark is None:
        return
    ax.plot(
        mark.step,
        mark.value,
        "o",
        markersize=9,
        markerfacecolor="none",
        markeredgecolor=LIGHT[mark.colour],
        markeredgewidth=1.4,
        zorder=4,
    )
    note = f"{mark.label} at step {mark.step:g}"
    title(ax, chart.title, note)


def _percent(value: float, _position: float | None = None) -> str:
    return f"{100 * value:.6g}%"


def _name_lines(ax: Axes) -> None:
    ax.legend(fontsize=8, frameon=False, labelcolor=INK, handlelength=2.4, loc="best")


def _pattern(dash: int) -> str | tuple[float, tuple[float, ...]]:
    lengths = DASHES[dash % len(DASHES)]
    return (0.0, lengths) if lengths else "solid"


def _nothing(where: str, rule: str) -> InputError:
    return InputError(
        explain(where, "metrics", f"hold {rule}", "none", "Log more often, or check the run.")
    )
