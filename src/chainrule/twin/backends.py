"""What `chainrule.training` can train with, PyTorch included, and who trains."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from chainrule.training import BACKENDS as WITHOUT_TORCH
from chainrule.training.config import Config
from chainrule.training.learner import MakeLearner
from chainrule.training.runs import Backend
from chainrule.training.world import ALONE, World
from chainrule.twin.functional import require_torch

__all__ = ["BACKENDS", "joined"]


def _torch(config: Config, world: World = ALONE) -> MakeLearner:
    """Import PyTorch when a run needs it."""
    require_torch("the backend 'torch'")
    from chainrule.twin.learner import torch_backend

    return torch_backend(config, world)


BACKENDS: Mapping[str, Backend] = MappingProxyType({**WITHOUT_TORCH, "torch": _torch})
"""By the names that ``backend.name`` may have; for `train_run` and `resume_run`."""


@contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[World]:
    """Connect this process with those that ``torchrun`` started beside it, if it did.

    Parameters
    ----------
    environment : mapping of str to str
        With ``WORLD_SIZE`` of 2 or more, ``RANK``, ``LOCAL_RANK``, ``MASTER_ADDR`` and
        ``MASTER_PORT`` are needed too. Otherwise this process is alone, and PyTorch not needed.

    Yields
    ------
    World
        For `train_run` and `resume_run` in the process that `leads`, and `follow_run` in the
        others.

    Raises
    ------
    ConfigError
        If the environment is not that of a launcher.
    DataMissingError
        If there are several processes and PyTorch is not installed.
    RunError
        If the processes do not find each other, or one of them was killed.
    SystemExit
        If another process has failed, and says why.

    Examples
    --------
    >>> with joined({}) as world:
    ...     print(world.size)
    1
    """
    if environment.get("WORLD_SIZE", "1") in ("", "1"):
        yield ALONE
        return
    require_torch("several processes (WORLD_SIZE)")
    from chainrule.twin.distributed import joined as connected

    with connected(environment) as world:
        yield world
