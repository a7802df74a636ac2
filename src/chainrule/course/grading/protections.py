"""Which protections this machine has, found by trying them."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from chainrule.course.grading.namespaces import tools_missing
from chainrule.course.grading.sandbox import Limits, Sandbox
from chainrule.errors import RunError

__all__ = ["Protections", "find_protections"]

_YES, _PART = "yes", "in part"


@dataclass(frozen=True)
class Protections:
    """How tests are shut in.

    Attributes
    ----------
    mode : {"root", "user", "plain"}
        Namespaces made by root, by anybody, or none.
    audit : bool
        Whether Python's audit hook is set.
    why : str
        Why there are no namespaces, if there are none.
    """

    mode: str = "plain"
    audit: bool = True
    why: str = field(default="", compare=False)

    def words(self) -> dict[str, str]:
        """Return what is protected, and how well."""
        apart = self.mode != "plain"
        limited = "yes" if sys.platform.startswith("linux") else "time and file size; not memory"
        nobody = "an unused user" if self.mode == "root" else "you, without any privilege"
        hook = "refused by the audit hook" if self.audit else "no"
        return {
            "answers out of reach": _YES
            if apart
            else f"in the grader's process only; files {hook}",
            "no network": f"{_YES}, a network of its own" if apart else hook,
            "files outside": "not visible, or read only" if apart else hook,
            "processes ended": f"{_YES}, a process tree of its own"
            if apart
            else "those found by mark",
            "limits": limited,
            "disk": "a file system in memory" if apart else "watched",
            "user": nobody if apart else ("ROOT" if _is_root() else "you"),
            "audit hook": _YES if self.audit else "no",
            **({"why no namespaces": self.why} if self.why else {}),
        }


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


@lru_cache(maxsize=1)
def find_protections() -> Protections:
    """Return the best protections that work here; each is tried out once a process.

    Raises
    ------
    RunError
        Where processes cannot be limited at all.
    """
    if os.name != "posix":
        raise RunError("grade: needs Linux or macOS. On Windows, run it in WSL.")
    if not sys.platform.startswith("linux"):
        return Protections(why=f"{sys.platform} has none")
    if missing := tools_missing():
        return Protections(why=f"not installed: {', '.join(missing)}")
    why = ""
    for mode in ("root", "user") if _is_root() else ("user",):
        why = _try_out(mode)
        if not why:
            return Protections(mode)
    return Protections(why=why)


def _try_out(mode: str) -> str:
    """Run a script of no steps; why that fails, or an empty string."""
    with tempfile.TemporaryDirectory(prefix="chainrule-grade-") as folder:
        Path(folder, "cs231n").mkdir()
        job = {"kind": "script", "script": {"steps": [], "gives": []}}
        with Sandbox(Path(folder), mode) as sandbox:
            outcome = sandbox.run(job, Limits())
    return "" if outcome.ended == "answered" else outcome.message or "it could not be tried"
