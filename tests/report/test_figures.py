"""What the figures show, not only that they exist."""

import subprocess
import sys
import threading
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from chainrule.errors import InputError, ShapeError
from chainrule.report import (
    activation_statistics,
    class_accuracy,
    confusion_matrix,
    learning_curves,
    mistakes,
    update_ratios,
    weights,
)
from chainrule.report.charts import learning_charts, smooth
from chainrule.report.grid import stretch
from chainrule.report.pictures import first_layer_pictures
from chainrule.report.scores import largest_confusions
from chainrule.report.style import HEAT, HEAT_GAMMA, LIGHT


def drawn(figure: Figure, panel: int = 0) -> dict[str, Any]:
    return {str(line.get_label()): line for line in figure.axes[panel].get_lines()}


def render(figure: Figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


class TestLearningCurves:
    def test_lines_are_the_metrics(self, full_metrics: list[dict[str, Any]]) -> None:
        figure = learning_curves(full_metrics)
        assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "accuracy", "learning rate"]
        assert figure.axes[-1].get_xlabel() == "step"
        loss, accuracy = drawn(figure, 0), drawn(figure, 1)
        assert list(loss["validation set"].get_ydata()) == [1.3, 0.9, 1.0]
        assert list(loss["validation set"].get_xdata()) == [40, 80, 120]
        assert loss["validation set"].get_color() == LIGHT[1]
        losses = np.array([r["loss"] for r in full_metrics if r["kind"] == "step"])
        np.testing.assert_array_equal(
            loss["training batches, smoothed"].get_ydata(), smooth(losses)
        )
        np.testing.assert_allclose(
            accuracy["training set"].get_ydata(), [1 - t / 3 for t in (1.2, 0.7, 0.4)]
        )
        rates = figure.axes[2].get_lines()[0].get_ydata()
        np.testing.assert_array_equal(rates, [r["lr"] for r in full_metrics if r["kind"] == "step"])

    def test_the_best_evaluation_is_named(self, full_metrics: list[dict[str, Any]]) -> None:
        ax = learning_curves(full_metrics).axes[1]
        assert ax.get_title(loc="right") == "best: 70.0% at step 80"
        assert ax.yaxis.get_major_formatter()(0.5, 0) == "50%"

    def test_a_spike_is_cut_off(self) -> None:
        losses = [1.0] * 150 + [500.0] + [0.9] * 150
        records = [{"kind": "step", "step": s, "loss": v} for s, v in enumerate(losses)]
        chart = learning_charts(records)[0]
        assert learning_curves(records).axes[0].get_ylim() == pytest.approx(chart.limits())

    def test_without_accuracy(self, custom_loss_metrics: list[dict[str, Any]]) -> None:
        figure = learning_curves(custom_loss_metrics)
        assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "learning rate"]

    def test_where_the_loss_stopped_being_finite(self) -> None:
        losses = [1.0, 0.9, None]
        records = [{"kind": "step", "step": s, "loss": v} for s, v in enumerate(losses)]
        ax = learning_curves(records).axes[0]
        assert [text.get_text() for text in ax.texts] == ["not finite"]
        assert any(list(line.get_xdata()) == [2, 2] for line in ax.get_lines())

    def test_a_single_evaluation_is_visible(self) -> None:
        record = {"kind": "evaluation", "step": 5, "val_loss": 1.0}
        figure = learning_curves([record])
        assert drawn(figure)["validation set"].get_marker() == "o"
        render(figure)

    def test_nothing_to_draw(self) -> None:
        with pytest.raises(InputError, match="learning_curves: metrics must hold a finite loss"):
            learning_curves([])


class TestLayers:
    def test_update_ratios(self, full_metrics: list[dict[str, Any]]) -> None:
        figure = update_ratios(full_metrics)
        ax = figure.axes[0]
        assert ax.get_yscale() == "log"
        lines = drawn(figure)
        np.testing.assert_allclose(
            lines["linear1.weight"].get_ydata(), [1e-3 / s for s in (40, 80, 120)]
        )
        assert lines["conv1.weight"].get_color() == lines["conv1.bias"].get_color()
        assert lines["conv1.weight"].get_linestyle() != lines["conv1.bias"].get_linestyle()
        guides = [line for line in ax.get_lines() if list(line.get_ydata()) == [1e-3, 1e-3]]
        assert len(guides) == 1

    def test_activations(self, full_metrics: list[dict[str, Any]]) -> None:
        figure = activation_statistics(full_metrics)
        labels = [ax.get_ylabel() for ax in figure.axes]
        assert labels == ["mean", "standard deviation", "share of zeros"]
        assert list(drawn(figure, 2)["relu1"].get_ydata()) == [0.5, 0.5, 0.5]
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["conv1", "relu1"]

    def test_nothing_to_draw(self) -> None:
        with pytest.raises(InputError, match="update_ratios: metrics must hold update ratios"):
            update_ratios([])
        with pytest.raises(InputError, match="activation_statistics: metrics must hold activ"):
            activation_statistics([])


class TestScores:
    counts = np.array([[8, 2, 0], [3, 6, 1], [0, 0, 0]])
    names = ("cat", "$dog$", "none")

    def test_confusion_matrix_shows_counts_and_shares(self) -> None:
        ax = confusion_matrix(self.counts, self.names).axes[0]
        written = [text.get_text() for text in ax.texts]
        assert written == [str(n) for n in self.counts.ravel()]
        image = ax.get_images()[0]
        np.testing.assert_allclose(image.get_array()[:2], [[0.8, 0.2, 0], [0.3, 0.6, 0.1]])
        assert to_hex(image.to_rgba(0.2)) == to_hex(HEAT(0.2**HEAT_GAMMA))
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
        assert [t.get_text() for t in ax.get_yticklabels()] == ["cat", r"\$dog\$", "none"]

    @pytest.mark.parametrize("classes", [1, 12, 13, 40])
    def test_numbers_fit_their_cells(self, classes: int) -> None:
        counts = np.full((classes, classes), 888)
        figure = confusion_matrix(counts, [str(i) for i in range(classes)])
        render(figure)
        ax = figure.axes[0]
        cell = ax.transData.transform([[0, 0], [1, 0]])
        width = cell[1, 0] - cell[0, 0]
        if classes <= 12:
            extents = [text.get_window_extent() for text in ax.texts]
            assert len(extents) == classes**2
            assert all(box.width < 0.9 * width and box.height > 8 for box in extents)
        else:
            (numbers,) = ax.get_lines()
            assert len(numbers.get_xdata()) == classes**2
            points = numbers.get_markersize() * figure.dpi / 72
            assert 6 < points < 0.9 * width

    def test_stamped_numbers_lie_in_the_middle_of_their_cells(self) -> None:
        counts = np.zeros((13, 13), int)
        counts[4, 9] = 88
        figure = confusion_matrix(counts, [str(i) for i in range(13)])
        pixels = render(figure)[..., :3].astype(int)
        ax = figure.axes[0]
        left, top = ax.transData.transform((8.55, 3.55))
        right, bottom = ax.transData.transform((9.45, 4.45))
        height = len(pixels)
        box = pixels[height - round(top) : height - round(bottom), round(left) : round(right)]
        rows, columns = np.nonzero(abs(box - box[0, 0]).sum(axis=2) > 60)
        assert rows.mean() == pytest.approx(box.shape[0] / 2, abs=1.5)
        assert columns.mean() == pytest.approx(box.shape[1] / 2, abs=1.5)

    def test_class_accuracy_is_sorted_and_skips_classes_without_examples(self) -> None:
        ax = class_accuracy(self.counts, self.names).axes[0]
        assert [bar.get_width() for bar in ax.patches] == [0.8, 0.6]
        assert [t.get_text() for t in ax.get_yticklabels()] == ["cat", r"\$dog\$"]
        assert ax.get_title(loc="right") == "dashed: 70.0% of all examples"
        assert [text.get_text() for text in ax.texts] == ["80.0%", "60.0%"]

    def test_largest_confusions(self) -> None:
        found = largest_confusions(self.counts, self.names)
        assert [(c.true, c.predicted, c.count, c.share) for c in found] == [
            ("$dog$", "cat", 3, 0.3),
            ("cat", "$dog$", 2, 0.2),
            ("$dog$", "none", 1, 0.1),
        ]

    @pytest.mark.parametrize("draw", [confusion_matrix, class_accuracy, largest_confusions])
    def test_wrong_shapes(self, draw: Any) -> None:
        with pytest.raises(ShapeError, match=r"confusion must have shape \(C, C\); got \(2, 3\)"):
            draw(np.zeros((2, 3)), ["a", "b"])
        with pytest.raises(ShapeError, match="classes must name the 2 rows of confusion; got 3"):
            draw(np.eye(2), ["a", "b", "c"])


class TestPictures:
    rng = np.random.default_rng(0)

    def test_filters_are_drawn_as_they_are(self) -> None:
        filters = self.rng.normal(size=(10, 3, 5, 5))
        ax = weights({"conv1.weight": filters, "conv1.bias": np.zeros(10)}).axes[0]
        images = ax.get_images()
        assert len(images) == 10
        for image, one in zip(images, filters, strict=True):
            expected = np.rint(stretch(one.transpose(1, 2, 0)))
            np.testing.assert_array_equal(image.get_array(), expected)
        assert ax.get_title(loc="left") == "conv1.weight"

    def test_pixels_on_the_page_are_those_of_the_filter(self) -> None:
        filters = np.zeros((1, 3, 2, 2))
        filters[0, 0, 0, 0], filters[0, 2, 1, 1] = 1.0, 1.0
        figure = weights({"conv1.weight": filters})
        pixels = render(figure)
        ax = figure.axes[0]

        def colour(x: float, y: float) -> tuple[int, ...]:
            column, row = ax.transData.transform((x, y))
            return tuple(pixels[len(pixels) - round(row), round(column), :3])

        assert colour(0.25, 0.25) == (255, 0, 0)
        assert colour(0.75, 0.75) == (0, 0, 255)
        assert colour(0.75, 0.25) == (0, 0, 0)

    def test_the_first_layer_is_found_among_many(self) -> None:
        parameters = {
            "conv10.weight": self.rng.normal(size=(4, 1, 3, 3)),
            "conv2.weight": self.rng.normal(size=(2, 1, 3, 3)),
            "conv3.weight": self.rng.normal(size=(4, 2, 3, 3)),
            "bn1.weight": np.ones(4),
        }
        found = first_layer_pictures(parameters, (1, 8, 8))
        assert found is not None
        assert (found.name, found.tiles.shape) == ("conv2.weight", (2, 3, 3))

    def test_channels_are_grey_when_there_are_two(self) -> None:
        filters = self.rng.normal(size=(3, 2, 5, 5))
        found = first_layer_pictures({"w": filters})
        assert found is not None
        assert found.tiles.shape == (6, 5, 5)
        assert found.labels[:3] == ("0, channel 0", "0, channel 1", "1, channel 0")
        np.testing.assert_allclose(found.tiles[3], stretch(filters[1, 1]))

    def test_rows_of_a_linear_layer_take_the_shape_of_the_input(self) -> None:
        rows = self.rng.normal(size=(3, 2 * 4))
        found = first_layer_pictures({"linear1.weight": rows}, (1, 2, 4), ["a", "b", "c"])
        assert found is not None
        assert (found.kind, found.labels) == ("class template", ("a", "b", "c"))
        np.testing.assert_allclose(found.tiles[1], stretch(rows[1].reshape(2, 4)))

    def test_the_largest_of_many_units_are_shown(self) -> None:
        rows = self.rng.normal(size=(100, 4)) * np.arange(1, 101)[:, None]
        found = first_layer_pictures({"w": rows}, (1, 2, 2), limit=64)
        assert found is not None
        norms = np.linalg.norm(rows, axis=1)
        assert {int(label) for label in found.labels} == set(np.argsort(norms)[-64:].tolist())
        assert found.description.startswith("64 of 100 units (largest norm), 2 x 2 pixels")

    @pytest.mark.parametrize(
        ("parameters", "shape"),
        [
            ({}, (3, 4, 4)),
            ({"w": np.ones((5, 7))}, (3, 4, 4)),
            ({"w": np.ones((5, 7))}, None),
            ({"w": np.ones((5, 3, 1, 1))}, None),
            ({"w": np.ones((0, 3, 3, 3))}, None),
        ],
    )
    def test_no_weight_fits(self, parameters: dict[str, np.ndarray], shape: Any) -> None:
        assert first_layer_pictures(parameters, shape) is None
        with pytest.raises(InputError, match="weights: parameters must hold convolution filters"):
            weights(parameters, shape)

    def test_mistakes_are_captioned_and_sorted(self) -> None:
        images = self.rng.integers(0, 256, (3, 3, 4, 4), dtype=np.uint8)
        figure = mistakes(images, [0, 1, 1], [1, 0, 7], [0.5, 0.9, 0.7], ["cat", "dog"], limit=2)
        ax = figure.axes[0]
        written = [text.get_text() for text in ax.texts]
        assert written == ["dog", "cat 90.0%", "dog", "7 70.0%"]
        shown = [image.get_array() for image in ax.get_images()]
        np.testing.assert_array_equal(shown[0], images[1].transpose(1, 2, 0))
        np.testing.assert_array_equal(shown[1], images[2].transpose(1, 2, 0))

    def test_mistakes_of_wrong_shapes(self) -> None:
        with pytest.raises(ShapeError, match=r"images must have shape \(K, C, H, W\)"):
            mistakes(np.zeros((0, 1, 2, 2)), [], [], [], [])
        with pytest.raises(ShapeError, match=r"true must have shape \(1,\); got \(2,\)"):
            mistakes(np.zeros((1, 1, 2, 2)), [0, 1], [0], [1.0], ["a"])


def test_figures_leave_matplotlib_alone(full_metrics: list[dict[str, Any]]) -> None:
    before = dict(matplotlib.rcParams)
    render(learning_curves(full_metrics))
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_loaded() -> None:
    code = "import sys, chainrule.report; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_figures_can_be_drawn_in_threads(full_metrics: list[dict[str, Any]]) -> None:
    expected = render(learning_curves(full_metrics))
    results: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: results.append(render(learning_curves(full_metrics))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        np.testing.assert_array_equal(result, expected)
