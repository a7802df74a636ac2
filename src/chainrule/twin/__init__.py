"""PyTorch's side of things. Only this room and the benchmarks import PyTorch, an extra."""

from chainrule.twin.functional import FUNCTIONS, available, differentiate

__all__ = ["FUNCTIONS", "available", "differentiate"]
