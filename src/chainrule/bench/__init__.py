"""Speed and memory beside PyTorch's, measured fairly and validated first.

Every case is computed by chainrule and by each form of PyTorch that a user could run: as it is
(eager), with images in its ``channels_last`` layout, and with an allocator that keeps its memory.
All take turns in one process, round by round. Nothing is timed before chainrule's results have
been compared with PyTorch's in float64.

Needs PyTorch, which it loads only when benchmarks run.
"""

from chainrule.bench.contest import Case, Contest, Contestant
from chainrule.bench.suite import list_cases, run_benchmarks

__all__ = ["Case", "Contest", "Contestant", "list_cases", "run_benchmarks"]
