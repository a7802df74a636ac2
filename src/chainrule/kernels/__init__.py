"""Compiled kernels: which there are, which are used, their threads and memory.

The kernels are C++ (``src/kernels``), compiled when the package is installed, for each
instruction set of the processor family; the best that the processor can run is chosen when they
are loaded. Without a compiler the package installs without them and NumPy does the work. Layers
call them; nobody else needs to know more than `active` and `threads`.
"""

from chainrule.kernels.dispatch import (
    active,
    current,
    instruction_sets,
    limited_threads,
    reason,
    set_threads,
    threads,
    use,
    winograd,
    winograd_allowed,
)
from chainrule.kernels.workspace import Workspace, empty

__all__ = [
    "Workspace",
    "active",
    "current",
    "empty",
    "instruction_sets",
    "limited_threads",
    "reason",
    "set_threads",
    "threads",
    "use",
    "winograd",
    "winograd_allowed",
]
