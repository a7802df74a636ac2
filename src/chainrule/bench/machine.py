"""What the machine can do at best: matrix products and reading memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np

__all__ = ["matmul_gflops", "read_rate"]


def matmul_gflops(dtype: str, size: int, runs: int = 7) -> float:
    """Measure NumPy's matrix product, on the threads that BLAS may use.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        Type of the matrices.
    size : int
        Their rows and columns.
    runs : int, default 7
        Products that are timed; the fastest counts, since this is a peak.

    Returns
    -------
    float
        In GFLOP/s.
    """
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, size, size), dtype=np.float32).astype(dtype)
    out = np.empty_like(a)
    return 2e-9 * size**3 / _fastest(lambda: np.matmul(a, b, out=out), runs)


def read_rate(array: np.ndarray, threads: int, runs: int = 5) -> float:
    """Measure how fast an array can be read from memory.

    Parameters
    ----------
    array : ndarray
        Contiguous, and larger than all caches for the result to be about memory.
    threads : int
        Each reads a part of the array.
    runs : int, default 5
        How often; the fastest counts.

    Returns
    -------
    float
        In bytes a second. The largest value is searched, which takes vector instructions and
        hardly any arithmetic.
    """
    parts = np.array_split(array.reshape(-1), threads)
    with ThreadPoolExecutor(threads) as pool:
        return array.nbytes / _fastest(lambda: list(pool.map(np.max, parts)), runs)


def _fastest(run: Callable[[], object], runs: int) -> float:
    run()
    times = []
    for _ in range(runs):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times)
