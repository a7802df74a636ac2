"""Learning-rate schedules: pure functions of the step, so there is no state to save.

Step :math:`t` counts from 0. :math:`\\eta` is the configured learning rate, :math:`T` the
number of steps of the whole run, :math:`W` the number of warm-up steps. Every schedule is a
curve times the linear warm-up factor

.. math:: w(t) = \\min\\left(1, \\frac{t + 1}{W + 1}\\right),

so step :math:`W` is the first at full rate; it is PyTorch's ``LinearLR`` with
``start_factor=1/(W+1)`` and ``total_iters=W``. Epochs are counted from the start of the run;
curves that span the run (cosine, one-cycle) begin where the warm-up ends. Past the last step a
curve keeps its last value.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from chainrule.errors import ConfigError, DTypeError, InputError, explain, nearest
from chainrule.optim.checks import (
    NON_NEGATIVE,
    POSITIVE,
    Rule,
    check_keywords,
    check_number,
    check_whole,
)

__all__ = [
    "SCHEDULES",
    "ConstantSchedule",
    "CosineSchedule",
    "ExponentialSchedule",
    "OneCycleSchedule",
    "Schedule",
    "StepSchedule",
    "make_schedule",
]

DECAY_FACTOR: Rule = ("be above 0 and at most 1", lambda value: 0 < value <= 1)
AT_LEAST_ONE: Rule = ("be at least 1 and finite", lambda value: 1 <= value < math.inf)


class Schedule(ABC):
    """Base of the schedules: gives the learning rate of each step.

    Parameters
    ----------
    lr : float
        The configured learning rate, positive: the highest that the schedule reaches.
    total_steps : int
        Number of steps of the whole run, 1 or more.
    steps_per_epoch : int
        Number of steps of one pass over the training data, 1 or more.
    warmup_steps : int, default 0
        Number of steps of linear warm-up. May exceed `total_steps` (a short trial of a long
        configuration); the full rate is then never reached.

    Raises
    ------
    InputError
        If a value is out of range.
    DTypeError
        If a value has the wrong type.
    """

    def __init__(
        self, lr: float, total_steps: int, steps_per_epoch: int, warmup_steps: int = 0
    ) -> None:
        where = type(self).__name__
        self.lr = check_number(where, "lr", lr, POSITIVE)
        self.total_steps = check_whole(where, "total_steps", total_steps, 1)
        self.steps_per_epoch = check_whole(where, "steps_per_epoch", steps_per_epoch, 1)
        self.warmup_steps = check_whole(where, "warmup_steps", warmup_steps, 0)

    def lr_at(self, step: int) -> float:
        """Give the learning rate of one step.

        Parameters
        ----------
        step : int
            The step, counted from 0.

        Returns
        -------
        float
            The learning rate, zero or more.

        Raises
        ------
        InputError
            If `step` is negative.
        DTypeError
            If `step` is no whole number.

        Examples
        --------
        >>> schedule = ConstantSchedule(0.1, total_steps=10, steps_per_epoch=5, warmup_steps=1)
        >>> schedule.lr_at(0), schedule.lr_at(1)
        (0.05, 0.1)
        """
        step = check_whole(f"{type(self).__name__}.lr_at", "step", step, 0)
        return self._curve(step) * min(1.0, (step + 1) / (self.warmup_steps + 1))

    @abstractmethod
    def _curve(self, step: int) -> float:
        """The learning rate apart from warm-up."""


class ConstantSchedule(Schedule):
    """The configured learning rate throughout.

    Parameters
    ----------
    lr : float
        The learning rate, positive.
    total_steps : int
        Number of steps of the whole run, 1 or more.
    steps_per_epoch : int
        Number of steps of one pass over the training data, 1 or more.
    warmup_steps : int, default 0
        Number of steps of linear warm-up.

    Examples
    --------
    >>> ConstantSchedule(0.1, total_steps=10, steps_per_epoch=5).lr_at(9)
    0.1
    """

    def _curve(self, step: int) -> float:
        return self.lr


class ExponentialSchedule(Schedule):
    r"""Multiply the learning rate by a constant after each epoch.

    Parameters
    ----------
    lr : float
        Learning rate of the first epoch, positive.
    total_steps : int
        Number of steps of the whole run, 1 or more.
    steps_per_epoch : int
        Number of steps of one pass over the training data, 1 or more.
    warmup_steps : int, default 0
        Number of steps of linear warm-up.
    gamma : float, default 0.95
        The factor per epoch, in (0, 1]; the course's ``lr_decay``.

    Notes
    -----
    :math:`\eta \gamma^e` in epoch :math:`e = 0, 1, \dots`; PyTorch's ``ExponentialLR`` stepped
    once an epoch.

    Examples
    --------
    >>> schedule = ExponentialSchedule(0.1, total_steps=10, steps_per_epoch=5, gamma=0.5)
    >>> schedule.lr_at(4), schedule.lr_at(5)
    (0.1, 0.05)
    """

    def __init__(
        self,
        lr: float,
        total_steps: int,
        steps_per_epoch: int,
        warmup_steps: int = 0,
        *,
        gamma: float = 0.95,
    ) -> None:
        super().__init__(lr, total_steps, steps_per_epoch, warmup_steps)
        self.gamma = check_number(type(self).__name__, "gamma", gamma, DECAY_FACTOR)

    def _curve(self, step: int) -> float:
        return self.lr * self.gamma ** (step // self.steps_per_epoch)


class StepSchedule(Schedule):
    r"""Multiply the learning rate by a constant every few epochs, or at given epochs.

    Parameters
    ----------
    lr : float
        Learning rate at the start, positive.
    total_steps : int
        Number of steps of the whole run, 1 or more.
    steps_per_epoch : int
        Number of steps of one pass over the training data, 1 or more.
    warmup_steps : int, default 0
        Number of steps of linear warm-up.
    step_epochs : int, optional
        Number of epochs between drops, 1 or more. Either this or `milestones` is needed.
    milestones : sequence of int, optional
        The epochs that begin with a drop, increasing, 1 or more.
    gamma : float, default 0.1
        The factor of each drop, in (0, 1].

    Raises
    ------
    ConfigError
        If not exactly one of `step_epochs` and `milestones` is given.
    InputError
        If a value is out of range, or `milestones` do not increase.

    Notes
    -----
    :math:`\eta \gamma^k` after :math:`k` drops; PyTorch's ``StepLR`` or ``MultiStepLR`` stepped
    once an epoch.

    Examples
    --------
    >>> schedule = StepSchedule(1.0, total_steps=9, steps_per_epoch=3, milestones=[1, 2])
    >>> [round(schedule.lr_at(step), 6) for step in (2, 3, 6)]
    [1.0, 0.1, 0.01]
    """

    def __init__(
        self,
        lr: float,
        total_steps: int,
        steps_per_epoch: int,
        warmup_steps: int = 0,
        *,
        step_epochs: int | None = None,
        milestones: Sequence[int] | None = None,
        gamma: float = 0.1,
    ) -> None:
        super().__init__(lr, total_steps, steps_per_epoch, warmup_steps)
        where = type(self).__name__
        if (step_epochs is None) == (milestones is None):
            given = "neither" if step_epochs is None else "both"
            rule = "be given, and only one of them"
            raise ConfigError(explain(where, "step_epochs or milestones", rule, given))
        if step_epochs is not None:
            step_epochs = check_whole(where, "step_epochs", step_epochs, 1)
        if milestones is not None:
            if isinstance(milestones, str) or not isinstance(milestones, Sequence):
                raise DTypeError(explain(where, "milestones", "be a list", repr(milestones)))
            milestones = tuple(check_whole(where, "milestones", each, 1) for each in milestones)
            if not milestones or any(b <= a for a, b in pairwise(milestones)):
                raise InputError(
                    explain(where, "milestones", "be one or more increasing epochs", milestones)
                )
        self.step_epochs = step_epochs
        self.milestones = milestones
        self.gamma = check_number(where, "gamma", gamma, DECAY_FACTOR)

    def _curve(self, step: int) -> float:
        epoch = step // self.steps_per_epoch
        if self.step_epochs is not None:
            drops = epoch // self.step_epochs
        else:
            drops = sum(epoch >= milestone for milestone in self.milestones or ())
        return self.lr * self.gamma**drops


class CosineSchedule(Schedule):
    r"""Half a cosine wave from the learning rate down to `min_lr`.

    Parameters
    ----------
    lr : float
        Learning rate at the start, positive.
    total_steps : int
        Number of steps of the whole run, 1 or more.
    steps_per_epoch : int
        Number of steps of one pass over the training data, 1 or more.
    warmup_steps : int, default 0
        Number of steps of linear warm-up; the wave spans the steps after it.
    min_lr : float, default 0.0
        Learning rate that step `total_steps`, the first that is not taken, would have; from
        zero to `lr`.

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    With :math:`u = \min(1, (t - W) / (T - W))`,

    .. math:: \eta_{\min} + \tfrac12 (\eta - \eta_{\min}) (1 + \cos \pi u);

    PyTorch's ``CosineAnnealingLR`` with ``T_max`` the number of steps after warm-up.

    References
    ----------
    I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017,
    equation 5, without restarts.

    Examples
    --------
    >>> schedule = CosineSchedule(0.2, total_steps=10, steps_per_epoch=5)
    >>> [round(schedule.lr_at(step), 6) for step in (0, 5, 10)]
    [0.2, 0.1, 0.0]
    """

    def __init__(
        self,
        lr: float,
        total_steps: int,
        steps_per_epoch: int,
        warmup_steps: int = 0,
        *,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(lr, total_steps, steps_per_epoch, warmup_steps)
        where = type(self).__name__
        self.min_lr = check_number(where, "min_lr", min_lr, NON_NEGATIVE)
        if self.min_lr > self.lr:
            raise InputError(explain(where, "min_lr", f"be at most lr, {self.lr}", min_lr))

    def _curve(self, step: int) -> float:
        span = max(1, self.total_steps - self.warmup_steps)
        position = (step - self.warmup_steps) / span
        return _cosine_between(self.lr, self.min_lr, position)


class OneCycleSchedule(Schedule):
    r"""Up to the learning rate, then down far below where it began, along half cosine waves.

    Parameters
    ----------
    lr : float
        The highest learning rate, positive; PyTorch's ``max_lr``.
    total_steps : int
        Number of steps of the whole run, 1 or more.
    steps_per_epoch : int
        Number of steps of one pass over the training data, 1 or more.
    warmup_steps : int, default 0
        Number of steps of linear warm-up to the cycle's first rate; seldom needed, since the
        cycle has its own ascent.
    pct_start : float, default 0.3
        The fraction of the cycle spent going up, in [0, 1].
    div_factor : float, default 25.0
        The first rate is ``lr / div_factor``; 1 or more.
    final_div_factor : float, default 10000.0
        The last rate is ``lr / div_factor / final_div_factor``; 1 or more.

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    PyTorch's ``OneCycleLR`` with ``anneal_strategy="cos"``: over :math:`N = T - W` steps the
    summit lies at :math:`s = p N - 1`, in general between two steps, and the last rate is that
    of step :math:`N - 1`.

    References
    ----------
    L. N. Smith, N. Topin, "Super-convergence: very fast training of neural networks using large
    learning rates", 2018, arXiv:1708.07120.

    Examples
    --------
    >>> schedule = OneCycleSchedule(1.0, total_steps=10, steps_per_epoch=5)
    >>> [round(schedule.lr_at(step), 6) for step in (0, 2, 9)]
    [0.04, 1.0, 4e-06]
    """

    def __init__(
        self,
        lr: float,
        total_steps: int,
        steps_per_epoch: int,
        warmup_steps: int = 0,
        *,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        super().__init__(lr, total_steps, steps_per_epoch, warmup_steps)
        where = type(self).__name__
        closed: Rule = ("be from 0 to 1", lambda value: 0 <= value <= 1)
        self.pct_start = check_number(where, "pct_start", pct_start, closed)
        self.div_factor = check_number(where, "div_factor", div_factor, AT_LEAST_ONE)
        self.final_div_factor = check_number(
            where, "final_div_factor", final_div_factor, AT_LEAST_ONE
        )

    def _curve(self, step: int) -> float:
        steps = max(1, self.total_steps - self.warmup_steps)
        summit, end = self.pct_start * steps - 1, steps - 1
        position = min(end, max(0, step - self.warmup_steps))
        first = self.lr / self.div_factor
        if position < summit:
            return _cosine_between(first, self.lr, position / summit)
        last = first / self.final_div_factor
        # A summit before step 0 belongs to a cycle too short for its ascent.
        return _cosine_between(self.lr, last, (position - summit) / max(end - summit, 1e-12))


def _cosine_between(start: float, end: float, position: float) -> float:
    """Half a cosine wave from `start` at position 0 to `end` at position 1, flat beyond."""
    position = min(1.0, max(0.0, position))
    return end + (start - end) * (1.0 + math.cos(math.pi * position)) / 2.0


SCHEDULES: MappingProxyType[str, type[Schedule]] = MappingProxyType(
    {
        "constant": ConstantSchedule,
        "exponential": ExponentialSchedule,
        "step": StepSchedule,
        "cosine": CosineSchedule,
        "one_cycle": OneCycleSchedule,
    }
)


def make_schedule(
    name: str,
    lr: float,
    total_steps: int,
    steps_per_epoch: int,
    warmup_steps: int = 0,
    **options: Any,
) -> Schedule:
    """Build a schedule from its name, as a configuration file gives it.

    Parameters
    ----------
    name : {"constant", "exponential", "step", "cosine", "one_cycle"}
        Which one.
    lr : float
        The configured learning rate, positive.
    total_steps : int
        Number of steps of the whole run, 1 or more.
    steps_per_epoch : int
        Number of steps of one pass over the training data, 1 or more.
    warmup_steps : int, default 0
        Number of steps of linear warm-up.
    **options
        Further keywords of its class, such as ``gamma`` or ``min_lr``.

    Returns
    -------
    Schedule
        An object whose ``lr_at(step)`` gives the learning rate.

    Raises
    ------
    ConfigError
        If the name or a keyword is unknown; the message names the nearest known one.
    InputError
        If a value is out of range.
    DTypeError
        If a value has the wrong type.

    Examples
    --------
    >>> schedule = make_schedule("cosine", 0.1, total_steps=100, steps_per_epoch=10)
    >>> schedule.lr_at(0)
    0.1
    """
    if name not in SCHEDULES:
        rule = "be the name of a schedule"
        hint = nearest(str(name), SCHEDULES)
        raise ConfigError(explain("make_schedule", "name", rule, repr(name), hint))
    check_keywords(f"make_schedule({name!r})", SCHEDULES[name], options)
    return SCHEDULES[name](lr, total_steps, steps_per_epoch, warmup_steps, **options)
