"""Curves by hand, and options of single schedules."""

import pytest

from chainrule.errors import ConfigError, DTypeError, InputError
from chainrule.optim import StepSchedule, make_schedule


def rates(name, steps, **options):
    schedule = make_schedule(name, 1.0, 40, 10, **options)
    return [schedule.lr_at(step) for step in steps]


def test_exponential_drops_after_each_epoch():
    assert rates("exponential", (0, 9, 10, 29, 30), gamma=0.5) == [1.0, 1.0, 0.5, 0.25, 0.125]


def test_step_by_period_and_by_milestone():
    expected = pytest.approx([1.0, 1.0, 0.1, 0.1])
    assert rates("step", (0, 19, 20, 39), step_epochs=2) == expected
    expected = pytest.approx([1.0, 0.5, 0.5, 0.25])
    assert rates("step", (9, 10, 29, 30), milestones=[1, 3], gamma=0.5) == expected


def test_cosine_spans_what_follows_the_warm_up():
    found = rates("cosine", (20, 30, 40), warmup_steps=20, min_lr=0.2)
    assert found == pytest.approx([1.0, 0.6, 0.2])


def test_one_cycle_summit_and_ends():
    found = rates("one_cycle", (0, 9, 39), pct_start=0.25, div_factor=10, final_div_factor=100)
    assert found == pytest.approx([0.1, 1.0, 0.001])


def test_one_cycle_all_up_or_all_down():
    assert rates("one_cycle", (0, 39, 99), pct_start=1.0) == pytest.approx([0.04, 1.0, 1.0])
    falling = rates("one_cycle", range(40), pct_start=0.0)
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("step", {}, ConfigError, "step_epochs or milestones must be given, .* got neither"),
        ("step", {"step_epochs": 1, "milestones": [1]}, ConfigError, "only one of them; got both"),
        ("step", {"step_epochs": 0}, InputError, "step_epochs must be at least 1; got 0"),
        ("step", {"milestones": [2, 2]}, InputError, "increasing epochs; got \\(2, 2\\)"),
        ("step", {"milestones": []}, InputError, "must be one or more increasing epochs"),
        ("step", {"milestones": [1.5]}, DTypeError, "milestones must be a whole number; got 1.5"),
        ("step", {"milestones": 3}, DTypeError, "milestones must be a list; got 3"),
        ("step", {"step_epochs": 1, "gamma": 0}, InputError, "gamma must be above 0 and at most 1"),
        ("exponential", {"gamma": 1.1}, InputError, "gamma must be above 0 and at most 1; got 1.1"),
        ("cosine", {"min_lr": -1.0}, InputError, "min_lr must be zero or more"),
        ("cosine", {"min_lr": 2.0}, InputError, "min_lr must be at most lr, 1.0; got 2.0"),
        ("one_cycle", {"pct_start": 1.5}, InputError, "pct_start must be from 0 to 1; got 1.5"),
        ("one_cycle", {"div_factor": 0.5}, InputError, "div_factor must be at least 1 and finite"),
        ("one_cycle", {"final_div_factor": 0}, InputError, "final_div_factor must be at least 1"),
        ("cosin", {}, ConfigError, "got 'cosin'. Did you mean 'cosine'"),
    ],
)
def test_bad_options(name, options, error, message):
    with pytest.raises(error, match=message):
        rates(name, [0], **options)


def test_a_single_milestone_tuple():
    assert StepSchedule(1.0, 10, 5, milestones=(1,)).lr_at(5) == pytest.approx(0.1)
