"""What a run ran on, and how many threads the linear algebra may use."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from chainrule import __version__, kernels

__all__ = ["describe_environment", "limited_threads", "session_record"]

PACKAGES = ("numpy", "scipy", "scikit-learn", "matplotlib", "pydantic", "safetensors", "torch")


def describe_environment() -> dict[str, Any]:
    """Return versions, CPU, BLAS and threads.

    Returns
    -------
    dict
        ``chainrule``, ``python``, ``platform``, ``cpu``, ``cores``, ``packages``, ``blas``,
        ``kernels`` and, where the working directory is in a git repository, ``git_commit``.

    Examples
    --------
    >>> describe_environment()["chainrule"] == __version__
    True
    """
    record = {
        "chainrule": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": _cores(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "blas": _blas(),
        "kernels": _kernels(),
    }
    commit = _git_commit()
    return record | ({"git_commit": commit} if commit else {})


def session_record(command: str, step: int) -> dict[str, Any]:
    """Describe one session of a run: when, from which step, by which command.

    Parameters
    ----------
    command : {"train", "resume"}
        What began it.
    step : int
        Where it begins.

    Returns
    -------
    dict
        ``started`` (UTC), ``command``, ``step``, ``kernels`` and ``blas`` with their threads.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "started": started,
        "command": command,
        "step": step,
        "blas": _blas(),
        "kernels": _kernels(),
    }


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Limit the threads of the linear algebra and the kernels inside a ``with`` block.

    Parameters
    ----------
    threads : int
        Number of threads; 0 changes nothing.

    Yields
    ------
    None

    Examples
    --------
    >>> with limited_threads(1):
    ...     pass
    """
    if threads == 0:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads), kernels.limited_threads(threads):
        yield


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _blas() -> list[dict[str, Any]]:
    from threadpoolctl import threadpool_info

    keys = ("user_api", "internal_api", "version", "num_threads", "architecture")
    return [{key: pool[key] for key in keys if key in pool} for pool in threadpool_info()]


def _kernels() -> str:
    """Which kernels are used, why, and on how many threads."""
    if kernels.active() == "none":
        return f"NumPy and BLAS: {kernels.reason()}"
    threads = kernels.threads()
    return f"{kernels.active()}: {kernels.reason()} ({threads} thread{'s' * (threads > 1)})"


def _git_commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
