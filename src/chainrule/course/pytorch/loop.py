"""The training itself: the course's loop, with a validation that leaves no trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Sized
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.utils.data import DataLoader

from chainrule.course.pytorch.dataset import Images, read_splits
from chainrule.course.pytorch.logs import final_lines, interval_line
from chainrule.course.pytorch.settings import Settings
from chainrule.course.pytorch.weights import IM_SIZE, N_CLASSES, make_model, save_model
from chainrule.errors import ConfigError, DivergedError, explain

__all__ = ["choose_device", "evaluate", "train_model"]

Loader = DataLoader[tuple[Tensor, int]]


def choose_device(no_cuda: bool) -> tuple[torch.device, str]:
    """Choose where to compute, as the course does.

    Parameters
    ----------
    no_cuda : bool
        Whether to stay on the CPU in any case.

    Returns
    -------
    device : torch.device
        CUDA where there is some, else the CPU.
    why : str
        The choice in words.
    """
    if no_cuda:
        return torch.device("cpu"), "on the CPU"
    if torch.cuda.is_available():
        return torch.device("cuda"), f"on {torch.cuda.get_device_name()}"
    return torch.device("cpu"), "on the CPU, since there is no CUDA device"


def evaluate(module: nn.Module, loader: Loader, device: torch.device) -> tuple[float, int]:
    """Judge a network.

    Parameters
    ----------
    module : torch.nn.Module
        Put into evaluation mode, and left in it.
    loader : DataLoader
        The images.
    device : torch.device
        Where the network is.

    Returns
    -------
    loss : float
        Mean cross-entropy.
    correct : int
        Images in the right class.
    """
    module.eval()
    loss, correct, total = 0.0, 0, 0
    with torch.no_grad():
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            scores = module(images)
            loss += F.cross_entropy(scores, labels, reduction="sum").item()
            correct += int((scores.argmax(1) == labels).sum())
            total += len(labels)
    return loss / total, correct


def train_model(
    settings: Settings, log: Callable[[str], None], say: Callable[[str], None], folder: Path
) -> Path:
    """Train a network of the course, test it and save it.

    Parameters
    ----------
    settings : Settings
        What to train, and how.
    log : callable
        Takes each line of the log.
    say : callable
        Takes what is no part of it.
    folder : Path
        Where ``softmax.pt`` goes, named for the model.

    Returns
    -------
    Path
        The file with the weights.

    Raises
    ------
    DataMissingError
        If CIFAR-10 is not there.
    DivergedError
        If a loss is not finite. Nothing is saved then.
    """
    torch.manual_seed(settings.seed)
    device, where = choose_device(settings.no_cuda)
    module = make_model(settings.model, settings.hidden_dim, settings.kernel_size).to(device)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    module = module.to(memory_format=layout)  # type: ignore[call-overload]
    train, val, test = _loaders(settings)
    say(f"training {settings.stem} {where}")
    optimizer = torch.optim.SGD(
        module.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    schedule = _schedule(settings, optimizer, len(train))
    for epoch in range(1, settings.epochs + 1):
        for step, (images, labels) in enumerate(train):
            module.train()  # evaluation has switched dropout and batch normalisation over
            optimizer.zero_grad()
            scores = module(images.to(device, memory_format=layout))
            if epoch == 1 and step == 0:
                _check_scores(scores, len(labels))
            loss = F.cross_entropy(scores, labels.to(device))
            _check_finite(loss.item(), "loss", epoch, step + 1, settings)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if step % settings.log_interval == 0:
                val_loss, correct = evaluate(module, val, device)
                log(
                    interval_line(
                        epoch,
                        step * settings.batch_size,
                        _size(train),
                        100.0 * step / len(train),
                        loss.item(),
                        val_loss,
                        100.0 * correct / _size(val),
                    )
                )
    test_loss, correct = evaluate(module, test, device)
    _check_finite(test_loss, "test loss", settings.epochs, len(train), settings)
    log(final_lines(test_loss, correct, _size(test)))
    path = folder / f"{settings.stem}.pt"
    names = ("model", "hidden_dim", "kernel_size")
    save_model(path, module, {name: getattr(settings, name) for name in names})
    return path


def _loaders(settings: Settings) -> tuple[Loader, Loader, Loader]:
    """Return the three splits. Each draws from generators of its own, or from none."""
    splits = read_splits("train", settings.cifar10_dir)
    train = Images(
        splits.train.x,
        splits.train.y,
        flip=settings.flip,
        shift=settings.shift,
        rng=np.random.default_rng(settings.seed),
    )
    order = torch.Generator().manual_seed(settings.seed)
    shuffled = DataLoader(train, settings.batch_size, shuffle=True, generator=order)
    # A loader draws a seed whenever it is gone through: here not from the generator of dropout.
    val, test = (
        DataLoader(Images(s.x, s.y), settings.test_batch_size, generator=torch.Generator())
        for s in (splits.val, splits.test)
    )
    return shuffled, val, test


def _size(loader: Loader) -> int:
    return len(cast(Sized, loader.dataset))


def _schedule(settings: Settings, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    if settings.schedule == "one_cycle":
        total = max(2, steps * settings.epochs)
        return OneCycleLR(optimizer, settings.lr, total_steps=total, cycle_momentum=False)
    return LambdaLR(optimizer, lambda step: 1.0)


def _check_scores(scores: Tensor, count: int) -> None:
    """Refuse a student's network whose output is no batch of scores."""
    if not isinstance(scores, Tensor) or scores.shape != (count, N_CLASSES):
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        rule = f"give scores ({count}, {N_CLASSES}) for images ({count}, {str(IM_SIZE)[1:]}"
        raise ConfigError(explain("train", "the model's forward", rule, got))


def _check_finite(loss: float, name: str, epoch: int, step: int, settings: Settings) -> None:
    if not math.isfinite(loss):
        at = f"epoch {epoch}, step {step}"
        remedy = f"Lower --lr ({settings.lr:g}), by a factor of 10 to begin with."
        raise DivergedError(explain("train", f"{name} in {at}", "be finite", loss, remedy))
