"""Training by PyTorch, for chainrule's `Trainer`: its data loader, autograd and optimizers.

Configurations, data order, augmentation, schedules, run directories, checkpoints and metrics are
those of the NumPy backend, so that two runs of one configuration see the same batches at the same
rates. Dropout draws from PyTorch's generators, whose state each checkpoint has.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset, Sampler

from chainrule.data import BatchIterator, views
from chainrule.errors import ConfigError, RunError, explain
from chainrule.models import Sequential
from chainrule.optim import Schedule
from chainrule.records import Checkpoint
from chainrule.training.config import Config
from chainrule.training.divergence import raise_if_diverged
from chainrule.training.evaluation import BATCH, accuracy_of
from chainrule.training.learner import (
    Arrays,
    Change,
    MakeLearner,
    Records,
    Update,
    activation_statistics,
    update_statistics,
)
from chainrule.twin.networks import TwinNetwork
from chainrule.twin.optimizers import make_torch_optimizer, make_torch_schedule

__all__ = ["TorchLearner", "torch_backend"]

SHORT = {"bf16": torch.bfloat16, "fp16": torch.float16}

Batch = tuple[Tensor, Tensor]


def torch_backend(config: Config) -> MakeLearner:
    """Check that PyTorch can train as a configuration says, and return what does.

    Parameters
    ----------
    config : Config
        Its section ``backend`` in particular.

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
    device = _device(config.backend.device)
    precision, dtype = config.backend.precision, config.model.dtype
    if dtype == "float64" and precision != "float32":
        rule = f"be 'float32' with backend.precision = {precision!r}"
        raise ConfigError(explain("configuration", "model.dtype", rule, repr(dtype)))
    if dtype == "float64" and device.type == "mps":
        rule, remedy = "be 'float32' on mps", "Or set backend.device=cpu."
        raise ConfigError(explain("configuration", "model.dtype", rule, repr(dtype), remedy))
    return TorchLearner


class _Examples(Dataset[Batch]):
    """Preprocessed examples; a batch of indices at a time, augmented."""

    def __init__(self, arrays: Arrays, change: Change | None) -> None:
        self.arrays, self.change = arrays, change

    def __len__(self) -> int:
        return len(self.arrays.y)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__(np.array([index]))

    def __getitems__(self, indices: np.ndarray) -> Batch:
        x = self.arrays.x[indices]
        x = x if self.change is None else self.change(x)
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
        self, model: Any, config: Config, schedule: Schedule, rng: np.random.Generator
    ) -> None:
        if not isinstance(model, Sequential):
            must, got = "be a Sequential for the backend 'torch'", type(model).__name__
            raise ConfigError(explain("Trainer", "model", must, got))
        self._model, self._config, self._lr_at = model, config, schedule.lr_at
        backend, rule = config.backend, config.optimizer
        self.device = _device(backend.device)
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
        self._scores: Callable[[Tensor], Tensor] = self.network
        if backend.compile:
            self._scores = torch.compile(self.network)
        self._short = SHORT.get(backend.precision)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=backend.precision == "fp16")
        self._optimizer = make_torch_optimizer(
            rule.name, list(self.network.parameters()), lr=rule.lr, **rule.options
        )
        self._plan = make_torch_schedule(self._optimizer, schedule)
        self._averages: dict[str, Tensor] = {}
        self._noisy = any(isinstance(m, nn.Dropout) and m.p > 0 for m in self.network)
        self._random = _seeded(int(rng.integers(2**63)), self.device) if self._noisy else {}

    def describe(self) -> str:
        """Say what computes."""
        name = self.device.type
        if name == "cuda":
            name = f"cuda ({torch.cuda.get_device_name(self.device)})"
        return f"torch {torch.__version__} on {name}, {self._config.backend.precision}"

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
            Batches, in the memory of the CPU.
        """
        loader: DataLoader[Batch] = DataLoader(
            _Examples(train, change),
            batch_sampler=_Order(order),  # type: ignore[arg-type]
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # else it draws from the one that dropout uses
        )
        return iter(loader)

    def step(self, x: Tensor, y: Tensor, step: int, records: Records, statistics: bool) -> Update:
        """Do one update.

        Parameters
        ----------
        x, y : Tensor
            The batch.
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
        images, labels = self._on_device(x), y.to(self.device)
        self.network.train()
        self._optimizer.zero_grad(set_to_none=True)
        with self._generators(), self._autocast():
            scores = self._scores(images)
        scores = scores.to(self._dtype)
        loss = self.network.loss(scores, labels)
        if settings.l2:
            loss = loss + self.network.penalty(settings.l2)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimizer)
        self._check(x, y, loss, step, records)
        previous = self.network.to_numpy()[0] if statistics else {}
        grads = {k: _gradient(v) for k, v in self._named()} if statistics else {}
        if self._config.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self._config.optimizer.clip_norm)
            grads = {k: _gradient(v) for k, v in self._named()} if statistics else {}
        layers = self._activations(images) if statistics else {}
        self._scaler.step(self._optimizer)
        self._scaler.update()
        with warnings.catch_warnings():  # a first step that fp16 skipped is no mistake of order
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            self._plan.step()
        self._average()
        new = self.network.to_numpy()[0] if statistics else {}
        return Update(
            loss.item(),
            accuracy_of(_array(scores), y.numpy()),
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
        self.network.eval()
        found = []
        with torch.no_grad(), self._autocast():
            for i in range(0, len(arrays.x), BATCH):
                versions = views(arrays.x[i : i + BATCH], self._config.data.tta)
                seen = [self._scores_now(torch.tensor(version.copy())) for version in versions]
                found.append(torch.stack(seen).mean(dim=0))
        scores = torch.cat(found).to(self._dtype).cpu()
        loss = self.network.loss(scores, torch.tensor(arrays.y)).item()
        return loss, accuracy_of(scores.numpy(), arrays.y)

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
    def _generators(self) -> Iterator[None]:
        """Let dropout draw from the run's own generators, and leave the caller's alone."""
        if not self._noisy:
            yield
            return
        cuda = self.device.type == "cuda"
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
            torch.set_rng_state(self._random["cpu"])
            if cuda:
                torch.cuda.set_rng_state(self._random["cuda"])
            yield
            self._random = {"cpu": torch.get_rng_state()}
            if cuda:
                self._random["cuda"] = torch.cuda.get_rng_state()

    def _check(self, x: Tensor, y: Tensor, loss: Tensor, step: int, records: Records) -> None:
        """Stop where a number is not finite; fp16 skips such gradients and scales less."""
        grads = [p.grad for p in self.network.parameters() if p.grad is not None]
        finite = torch.isfinite(loss)
        if not self._scaler.is_enabled():
            finite = finite & torch.isfinite(torch.stack([g.norm() for g in grads]).sum())
        if bool(finite):
            return
        self.publish()
        found = {key: _gradient(value) for key, value in self._named()}
        lr = self._lr_at(step)
        raise_if_diverged(
            self._model, x.numpy(), y.numpy(), loss.item(), found, step + 1, lr, records
        )

    def _activations(self, x: Tensor) -> dict[str, dict[str, float]]:
        """Describe the output of each layer for a batch, in evaluation mode."""
        found = {}
        self.network.eval()
        with torch.no_grad(), self._autocast():
            for name, module in self.network.named_children():
                x = module(x)
                found[name] = activation_statistics(_array(x.to(self._dtype)))
        self.network.train()
        return found

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


def _device(name: str) -> torch.device:
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
    return torch.device(name)


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
