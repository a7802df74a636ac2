"""Timing contestants in turns."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from math import ceil
from time import perf_counter, sleep
from typing import Any

import numpy as np

from chainrule.bench import allocator
from chainrule.bench.contest import EAGER, TUNED

__all__ = ["take_turns", "time_of"]

_PAUSE = 0.005  # threads of the one before stop spinning in this time
_TURN = 0.02  # a turn is at least as long, so that a single call or interruption matters less
_TRIALS = 3  # calls that a turn's length is estimated from: the first ones find nothing ready


def take_turns(
    runs: Mapping[str, Callable[[], object]], rounds: int, tune: bool
) -> dict[str, dict[str, Any]]:
    """Time functions, alternating between them.

    Parameters
    ----------
    runs : mapping of str to callable
        The functions by name. Each round begins with another one.
    rounds : int
        Turns of each.
    tune : bool
        Let `EAGER` run a second time in each round, as `TUNED`, on a tuned allocator. The
        allocator is settled at the start in that case, for all.

    Returns
    -------
    dict of str to dict
        For each name ``median``, ``lower_quartile``, ``upper_quartile`` and ``fastest``, in
        seconds a call; ``calls`` of a turn; ``rounds``.

    Notes
    -----
    A turn is a pause, an untimed call, which finds caches and allocator as the others left
    them, and as many timed calls as fill some milliseconds. Python's cyclic garbage collector
    is off meanwhile.

    Examples
    --------
    >>> times = take_turns({"sleep": lambda: sleep(0.001)}, rounds=3, tune=False)
    >>> times["sleep"]["median"] >= 0.001
    True
    """
    turns = dict(runs)
    if tune and EAGER in runs:
        turns[TUNED] = runs[EAGER]
        allocator.settle()
    calls = {name: _calls(run, name) for name, run in turns.items()}
    samples: dict[str, list[float]] = {name: [] for name in turns}
    names = list(turns)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                sleep(_PAUSE)
                samples[name].append(_turn(turns[name], name, calls[name]))
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return {name: _summary(samples[name], calls[name]) for name in turns}


def time_of(run: Callable[[], object], rounds: int) -> float:
    """Return the median time of a function that nothing is compared with, in seconds."""
    return float(take_turns({"": run}, rounds, tune=False)[""]["median"])


def _calls(run: Callable[[], object], name: str) -> int:
    """How many calls fill a turn."""
    fastest = min(_turn(run, name, 1) for _ in range(_TRIALS))
    return ceil(_TURN / max(fastest, 1e-6))


def _turn(run: Callable[[], object], name: str, calls: int) -> float:
    """Seconds that one of several calls takes, after an untimed one."""
    with allocator.tuned() if name == TUNED else nullcontext():
        run()
        start = perf_counter()
        for _ in range(calls):
            run()
        return (perf_counter() - start) / calls


def _summary(samples: list[float], calls: int) -> dict[str, Any]:
    lower, median, upper = np.quantile(samples, [0.25, 0.5, 0.75])
    return {
        "median": float(median),
        "lower_quartile": float(lower),
        "upper_quartile": float(upper),
        "fastest": min(samples),
        "calls": calls,
        "rounds": len(samples),
    }
