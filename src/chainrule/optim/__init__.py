"""Optimizers, gradient clipping, weight averages and learning-rate schedules.

Optimizers update a flat dictionary of parameters in place::

    optimizer = make_optimizer("adam", lr=1e-3)
    schedule = make_schedule("cosine", 1e-3, total_steps=1000, steps_per_epoch=100)
    for step in range(1000):
        loss, grads = ...
        clip_grad_norm(grads, max_norm=1.0)
        optimizer.step(params, grads, lr=schedule.lr_at(step))

They agree with PyTorch's optimizers of the same names, except that `RMSprop` follows the
CS231n course by default (its docstring says how to get PyTorch's).
"""

from chainrule.optim.base import Optimizer
from chainrule.optim.gradients import (
    ExponentialMovingAverage,
    clip_grad_norm,
    clip_grad_value,
)
from chainrule.optim.optimizers import (
    OPTIMIZERS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Momentum,
    Nesterov,
    RMSprop,
    make_optimizer,
)
from chainrule.optim.schedules import (
    SCHEDULES,
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    OneCycleSchedule,
    Schedule,
    StepSchedule,
    make_schedule,
)

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "ConstantSchedule",
    "CosineSchedule",
    "ExponentialMovingAverage",
    "ExponentialSchedule",
    "Momentum",
    "Nesterov",
    "OneCycleSchedule",
    "Optimizer",
    "RMSprop",
    "Schedule",
    "StepSchedule",
    "clip_grad_norm",
    "clip_grad_value",
    "make_optimizer",
    "make_schedule",
]
