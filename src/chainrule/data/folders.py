"""Where data files live, and what to say when one is not there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from chainrule.data.download import RemoteFile
from chainrule.errors import DataMissingError, explain

__all__ = ["data_folder", "missing"]


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder in which data files are looked for and kept.

    Parameters
    ----------
    data_dir : path, optional
        The folder, named explicitly.

    Returns
    -------
    pathlib.Path
        `data_dir`; else the environment variable ``CHAINRULE_DATA``; else the user's cache
        folder (``~/.cache/chainrule`` on Linux). It need not exist.

    Examples
    --------
    >>> data_folder("somewhere").name
    'somewhere'
    """
    if data_dir is not None:
        return Path(data_dir).expanduser()
    if named := os.environ.get("CHAINRULE_DATA"):
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("chainrule", appauthor=False))


def missing(name: str, files: Sequence[RemoteFile], folder: Path, why: str) -> DataMissingError:
    """Word the one error for data that is neither there nor to be had.

    Parameters
    ----------
    name : str
        The data set.
    files : sequence of RemoteFile
        What is wanted, at least one file.
    folder : pathlib.Path
        The folder they belong in.
    why : str
        Why they are not there, continuing "nothing there".

    Returns
    -------
    DataMissingError
        To be raised by the caller. It names each file, the folder, and where a person can
        download them with a browser: every mirror of a single file, the first mirror of each
        of several.
    """
    if len(files) == 1:
        urls = " or ".join(files[0].urls)
    else:
        urls = " and ".join(file.urls[0] for file in files)
    remedy = (
        f"Download by hand from {urls} and put into {folder}; "
        "or name a folder that has it with --data-dir or CHAINRULE_DATA."
    )
    listed = ", ".join(file.name for file in files)
    got = f"nothing there {why}"
    return DataMissingError(explain(f"data set {name!r}", listed, f"be in {folder}", got, remedy))
