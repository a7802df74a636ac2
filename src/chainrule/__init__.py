"""chainrule: a neural-network workbench in which every derivative is written out and proven.

Rooms are imported when they are first used::

    import chainrule as cr

    data = cr.data.load("digits")
    net = cr.models.two_layer(10, hidden=64)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "ChainruleClassifier",
    "__version__",
    "autodiff",
    "convex",
    "course",
    "data",
    "errors",
    "explain",
    "gradcheck",
    "layers",
    "models",
    "optim",
    "proof",
    "records",
    "report",
    "testing",
    "training",
    "twin",
]

if TYPE_CHECKING:
    from chainrule import (
        autodiff,
        convex,
        course,
        data,
        errors,
        explain,
        gradcheck,
        layers,
        models,
        optim,
        proof,
        records,
        report,
        testing,
        training,
        twin,
    )
    from chainrule.training.estimator import ChainruleClassifier


def __getattr__(name: str) -> Any:
    """Import a room when it is first used, so that ``import chainrule`` stays quick."""
    if name == "ChainruleClassifier":
        return import_module("chainrule.training.estimator").ChainruleClassifier
    if name in __all__:
        return import_module(f"chainrule.{name}")
    raise AttributeError(f"module 'chainrule' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
