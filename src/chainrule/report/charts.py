"""From metrics to charts: which lines belong together, smoothing, thinning.

A `Chart` says what is drawn, never how. The figures draw it with matplotlib, the page draws the
same object in the browser, so both always show the same numbers in the same colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from chainrule.report.style import DASHES, LIGHT

__all__ = [
    "Chart",
    "Mark",
    "Metrics",
    "Series",
    "activation_charts",
    "best_evaluation",
    "column",
    "first_not_finite",
    "layer_colours",
    "learning_charts",
    "of_kind",
    "smooth",
    "steps_per_epoch",
    "thin",
    "update_chart",
]

Metrics = Sequence[Mapping[str, Any]]
Unit = Literal["number", "percent"]

_UPDATE_GUIDE = 1e-3
_LOG_FROM_RATIO = 50.0  # a loss falling by more than this is flat on a linear axis
_SMOOTH_FROM = 30  # an average over a handful of batches would only blur their curve
_QUIET_FROM = 6  # with more lines than this, the page starts with those of biases switched off


@dataclass(frozen=True, eq=False)
class Series:
    """One line.

    Attributes
    ----------
    name : str
        As in the legend.
    steps, values : ndarray, shape (N,)
        Both float64; a value that was not finite is NaN and leaves a gap.
    colour, dash : int
        Index into the palette and into the line patterns.
    style : {"line", "points", "raw"}
        ``points`` marks each value; ``raw`` is faint, lies behind and has no entry in the legend.
    quiet : bool
        The page starts with it switched off.
    """

    name: str
    steps: np.ndarray
    values: np.ndarray
    colour: int = 0
    style: Literal["line", "points", "raw"] = "line"
    dash: int = 0
    quiet: bool = False


@dataclass(frozen=True)
class Mark:
    """A point worth naming, such as the best evaluation."""

    step: float
    value: float
    label: str
    colour: int


@dataclass(frozen=True, eq=False)
class Chart:
    """Lines over steps with one vertical axis.

    Attributes
    ----------
    key : str
        Unique; also names the chart in the page.
    title, label : str
        Heading, and name of the vertical axis.
    series : tuple of Series
        At least one.
    unit : {"number", "percent"}
        Fractions are written as per cent with the latter.
    log : bool
        Logarithmic vertical axis.
    guide : float or None
        A horizontal line to compare with.
    mark : Mark or None
        A point that is named.
    broken_at : float or None
        First step at which a value was not finite.
    """

    key: str
    title: str
    label: str
    series: tuple[Series, ...]
    unit: Unit = "number"
    log: bool = False
    guide: float | None = None
    mark: Mark | None = None
    broken_at: float | None = None

    def limits(self) -> tuple[float, float] | None:
        """Return the range of values to show, or None if nothing finite is there.

        Raw series count from their 1st to their 99th percentile only, so that a single spike
        does not flatten everything else. On a logarithmic axis only positive values count.
        """
        parts = []
        for series in self.series:
            values = series.values[np.isfinite(series.values)]
            values = values[values > 0] if self.log else values
            if values.size:
                raw = series.style == "raw"
                ends = np.quantile(values, [0.01, 0.99]) if raw else (values.min(), values.max())
                parts.append((float(ends[0]), float(ends[1])))
        if not parts:
            return None
        low, high = min(p[0] for p in parts), max(p[1] for p in parts)
        if self.guide is not None:
            low, high = min(low, self.guide), max(high, self.guide)
        if self.log:
            room = max((high / low) ** 0.06, 1.15)
            return low / room, high * room
        room = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
        return low - room, high + room


def of_kind(metrics: Metrics, kind: str) -> list[Mapping[str, Any]]:
    """Return the records of one kind that have a usable step.

    Examples
    --------
    >>> of_kind([{"kind": "step", "step": 1}, {"kind": "evaluation", "step": 1}], "step")
    [{'kind': 'step', 'step': 1}]
    """
    return [r for r in metrics if r.get("kind") == kind and math.isfinite(_number(r.get("step")))]


def column(records: Metrics, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of one key, over the records that have it.

    Parameters
    ----------
    records : sequence of mapping
        Records of one kind.
    key : str
        Such as ``"val_loss"``.

    Returns
    -------
    steps, values : ndarray of float64, shape (N,)
        A value recorded as null, NaN or infinite is NaN.

    Examples
    --------
    >>> column([{"step": 1, "loss": 2.5}, {"step": 2, "loss": None}, {"step": 3}], "loss")
    (array([1., 2.]), array([2.5, nan]))
    """
    present = [r for r in records if key in r]
    steps = np.array([_number(r["step"]) for r in present], dtype=np.float64)
    values = np.array([_number(r[key]) for r in present], dtype=np.float64)
    return steps, np.where(np.isfinite(values), values, np.nan)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        return math.nan
    return float(value)


def smooth(values: np.ndarray, width: float | None = None) -> np.ndarray:
    """Average each value with its neighbours, weighted by a Gaussian.

    Parameters
    ----------
    values : ndarray, shape (N,)
        NaN where unknown.
    width : float, optional
        Standard deviation of the weights, in values; N / 60 but at least 1.5 by default.

    Returns
    -------
    ndarray, shape (N,)
        NaN where `values` is NaN; such places give no weight to their neighbours.

    Notes
    -----
    ``s_i = sum_j w_{i-j} v_j / sum_j w_{i-j}`` over the known ``v_j``. Unlike an exponential
    average it is centred, so the curve does not lag behind the values.

    Examples
    --------
    >>> smooth(np.array([1.0, 1.0, np.nan, 1.0]))
    array([ 1.,  1., nan,  1.])
    """
    if not values.size:
        return values
    sigma = max(len(values) / 60, 1.5) if width is None else width
    reach = math.ceil(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    known = np.isfinite(values)
    total = np.convolve(np.where(known, values, 0.0), kernel)[reach : reach + len(values)]
    weight = np.convolve(known.astype(np.float64), kernel)[reach : reach + len(values)]
    return np.where(known, total / np.where(known, weight, 1.0), np.nan)


def thin(values: np.ndarray, limit: int = 600) -> np.ndarray:
    """Choose the indices that are enough to draw a long series.

    Parameters
    ----------
    values : ndarray, shape (N,)
        The series.
    limit : int, default 600
        Wanted number of indices.

    Returns
    -------
    ndarray of int64
        Increasing; all of them if N is at most `limit`. Otherwise the first, the last, and of
        each of ``limit / 2`` equal stretches the places of the smallest and the largest value,
        so that no spike is lost; a stretch of NaN keeps its first place, so that gaps stay.

    Examples
    --------
    >>> thin(np.array([0.0, 9.0, 1.0, 2.0, -5.0, 3.0]), limit=4)
    array([0, 1, 4, 5])
    """
    count = len(values)
    if count <= limit:
        return np.arange(count)
    chosen = {0, count - 1}
    for part in np.array_split(np.arange(count), max(1, limit // 2)):
        known = part[np.isfinite(values[part])]
        if known.size < part.size:
            chosen.add(int(part[~np.isfinite(values[part])][0]))
        if known.size:
            chosen.add(int(known[values[known].argmin()]))
            chosen.add(int(known[values[known].argmax()]))
    return np.array(sorted(chosen))


def steps_per_epoch(metrics: Metrics) -> float | None:
    """Return how many steps make an epoch, from the last record that has both, or None."""
    for record in reversed(metrics):
        step, epoch = _number(record.get("step")), _number(record.get("epoch"))
        if math.isfinite(step) and math.isfinite(epoch) and epoch > 0 and step > 0:
            return step / epoch
    return None


def first_not_finite(metrics: Metrics) -> float | None:
    """Return the first step at which a recorded loss was not finite, or None."""
    keys = ("loss", "train_loss", "val_loss")
    for record in metrics:
        if any(k in record and not math.isfinite(_number(record[k])) for k in keys):
            return _number(record.get("step"))
    return None


def best_evaluation(metrics: Metrics) -> Mapping[str, Any] | None:
    """Return the evaluation that was kept as the best.

    Returns
    -------
    mapping or None
        The last one flagged as best; without flags, the one of the highest validation accuracy,
        or of the lowest validation loss where accuracies are unknown. None without evaluations.
    """
    records = of_kind(metrics, "evaluation")
    flagged = [r for r in records if r.get("best")]
    if flagged:
        return flagged[-1]
    for key, sign in (("val_accuracy", 1.0), ("val_loss", -1.0)):
        known = [r for r in records if math.isfinite(_number(r.get(key)))]
        if known:
            return max(known, key=lambda r: sign * _number(r[key]))
    return None


def learning_charts(metrics: Metrics) -> list[Chart]:
    """Return the charts of loss, accuracy and learning rate, those that have data.

    Parameters
    ----------
    metrics : sequence of mapping
        Records as in ``metrics.jsonl``, or a history.

    Returns
    -------
    list of Chart
        With the keys ``"loss"``, ``"accuracy"`` and ``"lr"``.
    """
    steps, evaluations = of_kind(metrics, "step"), of_kind(metrics, "evaluation")
    best = best_evaluation(metrics)
    charts = []
    for key, heading, unit in (("loss", "Loss", "number"), ("accuracy", "Accuracy", "percent")):
        lines = [
            *_batches(*column(steps, key)),
            *_points("training set", *column(evaluations, f"train_{key}"), colour=0),
            *_points("validation set", *column(evaluations, f"val_{key}"), colour=1),
        ]
        if lines:
            charts.append(
                Chart(
                    key,
                    heading,
                    heading.lower(),
                    tuple(lines),
                    unit="percent" if unit == "percent" else "number",
                    log=key == "loss" and _wants_log(lines),
                    mark=_best_mark(best, f"val_{key}", unit),
                    broken_at=first_not_finite(metrics) if key == "loss" else None,
                )
            )
    rates = column(steps if any("lr" in r for r in steps) else evaluations, "lr")
    if np.isfinite(rates[1]).any():
        line = Series("learning rate", *rates, colour=2)
        charts.append(Chart("lr", "Learning rate", "learning rate", (line,)))
    return charts


def _batches(steps: np.ndarray, values: np.ndarray) -> list[Series]:
    if not np.isfinite(values).any():
        return []
    if len(values) < _SMOOTH_FROM:
        return [Series("training batches", steps, values, colour=0)]
    return [
        Series("single batch", steps, values, colour=0, style="raw"),
        Series("training batches, smoothed", steps, smooth(values), colour=0),
    ]


def _points(name: str, steps: np.ndarray, values: np.ndarray, colour: int) -> list[Series]:
    dash = 2 if colour == 0 else 0
    series = Series(name, steps, values, colour=colour, style="points", dash=dash)
    return [series] if np.isfinite(values).any() else []


def _wants_log(lines: Iterable[Series]) -> bool:
    shown = [line.values[np.isfinite(line.values)] for line in lines if line.style != "raw"]
    values = np.concatenate(shown)
    return bool(values.size and values.min() > 0 and values.max() > _LOG_FROM_RATIO * values.min())


def _best_mark(best: Mapping[str, Any] | None, key: str, unit: str) -> Mark | None:
    value = _number(best.get(key)) if best else math.nan
    if best is None or not math.isfinite(value):
        return None
    text = f"{value:.1%}" if unit == "percent" else f"{value:.4g}"
    return Mark(_number(best["step"]), value, f"best: {text}", colour=1)


def layer_colours(metrics: Metrics) -> dict[str, int]:
    """Give each layer its place in the palette, by the order in which the layers run.

    Returns
    -------
    dict of str to int
        From layer name to a number that may exceed the palette; use it modulo its length.
    """
    parameters: dict[str, int] = {}
    others: dict[str, int] = {}
    for record in of_kind(metrics, "layers"):
        for name in record.get("parameters") or {}:
            parameters.setdefault(name.rpartition(".")[0], len(parameters))
        for name in record.get("layers") or {}:
            others.setdefault(name, len(others))
    # Layers with parameters come first: the same colour then means the same layer in all charts.
    order = [*parameters, *(name for name in others if name not in parameters)]
    return {name: index for index, name in enumerate(order)}


def update_chart(metrics: Metrics) -> Chart | None:
    """Return the chart of ``norm(update) / norm(weight)`` per parameter, or None without data."""
    colours = layer_colours(metrics)

    def style(name: str) -> tuple[int, int]:
        layer, _, kind = name.rpartition(".")
        return colours[layer], 0 if kind in ("weight", "") else 1

    lines = _nested(metrics, "parameters", "update_ratio", style)
    if not lines:
        return None
    return Chart(
        "updates",
        "Size of the updates, relative to the weights",
        "‖update‖ / ‖weight‖",
        tuple(lines),
        log=True,
        guide=_UPDATE_GUIDE,
    )


def activation_charts(metrics: Metrics) -> list[Chart]:
    """Return the charts of mean, spread and share of zeros of each layer's output."""
    colours = layer_colours(metrics)
    wanted: tuple[tuple[str, str, str, Unit], ...] = (
        ("activation_mean", "Mean activation", "mean", "number"),
        ("activation_std", "Spread of the activations", "standard deviation", "number"),
        ("activation_zeros", "Activations that are zero", "share of zeros", "percent"),
    )
    charts = []
    for key, heading, label, unit in wanted:
        lines = _nested(metrics, "layers", key, lambda name: (colours[name], 0))
        if lines:
            charts.append(Chart(key, heading, label, tuple(lines), unit=unit))
    return charts


def _nested(
    metrics: Metrics, group: str, key: str, style: Callable[[str], tuple[int, int]]
) -> list[Series]:
    """Make one line of each name in ``record[group]`` that has `key`."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in of_kind(metrics, "layers"):
        for name, values in (record.get(group) or {}).items():
            if key in values:
                found.setdefault(name, []).append({"step": record["step"], key: values[key]})
    lines = []
    for name, records in found.items():
        order, dash = style(name)
        steps, values = column(records, key)
        if not np.isfinite(values).any():
            continue
        lines.append(
            Series(
                name,
                steps,
                values,
                colour=order % len(LIGHT),
                dash=(dash + 2 * (order // len(LIGHT))) % len(DASHES),
                quiet=dash == 1 and len(found) > _QUIET_FROM,
            )
        )
    return lines
