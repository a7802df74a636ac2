"""The palette can be told apart, on both backgrounds, by everybody."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import LinearSegmentedColormap, to_rgb

from chainrule.report import style

# Machado, Oliveira, Fernandes (2009), "A Physiologically-based Model for Simulation of Color
# Vision Deficiency", severity 1.0; applied to linear RGB.
DEFICIENCIES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def lab(linear: np.ndarray) -> np.ndarray:
    """Convert linear sRGB to CIELAB (D65)."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def linear(colour: str) -> np.ndarray:
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize(
    ("palette", "surface"),
    [(style.LIGHT, style.LIGHT_SURFACE), (style.DARK, style.DARK_SURFACE)],
)
def test_lines_stand_out_from_the_background(palette: tuple[str, ...], surface: str) -> None:
    assert len(palette) == len(style.LIGHT)
    for colour in palette:
        assert style.contrast(colour, surface) >= 3.0, colour


@pytest.mark.parametrize("palette", [style.LIGHT, style.DARK])
@pytest.mark.parametrize("matrix", DEFICIENCIES.values(), ids=DEFICIENCIES)
def test_first_colours_differ_for_the_colour_blind(
    palette: tuple[str, ...], matrix: list[list[float]]
) -> None:
    seen = [lab(np.array(matrix) @ linear(colour)) for colour in palette[:4]]
    for first, second in itertools.combinations(seen, 2):
        assert np.linalg.norm(first - second) > 15


@pytest.mark.parametrize("colormap", [style.HEAT, style.HEAT_DARK])
def test_numbers_on_the_heat_map_are_legible(colormap: LinearSegmentedColormap) -> None:
    for background, text in style.heat_steps(colormap, 12):
        assert style.contrast(background, text) >= 4.5


def test_contrast_is_that_of_wcag() -> None:
    assert style.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


def test_text_is_made_drawable() -> None:
    assert style.readable("a\n b") == "a b"
    assert style.readable("$x$") == r"\$x\$"
    assert style.readable("日a") == "□a"
    assert style.readable("x" * 40, 10) == "x" * 9 + "…"
