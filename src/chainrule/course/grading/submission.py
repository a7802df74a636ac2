"""What a student handed in: found, copied without following links, and recognised."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from chainrule.errors import DataFormatError, DataMissingError

__all__ = ["Submission", "collect", "generation_of"]

_CLASSIFIERS = {
    "softmax.py", "linear_svm.py", "linear_classifier.py", "k_nearest_neighbor.py",
    "neural_net.py", "convnet.py", "fc_net.py", "cnn.py",
}  # fmt: skip
_SKIPPED = {"datasets", "__pycache__", ".git", ".ipynb_checkpoints", "build", "venv", ".venv",
            "node_modules", "__MACOSX"}  # fmt: skip
_SUFFIXES = {".py", ".npy", ".npz", ".json", ".txt", ".csv"}
_LARGEST_FILE = 2 * 2**20
_LARGEST = 16 * 2**20
_MOST_FILES = 2000
# Files that only one generation has, and functions that only one has in a file of both.
_MARKS = {
    "A": {"classifier_trainer.py": "", "convnet.py": "",
          "neural_net.py": "def init_two_layer_model"},
    "B": {"optim.py": "", "solver.py": "", "fc_net.py": "", "cnn.py": "", "linear_svm.py": "",
          "k_nearest_neighbor.py": "", "features.py": "", "layers.py": "def batchnorm_forward",
          "softmax.py": "def softmax_loss_naive"},
}  # fmt: skip


@dataclass(frozen=True)
class Submission:
    """A submission, copied into a folder that holds a package ``cs231n``.

    Attributes
    ----------
    name : str
        For reports.
    folder : Path
        The copy.
    digest : str
        SHA-256 of the names and contents of its files.
    files : tuple of str
        Paths below the folder.
    skipped : tuple of str
        What was left out, and why.
    """

    name: str
    folder: Path
    digest: str
    files: tuple[str, ...]
    skipped: tuple[str, ...]


def collect(source: Path, target: Path) -> Submission:
    """Copy a submission into an empty folder.

    Parameters
    ----------
    source : Path
        A folder ``cs231n``, one that contains it at any depth, a folder of single files, one
        ``.py`` file, or a ``.zip`` of any of these.
    target : Path
        An empty folder.

    Returns
    -------
    Submission
        With all files at their places below ``cs231n``. Links are never followed; data sets and
        compiled files are left out.

    Raises
    ------
    DataMissingError
        If there is nothing at `source`.
    DataFormatError
        If there is no Python file in it, or it is too large.
    """
    if not os.path.lexists(source):
        raise DataMissingError(f"{source}: there is no such submission.")
    name = source.resolve().name
    taken = _Taken()
    skipped: list[str] = []
    if source.is_dir():
        _from_folder(source, taken, skipped)
    elif source.suffix == ".zip":
        name = source.stem
        _from_zip(source, taken, skipped)
    elif source.suffix == ".py":
        taken.add(PurePosixPath(source.name), _read(source))
        name = source.stem
    else:
        raise DataFormatError(f"{source}: is no folder, Python file or zip file.")
    placed = _placed(taken.contents)
    if not any(path.suffix == ".py" for path in placed):
        raise DataFormatError(f"{source}: there is no Python file in this submission.")
    digest = hashlib.sha256()
    for path, content in sorted(placed.items()):
        digest.update(f"{path}\0{len(content)}\0".encode(errors="surrogateescape") + content)
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    files = tuple(str(path) for path in sorted(placed))
    return Submission(name, target, digest.hexdigest(), files, tuple(skipped))


class _Taken:
    """Files with their contents, up to a number and a size."""

    def __init__(self) -> None:
        self.contents: dict[PurePosixPath, bytes] = {}
        self.size = 0

    def add(self, path: PurePosixPath, content: bytes) -> None:
        self.size += len(content)
        if self.size > _LARGEST or len(self.contents) >= _MOST_FILES:
            raise DataFormatError(
                f"the submission must have at most {_MOST_FILES} files and {_LARGEST // 2**20} MB "
                "without its data sets; it has more."
            )
        self.contents[path] = content


def _wanted(path: PurePosixPath, size: int) -> str:
    """Why a file is left out, or an empty string."""
    if path.suffix not in _SUFFIXES:
        return "of no kind that tests need"
    return "too large" if size > _LARGEST_FILE else ""


def _from_folder(source: Path, taken: _Taken, skipped: list[str]) -> None:
    for folder, folders, files in os.walk(source, followlinks=False):
        here = Path(folder)
        folders[:] = sorted(each for each in folders if each not in _SKIPPED)
        for each in list(folders):
            if (here / each).is_symlink():
                skipped.append(f"{(here / each).relative_to(source)}: a link")
                folders.remove(each)
        for file in sorted(files):
            path = here / file
            below = PurePosixPath(path.relative_to(source).as_posix())
            about = path.lstat()
            why = (
                "a link" if path.is_symlink() else "" if stat.S_ISREG(about.st_mode) else "no file"
            )
            why = why or _wanted(below, about.st_size)
            if not why:
                taken.add(below, _read(path))
            elif below.suffix == ".py" or why == "a link":
                skipped.append(f"{below}: {why}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataMissingError(f"{path}: could not be read ({error.strerror}).") from error


def _from_zip(source: Path, taken: _Taken, skipped: list[str]) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            for entry in archive.infolist():
                path = PurePosixPath(entry.filename.replace("\\", "/"))
                if entry.is_dir() or set(path.parts) & _SKIPPED:
                    continue
                link = stat.S_ISLNK(entry.external_attr >> 16)
                unsafe = path.is_absolute() or ".." in path.parts or ":" in entry.filename
                why = "a link" if link else "an unsafe path" if unsafe else ""
                why = why or _wanted(path, entry.file_size)
                if why:
                    skipped.append(f"{path}: {why}")
                    continue
                with archive.open(entry) as file:  # no more than it says, whatever it holds
                    taken.add(path, file.read(_LARGEST_FILE))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        raise DataFormatError(f"{source}: could not be unpacked ({error}).") from error


def _placed(contents: dict[PurePosixPath, bytes]) -> dict[PurePosixPath, bytes]:
    """Move files to where the notebooks would have them."""
    packages = sorted({p for path in contents for p in path.parents if p.name == "cs231n"},
                      key=lambda p: len(p.parts))  # fmt: skip
    if packages:
        root = packages[0].parent
        return {path.relative_to(root): data for path, data in contents.items()
                if path.is_relative_to(packages[0])}  # fmt: skip
    names = {str(path) for path in contents}
    if any(name.startswith("classifiers/") for name in names):  # the package itself
        return {PurePosixPath("cs231n") / path: data for path, data in contents.items()}
    placed = {}
    for path, data in contents.items():  # single files, wherever they lie
        folder = "cs231n/classifiers" if path.name in _CLASSIFIERS else "cs231n"
        inner = PurePosixPath(path.name) if path.suffix == ".py" else path
        placed[PurePosixPath(folder) / inner] = data
    return placed


def generation_of(submission: Submission) -> str:
    """Tell which generation of the course a submission belongs to.

    Parameters
    ----------
    submission : Submission
        As `collect` returns it.

    Returns
    -------
    {"A", "B"}
        By files and functions that only one of them has; "B" where nothing tells.
    """
    votes = {"A": 0, "B": 0}
    for generation, marks in _MARKS.items():
        for file in submission.files:
            mark = marks.get(Path(file).name)
            if mark is None:
                continue
            text = (submission.folder / file).read_text(encoding="utf-8", errors="replace")
            votes[generation] += mark in text
    return "A" if votes["A"] > votes["B"] else "B"
