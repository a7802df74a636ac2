"""Reports as files: what is written, and what happens when parts of a run are missing."""

import re
import threading
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from chainrule.errors import ConfigError, InputError, RunError
from chainrule.records import RunDirectory
from chainrule.report import compare_runs, make_report, run_figures

ALL = [
    "learning_curves",
    "weights",
    "confusion_matrix",
    "class_accuracy",
    "mistakes",
    "update_ratios",
    "activations",
]


def test_everything_is_written(full_run: RunDirectory) -> None:
    report = make_report(full_run.path)
    assert report.page == full_run.path / "report.html"
    assert [path.name for path in report.figures] == [
        f"{name}.{suffix}" for name in ALL for suffix in ("png", "svg")
    ]
    assert report.notes == ()
    for path in report.figures:
        assert path.parent == full_run.figures_dir
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.verify()
        else:
            assert "<svg" in path.read_text(encoding="utf-8")[:2000]
    assert not list(full_run.path.rglob("*.tmp"))


def test_figures_of_a_run_are_the_same_as_those_by_hand(full_run: RunDirectory) -> None:
    figures = run_figures(full_run.path)
    assert list(figures) == ALL
    title = figures["confusion_matrix"].axes[0].get_title(loc="left")
    assert title == "Confusion matrix, test split"
    image = figures["confusion_matrix"].axes[0].get_images()[0]
    np.testing.assert_allclose(image.get_array()[0], np.array([40, 6, 2, 1, 1]) / 50)
    assert len(figures["weights"].axes[0].get_images()) == 6
    assert len(figures["mistakes"].axes[0].get_images()) == 7


def test_the_same_run_gives_the_same_files(
    make_run: Any, custom_loss_metrics: list[dict[str, Any]]
) -> None:
    run = make_run(metrics=custom_loss_metrics)
    first = make_report(run.path, formats=["png"])
    before = [path.read_bytes() for path in (*first.figures, first.page)]
    second = make_report(run.path, formats=["png"])
    assert [path.read_bytes() for path in (*second.figures, second.page)] == before


def test_page_alone(full_run: RunDirectory) -> None:
    assert make_report(full_run.path, formats=()).figures == ()
    assert not full_run.figures_dir.exists()


def test_unknown_format(full_run: RunDirectory) -> None:
    with pytest.raises(
        ConfigError, match=r"be among png, svg, pdf; got 'pgn'\. Did you mean 'png'"
    ):
        make_report(full_run.path, formats=["pgn"])


def test_the_page_can_be_opened(full_run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    make_report(full_run.path, formats=())
    assert opened == []
    make_report(full_run.path, formats=(), open_page=True)
    assert opened == [(full_run.path / "report.html").resolve().as_uri()]


def test_no_run(tmp_path: Any) -> None:
    with pytest.raises(RunError, match="is not a run directory"):
        make_report(tmp_path)


def test_an_empty_run(make_run: Any) -> None:
    report = make_report(make_run().path)
    assert report.figures == ()
    assert [note.split(" ")[0] for note in report.notes] == [
        "learning_curves", "weights", "update_ratios", "activations",
    ]  # fmt: skip
    assert "stopped before its first step" in report.page.read_text()


def test_a_killed_run_with_half_a_line(make_run: Any, full_metrics: list[dict[str, Any]]) -> None:
    run = make_run(metrics=full_metrics[:10])
    with open(run.metrics_path, "a") as file:
        file.write('{"kind": "step", "step": 11, "lo')
    (figure,) = (f for n, f in run_figures(run.path).items() if n == "learning_curves")
    assert list(figure.axes[0].get_lines()[0].get_xdata()) == list(range(1, 11))


def test_damaged_parts_are_named_and_the_rest_is_shown(full_run: RunDirectory) -> None:
    (full_run.path / "evaluation" / "test.json").write_text("{")
    (full_run.path / "checkpoints" / "best.json").write_text("{}")
    report = make_report(full_run.path, formats=["png"])
    names = [path.stem for path in report.figures]
    assert names == ["learning_curves", "update_ratios", "activations"]
    assert any("test.json: could not be read" in note for note in report.notes)
    assert any("best.json: is damaged" in note for note in report.notes)
    assert "best.json: is damaged" in report.page.read_text()


def test_without_images(make_run: Any, evaluation: dict[str, Any]) -> None:
    weights = {"linear1.weight": np.ones((5, 20))}
    run = make_run(weights=weights, evaluation=evaluation)
    (run.path / "data.json").write_text('{"input_shape": [20], "classes": []}')
    assert list(run_figures(run.path)) == ["confusion_matrix", "class_accuracy"]


def test_weights_behind_a_mixing_preprocessing_are_no_pictures(
    make_run: Any, full_run: RunDirectory
) -> None:
    config = full_run.path / "config.toml"
    config.write_text(config.read_text().replace('"pets"', '"pets"\npreprocess = "pca_whiten"'))
    weights = {"linear1.weight": np.ones((5, 192))}
    run = make_run("whitened", weights=weights, config=config.read_text())
    (run.path / "data.json").write_text('{"input_shape": [3, 8, 8]}')
    assert "weights" not in run_figures(run.path)
    (run.path / "config.toml").write_text("[data]\n")
    assert "weights" in run_figures(run.path)


def test_validation_is_shown_when_there_is_no_test(
    make_run: Any, evaluation: dict[str, Any]
) -> None:
    run = make_run(evaluation=evaluation, split="val")
    figure = run_figures(run.path)["class_accuracy"]
    assert figure.axes[0].get_title(loc="left") == "Accuracy by class, val split"


def test_one_class(make_run: Any) -> None:
    evaluation = {"num_examples": 3, "accuracy": 1.0, "classes": ["only"], "confusion": [[3]]}
    report = make_report(make_run(evaluation=evaluation).path)
    assert [path.stem for path in report.figures[::2]] == ["confusion_matrix", "class_accuracy"]


def test_mistakes_that_do_not_fit_together_are_left_out(
    make_run: Any, evaluation: dict[str, Any]
) -> None:
    tensors = {
        "mistake_images": np.zeros((2, 1, 4, 4), np.uint8),
        "mistake_true": np.zeros(3, int),
        "mistake_predicted": np.zeros(2, int),
        "mistake_confidence": np.zeros(2),
    }
    run = make_run(evaluation=evaluation, tensors=tensors)
    assert "mistakes" not in run_figures(run.path)
    assert "Most confident mistakes" not in make_report(run.path, formats=()).page.read_text()


def test_reports_in_threads(make_run: Any, custom_loss_metrics: list[dict[str, Any]]) -> None:
    runs = [make_run(f"run{i}", metrics=custom_loss_metrics) for i in range(3)]
    done: list[int] = []

    def work(run: RunDirectory) -> None:
        done.append(len(make_report(run.path, formats=["png"]).figures))

    threads = [threading.Thread(target=work, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [1, 1, 1]


class TestCompareRuns:
    def lines(self, figure: Figure, panel: int) -> dict[str, list[float]]:
        lines = figure.axes[panel].get_lines()
        return {str(line.get_label()): list(map(float, line.get_ydata())) for line in lines}

    def test_overlays_validation_curves(
        self,
        make_run: Any,
        full_metrics: list[dict[str, Any]],
        custom_loss_metrics: list[dict[str, Any]],
    ) -> None:
        runs = [make_run("one", metrics=full_metrics), make_run("two", metrics=custom_loss_metrics)]
        figure = compare_runs([run.path for run in runs])
        assert self.lines(figure, 0) == {"one": [1.3, 0.9, 1.0], "two": [1.3, 0.9, 1.0]}
        assert self.lines(figure, 1)["one"] == pytest.approx([1 - v / 3 for v in (1.3, 0.9, 1.0)])
        assert self.lines(figure, 1)["two"] == []
        assert re.match("validation accuracy", figure.axes[1].get_ylabel())

    def test_refuses_nothing(self, make_run: Any) -> None:
        with pytest.raises(InputError, match="paths must name at least one run"):
            compare_runs([])
        with pytest.raises(RunError, match="the runs must have been evaluated"):
            compare_runs([make_run().path])
