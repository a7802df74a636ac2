"""The rubric file: written with comments, read back, and checked."""

import tomllib
from dataclasses import replace

import pytest

from chainrule.course.grading import default_rubric, grade, read_rubric, rubric_text
from chainrule.errors import ConfigError, DataMissingError


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        path = tmp_path / "rubric.toml"
        path.write_text(text, encoding="utf-8")
        return read_rubric(path)

    return read_text


def test_the_default_is_read_back_as_it_is(read):
    text = rubric_text()
    assert read(text) == default_rubric() == read("")
    assert max(map(len, text.splitlines())) <= 100


def test_every_setting_is_read_back_as_it_is(read):
    default = default_rubric()
    layers = default.exercises["layers"]
    tests = layers.tests | {
        "relu_forward": replace(layers.tests["relu_forward"], weight=3.0, hidden=True, seconds=9.0)
    }
    exercises = {"layers": replace(layers, points=7.5, hidden=True, tests=tests)}
    rubric = replace(
        default, title='A "b" \u00e9', generation="A", seed=5, absent="skip", speed=0.5,
        generous=2.0,
        limits=replace(default.limits, seconds=1.5, memory_mb=100), forbid=("x",), trace=False,
        tolerance=replace(default.tolerance, relative=1e-4), diagnosis=False, printed=False,
        exercises=exercises,
    )  # fmt: skip
    assert read(rubric_text(rubric)) == rubric
    assert rubric.digest() != default.digest()


def test_only_exercises_that_are_named_are_graded(read):
    rubric = read("[exercises.conv]\npoints = 3\n[exercises.layers.tests]\nrelu_forward = 2")
    assert list(rubric.exercises) == ["conv", "layers"]
    assert rubric.exercises["conv"].tests == default_rubric().exercises["conv"].tests
    assert list(rubric.exercises["layers"].tests) == ["relu_forward"]


def test_weights_share_the_points(read, student_a):
    tests = "tests = {relu_forward = 3, affine_forward = {weight = 1, hidden = true}}"
    rubric = read(f"speed.share = 0\n[exercises.layers]\npoints = 8\n{tests}")
    results = grade(student_a, rubric).results
    assert {r.key: (r.points, r.hidden) for r in results} == {
        "layers/relu_forward": (6, False), "layers/affine_forward": (2, True),
    }  # fmt: skip


def test_time_limits_of_single_tests(read, student_a, change):
    change(student_a, "layers.py", "return np.maximum(x, 0), x", "import time; time.sleep(100)")
    rubric = read("[exercises.layers.tests]\nrelu_forward = {seconds = 0.5}")
    assert "more than 0.5 s" in grade(student_a, rubric).results[0].message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("titel = 'x'", "titel is not known. Did you mean 'title'?"),
        ("title = 3", "title must be a string; got 3."),
        ("seed = true", "seed must be a whole number; got True."),
        ("generation = 'C'", "generation must be one of auto, A, B; got C."),
        ("absent = 'no'", "absent must be one of zero, skip; got no."),
        ("forbid = [1]", "forbid must be a string; got 1."),
        ("limits = 3", "limits must be a table; got 3."),
        ("[limits]\nsecond = 3", "limits.second is not known. Did you mean 'seconds'?"),
        ("[limits]\nseconds = -3", "limits.seconds must be a number of 0 or more; got -3."),
        ("[tolerance]\nrelative = nan", "tolerance.relative must be a number of 0 or more"),
        ("[speed]\nshare = 2", "speed.share must be at most 1; got 2.0."),
        ("[feedback]\ntrace = 1", "feedback.trace must be true or false; got 1."),
        ("[exercises.softmx]", "exercises.softmx is not known. Did you mean 'softmax'?"),
        (
            "[exercises.conv]\npoint = 1",
            "exercises.conv.point is not known. Did you mean 'points'?",
        ),
        ("[exercises.conv.tests]\nconv = 1", "exercises.conv.tests.conv is not known."),
        ("[exercises.conv.tests]\nconv_forward = 'a'", "conv_forward must be a table; got 'a'."),
        ("[exercises.conv.tests]\nconv_forward = {hidden = 1}", "hidden must be true or false"),
        ("= 3", "is not valid TOML"),
    ],
)
def test_what_is_not_understood_is_said(read, text, words):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert words in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_a_rubric_that_is_not_there(tmp_path):
    with pytest.raises(DataMissingError, match="there is no such rubric"):
        read_rubric(tmp_path / "none.toml")


def test_the_default_text_is_toml_with_all_exercises():
    content = tomllib.loads(rubric_text())
    assert set(content["exercises"]) == set(default_rubric().exercises)
