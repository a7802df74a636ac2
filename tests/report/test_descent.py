"""The figures of descent show the numbers of its records."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from chainrule.convex import (
    PROBLEMS,
    convergence,
    gradient_descent,
    load_problem,
    sgd_step_may_ascend,
)
from chainrule.errors import ConfigError, InputError, RunError
from chainrule.report import (
    animate_descent,
    ascent_figure,
    descent_figure,
    path_figure,
    save_figure,
)
from chainrule.report.style import LIGHT


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def drawn(figure: Figure, panel: int = 0) -> dict[str, np.ndarray]:
    """Points of each named line."""
    lines = figure.axes[panel].get_lines()
    return {str(line.get_label()): np.asarray(line.get_xydata()) for line in lines}


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


class TestGap:
    study = convergence(load_problem("hinge_iris"), [10, 100, 1000])

    def test_lines_are_the_records(self) -> None:
        figure = descent_figure(self.study)
        (ax,) = figure.axes
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        lines = drawn(figure)
        points = self.study.points
        expected = [[p.steps, p.bound] for p in points]
        np.testing.assert_array_equal(lines["bound for T steps"], expected)
        on_the_way = np.column_stack([self.study.times, self.study.bounds])
        np.testing.assert_array_equal(lines["bound on the way to the last T"], on_the_way)
        gaps = np.column_stack([self.study.times, self.study.gaps])
        np.testing.assert_array_equal(lines["f(mean so far) - f(w*) on that way"], gaps)
        (bars,) = ax.containers
        np.testing.assert_array_equal(
            bars.lines[0].get_xydata(), [[p.steps, p.gap] for p in points]
        )
        assert "f(mean of w) - f(w*) after T steps" in legend(figure)
        assert figure.get_suptitle() == (
            "Hinge loss, iris versicolor and virginica: full steps, B = 11, rho = 1.72"
        )

    def test_error_bars_of_stochastic_runs(self) -> None:
        problem = load_problem("geometric_median")
        study = convergence(problem, [10, 100], variant="stochastic", rng=rng())
        figure = descent_figure(study)
        (bars,) = figure.axes[0].containers
        ends = bars.lines[2][0].get_segments()
        for (low, high), point in zip(ends, study.points, strict=True):
            assert high[1] - low[1] == pytest.approx(2 * point.standard_error)
        assert "stochastic steps, mean of 20 runs" in figure.get_suptitle()

    def test_the_heading_fits(self) -> None:
        study = convergence(load_problem("hinge_cancer"), [10], variant="stochastic", rng=rng())
        figure = descent_figure(study)
        figure.draw_without_rendering()
        (heading,) = (text for text in figure.texts if "stochastic" in text.get_text())
        extent = heading.get_window_extent()
        assert 0 <= extent.x0 < extent.x1 <= figure.bbox.x1
        assert extent.y1 <= figure.bbox.y1

    def test_gaps_of_zero_are_left_out(self, tmp_path: Path) -> None:
        study = convergence(load_problem("two_terms"), [1, 10])
        figure = descent_figure(study)
        assert not figure.axes[0].containers
        save_figure(figure, tmp_path / "zero.png")

    def test_a_single_bound_can_be_seen(self) -> None:
        figure = descent_figure(convergence(load_problem("line"), 10))
        assert any(line.get_marker() == "_" for line in figure.axes[0].get_lines())


class TestPath:
    def test_two_dimensions(self) -> None:
        problem = load_problem("bowl")
        descent = gradient_descent(problem, 50)
        figure = path_figure(problem, descent)
        lines = drawn(figure)
        np.testing.assert_array_equal(lines["points of the path"], descent.path)
        np.testing.assert_array_equal(lines["mean of w"], [descent.average])
        np.testing.assert_array_equal(lines["minimiser w*"], [problem.minimum.w])
        np.testing.assert_array_equal(lines["start"], [[0, 0]])
        rim = np.linalg.norm(lines["ball of radius B"], axis=1)
        np.testing.assert_allclose(rim, descent.radius)
        (ax,) = figure.axes
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        assert right - left == pytest.approx(top - bottom)
        shown = np.vstack([descent.path, problem.minimum.w])
        assert (shown >= [left, bottom]).all()
        assert (shown <= [right, top]).all()

    def test_contours_are_those_of_f(self) -> None:
        problem = load_problem("line")
        figure = path_figure(problem, gradient_descent(problem, 50))
        filled, curves = figure.axes[0].collections
        assert len(filled.get_paths()) == 14
        for level, path in zip(curves.levels, curves.get_paths(), strict=True):
            vertices = path.vertices[:: max(1, len(path.vertices) // 50)]
            values = problem.evaluate(vertices)[0]
            np.testing.assert_allclose(values, level, atol=0.01)

    def test_one_dimension_is_a_graph(self) -> None:
        problem = load_problem("kink")
        descent = gradient_descent(problem, 30)
        lines = drawn(path_figure(problem, descent))
        points = np.column_stack([descent.path[:, 0], descent.values])
        np.testing.assert_array_equal(lines["points of the path"], points)
        graph = lines["_child0"]
        np.testing.assert_allclose(graph[:, 1], np.abs(graph[:, 0] - 1))

    def test_more_dimensions_cannot_be_drawn(self) -> None:
        problem = load_problem("hinge_iris")
        with pytest.raises(InputError, match="problem must have one or two dimensions; got 5"):
            path_figure(problem, gradient_descent(problem, 5))

    @pytest.mark.parametrize("name", PROBLEMS)
    def test_every_problem_can_be_drawn(self, name: str, tmp_path: Path) -> None:
        problem = load_problem(name)
        study = convergence(problem, [1, 20])
        figure = descent_figure(study, problem, gradient_descent(problem, 20))
        assert len(figure.axes) == (2 if problem.dimension <= 2 else 1)
        save_figure(figure, tmp_path / "figure.svg")


class TestAscent:
    def test_maps_are_the_closed_forms(self) -> None:
        figure = ascent_figure(largest_w=2.0, largest_eta=4.0)
        chance, change, cut = figure.axes[:3]
        edge = np.asarray(chance.get_lines()[0].get_xydata())
        expected = sgd_step_may_ascend(edge[:, 0], 1.0).threshold
        np.testing.assert_allclose(edge[:, 1], expected)
        assert {text.get_text() for text in chance.texts} == {"1", "1/2"}
        mesh = change.collections[0]
        assert mesh.get_array().shape == (400, 401)
        middle = float(mesh.get_array()[-1, 200])
        assert middle == pytest.approx(float(sgd_step_may_ascend(0.0, 4.0).expected_change))
        curve = np.asarray(cut.get_lines()[0].get_xydata())
        expected = sgd_step_may_ascend(curve[:, 0], 0.5).expected_change
        np.testing.assert_allclose(curve[:, 1], expected)
        for ax in (chance, change, cut):
            assert ax.get_xlim() == (-2.0, 2.0)

    def test_refusals(self) -> None:
        with pytest.raises(InputError, match="largest_w must be positive and finite; got 0"):
            ascent_figure(largest_w=0)
        with pytest.raises(InputError, match="largest_eta must be positive and finite; got -1"):
            ascent_figure(largest_eta=-1)


def frames(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        pictures = []
        for index in range(image.n_frames):
            image.seek(index)
            pictures.append(np.asarray(image.convert("RGB")).astype(int))
    return pictures


def pixels(picture: np.ndarray, colour: str) -> int:
    wanted = np.rint(255 * np.array(to_rgb(colour)))
    return int((np.abs(picture - wanted).sum(axis=-1) <= 6).sum())


class TestAnimation:
    @pytest.mark.parametrize("name", ["bowl", "kink", "hinge_iris"])
    def test_the_path_grows(self, name: str, tmp_path: Path) -> None:
        problem, file = load_problem(name), tmp_path / "new" / "made.GIF"
        animate_descent(problem, gradient_descent(problem, 200), file, frames=8)
        pictures = frames(file)
        assert 3 <= len(pictures) <= 8
        orange = [pixels(picture, LIGHT[1]) for picture in pictures]
        assert orange[-1] > orange[0]
        assert tuple(pictures[-1][0, 0]) == (255, 255, 255)
        if problem.dimension == 2:
            assert pixels(pictures[-1], LIGHT[2]) > 10  # the small diamond keeps its colour

    def test_pictures_do_not_shift(self, tmp_path: Path) -> None:
        problem, file = load_problem("bowl"), tmp_path / "made.gif"
        animate_descent(problem, gradient_descent(problem, 50), file, frames=4)
        first, *_, last = frames(file)
        half = first.shape[1] // 2
        rows = slice(int(0.9 * len(first)), None)  # labels under the axes
        np.testing.assert_array_equal(first[rows, :half], last[rows, :half])

    def test_short_runs_have_a_picture_a_step(self, tmp_path: Path) -> None:
        problem, file = load_problem("bowl"), tmp_path / "made.gif"
        animate_descent(problem, gradient_descent(problem, 3), file)
        assert len(frames(file)) == 3

    def test_the_same_run_gives_the_same_file(self, tmp_path: Path) -> None:
        problem, files = load_problem("bowl"), [tmp_path / "a.gif", tmp_path / "b.gif"]
        for file in files:
            animate_descent(problem, gradient_descent(problem, 20), file, frames=3)
        assert files[0].read_bytes() == files[1].read_bytes()

    def test_refusals(self, tmp_path: Path) -> None:
        problem = load_problem("bowl")
        descent = gradient_descent(problem, 3)
        with pytest.raises(ConfigError, match=r"the file's name must end in \.gif; got 'a\.mp4'"):
            animate_descent(problem, descent, "a.mp4")
        with pytest.raises(InputError, match="frames must be 2 or more; got 1"):
            animate_descent(problem, descent, tmp_path / "a.gif", frames=1)
        (tmp_path / "file").write_text("")
        with pytest.raises(RunError, match="file"):
            animate_descent(problem, descent, tmp_path / "file" / "a.gif", frames=2)


def test_descent_draws_in_any_state(tmp_path: Any) -> None:
    """One step, and a gap that stays; nothing to span an axis with."""
    problem = load_problem("two_terms")
    animate_descent(problem, gradient_descent(problem, 2), tmp_path / "a.gif")
    save_figure(path_figure(problem, gradient_descent(problem, 1)), tmp_path / "a.png")
