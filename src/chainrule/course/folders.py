"""Folders of notebooks: writing the two small files that make ``import cs231n`` work there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from chainrule.course.generations import check_generation
from chainrule.errors import ConfigError, InputError, explain
from chainrule.records import write_atomically

__all__ = ["Stub", "disable", "enable", "status"]

_PACKAGE = "cs231n"
_LOADER = "load_cifar10_tvt.py"
_MARK = "# Written by `python -m chainrule.course enable`; `disable` takes it away again."
_PACKAGE_TEXT = """\
{mark}
# options: generation={generation} folder={folder}
\"\"\"Hands `import cs231n` over to chainrule's course kit.\"\"\"

import chainrule.course

CHAINRULE_COURSE_KIT = True
chainrule.course.activate({argument})
"""
_LOADER_TEXT = """\
{mark}
\"\"\"Hands `import load_cifar10_tvt` over to chainrule's course kit.\"\"\"

from cs231n.load_cifar10_tvt import load_cifar10_train_val

__all__ = ["load_cifar10_train_val"]
"""
_OPTIONS = re.compile(r"^# options: generation=(A|B|shapes) folder=(new|kept)$", re.MULTILINE)


@dataclass(frozen=True)
class Stub:
    """What `enable` has written into a folder.

    Parameters
    ----------
    files : tuple of pathlib.Path
        The files, in the order in which they were written.
    generation : str or None
        ``"A"``, ``"B"``, or None where the shapes of arrays decide.
    """

    files: tuple[Path, ...]
    generation: str | None


def enable(folder: str | os.PathLike[str], generation: str | None = None) -> Stub:
    """Make ``import cs231n`` work for the notebooks and scripts in a folder.

    Parameters
    ----------
    folder : path
        Where the notebooks are; it must exist.
    generation : {"A", "B"}, optional
        What counts where the shapes of arrays do not tell; see `use`.

    Returns
    -------
    Stub
        The files that are there now: ``cs231n/__init__.py`` and ``load_cifar10_tvt.py``, a few
        lines each, which hand over to chainrule. Calling it again brings them up to date.

    Raises
    ------
    InputError
        If the folder does not exist.
    ConfigError
        If a ``cs231n`` or ``load_cifar10_tvt.py`` of your own is there, which is never
        overwritten, or the generation is unknown.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> [str(path.relative_to(folder)) for path in enable(folder, "B").files]
    ['cs231n/__init__.py', 'load_cifar10_tvt.py']
    >>> len(disable(folder))
    2
    """
    root = _existing("enable", folder)
    chosen = check_generation("enable", generation)
    package = root / _PACKAGE
    own = _own_files(root)
    if own:
        raise ConfigError(_about_own(root, own))
    before = _options(package / "__init__.py")
    is_new = before[1] == "new" if before else not package.exists()
    package.mkdir(exist_ok=True)
    text = _PACKAGE_TEXT.format(
        mark=_MARK,
        generation=chosen or "shapes",
        folder="new" if is_new else "kept",
        argument="" if chosen is None else f'"{chosen}"',
    )
    files = (package / "__init__.py", root / _LOADER)
    for path, content in zip(files, (text, _LOADER_TEXT.format(mark=_MARK)), strict=True):
        write_atomically(path, content.encode())
    return Stub(files, chosen)


def disable(folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Take away what `enable` has written into a folder, and nothing else.

    Parameters
    ----------
    folder : path
        The folder that was given to `enable`.

    Returns
    -------
    tuple of pathlib.Path
        The files removed; none if the kit was not enabled there. Their compiled forms in
        ``__pycache__`` go too, and so does the folder ``cs231n`` if `enable` made it and nothing
        else is in it by now.

    Raises
    ------
    InputError
        If the folder does not exist.

    Examples
    --------
    >>> import tempfile
    >>> disable(tempfile.mkdtemp())
    ()
    """
    root = _existing("disable", folder)
    package = root / _PACKAGE
    options = _options(package / "__init__.py")
    removed = tuple(path for path in _places(root) if _is_ours(path))
    for path in removed:
        path.unlink()
        cache = path.parent / "__pycache__"
        for compiled in cache.glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
        _remove_if_empty(cache)
    if options is not None and options[1] == "new":
        _remove_if_empty(package)
    return removed


def status(folder: str | os.PathLike[str]) -> Stub | None:
    """Say whether the kit is enabled in a folder.

    Parameters
    ----------
    folder : path
        A folder of notebooks.

    Returns
    -------
    Stub or None
        What is there, None if the kit is not enabled.

    Raises
    ------
    InputError
        If the folder does not exist.

    Examples
    --------
    >>> import tempfile
    >>> status(tempfile.mkdtemp()) is None
    True
    """
    root = _existing("status", folder)
    options = _options(root / _PACKAGE / "__init__.py")
    if options is None:
        return None
    chosen = None if options[0] == "shapes" else options[0]
    return Stub(tuple(path for path in _places(root) if _is_ours(path)), chosen)


def _existing(where: str, folder: str | os.PathLike[str]) -> Path:
    root = Path(folder).expanduser()
    if not root.is_dir():
        rule = "be the folder of your notebooks"
        got = f"{root}, which is {'a file' if root.exists() else 'not there'}"
        raise InputError(explain(where, "folder", rule, got))
    return root


def _places(root: Path) -> tuple[Path, Path]:
    return root / _PACKAGE / "__init__.py", root / _LOADER


def _read(path: Path) -> str:
    """The text of a file, "" for what is no readable text file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _is_ours(path: Path) -> bool:
    return not path.is_symlink() and _read(path).startswith(_MARK)


def _options(path: Path) -> tuple[str, str] | None:
    """Generation and "new" or "kept", as our file says; None if it is not ours."""
    found = _OPTIONS.search(_read(path)) if _is_ours(path) else None
    return None if found is None else (found[1], found[2])


def _own_files(root: Path) -> list[str]:
    """What of a `cs231n` in the folder belongs to somebody else; data sets do not count."""
    package = root / _PACKAGE
    found = [] if _is_ours(root / _LOADER) or not (root / _LOADER).exists() else [_LOADER]
    module = root / f"{_PACKAGE}.py"
    if module.exists():
        found.append(module.name)
    if package.is_symlink() or (package.exists() and not package.is_dir()):
        return [*found, _PACKAGE]
    sources = [path for path in sorted(package.rglob("*.py")) if "datasets" not in path.parts]
    return found + [str(path.relative_to(root)) for path in sources if not _is_ours(path)]


def _about_own(root: Path, own: list[str]) -> str:
    few = ", ".join(own[:3]) + (f" and {len(own) - 3} more" if len(own) > 3 else "")
    remedy = (
        "They stay as they are, and notebooks there go on using them. To run the notebooks on "
        "chainrule, copy them to another folder and enable that, or put `import "
        "chainrule.course.cs231n` before their first `import cs231n`."
    )
    return explain("enable", str(root), "hold no cs231n of your own", few, remedy)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
