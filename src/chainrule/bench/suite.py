"""All cases, run one after the other into one record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Literal

import numpy as np

from chainrule import kernels
from chainrule.bench import allocator
from chainrule.bench.contest import (
    CHAINRULE,
    CHANNELS_LAST,
    EAGER,
    TUNED,
    Case,
    load_torch,
    validate,
)
from chainrule.bench.course import course_speeds
from chainrule.bench.machine import matmul_gflops, read_rate
from chainrule.bench.memory import MEASURED, step_memory
from chainrule.bench.operations import operation_cases
from chainrule.bench.steps import step_cases, update_cases
from chainrule.bench.timing import take_turns
from chainrule.errors import ConfigError, InputError, explain, nearest
from chainrule.training.environment import describe_environment, limited_threads

__all__ = ["COURSE", "list_cases", "run_benchmarks"]

COURSE = "course"  # asks for the speeds that the course states; they are no contest
_DTYPES = {
    "float32": frozenset({"float32"}),
    "float64": frozenset({"float64"}),
    "both": frozenset({"float32", "float64"}),
}
_BANDWIDTH_BYTES = 1 << 30
_EPOCH_STEPS = 980  # of the course's network: 49,000 images in batches of 50
_QUICK_ROUNDS = 3


def list_cases(quick: bool = False) -> list[Case]:
    """List everything that can be timed.

    Parameters
    ----------
    quick : bool, default False
        With small sizes, to see that everything works.

    Returns
    -------
    list of Case
        In the order in which they run.

    Examples
    --------
    >>> {case.group for case in list_cases()} >= {"conv", "max_pool2d", "step", "update"}
    True
    """
    return operation_cases(quick) + step_cases(quick) + update_cases(quick)


def run_benchmarks(
    what: Sequence[str] = (),
    *,
    dtype: Literal["float32", "float64", "both"] = "both",
    rounds: int = 15,
    threads: int = 2,
    quick: bool = False,
    message: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Validate and time chainrule and PyTorch.

    Parameters
    ----------
    what : sequence of str, default ()
        Cases (``conv/S1``) or groups of them (``conv``); everything by default. ``course`` are
        the speeds that the course states.
    dtype : {"float32", "float64", "both"}, default "both"
        Cases of which type.
    rounds : int, default 15
        Turns of each contestant; medians are compared.
    threads : int, default 2
        Threads of everybody.
    quick : bool, default False
        Three rounds of small sizes, to see that everything works; the times mean nothing.
    message : callable, optional
        Told of each case when it is done.

    Returns
    -------
    dict
        What JSON can hold: ``settings``, ``environment``, ``machine``, ``cases`` with the times
        of each form in seconds, ``course``, ``notes``.

    Raises
    ------
    ConfigError
        If a case or the dtype is unknown.
    InputError
        If `rounds` or `threads` is less than 1.
    DataMissingError
        If PyTorch is not installed.
    GradientMismatchError
        If a result is wrong.

    Examples
    --------
    >>> from importlib.util import find_spec
    >>> if find_spec("torch"):
    ...     record = run_benchmarks(["max_pool2d"], dtype="float32", threads=1, quick=True)
    ...     assert record["cases"][0]["error"] == 0
    """
    for name, value in (("rounds", rounds), ("threads", threads)):
        if value < 1:
            raise InputError(explain("bench", name, "be at least 1", value))
    if dtype not in _DTYPES:
        raise ConfigError(f"bench: dtype {dtype!r} is not known. {nearest(dtype, _DTYPES)}")
    cases = [case for case in _chosen(what, quick) if case.dtype in _DTYPES[dtype]]
    rounds = min(rounds, _QUICK_ROUNDS) if quick else rounds
    started, clock = datetime.now(UTC), perf_counter()
    tune = allocator.can_be_tuned()
    with _threads(threads):
        record = {
            "format": "chainrule-benchmark-1",
            "started": started.isoformat(timespec="seconds"),
            "settings": {
                "what": list(what),
                "dtype": dtype,
                "rounds": rounds,
                "threads": threads,
                "quick": quick,
            },
            "environment": describe_environment(),
            "kernels": kernels.active(),
            "torch_cpu_capability": load_torch().backends.cpu.get_cpu_capability(),
        }
        size = 256 if quick else 2048
        peaks = {each: matmul_gflops(each, size) for each in _DTYPES["both"]}
        record["machine"] = {"matmul_gflops": peaks}
        record["cases"] = []
        for case in cases:
            row = _run(case, rounds, threads, peaks, tune)
            record["cases"].append(row)
            message(_told(row))
        record["course"] = course_speeds(rounds, quick) if not what or COURSE in what else []
    record["notes"] = _notes(record["cases"], tune, quick)
    record["seconds"] = perf_counter() - clock
    return record


def _chosen(what: Sequence[str], quick: bool) -> list[Case]:
    cases = list_cases(quick)
    known = {COURSE} | {case.name for case in cases} | {case.group for case in cases}
    for word in what:
        if word not in known:
            raise ConfigError(f"bench: {word!r} is not known. {nearest(word, known)}")
    return [case for case in cases if not what or {case.name, case.group} & set(what)]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Give the same number of threads to chainrule, BLAS and PyTorch."""
    torch = load_torch()
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with limited_threads(count):
            yield
    finally:
        torch.set_num_threads(before)


def _run(
    case: Case, rounds: int, threads: int, peaks: Mapping[str, float], tune: bool
) -> dict[str, Any]:
    """Validate and time one case."""
    contest = case.prepare()
    error = validate(case, contest)
    runs = {form: contestant.run for form, contestant in contest.contestants.items()}
    forms = take_turns(runs, rounds, tune)
    ours = forms[CHAINRULE]["median"]
    ratios = {form: each["median"] / ours for form, each in forms.items() if form != CHAINRULE}
    row: dict[str, Any] = {
        "name": case.name,
        "group": case.group,
        "dtype": case.dtype,
        "shape": case.shape,
        "error": error,
        "forms": forms,
        "ratios": ratios,
        "ratio_to_eager": ratios[EAGER],
        "ratio_to_best": min(ratios.values()),
        "best_opponent": min(ratios, key=lambda form: ratios[form]),
    }
    if case.flops is not None:
        gflops = 1e-9 * case.flops / ours
        row |= {"flops": case.flops, "gflops": gflops, "of_peak": gflops / peaks[case.dtype]}
    if case.images is not None:
        row["images"] = case.images
        row["images_per_second"] = {
            form: case.images / each["median"] for form, each in forms.items()
        }
    del contest, runs  # their memory is not to count below
    if case.bytes_read is not None and case.flops is not None:
        row["floor"] = _floor(case.bytes_read, case.flops, peaks[case.dtype], threads)
        row["times_floor"] = ours / row["floor"]["seconds"]
    if case.network is not None and case.images is not None:
        row["memory_bytes"] = step_memory(case.network, case.images, threads)
        row["epoch_seconds"] = _EPOCH_STEPS * ours if case.network == "convnet" else None
    return row


def _floor(bytes_read: int, flops: float, peak: float, threads: int) -> dict[str, float]:
    """What no implementation can be faster than: reading the data once, and the arithmetic."""
    size = min(bytes_read, _BANDWIDTH_BYTES) // 8
    rate = read_rate(np.ones(size), threads)
    reading, computing = bytes_read / rate, 1e-9 * flops / peak
    return {
        "read_gb_per_second": 1e-9 * rate,
        "reading_seconds": reading,
        "computing_seconds": computing,
        "seconds": max(reading, computing),
    }


def _told(row: Mapping[str, Any]) -> str:
    forms = row["forms"]
    times = [f"{form} {1e3 * each['median']:.3g} ms" for form, each in forms.items()]
    return f"{row['name']} {row['dtype']}: {', '.join(times)}"


def _notes(cases: Sequence[Mapping[str, Any]], tune: bool, quick: bool) -> list[str]:
    notes = []
    if quick:
        notes.append("A quick run of small sizes: its times mean nothing.")
    if not tune:
        notes.append(f"Without glibc there is no {TUNED}, so that form is left out.")
    if any(CHANNELS_LAST not in case["forms"] for case in cases):
        notes.append(f"Cases without images have no {CHANNELS_LAST}.")
    if any(case.get("memory_bytes") for case in cases):
        notes.append(MEASURED)
    return notes
