"""One look for every picture: colours, type and axes, shared by the figures and the page.

The series colours are Okabe and Ito's, darkened where needed so that each has a contrast of at
least 3 to 1 against white; `DARK` holds a lighter companion of the same hue for the page's dark
mode. Figures are built from `matplotlib.figure.Figure` alone, without pyplot and without
changing rcParams, so they work headless and leave the caller's settings alone.

References
----------
M. Okabe, K. Ito, "Color Universal Design", 2002. https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke

__all__ = [
    "DARK",
    "DARK_SURFACE",
    "DASHES",
    "HEAT",
    "HEAT_DARK",
    "HEAT_GAMMA",
    "INK",
    "LIGHT",
    "LIGHT_SURFACE",
    "MUTED",
    "RULE",
    "WARNING",
    "contrast",
    "halo",
    "heat_steps",
    "ink_on",
    "legend_below",
    "new_figure",
    "readable",
    "style_axes",
    "title",
]

# 0 training, 1 validation; the rest in the order of the layers.
LIGHT = (
    "#0072b2",  # blue
    "#d55e00",  # vermilion
    "#008a64",  # bluish green
    "#b5508c",  # reddish purple
    "#9a7200",  # ochre
    "#1c8fc7",  # sky
    "#5d646e",  # grey
    "#6a3fa0",  # violet
)
DARK = (
    "#58b0f0",
    "#ff9655",
    "#3ecf9f",
    "#ea9cca",
    "#e6be4b",
    "#a3dcf7",
    "#aab2bd",
    "#b99cec",
)
LIGHT_SURFACE = "#ffffff"
DARK_SURFACE = "#171b21"
INK = "#1a1f26"
MUTED = "#596270"
RULE = "#e4e8ed"
WARNING = "#b3261e"

# Line patterns, as lengths of dash and gap in line widths; the first is solid.
DASHES: tuple[tuple[float, ...], ...] = ((), (1.5, 2.0), (5.0, 2.5), (6.0, 2.0, 1.5, 2.0))

HEAT = LinearSegmentedColormap.from_list(
    "chainrule", [LIGHT_SURFACE, "#cfe3f3", "#5fa6d6", "#0072b2", "#00365c"]
)
HEAT_DARK = LinearSegmentedColormap.from_list(
    "chainrule_dark", [DARK_SURFACE, "#17344c", "#1a659c", "#4ba6e6", "#c4e4fb"]
)
# Confusions are mostly a few per cent beside a large diagonal: the root makes both visible.
HEAT_GAMMA = 0.5

_FAMILY = "DejaVu Sans"  # comes with matplotlib, so every machine draws the same letters
_LONGEST_NAME = 28


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of the given size in inches, on white, laid out automatically."""
    engine = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), facecolor=LIGHT_SURFACE, layout=engine)


def title(ax: Axes, text: str, note: str = "") -> None:
    """Put a bold title at the left of an axes, and a lighter note at its right."""
    ax.set_title(
        readable(text, None), loc="left", fontsize=10.5, fontweight="bold", color=INK, pad=9
    )
    if note:
        ax.set_title(readable(note, None), loc="right", fontsize=8, color=MUTED, pad=9)


def style_axes(ax: Axes, *, grid: bool = True) -> None:
    """Remove the box, quieten the ticks and lay a faint horizontal grid below the data."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color("#b8c0ca")
        ax.spines[side].set_linewidth(0.8)
    ax.tick_params(which="both", labelsize=8, colors=MUTED, length=3, width=0.8)
    ax.tick_params(which="minor", length=0)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(axis="y", color=RULE, linewidth=0.8)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_color(MUTED)
        label.set_fontsize(8.5)


def legend_below(figure: Figure, ax: Axes, columns: int) -> None:
    """Draw the legend of one axes under the whole figure."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=max(1, min(columns, len(labels))),
        fontsize=8,
        frameon=False,
        labelcolor=INK,
        handlelength=2.6,
    )


def halo() -> list[withStroke]:
    """Return the effect that keeps a text legible where it crosses lines."""
    return [withStroke(linewidth=3, foreground=LIGHT_SURFACE)]


def readable(text: object, limit: int | None = _LONGEST_NAME) -> str:
    r"""Prepare any text, such as a class name, for drawing.

    Parameters
    ----------
    text : object
        Drawn as ``str(text)``.
    limit : int or None, default 28
        Longer texts are cut, with an ellipsis.

    Returns
    -------
    str
        One line. Dollar signs are escaped, because matplotlib would read what is between two of
        them as a formula; letters that the font lacks become squares, because matplotlib would
        warn about each.

    Examples
    --------
    >>> readable("US$ or\nCA$")
    'US\\$ or CA\\$'
    """
    line = " ".join(str(text).split())
    if limit is not None and len(line) > limit:
        line = line[: limit - 1] + "…"
    known = _glyphs()
    return "".join(c if ord(c) in known else "□" for c in line).replace("$", r"\$")


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=_FAMILY))).get_charmap())


def _luminance(colour: Any) -> float:
    """Relative luminance as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: Any, second: Any) -> float:
    """Return the WCAG 2 contrast ratio of two colours, from 1 to 21.

    Examples
    --------
    >>> contrast("white", "black")
    21.0
    """
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


def ink_on(background: Any) -> str:
    """Return the text colour, black or white, that reads better on a background.

    The contrast is at least 4.5 whatever the background; a dark grey would not reach that.
    """
    return max(("#000000", "#ffffff"), key=lambda ink: contrast(background, ink))


def heat_steps(colormap: LinearSegmentedColormap, count: int) -> list[tuple[str, str]]:
    """Return `count` (background, text) colours evenly along a colour map, as hex strings."""
    from matplotlib.colors import to_hex

    steps = [to_hex(colormap(i / (count - 1))) for i in range(count)]
    return [(step, ink_on(step)) for step in steps]
