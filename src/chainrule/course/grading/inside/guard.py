"""Limits that the process sets for itself before it loads the student's code.

The kernel enforces the resource limits. The audit hook is a second line behind the namespaces of
Linux, and the first where there are none: Python reports files, sockets, processes and foreign
functions to it, and it cannot be removed again. Who gets foreign code to run is past it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from os.path import realpath
from typing import Any

__all__ = ["Refused", "add_audit_hook", "set_limits"]

_NETWORK = (
    "socket.",
    "http.",
    "urllib.",
    "ftplib.",
    "smtplib.",
    "poplib.",
    "imaplib.",
    "webbrowser.",
)
_PROCESSES = (
    "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill",
    "pty.", "os.startfile", "_winapi.",
)  # fmt: skip
_FOREIGN = ("ctypes.",)
_INTERNALS = ("resource.", "gc.get_", "sys.remote_exec", "sys.settrace", "sys.setprofile")
# Files are the first so many arguments of these events.
_CHANGES = {
    "os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2,
    "os.truncate": 1, "os.chmod": 1, "os.chown": 1, "os.utime": 1, "os.setxattr": 1,
    "os.removexattr": 1, "os.chflags": 1, "os.lockf": 0, "shutil.rmtree": 1, "shutil.move": 2,
    "os.mkfifo": 1, "os.mknod": 1, "sqlite3.connect": 1,
}  # fmt: skip
_LOOKS = {"os.listdir": 1, "os.scandir": 1, "glob.glob": 1}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Refused(PermissionError):
    """What the student's code tried is not allowed in a test."""


def set_limits(limits: dict[str, Any]) -> list[str]:
    """Set the resource limits of this process and of all that it starts.

    Parameters
    ----------
    limits : dict
        ``memory`` and ``file`` in bytes, ``cpu`` in seconds, ``processes``, ``files``.

    Returns
    -------
    list of str
        The limits that this system did not take.
    """
    try:
        import resource
    except ImportError:
        return sorted(limits)
    kinds = {
        "memory": "RLIMIT_AS",
        "file": "RLIMIT_FSIZE",
        "cpu": "RLIMIT_CPU",
        "processes": "RLIMIT_NPROC",
        "files": "RLIMIT_NOFILE",
        "core": "RLIMIT_CORE",
    }
    refused = []
    for name, value in {**limits, "core": 0}.items():
        kind = getattr(resource, kinds[name], -1)
        try:
            hard = resource.getrlimit(kind)[1]
            wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (wanted, wanted))
        except (ValueError, OSError, TypeError):
            refused.append(name)
    return refused


def add_audit_hook(readable: Iterable[str], writable: Iterable[str]) -> None:
    """Refuse, for the rest of this process's life, what a piece of homework does not need.

    Parameters
    ----------
    readable, writable : iterable of str
        Folders whose files may be read, and those whose files may also be changed.
    """
    write = tuple(realpath(folder) for folder in writable)
    read = (*write, *(realpath(folder) for folder in readable))
    devices = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero")

    def inside(path: Any, folders: tuple[str, ...]) -> bool:
        if isinstance(path, int) or path is None:
            return True
        place = realpath(os.fsdecode(path))
        return any(
            place == each or place.startswith(each.rstrip(os.sep) + os.sep) for each in folders
        )

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            writing = bool(flags & _WRITING) if isinstance(flags, int) else False
            writing = writing or (isinstance(mode, str) and bool(set(mode) & set("wax+")))
            if not inside(path, write + devices if writing else read + devices):
                what = "write" if writing else "read"
                raise Refused(f"a test may not {what} {os.fsdecode(path)}")
        elif event in _CHANGES:
            for path in args[: _CHANGES[event]]:
                if not inside(path, write):
                    raise Refused(f"a test may not change {os.fsdecode(path)}")
        elif event in _LOOKS:
            if not inside(args[0] if args else None, read):
                raise Refused(f"a test may not list {os.fsdecode(args[0])}")
        elif event.startswith(_NETWORK):
            raise Refused("a test has no network")
        elif event.startswith(_PROCESSES):
            raise Refused("a test may not start or signal processes")
        elif event.startswith(_FOREIGN):
            raise Refused("a test may not call foreign functions (ctypes)")
        elif event.startswith(_INTERNALS):
            raise Refused(f"a test may not use {event}")

    sys.addaudithook(hook)
