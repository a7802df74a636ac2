"""Where chainrule, PyTorch and the course do the same thing differently, and what it changes.

Each difference is measured on the network at hand: both conventions run from the same weights on
the same batches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chainrule.optim import make_schedule
from chainrule.training.preparation import Prepared
from chainrule.twin.networks import TwinNetwork
from chainrule.twin.optimizers import make_torch_optimizer, make_torch_schedule

__all__ = ["Convention", "measure_conventions"]

STEPS = 20

Batches = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Convention:
    """One convention that differs.

    Attributes
    ----------
    name : str
        What it is about.
    chainrule, other : str
        What chainrule does, and what PyTorch or the course does.
    option : str
        How chainrule is told to do the other; empty where it cannot be.
    effect : float or None
        What the other changes; None where the network has no such thing.
    measured : str
        What `effect` is.
    """

    name: str
    chainrule: str
    other: str
    option: str
    effect: float | None
    measured: str


def measure_conventions(prepared: Prepared) -> list[Convention]:
    """Measure what other conventions would change in the first steps of training.

    Parameters
    ----------
    prepared : Prepared
        Network, in float64, and data. Nothing of it is changed.

    Returns
    -------
    list of Convention
        Batch normalisation's momentum and variance, rmsprop's constant, momentum under a
        changing rate, the hinge loss, initial weights.

    Examples
    --------
    >>> from chainrule.training import load_config, prepare
    >>> prepared = prepare(load_config(overrides=["dtype=float64", "hidden=8"]))
    >>> [c.name for c in measure_conventions(prepared) if c.effect is not None]
    ['rmsprop eps', 'momentum and rate', 'initialisation']
    """
    size, train = min(prepared.config.training.batch_size, len(prepared.train.x)), prepared.train
    starts = [i * size % (len(train.x) - size + 1) for i in range(STEPS)]
    batches = [
        (torch.tensor(train.x[i : i + size]), torch.tensor(train.y[i : i + size])) for i in starts
    ]
    network = TwinNetwork(prepared.model)
    return [
        _batch_norm_momentum(network, batches),
        _batch_norm_variance(network, batches),
        _rmsprop(network, batches),
        _momentum(network, batches),
        _hinge(network, batches),
        _initialisation(network, batches),
    ]


def _batch_norm_momentum(network: TwinNetwork, batches: Batches) -> Convention:
    effect = None
    if _norms(network):
        ours, other = copy.deepcopy(network), copy.deepcopy(network)
        for module in _norms(other):
            assert module.momentum is not None
            module.momentum = 1 - module.momentum
        for x, _ in batches:
            ours(x), other(x)
        effect = _apart(ours.named_buffers(), other.named_buffers(), "running_mean")
    return Convention(
        "batch-norm momentum",
        "weight of the new batch (0.1), as PyTorch",
        "weight of the old (0.9), in the course",
        "momentum = 1 - momentum",
        effect,
        f"running means after {STEPS} batches if the number is taken over as it is",
    )


def _batch_norm_variance(network: TwinNetwork, batches: Batches) -> Convention:
    effect = None
    if _norms(network):
        ours, other = copy.deepcopy(network), copy.deepcopy(network)
        for module in _norms(other):
            module.register_forward_hook(_biased_variance())
            module.register_forward_pre_hook(_remember_variance)
        for x, _ in batches:
            ours(x), other(x)
        effect = _apart(ours.named_buffers(), other.named_buffers(), "running_var")
    return Convention(
        "batch-norm variance",
        "running variance divides by n - 1, as PyTorch",
        "by n, in the course",
        "",
        effect,
        f"running variances after {STEPS} batches",
    )


def _remember_variance(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    module.__dict__["before"] = module.get_buffer("running_var").clone()


def _biased_variance() -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """Return a hook that takes the mean square deviation instead of PyTorch's estimate."""

    @torch.no_grad()
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        x, momentum = inputs[0], float(module.__dict__["momentum"])
        axes = [axis for axis in range(x.ndim) if axis != 1]
        new = torch.var(x, dim=axes, correction=0)
        module.get_buffer("running_var").copy_(
            (1 - momentum) * module.__dict__["before"] + momentum * new
        )

    return hook


def _rmsprop(network: TwinNetwork, batches: Batches) -> Convention:
    def trained(inside: bool) -> TwinNetwork:
        return _train(network, batches, "rmsprop", 1e-3, eps_inside_root=inside)

    ours, other = trained(True), trained(False)
    return Convention(
        "rmsprop eps",
        "g / sqrt(c + eps), as the course",
        "g / (sqrt(c) + eps), in PyTorch",
        "optimizer.eps_inside_root=false",
        _apart(ours.named_parameters(), other.named_parameters()),
        f"weights after {STEPS} steps, rate 0.001",
    )


def _momentum(network: TwinNetwork, batches: Batches) -> Convention:
    def trained(in_velocity: bool) -> TwinNetwork:
        return _train(
            network, batches, "momentum", 0.01, lr_in_velocity=in_velocity, schedule="cosine"
        )

    ours, other = trained(False), trained(True)
    return Convention(
        "momentum and rate",
        "v = mu v + g, step lr v, as PyTorch",
        "v = mu v + lr g, step v, in the course",
        "optimizer.lr_in_velocity=true",
        _apart(ours.named_parameters(), other.named_parameters()),
        f"weights after {STEPS} steps, rate 0.01 to 0 along a cosine",
    )


def _hinge(network: TwinNetwork, batches: Batches) -> Convention:
    effect = None
    if network.loss_name == "multiclass_hinge":
        x, y = batches[0]
        with torch.no_grad():
            scores = network(x)
            theirs = nn.functional.multi_margin_loss(scores, y, **network.loss_options)
            effect = abs(float(network.loss(scores, y) - theirs))
    return Convention(
        "hinge loss",
        "sum over the wrong classes, as the course",
        "divided by the number of classes, in PyTorch",
        "",
        effect,
        "loss of the first batch",
    )


def _initialisation(network: TwinNetwork, batches: Batches) -> Convention:
    other = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for module in other.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.reset_parameters()
    x, y = batches[0]
    with torch.no_grad():
        effect = abs(float(network.loss(network(x), y) - other.loss(other(x), y)))
    return Convention(
        "initialisation",
        "He normal, biases zero, small last layer",
        "uniform within 1 / sqrt(fan_in), biases too, in PyTorch",
        "",
        effect,
        "loss of the first batch before training",
    )


def _train(
    network: TwinNetwork,
    batches: Batches,
    rule: str,
    lr: float,
    schedule: str = "constant",
    **options: Any,
) -> TwinNetwork:
    """Return a copy of a network, trained with one rule."""
    trained = copy.deepcopy(network)
    optimizer = make_torch_optimizer(rule, trained.parameters(), lr=lr, **options)
    plan = make_torch_schedule(optimizer, make_schedule(schedule, lr, len(batches), len(batches)))
    for x, y in batches:
        with torch.random.fork_rng(devices=[]):  # the same dropout masks in every copy
            torch.manual_seed(0)
            loss = trained.loss(trained(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        plan.step()
    return trained


def _norms(network: TwinNetwork) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    return [module for module in network.modules() if isinstance(module, kinds)]


def _apart(ours: Any, others: Any, ending: str = "") -> float:
    """Return the largest difference of tensors of two networks."""
    pairs = zip(ours, others, strict=True)
    found = [
        np.abs((a - b).detach().numpy()).max() for (n, a), (_, b) in pairs if n.endswith(ending)
    ]
    return float(max(found))
