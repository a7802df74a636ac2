"""A world of its own for the process of a test, where Linux lets us make one.

With util-linux's ``unshare``, ``mount``, ``pivot_root`` and ``setpriv`` a test gets its own process
tree, network without a route, and a root folder in memory that holds, read only, Python, NumPy and
the system's libraries, and one writable folder of limited size. Home folders, other submissions,
chainrule itself with all answers, ``/proc`` and ``/sys`` are not in it. When the first process of
the tree ends the kernel ends all others, whatever they did to get away.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

__all__ = ["HOME", "Interpreter", "enter", "find_interpreter", "tools_missing"]

HOME = "/student"  # the only writable folder in there
TOOLS = ("unshare", "mount", "umount", "pivot_root", "setpriv", "sh", "cp", "chown", "mkdir")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl/openssl.cnf")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_KEPT_FLAGS = {"nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime"}
_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Interpreter:
    """The Python of the tests: its executable, and the folders that it reads.

    Attributes
    ----------
    executable : str
        Without the links that virtual environments put before it.
    folders : tuple of str
        The standard library and the packages.
    packages : tuple of str
        Those among them that go to ``sys.path``.
    """

    executable: str
    folders: tuple[str, ...]
    packages: tuple[str, ...]


def find_interpreter() -> Interpreter:
    """Return the running Python, and where the packages are that homework needs."""
    packages = []
    for name in ("numpy", "scipy", "matplotlib", "PIL"):
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            packages.append(os.path.realpath(Path(spec.origin).parent.parent))
    paths = sysconfig.get_paths()
    own = [sys.base_prefix, sys.base_exec_prefix, paths["stdlib"], paths["platstdlib"]]
    folders = dict.fromkeys(os.path.realpath(p) for p in [*own, *packages])
    return Interpreter(
        os.path.realpath(sys.executable), tuple(folders), tuple(dict.fromkeys(packages))
    )


def tools_missing() -> list[str]:
    """Return which programs for namespaces are not on this machine."""
    return [name for name in TOOLS if shutil.which(name, path=_SEARCH) is None]


def enter(
    interpreter: Interpreter,
    command: Sequence[str],
    *,
    base: Path,
    submission: Path,
    grader: Path,
    hidden: Iterable[Path],
    disk_mb: int,
    as_root: bool,
) -> list[str]:
    """Return the command line that runs `command` in a new world.

    Parameters
    ----------
    interpreter : Interpreter
        What has to be visible in there.
    command : sequence of str
        To run, with its working folder at `HOME`.
    base : Path
        An empty folder, under which the new root is put together; outside it stays empty.
    submission : Path
        Copied to `HOME`.
    grader : Path
        Visible at its own path, read only.
    hidden : iterable of Path
        Folders that are covered by empty ones where they would be visible.
    disk_mb : int
        Size of `HOME`.
    as_root : bool
        Whether we are root, and become an unused user in there; else a user namespace is made.

    Returns
    -------
    list of str
        For `subprocess.Popen`.
    """
    visible = _covering([*_SYSTEM, *interpreter.folders, str(grader)])
    files = [path for path in _FILES if os.path.exists(path)]
    quote = shlex.quote
    lines = ["set -eu", "umask 022", f"PATH={_SEARCH}", f"root={quote(str(base))}"]
    lines.append('mount -t tmpfs -o size=1m,nr_inodes=4096,mode=755,nosuid,nodev none "$root"')
    for path in visible:
        if os.path.islink(path):
            lines.append(f'ln -s {quote(os.readlink(path))} "$root"{quote(path)}')
            continue
        lines.append(f'mkdir -p "$root"{quote(path)}')
        lines.append(f'mount --rbind {quote(path)} "$root"{quote(path)}')
        lines += [
            f'mount -o remount,bind,ro,{flags} "$root"{quote(point)}'
            for point, flags in _mounts_in(path)
        ]
    for path in files:
        make = (
            "mkdir -p"
            if os.path.isdir(path)
            else f'mkdir -p "$root"{quote(os.path.dirname(path))}; :>'
        )
        lines.append(f'{make} "$root"{quote(path)}')
        lines.append(f'mount --bind {quote(path)} "$root"{quote(path)}')
        flags = _flags_at(path)
        lines.append(f'mount -o remount,bind,ro,{flags} "$root"{quote(path)}')
    for folder in map(os.path.realpath, hidden):
        if any(_within(str(folder), path) for path in visible) and os.path.isdir(folder):
            lines.append(f'mount -t tmpfs -o ro,size=4k,mode=755 none "$root"{quote(str(folder))}')
    lines.append('mkdir -p "$root"/dev')
    lines += [f'd="$root"/dev/{each}; :> "$d"; mount --bind /dev/{each} "$d"' for each in _DEVICES]
    user = random.SystemRandom().randrange(10**9, 2 * 10**9)  # nobody's, so that limits are its own
    owner = f",uid={user},gid={user}" if as_root else ""
    options = f"size={disk_mb}m,nr_inodes=20000,mode=700,nosuid,nodev{owner}"
    lines += [
        f'mkdir -p "$root"{HOME} "$root"/old "$root"/proc; mount --rbind /proc "$root"/proc',
        f'mount -t tmpfs -o {options} none "$root"{HOME}',
        f'cp -R {quote(str(submission))}/. "$root"{HOME}/',
        f'mkdir "$root"{HOME}/tmp; [ -e "$root"/tmp ] || ln -s {HOME}/tmp "$root"/tmp',
        *([f'chown -R {user}:{user} "$root"{HOME}'] if as_root else []),
        'cd "$root"',
        "pivot_root . old",
        "umount -l /old; umount -l /proc",  # in this order: umount reads /proc
        "mount -o remount,ro /",
        f"cd {HOME}",
    ]
    drop = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
    if as_root:
        drop += [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    # The shell stays as the first process of the tree; whatever happens to the second, it ends.
    lines += [shlex.join([*drop, *command]), "exit $?"]
    spaces = ["--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts"]
    if not as_root:
        spaces = ["--user", "--map-root-user", *spaces]
    unshare = shutil.which("unshare", path=_SEARCH) or "unshare"
    # If the grader itself is killed, so is this, and with it the whole tree.
    watched = [shutil.which("setpriv", path=_SEARCH) or "setpriv", "--pdeathsig", "KILL"]
    return [*watched, unshare, *spaces, "sh", "-c", "\n".join(lines)]


def _covering(paths: Iterable[str]) -> list[str]:
    """Drop what does not exist and what lies within another."""
    kept: list[str] = []
    for path in sorted({path for path in paths if os.path.exists(path)}, key=len):
        if not any(_within(path, other) for other in kept if not os.path.islink(other)):
            kept.append(path)
    return kept


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _mount_table() -> list[tuple[str, str]]:
    """Mount points and those of their flags that a user namespace may not drop."""
    try:
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return []
    rows = [line.split(" ") for line in text.splitlines()]
    return [
        (row[4].replace("\\040", " "), ",".join(sorted(_KEPT_FLAGS & set(row[5].split(",")))))
        for row in rows
    ]


def _flags_at(path: str) -> str:
    """Flags of the mount that a path is on."""
    on = [entry for entry in _mount_table() if _within(os.path.realpath(path), entry[0])]
    return max(on, key=lambda entry: len(entry[0]))[1] if on else ""


def _mounts_in(path: str) -> list[tuple[str, str]]:
    """The folder itself and the mount points below it, each with its flags."""
    below = [entry for entry in _mount_table() if _within(entry[0], path) and entry[0] != path]
    return [(path, _flags_at(path)), *below]
