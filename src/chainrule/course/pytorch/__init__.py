"""The PyTorch part of the course: its driver, data set, networks and figures.

::

    python -u -m chainrule.course.pytorch.train --model softmax --recipe | tee softmax.log
    python -m chainrule.course.pytorch.plot softmax.log          # loss and validation accuracy
    python -m chainrule.course.pytorch.filters softmax.pt        # the first layer as pictures
    python -m chainrule.course.pytorch.predict --model softmax.pt   # predictions.csv

Importing this loads neither PyTorch nor matplotlib; using a name from it loads PyTorch, an extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chainrule.twin import require_torch

if TYPE_CHECKING:
    from chainrule.course.pytorch.dataset import CIFAR10, Images, normalize
    from chainrule.course.pytorch.models import CNN, MyModel, Softmax, TwoLayerNN
    from chainrule.course.pytorch.weights import load_model, load_weights, make_model, save_model

__all__ = [
    "CIFAR10",
    "CNN",
    "Images",
    "MyModel",
    "Softmax",
    "TwoLayerNN",
    "load_model",
    "load_weights",
    "make_model",
    "normalize",
    "save_model",
]

_HOMES = {
    "dataset": ("CIFAR10", "Images", "normalize"),
    "models": ("CNN", "MyModel", "Softmax", "TwoLayerNN"),
    "weights": ("load_model", "load_weights", "make_model", "save_model"),
}


def __getattr__(name: str) -> Any:
    """Import PyTorch when something that needs it is asked for."""
    for home, names in _HOMES.items():
        if name in names:
            require_torch(f"course.pytorch.{name}")
            return getattr(import_module(f"chainrule.course.pytorch.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
