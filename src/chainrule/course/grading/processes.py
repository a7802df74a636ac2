"""Processes of a test: which there are, what they use, and how all of them are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

__all__ = ["descendants", "end_tree", "memory_of", "with_mark"]

_PROC = Path("/proc")


def descendants(pid: int) -> list[int]:
    """Return a process and all below it, as far as this system shows them."""
    found, new = [], [pid]
    while new:
        current = new.pop()
        found.append(current)
        try:
            for thread in os.listdir(f"/proc/{current}/task"):
                with open(f"/proc/{current}/task/{thread}/children", "rb") as file:
                    new += [int(word) for word in file.read().split()]
        except (OSError, ValueError):  # ended, no Linux, or built without that file
            continue
        if len(found) > 10_000:
            break
    return found


def memory_of(pids: list[int]) -> int:
    """Return the bytes of memory that processes hold together, files they share left out."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                words = file.read().split()
            total += (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            continue
    return total


def with_mark(mark: str) -> list[int]:
    """Return our processes whose first environment held a mark, whatever their parent is now."""
    found = []
    try:
        names = [name for name in os.listdir(_PROC) if name.isdigit()]
    except OSError:
        return []
    for name in names:
        try:
            with open(_PROC / name / "environ", "rb") as file:
                if mark.encode() in file.read().split(b"\0"):
                    found.append(int(name))
        except OSError:
            continue
    return found


def end_tree(process: subprocess.Popen[bytes], mark: str | None) -> None:
    """End a process and everything that came of it, and wait until it is gone.

    Parameters
    ----------
    process : subprocess.Popen
        The leader of its own session. In namespaces, all others end with it.
    mark : str, optional
        An entry of its environment by which those that left its session are found.
    """
    for _ in range(50):
        if process.poll() is None:
            below = descendants(process.pid)[1:]
            # In namespaces the first of these is the first process of the new tree: the kernel
            # ends all others with it before its parent, our process, hears of it and ends.
            for pid in below if mark is None else (process.pid, *below[::-1]):
                _signal(pid)
            _wait(process, 2.0 if below and mark is None else 0.1)
        if process.poll() is None:
            _signal(process.pid)
            _wait(process, 5.0)
        if mark is None:
            if process.poll() is not None:
                return
            continue
        _signal_group(process.pid)
        others = with_mark(mark)
        for pid in others:
            _signal(pid)
        if not others and process.poll() is not None:
            return
        time.sleep(0.02)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _signal_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
