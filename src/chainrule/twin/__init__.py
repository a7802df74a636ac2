"""PyTorch's side of things.

Besides this room only the course's PyTorch part and the benchmarks import PyTorch, an extra.
"""

from typing import TYPE_CHECKING, Any

from chainrule.twin.functional import FUNCTIONS, available, differentiate, require_torch

if TYPE_CHECKING:
    from chainrule.twin.backends import BACKENDS, joined
    from chainrule.twin.networks import TwinNetwork, TwinScorer, twin_of_run

__all__ = [
    "BACKENDS",
    "FUNCTIONS",
    "TwinNetwork",
    "TwinScorer",
    "available",
    "differentiate",
    "joined",
    "require_torch",
    "twin_of_run",
]


def __getattr__(name: str) -> Any:
    """Import PyTorch, and the training room, when something that needs them is asked for."""
    if name in ("BACKENDS", "joined"):
        from chainrule.twin import backends

        return getattr(backends, name)
    if name in ("TwinNetwork", "TwinScorer", "twin_of_run"):
        require_torch(f"twin.{name}")
        from chainrule.twin import networks

        return getattr(networks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
