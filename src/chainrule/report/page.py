"""The report as one web page: everything inside it, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

import numpy as np

from chainrule import __version__
from chainrule.report.charts import (
    Chart,
    Metrics,
    activation_charts,
    best_evaluation,
    column,
    first_not_finite,
    learning_charts,
    of_kind,
    steps_per_epoch,
    thin,
    update_chart,
)
from chainrule.report.contents import RunContents
from chainrule.report.grid import png_data_uri, to_channels_last
from chainrule.report.pictures import class_name, first_layer_pictures
from chainrule.report.scores import class_accuracies, largest_confusions, row_shares
from chainrule.report.style import (
    DARK,
    DARK_SURFACE,
    DASHES,
    HEAT,
    HEAT_DARK,
    HEAT_GAMMA,
    INK,
    LIGHT,
    LIGHT_SURFACE,
    MUTED,
    RULE,
    WARNING,
    heat_steps,
)

__all__ = ["render_page"]

_HEAT_STEPS = 12
_LARGEST_TABLE = 20  # classes; more than this are shown as a picture
_LONGEST_TABLE = 200  # rows
_GALLERY = 48
_SPLITS = {"val": "validation", "test": "test"}


def render_page(contents: RunContents) -> str:
    """Return the report of a run as one HTML document.

    Parameters
    ----------
    contents : RunContents
        See `chainrule.report.read_run`.

    Returns
    -------
    str
        HTML with its style, its script, its data and its pictures inside. Its content security
        policy forbids every request and every script but its own, by their hashes.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style = _theme() + _asset("report.css")
    script = _asset("report.js")
    curves = learning_charts(contents.metrics)
    update = update_chart(contents.metrics)
    updates = [update] if update else []
    activations = activation_charts(contents.metrics)
    view: dict[str, Any] = {
        "version": __version__,
        "policy": _policy(style, script),
        "style": Markup(style),
        "script": Markup(script),
        "heading": contents.heading,
        "run_name": contents.run.name,
        "callouts": _callouts(contents),
        "cards": _cards(contents),
        "curves": [_heading_of(chart) for chart in curves],
        "evaluations": _evaluation_table(contents.metrics),
        "weights": _weights(contents),
        "scores": _scores(contents),
        "gallery": _gallery(contents),
        "inside": {
            "updates": [_heading_of(chart) for chart in updates],
            "activations": [_heading_of(chart) for chart in activations],
            "tables": _layer_tables(contents.metrics),
        }
        if updates or activations
        else None,
        "config": [
            *_tables(contents.config, "run"),
            *_tables(contents.environment, "environment"),
        ],
        "data": _data(contents, [*curves, *updates, *activations]),
    }
    view["sections"] = _sections(view)
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_asset("report.html.j2")).render(view)


def _asset(name: str) -> str:
    return (resources.files("chainrule.report") / "assets" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    def hashed(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; img-src data:; style-src {hashed(style)}; "
        f"script-src {hashed(script)}; base-uri 'none'; form-action 'none'"
    )


def _theme() -> str:
    """CSS variables and the classes of the palettes, from the constants of the figures."""
    light = {
        "page": "#f5f7f9", "surface": LIGHT_SURFACE, "raised": LIGHT_SURFACE, "ink": INK,
        "muted": MUTED, "rule": RULE, "axis": "#b8c0ca", "link": "#00588a", "focus": "#0072b2",
        "warning": WARNING, "c1-text": "#b34f00",
    }  # fmt: skip
    dark = {
        "page": "#0e1116", "surface": DARK_SURFACE, "raised": "#222831", "ink": "#e8ecf1",
        "muted": "#a2acb9", "rule": "#2b323b", "axis": "#4a5360", "link": "#7cc2f7",
        "focus": "#7cc2f7", "warning": "#ff8a80", "c1-text": "#ff9655",
    }  # fmt: skip
    for colours, series, heat in ((light, LIGHT, HEAT), (dark, DARK, HEAT_DARK)):
        colours |= {f"c{i}": colour for i, colour in enumerate(series)}
        for i, (back, front) in enumerate(heat_steps(heat, _HEAT_STEPS)):
            colours |= {f"h{i}": back, f"t{i}": front}

    def block(colours: Mapping[str, str]) -> str:
        return "".join(f"--{name}:{value};" for name, value in colours.items())

    classes = [f".s{i}{{stroke:var(--c{i})}}.f{i}{{fill:var(--c{i})}}" for i in range(len(LIGHT))]
    classes += [f".h{i}{{background:var(--h{i});color:var(--t{i})}}" for i in range(_HEAT_STEPS)]
    return (
        f":root{{color-scheme:light dark;{block(light)}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{block(dark)}}}}}\n"
        + "\n".join(classes)
        + "\n"
    )


def _callouts(contents: RunContents) -> list[tuple[str, bool]]:
    """Return sentences for the top of the page, and whether each is a warning."""
    found: list[tuple[str, bool]] = []
    broken = first_not_finite(contents.metrics)
    if broken is not None:
        found.append((f"The loss was not finite at step {broken:,.0f}: training diverged.", True))
    found += [(problem, True) for problem in contents.problems]
    if not contents.metrics:
        found.append(("No metrics are recorded: the run stopped before its first step.", False))
    if not contents.split:
        command = f"chainrule evaluate {shlex.quote(str(contents.run.path))}"
        found.append(
            (f"This run has not been evaluated class by class. Do so with: {command}", False)
        )
    return found


def _cards(contents: RunContents) -> list[dict[str, str]]:
    cards = []

    def card(label: str, value: str, detail: str = "") -> None:
        cards.append({"label": label, "value": value, "detail": detail})

    best = best_evaluation(contents.metrics)
    if best is not None:
        where = f"step {best['step']:,}" + (
            f", epoch {_trimmed(best['epoch'])}" if _is_number(best.get("epoch")) else ""
        )
        if _is_number(best.get("val_accuracy")):
            card("Best validation accuracy", f"{best['val_accuracy']:.1%}", where)
        elif _is_number(best.get("val_loss")):
            card("Best validation loss", f"{best['val_loss']:.4g}", where)
    for split, record in contents.evaluations.items():
        detail = (
            f"{record['num_examples']:,} examples" if _is_number(record.get("num_examples")) else ""
        )
        if split == "test" and _is_number(record.get("accuracy")):
            card("Test accuracy", f"{record['accuracy']:.1%}", detail)
        elif split == "test" and _is_number(record.get("loss")):
            card("Test loss", f"{record['loss']:.4g}", detail)
    if contents.parameters:
        total = sum(value.size for value in contents.parameters.values())
        card("Parameters", f"{total:,}", f"in {len(contents.parameters)} arrays")
    steps = [r["step"] for r in contents.metrics if _is_number(r.get("step"))]
    if steps:
        rate = steps_per_epoch(contents.metrics)
        card("Steps", f"{max(steps):,.0f}", f"{_trimmed(max(steps) / rate)} epochs" if rate else "")
    times = [r["seconds"] for r in contents.metrics if _is_number(r.get("seconds"))]
    if times:
        speeds = column(of_kind(contents.metrics, "step"), "images_per_second")[1]
        known = speeds[np.isfinite(speeds)]
        detail = f"{np.median(known):,.0f} images/s" if known.size else ""
        card("Training time", _duration(max(times)), detail)
    return cards


def _trimmed(value: float) -> str:
    """At most two decimals, without zeros at the end."""
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _heading_of(chart: Chart) -> dict[str, Any]:
    """What the template needs of a chart."""
    values = np.concatenate([s.values[np.isfinite(s.values)] for s in chart.series])
    scalable = chart.key in ("loss", "lr", "updates") and bool((values > 0).any())
    return {"key": chart.key, "title": chart.title, "mark": chart.mark, "scalable": scalable}


def _data(contents: RunContents, charts: Sequence[Chart]) -> dict[str, Any]:
    """Everything the script needs, as plain JSON values."""
    counts, classes = contents.confusion, contents.classes
    sentences: list[list[str]] = []
    if counts is not None and len(counts) <= _LARGEST_TABLE:
        totals = counts.sum(axis=1)
        sentences = [
            [
                f"{count:,} of {totals[row]:,} {classes[row]} "
                + ("right" if row == col else f"taken for {classes[col]}")
                + f" ({count / max(1, totals[row]):.1%})"
                for col, count in enumerate(counts[row])
            ]
            for row in range(len(counts))
        ]
    return {
        "steps_per_epoch": steps_per_epoch(contents.metrics),
        "dashes": [" ".join(f"{1.6 * length:g}" for length in dash) for dash in DASHES],
        "charts": {chart.key: _chart_data(chart) for chart in charts},
        "confusion": sentences,
    }


def _chart_data(chart: Chart) -> dict[str, Any]:
    series = []
    last = 1.0
    for line in chart.series:
        kept = thin(line.values)
        last = max(last, float(line.steps.max()))
        series.append(
            {
                "name": line.name,
                "style": line.style,
                "colour": line.colour,
                "dash": line.dash,
                "quiet": line.quiet,
                "x": [_short(step, 15) for step in line.steps[kept]],
                "y": [_short(value, 5) for value in line.values[kept]],
            }
        )
    return {
        "key": chart.key,
        "unit": chart.unit,
        "log": chart.log,
        "guide": chart.guide,
        "mark": asdict(chart.mark) if chart.mark else None,
        "broken": chart.broken_at,
        "range": [0, last],
        "series": series,
    }


def _short(value: float, digits: int) -> float | int | None:
    """Round to significant digits, in the shortest JSON; None where not finite."""
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _evaluation_table(metrics: Metrics) -> dict[str, Any] | None:
    records = of_kind(metrics, "evaluation")
    if not records:
        return None
    names = {
        "step": "step", "epoch": "epoch", "train_loss": "training loss",
        "val_loss": "validation loss", "train_accuracy": "training accuracy",
        "val_accuracy": "validation accuracy", "lr": "learning rate", "seconds": "seconds",
    }  # fmt: skip
    keys = [key for key in names if any(key in record for record in records)]
    best = best_evaluation(metrics)
    shown = records[-_LONGEST_TABLE:]
    rows = [
        {"best": record is best, "cells": [_cell(key, record.get(key)) for key in keys]}
        for record in shown
    ]
    caption = f"{len(records)} evaluations" if len(records) != 1 else "1 evaluation"
    if len(shown) < len(records):
        caption += f"; the last {len(shown)} are listed"
    return {"columns": [names[key] for key in keys], "rows": rows, "caption": caption}


def _cell(key: str, value: Any) -> str:
    if not _is_number(value):
        return "-"
    if "accuracy" in key or "zeros" in key:
        return f"{value:.1%}"
    if key in ("step", "seconds"):
        return f"{value:,.0f}" if key == "step" else f"{value:,.1f}"
    return f"{value:.4g}"


def _layer_tables(metrics: Metrics) -> list[dict[str, Any]]:
    """The last recorded state of each layer and parameter."""
    records = of_kind(metrics, "layers")
    tables = []
    for group, what in (("parameters", "Parameters"), ("layers", "Activations")):
        latest = next((r for r in reversed(records) if r.get(group)), None)
        if latest is None:
            continue
        keys = list(dict.fromkeys(key for values in latest[group].values() for key in values))
        tables.append(
            {
                "summary": f"{what} at step {latest['step']:,} as a table",
                "columns": ["name", *(key.replace("_", " ") for key in keys)],
                "rows": [
                    [name, *(_cell(key, values.get(key)) for key in keys)]
                    for name, values in latest[group].items()
                ],
            }
        )
    return tables


def _weights(contents: RunContents) -> dict[str, Any] | None:
    found = first_layer_pictures(contents.parameters, contents.input_shape, contents.classes)
    if found is None:
        return None
    tiles = zip(found.tiles, found.labels, strict=True)
    return {
        "name": found.name,
        "description": found.description,
        "kind": found.kind,
        "named": found.kind == "class template",
        "tiles": [{"label": label, **_image(tile)} for tile, label in tiles],
    }


def _image(pixels: np.ndarray) -> dict[str, Any]:
    return {"src": png_data_uri(pixels), "height": pixels.shape[0], "width": pixels.shape[1]}


def _scores(contents: RunContents) -> dict[str, Any] | None:
    counts, classes = contents.confusion, contents.classes
    if counts is None:
        return None
    accuracies = class_accuracies(counts)
    order = [int(i) for i in np.argsort(-accuracies, kind="stable") if counts[i].sum()]
    shade = row_shares(counts) ** HEAT_GAMMA
    steps = np.rint(shade * (_HEAT_STEPS - 1)).astype(int)
    matrix = [
        {
            "name": name,
            "cells": [
                {"count": int(count), "heat": int(heat)}
                for count, heat in zip(counts[i], steps[i], strict=True)
            ],
        }
        for i, name in enumerate(classes)
    ]
    small = len(counts) <= _LARGEST_TABLE
    total = int(counts.sum())
    split = _SPLITS.get(contents.split or "", contents.split)
    return {
        "caption": f"On {total:,} {split} examples: {np.trace(counts) / max(1, total):.1%} right.",
        "classes": classes,
        "long": any(len(name) > 3 for name in classes),
        "matrix": matrix if small else None,
        "heatmap": None if small else _heatmap(shade),
        "bars": [
            {
                "name": classes[i],
                "width": f"{100 * accuracies[i]:.1f}",
                "text": f"{accuracies[i]:.1%}",
            }
            for i in order
        ],
        "confusions": largest_confusions(counts, classes, 10 if small else 25),
    }


def _heatmap(shade: np.ndarray) -> str:
    """A picture of one opaque colour over nothing, which suits light and dark pages."""
    from matplotlib.colors import to_rgb

    pixels = np.empty((*shade.shape, 4))
    pixels[..., :3] = 255 * np.array(to_rgb(LIGHT[5]))
    pixels[..., 3] = 255 * shade
    return png_data_uri(pixels)


def _gallery(contents: RunContents) -> list[dict[str, Any]]:
    if contents.mistakes is None:
        return []
    images, true, predicted, confidence = contents.mistakes
    order = np.argsort(-confidence, kind="stable")[:_GALLERY]
    return [
        {
            "true": class_name(contents.classes, true[i]),
            "predicted": class_name(contents.classes, predicted[i]),
            "confidence": f"{confidence[i]:.1%}",
            **_image(pixels),
        }
        for i, pixels in zip(order, to_channels_last(images[order]), strict=True)
    ]


def _tables(record: Mapping[str, Any], heading: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Make one table of the plain entries of a record, and one of each mapping in it."""
    nested: dict[str, Any] = {heading: {}}
    for key, value in record.items():
        if isinstance(value, Mapping):
            nested[key] = value
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            nested |= {f"{key} {index}": item for index, item in enumerate(value, 1)}
        else:
            nested[heading][key] = value
    tables = [(name, list(_flat(value))) for name, value in nested.items()]
    return [(name, rows) for name, rows in tables if rows]


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    """List the leaves of nested mappings and lists of mappings, with dotted names."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value, 1):
            yield from _flat(item, f"{prefix} {index}")
    elif isinstance(value, list):
        yield prefix, ", ".join(str(item) for item in value)
    elif prefix:
        yield prefix, str(value)


def _sections(view: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = {
        "curves": ("curves", "Learning curves"),
        "weights": ("weights", "First layer"),
        "scores": ("classes", "Class by class"),
        "gallery": ("mistakes", "Mistakes"),
        "inside": ("inside", "Inside the network"),
    }
    present = [names[key] for key in names if view[key]]
    return [*present, ("config", "Configuration")]
