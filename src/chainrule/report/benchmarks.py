"""The figure of a benchmark: how many times as long the others take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from chainrule.errors import InputError, explain
from chainrule.report.style import (
    INK,
    LIGHT,
    MUTED,
    RULE,
    legend_below,
    new_figure,
    readable,
    style_axes,
    title,
)

__all__ = ["benchmark_figure"]

# Forms in records, with their names in the legend and their markers.
_FORMS = {
    "eager": ("PyTorch eager", "o"),
    "channels_last": ("channels_last", "s"),
    "tuned_allocator": ("eager, tuned allocator", "D"),
}
_ROW = 0.24  # inches
_MARGIN = 1.5


def benchmark_figure(record: Mapping[str, Any]) -> Figure:
    """Draw the times of PyTorch's forms over chainrule's, case by case.

    Parameters
    ----------
    record : mapping
        From `chainrule.bench.run_benchmarks`.

    Returns
    -------
    Figure
        One panel for each dtype, with a logarithmic axis of ratios. Right of 1 chainrule is
        faster. The bar behind the markers spans the forms; its left end is what counts against
        the best of them.

    Raises
    ------
    InputError
        If there is no case in the record.

    Examples
    --------
    >>> case = {"name": "conv/S1", "dtype": "float32", "ratios": {"eager": 2.5}}
    >>> environment = {"cpu": "Some CPU", "packages": {"torch": "2.13.0"}}
    >>> record = {"cases": [case], "environment": environment, "settings": {"threads": 2}}
    >>> [ax.get_title(loc="left") for ax in benchmark_figure(record).axes]
    ['float32']
    """
    cases = record["cases"]
    if not cases:
        raise InputError(explain("benchmark_figure", "record", "hold a case", "none"))
    dtypes = sorted({case["dtype"] for case in cases})
    rows = [[case for case in cases if case["dtype"] == dtype] for dtype in dtypes]
    height = _MARGIN + _ROW * max(map(len, rows))
    figure = new_figure(2.0 + 4.2 * len(dtypes), height)
    panels = figure.subplots(1, len(dtypes), squeeze=False, sharex=True)[0]
    for ax, dtype, some in zip(panels, dtypes, rows, strict=True):
        _draw(ax, some)
        title(ax, dtype)
    threads, torch = record["settings"]["threads"], record["environment"]["packages"]["torch"]
    about = (
        f"{record['environment']['cpu']}, {threads} thread{'s' * (threads > 1)}, PyTorch {torch}"
    )
    figure.suptitle(readable(about, None), fontsize=8.5, color=MUTED)
    widest = max(panels, key=lambda ax: len(ax.get_legend_handles_labels()[1]))
    legend_below(figure, widest, len(_FORMS))
    return figure


def _draw(ax: Axes, cases: Sequence[Mapping[str, Any]]) -> None:
    places = range(len(cases))
    ends = [(min(case["ratios"].values()), max(case["ratios"].values())) for case in cases]
    ax.hlines(places, [low for low, _ in ends], [high for _, high in ends], color=RULE, linewidth=5)
    for number, (form, (label, marker)) in enumerate(_FORMS.items()):
        known = [
            (case["ratios"][form], y) for y, case in enumerate(cases) if form in case["ratios"]
        ]
        if known:
            x, y = zip(*known, strict=True)
            ax.plot(x, y, marker, color=LIGHT[number], markersize=4.5, label=label)
    ax.axvline(1.0, color=INK, linewidth=1.0)
    style_axes(ax, grid=False)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(axis="x", color=RULE, linewidth=0.8)
    ax.set_yticks(places, [readable(case["name"]) for case in cases])
    ax.set_ylim(len(cases) - 0.4, -0.6)
    ax.set_xlabel("PyTorch's time over chainrule's: faster to the right of 1")
