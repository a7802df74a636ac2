"""Both backends in lock-step: the same first weights, the same batches, every tensor compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chainrule.data import Augment, BatchIterator
from chainrule.errors import GradientMismatchError, InputError, explain
from chainrule.kernels import winograd
from chainrule.layers import dropout_forward
from chainrule.optim import clip_grad_norm
from chainrule.training import Config, prepare
from chainrule.training.environment import limited_threads
from chainrule.training.learner import make_update_rule
from chainrule.training.preparation import Prepared
from chainrule.twin.conventions import Convention, measure_conventions
from chainrule.twin.networks import TwinNetwork
from chainrule.twin.optimizers import make_torch_optimizer, make_torch_schedule

__all__ = [
    "KINDS",
    "Divergence",
    "ParityReport",
    "StepDifferences",
    "TensorSummary",
    "compare_backends",
    "raise_if_parted",
]

TOLERANCE = 1e-9
KINDS = ("activation", "loss", "gradient", "update", "statistic")  # in the order of computation

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class StepDifferences:
    """How far the backends are apart in one step.

    Attributes
    ----------
    step : int
        From 1.
    differences : dict of str to dict
        For each of `KINDS`, by the name of the tensor, in the order of computation: the largest
        absolute difference, divided by the largest value of the tensor where that exceeds 1;
        infinite where a value is not finite.
    """

    step: int
    differences: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Divergence:
    """Where the backends first part.

    Attributes
    ----------
    step : int
        From 1.
    kind : str
        One of `KINDS`.
    tensor : str
        Name of the tensor.
    difference : float
        As in `StepDifferences`.
    """

    step: int
    kind: str
    tensor: str
    difference: float


@dataclass(frozen=True)
class TensorSummary:
    """The largest difference of one tensor over all steps.

    Attributes
    ----------
    kind, tensor : str
        One of `KINDS`, and the name.
    difference : float
        As in `StepDifferences`.
    step : int
        Where it is largest.
    """

    kind: str
    tensor: str
    difference: float
    step: int


@dataclass(frozen=True)
class ParityReport:
    """What the comparison found.

    Attributes
    ----------
    model, data, optimizer : str
        What was trained.
    batch_size : int
        Examples per step.
    tolerance : float
        Differences above it mean that the backends part.
    steps : list of StepDifferences
        All steps, up to that in which the backends part.
    diverged : Divergence or None
        The first tensor that differs by more than the tolerance.
    conventions : list of Convention
        Where chainrule, PyTorch and the course do things differently, and what that changes.
    """

    model: str
    data: str
    optimizer: str
    batch_size: int
    tolerance: float
    steps: list[StepDifferences]
    diverged: Divergence | None
    conventions: list[Convention]

    @property
    def largest(self) -> float:
        """The largest difference of all."""
        return max((row.difference for row in self.tensors()), default=0.0)

    def tensors(self) -> list[TensorSummary]:
        """Return the largest difference of each tensor, in the order of computation.

        Returns
        -------
        list of TensorSummary
            One for each tensor of each kind.
        """
        rows = []
        for kind in KINDS:
            for name in self.steps[0].differences[kind] if self.steps else ():
                found = [(each.differences[kind][name], -each.step) for each in self.steps]
                worst, step = max(found)
                rows.append(TensorSummary(kind, name, worst, -step))
        return rows


def compare_backends(
    config: Config, steps: int = 200, *, tolerance: float = TOLERANCE, conventions: bool = True
) -> ParityReport:
    """Train with NumPy and with PyTorch side by side, in float64, and compare every tensor.

    Parameters
    ----------
    config : Config
        Network, data, augmentation, optimizer, schedule, batch size, seed. Its ``model.dtype``
        is taken to be float64, and the schedule spans `steps`.
    steps : int, default 200
        Number of updates.
    tolerance : float, default 1e-9
        Largest difference of backends that agree.
    conventions : bool, default True
        Measure what other conventions would change.

    Returns
    -------
    ParityReport
        All differences. The comparison ends with the step in which the backends part.

    Raises
    ------
    InputError
        If `steps` is less than 1.
    ConfigError
        If the configuration is not understood, or the loss is unknown to PyTorch.
    DataMissingError
        If the data are not there.

    Notes
    -----
    Each backend keeps its own weights, statistics and optimizer throughout; nothing is copied
    between them after the start. Dropout masks come from one seed. Activations are those after
    each layer, or after each sandwich that chainrule computes at once (``fuse=false``: every
    layer).

    Rounding differs from the first product on, and training amplifies it. In float64 the built-in
    networks stay about 1e-12 apart or less, so that 1e-9 tells rounding from a mistake.

    Convolutions are computed as direct sums here: by minimal filtering (`kernels.winograd`) the
    same patch of an image rounds differently in different places, and a maximum over equal
    numbers, of which drawn digits have many, would then be taken elsewhere than in PyTorch.

    Examples
    --------
    >>> from chainrule.training import load_config
    >>> report = compare_backends(load_config(overrides=["hidden=8"]), 3, conventions=False)
    >>> report.diverged is None, report.largest < 1e-12
    (True, True)
    """
    if steps < 1:
        raise InputError(explain("parity", "steps", "be at least 1", steps))
    section = config.model.model_copy(update={"dtype": "float64"})
    with limited_threads(config.threads), winograd(False):
        prepared = prepare(config.model_copy(update={"model": section}))
        found = measure_conventions(prepared) if conventions else []  # before anything is trained
        done, diverged = [], None
        for each in _lock_step(prepared, steps):
            done.append(each)
            if (diverged := _first_above(each, tolerance)) is not None:
                break
    return ParityReport(
        prepared.config.model.name,
        prepared.splits.name,
        config.optimizer.name,
        config.training.batch_size,
        tolerance,
        done,
        diverged,
        found,
    )


def raise_if_parted(report: ParityReport) -> None:
    """Raise if the backends parted.

    Parameters
    ----------
    report : ParityReport
        From `compare_backends`.

    Raises
    ------
    GradientMismatchError
        Names the first tensor that diverged.

    Examples
    --------
    >>> raise_if_parted(ParityReport("m", "d", "adam", 1, 1e-9, [], None, []))
    """
    if (where := report.diverged) is None:
        return
    tensor = where.kind if where.kind == where.tensor else f"{where.kind} {where.tensor}"
    raise GradientMismatchError(
        explain(
            "parity",
            f"the {tensor} of NumPy and PyTorch",
            f"agree to {report.tolerance:g}",
            f"a difference of {where.difference:.2g} at step {where.step}",
        )
    )


class _SharedDropout(nn.Module):
    """Dropout whose masks are those that chainrule draws from the same generator."""

    def __init__(self, p: float, rng: np.random.Generator) -> None:
        super().__init__()
        self.p, self.rng = p, rng

    def forward(self, x: Tensor) -> Tensor:
        ones = np.ones(tuple(x.shape), np.float64)
        return x * torch.from_numpy(dropout_forward(ones, self.p, self.training, self.rng)[0])


class _NumpySide:
    """chainrule's half of the comparison."""

    def __init__(self, prepared: Prepared, steps: int, rng: np.random.Generator) -> None:
        self.model, self.config, self.rng = prepared.model, prepared.config, rng
        self.optimizer, self.schedule = make_update_rule(self.config, steps, steps)

    def step(self, x: np.ndarray, y: np.ndarray, step: int) -> dict[str, Arrays]:
        activations: Arrays = {}
        old = {name: value.copy() for name, value in self.model.params.items()}
        loss, grads = self.model.loss_and_grads(
            x,
            y,
            l2=self.config.training.l2,
            rng=self.rng,
            observe=lambda name, out: activations.__setitem__(name, out.copy()),
        )
        kept = {name: grad.copy() for name, grad in grads.items()}
        if self.config.optimizer.clip_norm is not None:
            clip_grad_norm(grads, self.config.optimizer.clip_norm)
        self.optimizer.step(self.model.params, grads, self.schedule.lr_at(step))
        return {
            "activation": activations,
            "loss": {"loss": np.asarray(loss)},
            "gradient": kept,
            "update": {name: self.model.params[name] - value for name, value in old.items()},
            "statistic": {name: value.copy() for name, value in self.model.buffers.items()},
        }


class _TorchSide:
    """PyTorch's half of the comparison."""

    def __init__(self, prepared: Prepared, steps: int, rng: np.random.Generator) -> None:
        self.config = prepared.config
        self.network = TwinNetwork(prepared.model)
        self.activations: dict[str, Tensor] = {}
        for name, module in list(self.network.named_children()):
            if isinstance(module, nn.Dropout):
                self.network.register_module(name, _SharedDropout(module.p, rng))
            self.network.get_submodule(name).register_forward_hook(self._keep(name))
        rule = self.config.optimizer
        parameters = list(self.network.parameters())
        self.optimizer = make_torch_optimizer(rule.name, parameters, lr=rule.lr, **rule.options)
        schedule = make_update_rule(self.config, steps, steps)[1]
        self.schedule = make_torch_schedule(self.optimizer, schedule)

    def _keep(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, out: Tensor) -> None:
            self.activations[name] = out.detach().clone()

        return hook

    def step(self, x: np.ndarray, y: np.ndarray) -> dict[str, Arrays]:
        old, _ = self.network.to_numpy()
        self.optimizer.zero_grad()
        loss = self.network.loss(self.network(torch.from_numpy(x)), torch.from_numpy(y))
        if self.config.training.l2:
            loss = loss + self.network.penalty(self.config.training.l2)
        loss.backward()  # type: ignore[no-untyped-call]
        named = list(self.network.named_parameters())
        grads = {name: value.grad.numpy().copy() for name, value in named if value.grad is not None}
        if self.config.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimizer.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        params, buffers = self.network.to_numpy()
        return {
            "activation": {name: out.numpy() for name, out in self.activations.items()},
            "loss": {"loss": loss.detach().numpy()},
            "gradient": grads,
            "update": {name: params[name] - value for name, value in old.items()},
            "statistic": buffers,
        }


def _lock_step(prepared: Prepared, steps: int) -> Iterator[StepDifferences]:
    """Yield the differences of each step."""
    config, train = prepared.config, prepared.train
    seeds = np.random.SeedSequence(config.seed, spawn_key=(2,)).spawn(3)
    order, augment = (np.random.default_rng(seed) for seed in seeds[:2])
    ours = _NumpySide(prepared, steps, np.random.default_rng(seeds[2]))
    theirs = _TorchSide(prepared, steps, np.random.default_rng(seeds[2]))
    drop_last = bool(prepared.model.buffers)  # batch statistics of one example mean nothing
    size = min(config.training.batch_size, len(train.x))
    batches = BatchIterator(len(train.x), size, order, drop_last)
    change = Augment(config.data.flip, config.data.shift, config.data.cutout)
    for step in range(steps):
        _, indices = batches.next_batch()
        x, y = train.x[indices], train.y[indices]
        x = change(x, augment) if change else x
        with np.errstate(all="ignore"):  # what is not finite is a divergence, told in the report
            first = ours.step(x, y, step)
        yield StepDifferences(step + 1, _differences(first, theirs.step(x, y)))


def _differences(
    ours: Mapping[str, Arrays], theirs: Mapping[str, Arrays]
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        names = list(ours[kind])
        if kind == "gradient":  # backwards, as they are computed
            names.reverse()
        found[kind] = {name: _distance(ours[kind][name], theirs[kind][name]) for name in names}
    return found


def _distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    scale = float(np.max(np.abs(theirs), initial=1.0))
    with np.errstate(all="ignore"):
        difference = float(np.max(np.abs(ours - theirs), initial=0.0)) / scale
    return difference if np.isfinite(difference) else float("inf")


def _first_above(each: StepDifferences, tolerance: float) -> Divergence | None:
    for kind in KINDS:
        for name, difference in each.differences[kind].items():
            if difference > tolerance:
                return Divergence(each.step, kind, name, difference)
    return None
