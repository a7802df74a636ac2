"""``chainrule descend``, ``descend ascent`` and ``descend proximal``."""

from pathlib import Path

import numpy as np
import pytest

from chainrule.cli import descend
from chainrule.convex import (
    PROBLEMS,
    VARIANTS,
    convergence,
    gradient_descent,
    load_problem,
    sgd_step_may_ascend,
)


def rows_of(text, heading):
    """Cells of the table that begins with a heading, as lists of words."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:2] == heading)
    rows = []
    for line in lines[start + 1 :]:
        if not line.strip():
            break
        rows.append(line.split())
    return rows


def test_table_and_verdict(chainrule):
    done = chainrule("descend", "hinge_iris", "--steps", "300")
    assert (done.code, done.err) == (0, "")
    rows = rows_of(done.out, ["T", "eta"])
    assert [row[0] for row in rows] == ["1", "2", "5", "10", "20", "50", "100", "200", "300"]
    study = convergence(load_problem("hinge_iris"), 300)
    assert rows[-1][2] == f"{study.points[0].gap:.4g}"
    assert rows[-1][-1] == f"{study.points[0].bound:.4g}"
    assert len(rows_of(done.out, ["assumption", "measured"])) == 4
    assert done.out.splitlines()[-1].startswith("The bound holds: f(wbar) - f(w*) is at most")


@pytest.mark.parametrize("variant", VARIANTS)
def test_json(chainrule, variant):
    done = chainrule("descend", "bowl", "--steps", "20", "--variant", variant, "--json")
    assert (done.code, done.err) == (0, "")
    record = done.json
    assert record["variant"] == variant
    assert record["holds"]
    assert record["assumed"]
    assert [point["steps"] for point in record["points"]] == [1, 2, 5, 10, 20]
    assert all(point["gap"] <= point["bound"] for point in record["points"])
    assert len(record["times"]) == len(record["gaps"]) == len(record["bounds"]) == 20
    assert record["runs"] == (20 if "stochastic" in variant else 1)
    assert {a["name"] for a in record["assumptions"]} >= {"f is convex", "|v_t| <= rho"} or (
        "stochastic" in variant
    )


def test_numbers_given_are_those_used(chainrule):
    words = ["--eta", "0.05", "--radius", "3", "--rho", "9", "--runs", "4", "--seed", "5"]
    record = chainrule(
        "descend", "bowl", "--variant", "stochastic", "--steps", "7", *words, "--json"
    ).json
    assert (record["radius"], record["rho"], record["runs"]) == (3, 9, 4)
    study = convergence(
        load_problem("bowl"),
        [1, 2, 5, 7],
        variant="stochastic",
        eta=0.05,
        radius=3.0,
        rho=9.0,
        runs=4,
        rng=np.random.default_rng(5),
    )
    assert [point["gap"] for point in record["points"]] == [p.gap for p in study.points]


def test_seeds(chainrule):
    words = ("descend", "line", "--variant", "stochastic", "--steps", "10")
    assert chainrule(*words).out == chainrule(*words, "--seed", "0").out
    assert chainrule(*words).out != chainrule(*words, "--seed", "1").out


def test_an_assumption_that_fails_is_shown_and_no_error(chainrule):
    done = chainrule("descend", "bowl", "--rho", "0.5", "--steps", "100")
    assert done.code == 0
    assert "\nNO   |v_t| <= rho " in done.out
    assert done.out.splitlines()[-1].startswith('The theorem promises nothing here, as "|v_t|')


def test_figure_and_animation(chainrule):
    done = chainrule(
        "descend", "line", "--steps", "20", "--figure", "new/a.svg", "--animate", "new/a.gif"
    )
    assert done.code == 0
    assert done.err.splitlines() == [
        "chainrule: figure written to new/a.svg",
        "chainrule: animation written to new/a.gif",
    ]
    assert Path("new/a.svg").read_bytes().startswith(b"<?xml")
    assert Path("new/a.gif").read_bytes().startswith(b"GIF89a")


def test_the_picture_is_of_the_run_in_the_table(chainrule, monkeypatch):
    from chainrule import report

    seen = []
    monkeypatch.setattr(report, "animate_descent", lambda *words: seen.append(words))
    chainrule("descend", "bowl", "--steps", "9", "--eta", "0.1", "--animate", "a.gif")
    ((problem, descent, file),) = seen
    assert (problem.name, file) == ("bowl", "a.gif")
    expected = gradient_descent(problem, 9, eta=0.1)
    np.testing.assert_array_equal(descent.path, expected.path)


def test_list(chainrule):
    done = chainrule("descend", "--list")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()] == list(PROBLEMS)
    assert chainrule("descend", "--list", "--json").json == {
        name: about for name, (about, _) in PROBLEMS.items()
    }


def test_variants_in_the_help_are_those_there_are(chainrule):
    said = " ".join(chainrule("descend", "--help").out.split())
    words = said.partition("--variant VARIANT ")[2].partition(" --eta")[0]
    assert words.replace(" (default)", "").replace(" or ", ", ").split(", ") == list(VARIANTS)


def test_what_is_tried_before_the_last(monkeypatch):
    assert descend._counts(1) == [1]
    assert descend._counts(5) == [1, 2, 5]
    assert descend._counts(1000) == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("descend", "descend: PROBLEM must be given. See which there are: chainrule descend --l"),
        ("descend hinge_irs", "got 'hinge_irs'. Did you mean 'hinge_iris'?"),
        ("descend bowl line", "descend: 'line' is one word too many."),
        ("descend bowl --steps 0", "--steps: '0' is no whole number of 1 or more. See: chain"),
        ("descend bowl --steps ten", "--steps: 'ten' is no whole number of 1 or more."),
        ("descend bowl --runs 1", "--runs: '1' is no whole number of 2 or more."),
        ("descend bowl --seed -1", "--seed: '-1' is no whole number of 0 or more."),
        ("descend bowl --eta 0", "--eta: '0' is not positive."),
        ("descend bowl --eta inf", "--eta: 'inf' is no number."),
        ("descend bowl --rho x", "--rho: 'x' is no number."),
        ("descend bowl --variant stochastc", "'stochastc' is not known. Did you mean 'stochasti"),
        ("descend bowl --figure a.bmp", "the file's name must end in .png or .svg or .pdf"),
        ("descend bowl --animate a.mp4", "the file for --animate must end in .gif; got 'a.mp4'."),
        ("descend bowl --step 3", "option --step is not known. Did you mean '--steps'?"),
        ("descend ascent x", "'x' is no number."),
        ("descend ascent --trials 1", "--trials: '1' is no whole number of 2 or more."),
        ("descend ascent --figure a.gif", "must end in .png or .svg or .pdf; got 'a.gif'."),
        ("descend proximal bowl --lam 0", "--lam: '0' is not positive."),
        ("descend proximal bwl", "got 'bwl'. Did you mean 'bowl'?"),
    ],
)
def test_wrong_usage(refused, words, said):
    assert said in refused(2, *words.split())
    assert list(Path.cwd().iterdir()) == []


def test_diverged(refused):
    said = refused(4, "descend", "bowl", "--eta", "10", "--steps", "1000")
    assert "w must stay finite; got NaN or infinity at step" in said
    assert said.endswith("The step size 10 is too large.")


class TestAscent:
    def test_table(self, chainrule):
        done = chainrule("descend", "ascent", "-1", "0", "0.25", "--eta", "0.5")
        assert (done.code, done.err) == (0, "")
        rows = rows_of(done.out, ["w", "eta"])
        assert [row[:3] for row in rows] == [
            ["-1", "0.5", "0.5"],
            ["0", "0.5", "1"],
            ["0.25", "0.5", "0.5"],
        ]
        simulated = rows_of(done.out, ["w", "share"])
        assert simulated[1][:2] == ["0", "1.0000"]
        assert float(simulated[0][1]) == pytest.approx(0.5, abs=0.02)

    def test_json_and_defaults(self, chainrule):
        record = chainrule("descend", "ascent", "--json").json
        assert [row["w"] for row in record] == list(descend.PLACES)
        for row in record:
            exact = sgd_step_may_ascend(row["w"], 0.5)
            assert row["probability"] == float(exact.probability)
            assert row["expected_ascent"] == float(exact.expected_ascent)
            assert row["simulated_frequency"] == pytest.approx(row["probability"], abs=0.02)

    def test_figure(self, chainrule):
        done = chainrule("descend", "ascent", "0", "--trials", "10", "--figure", "a.png")
        assert done.err == "chainrule: figure written to a.png\n"
        assert Path("a.png").read_bytes().startswith(b"\x89PNG")


class TestProximal:
    def test_the_courses_lambda(self, chainrule):
        done = chainrule("descend", "proximal")
        assert (done.code, done.err) == (0, "")
        assert "eta                   0.3333 = 1/lambda" in done.out
        rows = rows_of(done.out, ["i", "w"])
        assert len(rows) == 2
        for row in rows:
            assert row[3] == row[4] == row[5]

    def test_json_after_some_steps(self, chainrule):
        record = chainrule(
            "descend", "proximal", "logistic_iris", "--lam", "4", "--after", "3", "--json"
        ).json
        assert (record["lambda"], record["eta"]) == (4, 0.25)
        assert record["difference"] < 1e-9
        problem = load_problem("logistic_iris")
        w = gradient_descent(problem, 4, eta=0.25).path[-1]
        assert [row["w"] for row in record["coordinates"]] == pytest.approx(list(w))
