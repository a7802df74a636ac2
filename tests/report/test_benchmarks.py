"""The figure of a benchmark shows its ratios."""

from typing import Any

import pytest

from chainrule.errors import ConfigError, InputError
from chainrule.report import benchmark_figure, figure_format, save_figure


def record(*cases: tuple[str, str, dict[str, float]]) -> dict[str, Any]:
    return {
        "cases": [{"name": n, "dtype": dtype, "ratios": ratios} for n, dtype, ratios in cases],
        "environment": {"cpu": "Some CPU", "packages": {"torch": "2.13.0"}},
        "settings": {"threads": 2},
    }


BOTH = record(
    ("update/adam", "float64", {"eager": 3.0}),
    ("conv/S1", "float32", {"eager": 2.0, "channels_last": 1.5, "tuned_allocator": 1.8}),
    ("update/adam", "float32", {"eager": 4.0, "tuned_allocator": 4.5}),
)


def test_markers_are_the_ratios() -> None:
    figure = benchmark_figure(BOTH)
    single, double = figure.axes
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["float32", "float64"]
    drawn = {str(line.get_label()): line.get_xydata().tolist() for line in single.get_lines()[:3]}
    assert drawn == {
        "PyTorch eager": [[2.0, 0.0], [4.0, 1.0]],
        "channels_last": [[1.5, 0.0]],
        "eager, tuned allocator": [[1.8, 0.0], [4.5, 1.0]],
    }
    assert [label.get_text() for label in single.get_yticklabels()] == ["conv/S1", "update/adam"]
    assert [label.get_text() for label in double.get_yticklabels()] == ["update/adam"]
    bars = [path.vertices[:, 0].tolist() for path in single.collections[0].get_paths()]
    assert bars == [[1.5, 2.0], [4.0, 4.5]]


def test_the_first_case_is_on_top_and_ratios_share_their_axis() -> None:
    single, double = benchmark_figure(BOTH).axes
    bottom, top = single.get_ylim()
    assert bottom > top
    assert single.get_xscale() == "log"
    assert single.get_xlim() == double.get_xlim()


def test_it_says_where_and_how_it_was_measured() -> None:
    figure = benchmark_figure(BOTH)
    assert figure.get_suptitle() == "Some CPU, 2 threads, PyTorch 2.13.0"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "PyTorch eager",
        "channels_last",
        "eager, tuned allocator",
    ]


def test_nothing_to_draw() -> None:
    with pytest.raises(InputError, match="benchmark_figure: record must hold a case; got none"):
        benchmark_figure(record())


def test_the_suffix_is_the_format(tmp_path: Any) -> None:
    figure = benchmark_figure(BOTH)
    for suffix, start in (("png", b"\x89PNG"), ("SVG", b"<?xml"), ("pdf", b"%PDF")):
        path = tmp_path / "new" / f"ratios.{suffix}"
        save_figure(figure, path)
        assert path.read_bytes().startswith(start)
    assert figure_format("a.b.PDF") == "pdf"
    with pytest.raises(ConfigError, match=r"must end in \.png or \.svg or \.pdf; got 'ratios'"):
        save_figure(figure, "ratios")
