"""A complete submission has full marks, in either generation and however it is handed in."""

import shutil
from dataclasses import replace

import pytest

from chainrule.course.grading import Protections, default_rubric, grade
from chainrule.course.grading.exercises import EXERCISES


@pytest.mark.parametrize(
    ("generation", "points", "protections"),
    [("A", 120, None), ("B", 210, None), ("A", 120, Protections("plain"))],
)
def test_a_correct_submission_has_full_marks(
    tmp_path, generation, points, protections, write_student
):
    student = write_student(generation, tmp_path)
    report = grade(student, replace(default_rubric(), speed=0.0), protections=protections)
    assert {r.key: r.status for r in report.results if r.status != "passed"} == {}
    assert report.generation == generation
    assert report.score == report.points == points
    of_generation = [e.name for e in EXERCISES.values() if generation in e.generations]
    assert list(report.exercises()) == of_generation


def test_another_seed_gives_other_numbers_that_are_right_as_well(student_b):
    rubric = replace(default_rubric().only(["layers", "dropout", "svm"]), seed=1, speed=0.0)
    report = grade(student_b, rubric)
    assert report.score == report.points


def test_speed_counts_only_as_far_as_the_rubric_says(student_b, grade_tests):
    test = "svm/svm_loss_vectorized"
    fast = grade_tests(student_b, test, speed=0.2, generous=1e9)[test]
    slow = grade_tests(student_b, test, speed=0.2, generous=1e-9)[test]
    assert (fast.status, fast.score) == ("passed", 100)
    assert (slow.status, slow.score) == ("partial", pytest.approx(80))
    assert "times as fast as the loop" in slow.findings[-1].message
    assert slow.diagnosis == []


def test_speed_without_right_results_is_worth_nothing(student_b, change, grade_tests):
    test = "svm/svm_loss_vectorized"
    change(student_b, "classifiers/linear_svm.py", "X.T.dot(dscores) +", "-X.T.dot(dscores) +")
    result = grade_tests(student_b, test, speed=0.5, generous=1e9)[test]
    assert result.findings[-1].message == "counts once the results are right"
    assert result.score < 50


def test_single_files_are_graded_as_far_as_they_go(tmp_path, student_a):
    file = tmp_path / "layers.py"
    shutil.copy(student_a / "cs231n" / "layers.py", file)
    rubric = replace(default_rubric().only(["layers", "optim"]), generation="B")
    report = grade(file, rubric)
    exercises = report.exercises()
    assert all(result.status == "passed" for result in exercises["layers"])
    assert {result.status for result in exercises["optim"]} == {"missing"}
    assert exercises["optim"][0].message == "cs231n/optim.py was not submitted."
    skipping = grade(file, replace(rubric, absent="skip"))
    assert list(skipping.exercises()) == ["layers"]
    assert skipping.score == skipping.points == 15


@pytest.mark.parametrize(
    ("first", "use"),
    [
        (
            "from builtins import range, object\nfrom past.builtins import xrange",
            "list(xrange(1))[0]",
        ),
        ("from six.moves import xrange, cPickle as pickle", "list(xrange(1))[0]"),
        ("from future import standard_library\nstandard_library.install_aliases()", "np.float(0)"),
        ("import cPickle", "np.int(0) + xrange(1)[0]"),
        ("import matplotlib.pyplot as plt\nfrom scipy.ndimage import uniform_filter", "0"),
        ("import scipy.signal, PIL.Image, pickle, os, sys, time, random, copy, math", "0"),
    ],
)
def test_imports_of_the_course_work(student_a, change, grade_tests, first, use):
    change(student_a, "layers.py", "import numpy as np\n", f"import numpy as np\n{first}\n")
    change(student_a, "layers.py", "np.maximum(x, 0), x", f"np.maximum(x, {use}), x")
    result = grade_tests(student_a, "layers/relu_forward")["layers/relu_forward"]
    assert (result.status, result.printed) == ("passed", ""), result


def test_the_compiled_helper_of_the_course_is_there(student_a, change, grade_tests):
    text = "from cs231n.im2col_cython import col2im_6d_cython, im2col_cython\n"
    change(student_a, "layers.py", "import numpy as np\n", f"import numpy as np\n{text}")
    body = (
        "n, c, h, w = x.shape\n"
        "    f, _, fh, fw = w_.shape\n"
        "    p, s = conv_param['pad'], conv_param['stride']\n"
        "    cols = im2col_cython(x, fh, fw, p, s)\n"
        "    oh, ow = (h + 2 * p - fh) // s + 1, (w + 2 * p - fw) // s + 1\n"
        "    out = (w_.reshape(f, -1) @ cols + b[:, None]).reshape(f, oh, ow, n)\n"
        "    return out.transpose(3, 0, 1, 2), (x, w_, b, conv_param)\n"
    )
    change(
        student_a,
        "layers.py",
        "def conv_forward_naive(x, w, b, conv_param):\n",
        f"def conv_forward_naive(x, w_, b, conv_param):\n    {body}\ndef _(x, w, b, conv_param):\n",
    )
    results = grade_tests(student_a, "conv/conv_forward", "conv/conv_backward")
    assert {result.status for result in results.values()} == {"passed"}
