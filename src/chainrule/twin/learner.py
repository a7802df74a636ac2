"""Training by PyTorch, for chainrule's `Trainer`: its data loader, autograd and optimizers.

Configurations, data order, augmentation, schedules, run directories, checkpoints and metrics are
those of the NumPy backend, so that two runs of one configuration see the same batches at the same
rates. Dropout draws from PyTorch's generators, whose state each checkpoint has.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset, Sampler

from chainrule.data import BatchIterator, views
from chainrule.errors import ConfigError, DivergedError, RunError, explain
from chainrule.models import Sequential
from chainrule.optim import Schedule
from chainrule.records import Checkpoint
from chainrule.training.config import Config
from chainrule.training.divergence import raise_if_diverged
from chainrule.training.evaluation import BATCH
from chainrule.training.learner import (
    Arrays,
    Change,
    MakeLearner,
    Records,
    Update,
    update_statistics,
)
from chainrule.training.world import ALONE, World
from chainrule.twin.distributed import parallel, pooled
from chainrule.twin.networks import TwinNetwork
from chainrule.twin.optimizers import make_torch_optimizer, make_torch_schedule

__all__ = ["TorchLearner", "torch_backend"]

SHORT = {"bf16": torch.bfloat16, "fp16": torch.float16}

Batch = tuple[Tensor, Tensor]


def torch_backend(config: Config, world: World = ALONE) -> MakeLearner:
    """Check that PyTorch can train as a configuration says, and return what does.

    Parameters
    ----------
    config : Config
        Its section ``backend`` in particular.
    world : World, default ALONE
        The processes that train together; on GPUs, each of a machine has its own.

    Returns
    -------
    callable
        `TorchLearner`.

    Raises
    ------
    ConfigError
        If the device is not there, or options contradict each other.

    Examples
    --------
    >>> from chainrule.training import load_config
    >>> torch_backend(load_config(overrides=["backend.name=torch"])).__name__
    'TorchLearner'
    """
    device = _device(config.backend.device, world)
    precision, dtype = config.backend.precision, config.model.dtype
    if dtype == "float64" and precision != "float32":
        rule = f"be 'float32' with backend.precision = {precision!r}"
        raise ConfigError(explain("configuration", "model.dtype", rule, repr(dtype)))
    if dtype == "float64" and device.type == "mps":
        rule, remedy = "be 'float32' on mps", "Or set backend.device=cpu."
        raise ConfigError(explain("configuration", "model.dtype", rule, repr(dtype), remedy))
    return TorchLearner if world.size == 1 else partial(TorchLearner, world=world)


class _Examples(Dataset[Batch]):
    """Preprocessed examples; a batch of indices at a time, of which a process takes its part.

    Labels are those of the whole batch.
    """

    def __init__(self, arrays: Arrays, change: Change | None, world: World) -> None:
        self.arrays, self.change, self.world = arrays, change, world

    def __len__(self) -> int:
        return len(self.arrays.y)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__(np.array([index]))

    def __getitems__(self, indices: np.ndarray) -> Batch:
        part = self.world.part(len(indices))
        x = self.arrays.x[indices[part]]
        x = x if self.change is None else self.change(x, part.start, len(indices))
        return torch.from_numpy(x), torch.from_numpy(self.arrays.y[indices])


class _Order(Sampler[np.ndarray]):
    """The batches of a `BatchIterator`, without end; its position is what has been asked for."""

    def __init__(self, order: BatchIterator) -> None:
        self.order = order

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            yield self.order.next_batch()[1]


class TorchLearner:
    """Training by PyTorch.

    Parameters
    ----------
    model : Sequential
        With initial parameters, which are started from. The weights come back to it at the end
        of training.
    config : Config
        Sections ``optimizer``, ``training`` and ``backend``.
    schedule : chainrule.optim.Schedule
        The learning rate of each step.
    rng : numpy.random.Generator
        Seeds the dropout masks.
    world : World, default ALONE
        The processes that train together: each computes its part of the gradient, and all do the
        same update.

    Attributes
    ----------
    network : TwinNetwork
        What is trained.
    device : torch.device
        Where.

    Raises
    ------
    ConfigError
        If the network's loss is a function of its own, or its layers have names that PyTorch
        does not admit.

    Examples
    --------
    >>> import tempfile
    >>> from chainrule.training import load_config, train_run
    >>> from chainrule.twin import BACKENDS
    >>> config = load_config(overrides=["epochs=2", "backend.name=torch", "backend.device=cpu"])
    >>> train_run(config, tempfile.mkdtemp(), backends=BACKENDS).history.stopped
    'completed'
    """

    def __init__(
        self,
        model: Any,
        config: Config,
        schedule: Schedule,
        rng: np.random.Generator,
        world: World = ALONE,
    ) -> None:
        if not isinstance(model, Sequential):
            must, got = "be a Sequential for the backend 'torch'", type(model).__name__
            raise ConfigError(explain("Trainer", "model", must, got))
        self._model, self._config, self._lr_at = model, config, schedule.lr_at
        self._world = world
        backend, rule = config.backend, config.optimizer
        self.device = _device(backend.device, world)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.network = TwinNetwork(model).to(self.device)
        self.network.loss(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))  # is there one?
        images = len(model.input_shape) == 3
        self._layout = (
            torch.channels_last if backend.channels_last and images else torch.contiguous_format
        )
        for weight in self.network.parameters():
            weight.data = weight.data.contiguous(memory_format=self._format(weight))
        self._scores: Callable[[Tensor], Tensor] = parallel(self.network, world, self.device)
        if backend.compile:
            self._scores = torch.compile(self._scores)
        self._short = SHORT.get(backend.precision)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=backend.precision == "fp16")
        self._optimizer = make_torch_optimizer(
            rule.name, list(self.network.parameters()), lr=rule.lr, **rule.options
        )
        self._plan = make_torch_schedule(self._optimizer, schedule)
        self._averages: dict[str, Tensor] = {}
        self._noisy = any(isinstance(m, nn.Dropout) and m.p > 0 for m in self.network)
        self._seed = int(rng.integers(2**63)) if self._noisy else 0
        self._random = _seeded(self._seed, self.device) if self._noisy else {}

    def describe(self) -> str:
        """Say what computes."""
        name = self.device.type
        if self._cuda:
            name = f"cuda ({torch.cuda.get_device_name(self.device)})"
        text = f"torch {torch.__version__} on {name}, {self._config.backend.precision}"
        if self._world.size > 1:
            text += f", {self._world.size} processes by {'nccl' if self._cuda else 'gloo'}"
            norms = any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in self.network)
            if norms:  # on a GPU they have become one of PyTorch's that synchronise
                text += ", batch normalisation in each by itself"
        return text

    def stream(self, train: Arrays, order: BatchIterator, change: Change | None) -> Iterator[Batch]:
        """Return PyTorch's data loader, as an iterator without end.

        Parameters
        ----------
        train : Arrays
            Preprocessed examples.
        order : BatchIterator
            Gives the indices of each batch, when the batch is asked for.
        change : callable, optional
            Augmentation of a batch.

        Returns
        -------
        iterator of (Tensor, Tensor)
            This process's part of the examples of a batch and all labels of it, in the memory of
            the CPU.
        """
        loader: DataLoader[Batch] = DataLoader(
            _Examples(train, change, self._world),
            batch_sampler=_Order(order),  # type: ignore[arg-type]
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # else it draws from the one that dropout uses
        )
        return iter(loader)

    def step(self, x: Tensor, y: Tensor, step: int, records: Records, statistics: bool) -> Update:
        """Do one update.

        Parameters
        ----------
        x : Tensor (n, ...)
            This process's part of the batch.
        y : Tensor (N,)
            The labels of the whole batch.
        step : int
            From 0.
        records : sequence of mappings
            History so far, for the message when training diverges.
        statistics : bool
            Whether to describe layers and parameters.

        Returns
        -------
        Update
            Loss, accuracy and statistics.

        Raises
        ------
        DivergedError
            If the loss or a gradient is not finite.
        """
        settings = self._config.training
        world, own = self._world, y[self._world.part(len(y))]
        weight = len(own) / len(y)
        images, labels = self._on_device(x), own.to(self.device)
        self.network.train()
        self._optimizer.zero_grad(set_to_none=True)
        with self._generators(step), self._autocast():
            scores = self._scores(images)
        scores = scores.to(self._dtype)
        # The losses of all processes add up to that of the batch; of their gradients the mean is
        # taken. A part without examples, whose mean is not a number, adds nothing.
        loss = self.network.loss(scores, labels) * weight if weight else scores.sum() * 0
        if settings.l2:
            loss = loss + self.network.penalty(settings.l2) / world.size
        self._scaler.scale(loss * world.size).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimizer)
        right = np.count_nonzero(_array(scores).argmax(axis=1) == own.numpy())
        total, right, diverged = world.total(
            np.array([loss.item(), right, not self._finite(loss)], np.float64)
        )
        if diverged:
            self._explain(x, own, loss, step, records)
        previous = self.network.to_numpy()[0] if statistics else {}
        grads = {k: _gradient(v) for k, v in self._named()} if statistics else {}
        if self._config.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self._config.optimizer.clip_norm)
            grads = {k: _gradient(v) for k, v in self._named()} if statistics else {}
        layers = self._activations(images, weight) if statistics else {}
        self._scaler.step(self._optimizer)
        self._scaler.update()
        with warnings.catch_warnings():  # a first step that fp16 skipped is no mistake of order
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            self._plan.step()
        self._average()
        new = self.network.to_numpy()[0] if statistics else {}
        return Update(
            float(total),
            float(right) / len(y),
            layers,
            {k: update_statistics(v, new[k], grads[k]) for k, v in previous.items()},
        )

    def evaluate(self, arrays: Arrays) -> tuple[float, float | None]:
        """Return loss and accuracy on examples, of the averages where there are any.

        Parameters
        ----------
        arrays : Arrays
            Examples and labels.

        Returns
        -------
        loss : float
            Mean loss without the penalty.
        accuracy : float
            Fraction that is classified rightly.
        """
        self._share_statistics()
        count, part = len(arrays.y), self._world.part(len(arrays.y))
        arrays = Arrays(arrays.x[part], arrays.y[part])
        self.network.eval()
        found = []
        with torch.no_grad(), self._autocast():
            for i in range(0, len(arrays.x), BATCH):
                versions = views(arrays.x[i : i + BATCH], self._config.data.tta)
                seen = [self._scores_now(torch.tensor(version.copy())) for version in versions]
                found.append(torch.stack(seen).mean(dim=0))
        sums = np.zeros(2)
        if found:
            scores = torch.cat(found).to(self._dtype).cpu()
            loss = self.network.loss(scores, torch.tensor(arrays.y)).item()
            right = np.count_nonzero(scores.numpy().argmax(axis=1) == arrays.y)
            sums[:] = loss * (len(arrays.y) / count), right
        loss, right = self._world.total(sums).tolist()
        return loss, right / count

    def weights(self) -> dict[str, np.ndarray]:
        """Return copies of the weights that evaluations use, and of the running statistics."""
        params, buffers = self.network.to_numpy()
        params |= {key: _array(value) for key, value in self._averages.items()}
        found = {f"params/{key}": value for key, value in params.items()}
        return found | {f"buffers/{key}": value for key, value in buffers.items()}

    def adopt(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        """Go on with these weights, also in the model.

        Parameters
        ----------
        params, buffers : mapping of str to ndarray
            As in the model.
        """
        self.network.load_numpy(params, buffers)
        self.publish()

    def publish(self) -> None:
        """Put the present weights into the model that the trainer was given."""
        self.network.copy_to(self._model)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return parameters, statistics, optimizer state, averages and generators.

        Returns
        -------
        tensors : dict of str to ndarray
            ``params/...``, ``buffers/...``, ``optimizer/...``, ``average/...``, ``random/...``.
        scalars : dict
            ``optimizer`` and ``torch`` (schedule and loss scale).
        """
        params, buffers = self.network.to_numpy()
        tensors = {f"params/{key}": value for key, value in params.items()}
        tensors |= {f"buffers/{key}": value for key, value in buffers.items()}
        tensors |= {f"average/{key}": _array(value) for key, value in self._averages.items()}
        tensors |= {f"random/{key}": value.numpy().copy() for key, value in self._random.items()}
        scalars = {}
        for name, parameter in self._named():
            for key, value in self._optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{key}/{name}"] = _array(value)
                elif value is not None:
                    scalars[f"{key}/{name}"] = value
        plan = {k: v for k, v in self._plan.state_dict().items() if k != "lr_lambdas"}
        torch_state = {"schedule": plan, "scaler": self._scaler.state_dict()}
        return tensors, {"optimizer": scalars, "torch": torch_state}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to what `state` returned.

        Parameters
        ----------
        checkpoint : Checkpoint
            Holds it.

        Raises
        ------
        RunError
            If it belongs to another network or to the NumPy backend.
        """
        state = checkpoint.state
        if "torch" not in state:
            raise RunError("resume: the checkpoint was written by the NumPy backend.")
        self.network.load_numpy(checkpoint.named("params"), checkpoint.named("buffers"))
        named = dict(self._named())
        self._optimizer.state.clear()
        slots = [*checkpoint.named("optimizer").items(), *state["optimizer"].items()]
        for place, value in slots:
            key, _, name = place.partition("/")
            if name not in named:
                raise RunError(
                    f"resume: the checkpoint has the state of {name!r}, not a parameter."
                )
            if isinstance(value, np.ndarray):
                value = torch.from_numpy(value)
                if key != "step":  # counts stay on the CPU, as PyTorch has them
                    value = value.to(self.device).contiguous(memory_format=self._format(value))
            self._optimizer.state[named[name]][key] = value
        plan = state["torch"]["schedule"] | {"lr_lambdas": [None] * len(self._plan.lr_lambdas)}
        self._plan.load_state_dict(plan)
        for group, lr in zip(self._optimizer.param_groups, self._plan.get_last_lr(), strict=True):
            group["lr"] = lr
        self._scaler.load_state_dict(state["torch"]["scaler"])
        averages = checkpoint.named("average")
        self._averages = {k: torch.from_numpy(v).to(self.device) for k, v in averages.items()}
        self._random = {k: torch.from_numpy(v) for k, v in checkpoint.named("random").items()}

    @property
    def _cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float64 if self._model.dtype == np.float64 else torch.float32

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.network.named_parameters())

    def _format(self, value: Tensor) -> torch.memory_format:
        return self._layout if value.ndim == 4 else torch.contiguous_format

    def _on_device(self, x: Tensor) -> Tensor:
        return x.to(self.device, memory_format=self._format(x))

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._short is None:
            return nullcontext()
        return torch.autocast(self.device.type, self._short)

    @contextmanager
    def _generators(self, step: int) -> Iterator[None]:
        """Let dropout draw from the run's own generators, and leave the caller's alone."""
        if not self._noisy:
            yield
            return
        if self._world.rank:  # seeded anew in each step, so that no checkpoint need hold a state
            seeds = np.random.SeedSequence(self._seed, spawn_key=(self._world.rank, step))
            self._random = _seeded(int(seeds.generate_state(1, np.uint64)[0] >> 1), self.device)
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if self._cuda else []):
            torch.set_rng_state(self._random["cpu"])
            if self._cuda:
                torch.cuda.set_rng_state(self._random["cuda"])
            yield
            self._random = {"cpu": torch.get_rng_state()}
            if self._cuda:
                self._random["cuda"] = torch.cuda.get_rng_state()

    def _finite(self, loss: Tensor) -> bool:
        """Say whether training can go on; fp16 skips gradients that are not finite."""
        finite = torch.isfinite(loss)
        if not self._scaler.is_enabled():
            grads = [p.grad for p in self.network.parameters() if p.grad is not None]
            finite = finite & torch.isfinite(torch.stack([g.norm() for g in grads]).sum())
        return bool(finite)

    def _explain(self, x: Tensor, y: Tensor, loss: Tensor, step: int, records: Records) -> None:
        """Stop where a number is not finite, in all processes with the words of one."""
        self.publish()
        found = {key: _gradient(value) for key, value in self._named()}
        model, lr, value, message = self._model, self._lr_at(step), loss.item(), ""
        try:
            raise_if_diverged(model, x.numpy(), y.numpy(), value, found, step + 1, lr, records)
        except DivergedError as error:
            message = str(error)
        # Where the loss is not finite it began; elsewhere only the gradients show it.
        first = self._world.gather("" if np.isfinite(value) else message)
        for text in [*first, *self._world.gather(message)]:
            if text:
                raise DivergedError(text)

    def _activations(self, x: Tensor, weight: float) -> dict[str, dict[str, float]]:
        """Describe the output of each layer for a batch, in evaluation mode.

        Of several processes each has its share of the examples, as given by its weight.
        """
        found = {}
        self.network.eval()
        with torch.no_grad(), self._autocast():
            for name, module in self.network.named_children():
                x = module(x)
                found[name] = _array(x.to(self._dtype))
        self.network.train()
        return pooled(found, weight, self._world)

    def _share_statistics(self) -> None:
        """Give all processes the running statistics of the first, which are those that count."""
        if self._world.size == 1 or not self._model.buffers:
            return
        own = dict(self.network.named_buffers())
        if self._world.leads:
            self._world.give(lambda: Checkpoint({k: _array(v) for k, v in own.items()}, {}))
        else:
            for key, value in self._world.take().tensors.items():
                own[key].copy_(torch.from_numpy(value))

    def _scores_now(self, x: Tensor) -> Tensor:
        """Return scores in evaluation mode, of the averages where there are any."""
        if not self._averages:
            scores: Tensor = self.network(self._on_device(x))
            return scores
        state = self._averages | dict(self.network.named_buffers())
        averaged: Tensor = functional_call(self.network, state, self._on_device(x))
        return averaged

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averages towards the weights."""
        decay = self._config.optimizer.ema_decay
        if decay is None:
            return
        for name, value in self._named():
            if name in self._averages:
                self._averages[name].add_(value - self._averages[name], alpha=1 - decay)
            else:
                self._averages[name] = value.detach().clone()


def _device(name: str, world: World = ALONE) -> torch.device:
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(key for key, found in there.items() if found)
    if not there[name]:
        known = " or ".join(key for key, found in there.items() if found)
        rule, remedy = f"be {known} or auto on this machine", "PyTorch finds no such device."
        raise ConfigError(explain("configuration", "backend.device", rule, repr(name), remedy))
    if world.size == 1:
        return torch.device(name)
    if name == "mps":
        rule, remedy = "be cpu or cuda for several processes", "Set backend.device=cpu."
        raise ConfigError(explain("configuration", "backend.device", rule, repr(name), remedy))
    if name == "cuda" and world.local_rank >= torch.cuda.device_count():
        rule = f"be at most {torch.cuda.device_count()} on this machine, one for each GPU"
        remedy = "Or set backend.device=cpu."
        raise ConfigError(explain("torchrun", "--nproc-per-node", rule, world.local_size, remedy))
    return torch.device(name, world.local_rank) if name == "cuda" else torch.device(name)


def _seeded(seed: int, device: torch.device) -> dict[str, Tensor]:
    """Return the states of freshly seeded generators."""
    states = {"cpu": torch.Generator().manual_seed(seed).get_state()}
    if device.type == "cuda":
        states["cuda"] = torch.Generator(device).manual_seed(seed).get_state()
    return states


def _as_it_is(batch: Any) -> Any:
    """Collate what is a batch already."""
    return batch


def _gradient(value: nn.Parameter) -> np.ndarray:
    return np.zeros(tuple(value.shape)) if value.grad is None else _array(value.grad)


def _array(value: Tensor) -> np.ndarray:
    return value.detach().cpu().contiguous().numpy().copy()
