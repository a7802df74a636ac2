"""The files of a run directory: what is in them, and how they survive a crash.

::

    runs/<utc time>_<model>_<data>/
      config.toml            resolved and complete: running it again repeats the run
      environment.json       versions, CPU, threads, git commit of the caller, one entry per session
      metrics.jsonl          one JSON object per logged step and per evaluation
      data.json              names of the classes, shape of an example, sizes of the splits
      preprocessing.safetensors   what was fitted on the training images
      checkpoints/           last.json, previous.json, best.json and the tensors they name
      evaluation/            <split>.json, <split>.safetensors
      figures/  report.html

Everything that matters is written to a temporary file beside its destination, flushed to the
disk and renamed, so that a reader sees the old file or the new one and never half of either.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np

from chainrule.errors import RunError, explain

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "MetricsLog",
    "RunDirectory",
    "load_tensors",
    "new_run_directory",
    "save_tensors",
    "write_atomically",
    "write_json",
]

_FORMAT = "chainrule-checkpoint-1"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old content or the new, never a mixture.

    Parameters
    ----------
    path : Path
        Destination; its folder is created.
    content : bytes
        The whole content.

    Raises
    ------
    RunError
        If the disk is full or the folder is not writable. The destination is unchanged.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.json"
    >>> write_atomically(target, b"{}")
    >>> target.read_bytes()
    b'{}'
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        raise RunError(
            f"{path}: could not be written ({error.strerror}). The file is as it was before; "
            "free some space or choose another folder."
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable (a no-op where folders cannot be opened)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def save_tensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None = None
) -> str:
    """Write named arrays to a safetensors file, atomically.

    Parameters
    ----------
    path : Path
        Destination.
    tensors : mapping of str to ndarray
        Arrays of any shape; numeric dtypes.
    metadata : mapping, optional
        Values that `json` can hold, stored in the file's header.

    Returns
    -------
    str
        The SHA-256 of the file, in hexadecimal.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "w.safetensors"
    >>> _ = save_tensors(target, {"weight": np.ones(2)}, {"step": 3})
    >>> load_tensors(target)
    ({'weight': array([1., 1.])}, {'step': 3})
    """
    from safetensors.numpy import save

    header = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    content = save({k: np.asarray(v, order="C") for k, v in tensors.items()}, metadata=header)
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def load_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a safetensors file written by `save_tensors`, or by any other program.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    tensors : dict of str to ndarray
        The arrays, writable.
    metadata : dict
        The header's metadata; values that are not JSON stay strings.

    Raises
    ------
    RunError
        If the file is missing, truncated or not in the safetensors format.

    Examples
    --------
    >>> load_tensors(Path("nowhere.safetensors"))
    Traceback (most recent call last):
    ...
    chainrule.errors.RunError: nowhere.safetensors: could not be read (No such file or directory).
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: could not be read ({error.strerror}).") from error
    try:
        tensors = {key: np.array(value) for key, value in load(content).items()}
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError) as error:
        raise RunError(f"{path}: is damaged or not a safetensors file ({error}).") from error
    return tensors, {key: _json_or_text(value) for key, value in header.items()}


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


@dataclass(frozen=True)
class Checkpoint:
    """One consistent state of a training run.

    Attributes
    ----------
    tensors : dict of str to ndarray
        ``params/...``, ``buffers/...``, ``optimizer/...`` and ``average/...``.
    state : dict
        Everything else, as JSON: step, epoch, generator states, position in the data order,
        length of the metrics log.
    """

    tensors: dict[str, np.ndarray]
    state: dict[str, Any]

    def named(self, prefix: str) -> dict[str, np.ndarray]:
        """Return the tensors under ``prefix/``, without the prefix."""
        start = f"{prefix}/"
        return {k[len(start) :]: v for k, v in self.tensors.items() if k.startswith(start)}


class CheckpointStore:
    """The ``checkpoints`` folder: the last two states and the best one.

    A state is two files. ``step-00000120.safetensors`` holds the arrays. The manifest
    (``last.json``, ``previous.json``, ``best.json``) names that file and its SHA-256, holds the
    rest of the state, and carries a checksum of itself. The manifest is renamed into place
    only after the arrays are safely on the disk, so a state exists wholly or not at all.

    Parameters
    ----------
    folder : Path
        The ``checkpoints`` folder; created at the first save.

    Examples
    --------
    >>> import tempfile
    >>> store = CheckpointStore(Path(tempfile.mkdtemp()))
    >>> store.save(Checkpoint({"params/w": np.zeros(2)}, {"step": 1}), best=True)
    >>> store.load("best").state
    {'step': 1}
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last: bytes | None = None

    def save(self, checkpoint: Checkpoint, *, best: bool = False) -> None:
        """Make `checkpoint` the last one, the last one the previous, and drop older ones.

        Parameters
        ----------
        checkpoint : Checkpoint
            Its ``state["step"]`` names the file.
        best : bool, default False
            Keep it as the best one too.

        Raises
        ------
        RunError
            If it cannot be written; the checkpoints already there stay valid.
        """
        name = f"step-{checkpoint.state['step']:08d}.safetensors"
        digest = save_tensors(self.folder / name, checkpoint.tensors)
        body = {
            "format": _FORMAT,
            "tensors": name,
            "sha256": digest,
            "state": checkpoint.state,
        }
        manifest = _seal(body)
        if self._last is not None and self._last != manifest:
            write_atomically(self.folder / "previous.json", self._last)
        if best:  # before "last", which says that this one is the best: they must agree
            write_atomically(self.folder / "best.json", manifest)
        write_atomically(self.folder / "last.json", manifest)
        self._last = manifest
        self._collect()

    def load(self, which: str) -> Checkpoint:
        """Read and verify one checkpoint.

        Parameters
        ----------
        which : {"last", "previous", "best"}
            Which one.

        Returns
        -------
        Checkpoint
            Verified against its checksums.

        Raises
        ------
        RunError
            If it is absent, damaged or was written by an unknown version.
        """
        return self._read(which)[0]

    def recover(self) -> tuple[Checkpoint, list[str]]:
        """Read the last checkpoint that is intact.

        Returns
        -------
        checkpoint : Checkpoint
            The last one, or the previous one if the last is damaged.
        problems : list of str
            One sentence for each checkpoint that had to be passed over.

        Raises
        ------
        RunError
            If none is intact.
        """
        problems = []
        for which in ("last", "previous"):
            try:
                checkpoint, self._last = self._read(which)
            except RunError as error:
                problems.append(str(error))
            else:
                return checkpoint, problems
        raise RunError(" ".join([*problems, "There is no checkpoint to continue from."]))

    def state(self, which: str) -> dict[str, Any]:
        """Return the state of a checkpoint without reading its arrays.

        Parameters
        ----------
        which : {"last", "previous", "best"}
            Which one.

        Returns
        -------
        dict
            As in `Checkpoint.state`.

        Raises
        ------
        RunError
            If the manifest is absent or damaged.
        """
        return dict(self._manifest(which)[0]["state"])

    def exists(self, which: str) -> bool:
        """Tell whether a manifest of that name is there (not whether it is intact)."""
        return (self.folder / f"{which}.json").is_file()

    def _manifest(self, which: str) -> tuple[dict[str, Any], bytes]:
        path = self.folder / f"{which}.json"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RunError(f"{path}: could not be read ({error.strerror}).") from error
        return _unseal(content, path), content

    def _read(self, which: str) -> tuple[Checkpoint, bytes]:
        body, content = self._manifest(which)
        tensors_path = self.folder / Path(str(body["tensors"])).name
        try:
            with open(tensors_path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise RunError(f"{tensors_path}: could not be read ({error.strerror}).") from error
        if digest != body["sha256"]:
            raise RunError(f"{tensors_path}: is damaged (its SHA-256 is not the recorded one).")
        return Checkpoint(load_tensors(tensors_path)[0], body["state"]), content

    def _collect(self) -> None:
        """Delete tensor files that no manifest names, and leftovers of interrupted writes."""
        named = set()
        for manifest in self.folder.glob("*.json"):
            try:
                named.add(_unseal(manifest.read_bytes(), manifest)["tensors"])
            except (RunError, OSError):
                continue
        for path in self.folder.glob("step-*.safetensors"):
            if path.name not in named:
                _remove(path)
        for path in self.folder.glob(".*.tmp"):
            _remove(path)


def _seal(body: dict[str, Any]) -> bytes:
    text = json.dumps(body, sort_keys=True)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({"checksum": checksum, "body": body}, sort_keys=True, indent=1).encode()


def _unseal(content: bytes, path: Path) -> dict[str, Any]:
    try:
        sealed = json.loads(content)
        body = sealed["body"]
        checksum = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        intact = checksum == sealed["checksum"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: is damaged (not a checkpoint manifest).") from error
    if not intact:
        raise RunError(f"{path}: is damaged (its checksum does not match its content).")
    if body.get("format") != _FORMAT:
        raise RunError(explain(str(path), "format", f"be {_FORMAT!r}", body.get("format")))
    return dict(body)


class MetricsLog:
    """Append-only ``metrics.jsonl``; one JSON object a line.

    Parameters
    ----------
    path : Path
        The file; created if absent.
    keep_bytes : int, default 0
        Length of the part to keep. A resumed run passes the length that its checkpoint
        recorded, so that steps that are run again are not logged twice.

    Raises
    ------
    RunError
        If the file is shorter than `keep_bytes` or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> with MetricsLog(path) as log:
    ...     log.append({"kind": "step", "step": 1, "loss": 2.3})
    >>> path.read_text()
    '{"kind": "step", "step": 1, "loss": 2.3}\\n'
    """

    def __init__(self, path: Path, keep_bytes: int = 0) -> None:
        self.path = path
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            self._file: IO[bytes] = os.fdopen(descriptor, "r+b")
            if self._file.seek(0, os.SEEK_END) < keep_bytes:
                self._file.close()
                raise RunError(
                    f"{path}: is shorter than its checkpoint recorded ({keep_bytes} bytes), so "
                    "part of the history is lost. Restore the file or start a new run."
                )
            self._file.truncate(keep_bytes)
            self._file.seek(keep_bytes)
        except OSError as error:
            raise RunError(f"{path}: could not be opened ({error.strerror}).") from error

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; numbers that are not finite become null."""
        line = json.dumps(_finite(record), allow_nan=False) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
        except OSError as error:
            raise self._full(error) from error

    def sync(self) -> int:
        """Flush to the disk and return the length of the log in bytes."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()
        except OSError as error:
            raise self._full(error) from error

    def _full(self, error: OSError) -> RunError:
        return RunError(
            f"{self.path}: could not be written ({error.strerror}). Free some space, then "
            f"continue with: chainrule train --resume {self.path.parent}"
        )

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError:
            return  # what could not be flushed was reported by append

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _finite(value: Any) -> Any:
    """Replace numbers that JSON cannot hold by None, at any depth."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value


class RunDirectory:
    """Read access to everything a run left on the disk.

    Parameters
    ----------
    path : str or Path
        A folder that holds a ``config.toml``.

    Raises
    ------
    RunError
        If `path` is not a run directory.

    Examples
    --------
    >>> RunDirectory("nowhere")
    Traceback (most recent call last):
    ...
    chainrule.errors.RunError: nowhere: is not a run directory (it has no config.toml). \
List the runs with: chainrule runs
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "config.toml").is_file():
            raise RunError(
                f"{self.path}: is not a run directory (it has no config.toml). "
                "List the runs with: chainrule runs"
            )

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def checkpoints(self) -> CheckpointStore:
        """The checkpoints of the run."""
        return CheckpointStore(self.path / "checkpoints")

    @property
    def metrics_path(self) -> Path:
        """Where the metrics are logged."""
        return self.path / "metrics.jsonl"

    @property
    def preprocessing_path(self) -> Path:
        """Where the fitted preprocessing is kept."""
        return self.path / "preprocessing.safetensors"

    @property
    def data_path(self) -> Path:
        """Where the description of the data is kept."""
        return self.path / "data.json"

    @property
    def figures_dir(self) -> Path:
        """Where figures go."""
        return self.path / "figures"

    def config(self) -> dict[str, Any]:
        """Return the resolved configuration as nested dicts."""
        import tomllib

        path = self.path / "config.toml"
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: could not be read ({error}).") from error

    def environment(self) -> dict[str, Any]:
        """Return versions, CPU, threads and sessions; empty if not recorded."""
        return self._json(self.path / "environment.json") or {}

    def data(self) -> dict[str, Any]:
        """Return the names of the classes, the shape of an example and the sizes of the splits.

        Returns
        -------
        dict
            ``name``, ``classes``, ``input_shape``, ``num_train``, ``num_val``, ``num_test``.

        Raises
        ------
        RunError
            If training had not begun when the run was killed.
        """
        record = self._json(self.data_path)
        if record is None:
            raise RunError(
                f"{self.path}: training has not begun. Continue it with: "
                f"chainrule train --resume {self.path}"
            )
        return record

    def metrics(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the logged records in order.

        Parameters
        ----------
        kind : {"step", "evaluation", "layers"}, optional
            Only records of this kind.

        Returns
        -------
        list of dict
            A last line cut short by a kill is left out.
        """
        try:
            lines = self.metrics_path.read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        if lines and not lines[-1].endswith("\n"):
            lines.pop()
        try:
            records = [json.loads(line) for line in lines]
        except ValueError as error:
            raise RunError(f"{self.metrics_path}: is damaged ({error}).") from error
        return [r for r in records if kind is None or r.get("kind") == kind]

    def best_parameters(self) -> dict[str, np.ndarray]:
        """Return the weights of the best checkpoint, or of the last if none was evaluated.

        Returns
        -------
        dict of str to ndarray
            The moving averages, where the run kept them, else the parameters.
        """
        store = self.checkpoints
        checkpoint = store.load("best" if store.exists("best") else "last")
        return checkpoint.named("average") or checkpoint.named("params")

    def evaluation(self, split: str) -> dict[str, Any] | None:
        """Return the evaluation of a split (``"val"`` or ``"test"``), or None."""
        return self._json(self.path / "evaluation" / f"{split}.json")

    def evaluation_tensors(self, split: str) -> dict[str, np.ndarray] | None:
        """Return the pictures of the most confident mistakes on a split, or None."""
        path = self.path / "evaluation" / f"{split}.safetensors"
        return load_tensors(path)[0] if path.is_file() else None

    def write_evaluation(
        self, split: str, record: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
    ) -> None:
        """Write the evaluation of a split.

        Parameters
        ----------
        split : str
            ``"val"`` or ``"test"``.
        record : mapping
            Accuracy, loss, classes and confusion matrix.
        tensors : mapping of str to ndarray
            Pictures of mistakes; may be empty.
        """
        folder = self.path / "evaluation"
        if tensors:
            save_tensors(folder / f"{split}.safetensors", tensors)
        write_json(folder / f"{split}.json", record)

    def _json(self, path: Path) -> dict[str, Any] | None:
        if not path.is_file():
            return None
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: could not be read ({error}).") from error


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON, atomically.

    Parameters
    ----------
    path : Path
        Destination; its folder is created.
    record : mapping
        What `json` can hold, and NumPy floats. Numbers that are not finite become null.

    Raises
    ------
    RunError
        If the disk is full or the folder is not writable. The destination is unchanged.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.json"
    >>> write_json(target, {"loss": float("nan")})
    >>> target.read_text()
    '{\\n "loss": null\\n}\\n'
    """
    text = json.dumps(_finite(record), indent=1, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def new_run_directory(root: Path, labels: Iterable[str], config: bytes) -> RunDirectory:
    """Create ``root/<utc time>_<labels>`` with its configuration.

    Parameters
    ----------
    root : Path
        The folder of runs; created.
    labels : iterable of str
        Model and data names; characters unfit for a file name become ``-``.
    config : bytes
        Content of ``config.toml``.

    Returns
    -------
    RunDirectory
        The new directory. Two runs started in the same second get different names.

    Raises
    ------
    RunError
        If the folder cannot be created or written.

    Examples
    --------
    >>> import tempfile
    >>> run = new_run_directory(Path(tempfile.mkdtemp()), ["mlp", "digits"], b"seed = 1")
    >>> run.config(), run.name.endswith("_mlp_digits")
    ({'seed': 1}, True)
    """
    safe = ["".join(c if c.isalnum() or c in "-._" else "-" for c in label) for label in labels]
    stem = "_".join([datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"), *safe])
    for attempt in range(1000):
        path = root / (stem if attempt == 0 else f"{stem}_{attempt + 1}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(f"{path}: could not be created ({error.strerror}).") from error
        write_atomically(path / "config.toml", config)
        return RunDirectory(path)
    raise RunError(f"{root}: holds a thousand runs of this second already.")
