"""Fetch files from the first mirror that has them, complete and unaltered."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from chainrule.errors import ChainruleError

if TYPE_CHECKING:
    from requests import Response

__all__ = ["DownloadError", "RemoteFile", "fetch_file"]

_BLOCK = 2**18
_TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds without a byte


class DownloadError(ChainruleError, OSError):
    """No mirror gave the file; `args[0]` says what each of them did instead."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


@dataclass(frozen=True)
class RemoteFile:
    """A file that is known by its content.

    Parameters
    ----------
    name : str
        What it is called in the data folder.
    urls : tuple of str
        Where it is to be had, best first.
    sha256 : str
        Checksum, 64 hexadecimal digits.
    size : int
        Length in bytes.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    size: int


def fetch_file(file: RemoteFile, folder: Path, progress: bool | None = None) -> Path:
    """Download a file, unless it is there.

    Parameters
    ----------
    file : RemoteFile
        What to fetch.
    folder : pathlib.Path
        Where to put it; created if need be.
    progress : bool, optional
        Show a progress bar on standard error; by default if that is a terminal.

    Returns
    -------
    pathlib.Path
        The complete file, its checksum verified.

    Raises
    ------
    DownloadError
        When no mirror gave it.

    Notes
    -----
    What has come is kept in ``<name>.part``, and the next attempt, at this or another mirror or
    in a later run, asks for the rest only (HTTP Range, RFC 9110 section 14). A mirror that does
    not know ranges sends all, and the part begins anew. The final name appears only when the
    file is complete and its checksum right; a part with a wrong checksum is thrown away.
    """
    import pooch

    target = folder / file.name
    failures = []
    with _quiet_pooch():
        for url in file.urls:
            # A part from another mirror, or from yesterday, may not fit: then once more without.
            for _ in range(2):
                resumes = _part(target).exists()
                downloader = _Downloader(_part(target), file, progress)
                try:
                    pooch.retrieve(
                        url, f"sha256:{file.sha256}", file.name, folder, None, downloader
                    )
                except (OSError, ValueError) as error:  # requests' errors are OSErrors
                    failures.append(f"{urlsplit(url).netloc}: {_reason(error)}")
                    if not resumes or _part(target).exists():
                        break
                else:
                    return target
    raise DownloadError("; ".join(failures))


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _reason(error: Exception) -> str:
    """In a few words: what requests and urllib3 wrap around a failure takes many lines."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "timed out"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, requests.RequestException):
        return "connection broken"
    if isinstance(error, ValueError):
        return "wrong checksum"
    return str(error)


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Downloader:
    """What `pooch.retrieve` calls to bring one file; it goes on where the last one stopped."""

    def __init__(self, part: Path, file: RemoteFile, progress: bool | None) -> None:
        self.part = part
        self.file = file
        self.progress = sys.stderr.isatty() if progress is None else progress

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        import requests

        have = self.part.stat().st_size if self.part.exists() else 0
        if have < self.file.size:
            headers = {"Accept-Encoding": "identity"}
            if have:
                headers["Range"] = f"bytes={have}-"
            with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
                if response.status_code == 416:  # the mirror's file is shorter than our part
                    self.part.unlink()
                response.raise_for_status()
                start = have if _continues(response, have) else 0
                self._check_length(response, start)
                self._receive(response, start)
        os.replace(self.part, output_file)

    def _check_length(self, response: Response, start: int) -> None:
        """Refuse, before the part is touched, what cannot be the file: an error page, say."""
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and start + int(length) != self.file.size:
            raise OSError(f"offers {start + int(length)} bytes instead of {self.file.size}")

    def _receive(self, response: Response, have: int) -> None:
        with self.part.open("r+b" if have else "wb") as out, self._bar() as advance:
            out.seek(have)
            advance(have)
            for block in response.iter_content(_BLOCK):
                out.write(block)
                have += len(block)
                if have > self.file.size:
                    break  # no need to receive the rest of what is something else
                advance(len(block))
        if have < self.file.size:
            raise OSError(f"ended after {have} of {self.file.size} bytes")

    @contextmanager
    def _bar(self) -> Iterator[Callable[[int], Any]]:
        if not self.progress:
            yield lambda count: None
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(self.file.name, total=self.file.size)
            yield lambda count: bar.advance(task, count)


def _continues(response: Response, have: int) -> bool:
    """Whether the answer is the rest we asked for, rather than the whole file."""
    content_range = response.headers.get("Content-Range", "")
    return response.status_code == 206 and content_range.startswith(f"bytes {have}-")
