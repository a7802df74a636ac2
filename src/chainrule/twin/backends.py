"""What `chainrule.training` can train with, PyTorch included."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from chainrule.training import BACKENDS as WITHOUT_TORCH
from chainrule.training.config import Config
from chainrule.training.learner import MakeLearner
from chainrule.training.runs import Backend
from chainrule.twin.functional import require_torch

__all__ = ["BACKENDS"]


def _torch(config: Config) -> MakeLearner:
    """Import PyTorch when a run needs it."""
    require_torch("the backend 'torch'")
    from chainrule.twin.learner import torch_backend

    return torch_backend(config)


BACKENDS: Mapping[str, Backend] = MappingProxyType({**WITHOUT_TORCH, "torch": _torch})
"""By the names that ``backend.name`` may have; for `train_run` and `resume_run`."""
