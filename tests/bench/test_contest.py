"""Validation finds what is wrong, and contestants compute the same thing."""

import numpy as np
import pytest

from chainrule.bench.contest import (
    CHAINRULE,
    CHANNELS_LAST,
    EAGER,
    Case,
    Contest,
    Contestant,
    duel,
    sixteenths,
    validate,
)
from chainrule.errors import GradientMismatchError

RIGHT = np.array([3.0, 4.0])


def contest_with(ours, theirs=RIGHT, tolerance=1e-3):
    def contestant(result):
        return Contestant(lambda: None, lambda: {"out": result})

    contestants = {CHAINRULE: contestant(ours), EAGER: contestant(theirs)}
    return Contest(contestants, lambda: {"out": RIGHT}, tolerance)


CASE = Case("conv/S1", "float32", "small", lambda: contest_with(RIGHT))


def test_group_of_a_case():
    assert CASE.group == "conv"


def test_error_is_that_of_our_results():
    contest = contest_with(np.array([3.0, 4.001]), theirs=np.array([3.004, 4.0]))
    assert validate(CASE, contest) == pytest.approx(0.001 / 5, rel=1e-6)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (np.array([3.0, 4.1]), "0.02"),
        (np.array([3.0, np.nan]), "nan"),
        (np.array([[3.0, 4.0]]), "inf"),
    ],
)
def test_wrong_results_are_refused(wrong, error):
    message = (
        rf"bench conv/S1 float32: out of chainrule must be within 0\.001 of PyTorch's in float64; "
        rf"got a relative error of {error}\. Nothing was timed\."
    )
    with pytest.raises(GradientMismatchError, match=message):
        validate(CASE, contest_with(wrong))


def test_an_opponent_that_computes_something_else_is_refused():
    with pytest.raises(GradientMismatchError, match="out of eager must be within"):
        validate(CASE, contest_with(RIGHT, theirs=-RIGHT))


def test_sixteenths():
    drawn = sixteenths(np.random.default_rng(0), (1000, 1000), "float32")
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(16 * drawn, np.rint(16 * drawn))
    assert abs(drawn.std() - 1) < 0.01
    # What they are for: a sum of a million products that float32 holds exactly.
    exact = np.vdot(drawn.astype(np.float64), drawn.T.astype(np.float64))
    assert np.vdot(drawn, drawn.T) == exact


def test_duel():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    inputs = {"x": np.ones((2, 3, 4, 5), np.float32), "y": np.array([0, 1])}
    seen = []

    def theirs(given):
        seen.append(given)
        return {"out": 2 * given["x"]}

    contest = duel(lambda: {"out": 2 * inputs["x"]}, theirs, inputs, ("x",), 1e-6)
    assert list(contest.contestants) == [CHAINRULE, EAGER, CHANNELS_LAST]
    for form in (EAGER, CHANNELS_LAST):
        contest.contestants[form].run()
    contest.expected()
    eager, channels_last, exact = seen
    assert eager["x"].is_contiguous()
    assert channels_last["x"].is_contiguous(memory_format=torch.channels_last)
    assert not channels_last["x"].is_contiguous()
    assert [given["x"].dtype for given in seen] == [torch.float32, torch.float32, torch.float64]
    assert all(given["x"].requires_grad and not given["y"].requires_grad for given in seen)
    assert exact["y"].dtype == torch.int64
    assert validate(CASE, contest) == 0


def test_without_images_there_is_no_channels_last():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    contest = duel(dict, dict, {"x": np.ones((2, 3))}, (), 0.0)
    assert list(contest.contestants) == [CHAINRULE, EAGER]
