"""PyTorch's optimizers and schedules by the names and options of a configuration.

`torch.optim` has almost all of chainrule's rules. The two that the course writes otherwise,
rmsprop with its constant inside the root and momentum whose velocity holds the learning rate,
are optimizers here, since a configuration must mean the same for both backends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from chainrule import optim
from chainrule.optim import Schedule, make_optimizer

__all__ = ["CourseMomentum", "CourseRMSprop", "make_torch_optimizer", "make_torch_schedule"]


class CourseRMSprop(torch.optim.Optimizer):
    r"""Rmsprop with `eps` inside the root, as in the course.

    Parameters
    ----------
    params : iterable
        Parameters or groups of them.
    lr : float
        Learning rate.
    alpha : float, default 0.99
        Decay of the running mean of squares.
    eps : float, default 1e-8
        Added to it before the root is taken.
    weight_decay : float, default 0
        Coupled weight decay.

    Notes
    -----
    .. math:: c \leftarrow \alpha c + (1 - \alpha) g^2, \qquad
        p \leftarrow p - \eta g / \sqrt{c + \epsilon}

    `torch.optim.RMSprop` divides by :math:`\sqrt{c} + \epsilon`.

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.ones(1))
    >>> weight.grad = torch.ones(1)
    >>> CourseRMSprop([weight], lr=0.1, alpha=0.75, eps=0.75).step()
    >>> round(weight.item(), 4)
    0.9
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update all parameters; a closure is not needed and not called."""
        for group, param, grad in _with_gradients(self):
            cache = _slot(self, param, "square_avg")
            cache.mul_(group["alpha"]).addcmul_(grad, grad, value=1 - group["alpha"])
            param.addcdiv_(grad, (cache + group["eps"]).sqrt_(), value=-group["lr"])


class CourseMomentum(torch.optim.Optimizer):
    r"""Momentum whose velocity accumulates steps, not gradients, as in the course.

    Parameters
    ----------
    params : iterable
        Parameters or groups of them.
    lr : float
        Learning rate.
    momentum : float, default 0.9
        Momentum :math:`\mu`.
    nesterov : bool, default False
        Step along the velocity as it will be.
    weight_decay : float, default 0
        Coupled weight decay.

    Notes
    -----
    .. math:: v \leftarrow \mu v + \eta g, \qquad p \leftarrow p - v

    `torch.optim.SGD` multiplies the whole velocity by :math:`\eta`: the two part when the rate
    changes.

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.ones(1))
    >>> weight.grad = torch.ones(1)
    >>> CourseMomentum([weight], lr=0.25).step()
    >>> weight.item()
    0.75
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update all parameters; a closure is not needed and not called."""
        for group, param, grad in _with_gradients(self):
            velocity, change = _slot(self, param, "momentum_buffer"), group["lr"] * grad
            velocity.mul_(group["momentum"]).add_(change)
            if group["nesterov"]:
                param.sub_(change.add_(velocity, alpha=group["momentum"]))
            else:
                param.sub_(velocity)


def make_torch_optimizer(
    name: str, parameters: Iterable[Tensor], *, lr: float, **options: Any
) -> torch.optim.Optimizer:
    """Build the PyTorch optimizer that does what chainrule's optimizer of that name does.

    Parameters
    ----------
    name : str
        As `chainrule.optim.make_optimizer` takes it.
    parameters : iterable of Tensor
        What it updates.
    lr : float
        Learning rate.
    **options
        Options of chainrule's rule; defaults are chainrule's.

    Returns
    -------
    torch.optim.Optimizer
        PyTorch's own, or one of this module for a rule that PyTorch does not have.

    Raises
    ------
    ConfigError
        If the name or an option is unknown.
    InputError
        If an option is out of range.

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> type(make_torch_optimizer("adam", [weight], lr=0.1)).__name__
    'Adam'
    >>> type(make_torch_optimizer("rmsprop", [weight], lr=0.1)).__name__
    'CourseRMSprop'
    """
    rule = make_optimizer(name, lr=lr, **options)  # checks, and knows all defaults
    weights: list[Tensor] = []
    others: list[Tensor] = []
    for value in parameters:
        (weights if rule.decay_bias or value.ndim > 1 else others).append(value)
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": rule.weight_decay}]
    if others:
        groups.append({"params": others, "weight_decay": 0.0})
    groups = [group for group in groups if group["params"]]
    if isinstance(rule, optim.SGD):
        if rule.lr_in_velocity and rule.momentum:
            return CourseMomentum(groups, lr, rule.momentum, rule.nesterov)
        return torch.optim.SGD(groups, lr, momentum=rule.momentum, nesterov=rule.nesterov)
    if isinstance(rule, optim.RMSprop):
        kind = CourseRMSprop if rule.eps_inside_root else torch.optim.RMSprop
        return kind(groups, lr=lr, alpha=rule.alpha, eps=rule.eps)
    if isinstance(rule, optim.Adagrad):
        return torch.optim.Adagrad(groups, lr, eps=rule.eps)
    assert isinstance(rule, optim.Adam)
    adam = torch.optim.AdamW if isinstance(rule, optim.AdamW) else torch.optim.Adam
    return adam(groups, lr, betas=rule.betas, eps=rule.eps)


def make_torch_schedule(optimizer: torch.optim.Optimizer, schedule: Schedule) -> LambdaLR:
    """Let a PyTorch scheduler follow one of chainrule's schedules.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Its rates are set, also the first one.
    schedule : chainrule.optim.Schedule
        Gives the rate of each step.

    Returns
    -------
    torch.optim.lr_scheduler.LambdaLR
        To be stepped after each update.

    Examples
    --------
    >>> from chainrule.optim import make_schedule
    >>> rule = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    >>> plan = make_torch_schedule(rule, make_schedule("cosine", 0.1, 10, 5))
    >>> rule.param_groups[0]["lr"]
    0.1
    """
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = 1.0  # LambdaLR multiplies: one times the exact rate
    return LambdaLR(optimizer, schedule.lr_at)


def _with_gradients(rule: torch.optim.Optimizer) -> Iterable[tuple[dict[str, Any], Tensor, Tensor]]:
    """Yield group, parameter and its gradient with the coupled decay."""
    for group in rule.param_groups:
        for param in group["params"]:
            if param.grad is not None:
                decay = group["weight_decay"]
                yield group, param, param.grad.add(param, alpha=decay) if decay else param.grad


def _slot(rule: torch.optim.Optimizer, param: Tensor, name: str) -> Tensor:
    state = rule.state[param]
    if name not in state:
        state[name] = torch.zeros_like(param)
    slot: Tensor = state[name]
    return slot
