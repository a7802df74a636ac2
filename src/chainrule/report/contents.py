"""Read a run directory for reporting: everything that is there, and words for what is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from chainrule.errors import RunError
from chainrule.records import RunDirectory

__all__ = ["RunContents", "read_run"]

T = TypeVar("T")

# Preprocessing after which a row of weights no longer has the shape of a picture.
_MIXING = frozenset({"pca_whiten", "hog_color"})


@dataclass(frozen=True, eq=False)
class RunContents:
    """What a run directory holds, each part None or empty where it is missing.

    Attributes
    ----------
    run : RunDirectory
        Where it comes from.
    config, data, environment : dict
        As recorded.
    metrics : list of dict
        All records, in order.
    parameters : dict of str to ndarray
        Weights of the best checkpoint.
    evaluations : dict of str to dict
        ``"val"`` and ``"test"``, those that exist.
    split : str or None
        The evaluation that is shown class by class: test if it exists, else validation.
    pictures : dict of str to ndarray
        Tensors of that evaluation.
    problems : list of str
        Files that are damaged.
    """

    run: RunDirectory
    config: dict[str, Any]
    data: dict[str, Any]
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    parameters: dict[str, np.ndarray]
    evaluations: dict[str, dict[str, Any]]
    split: str | None
    pictures: dict[str, np.ndarray]
    problems: list[str] = field(default_factory=list)

    @property
    def evaluation(self) -> dict[str, Any]:
        """The evaluation named by `split`, or an empty dict."""
        return self.evaluations[self.split] if self.split else {}

    @property
    def confusion(self) -> np.ndarray | None:
        """Counts, shape (C, C), or None."""
        counts = np.array(self.evaluation.get("confusion") or ())
        square = counts.ndim == 2 and counts.shape[0] == counts.shape[1]
        return counts if square and counts.dtype.kind in "iu" else None

    @property
    def classes(self) -> list[str]:
        """Names of the classes; numbers where not all are known."""
        found = self.evaluation.get("classes") or self.data.get("classes") or ()
        names = [str(name) for name in found]
        counts = self.confusion
        if counts is not None and len(names) != len(counts):
            return [str(i) for i in range(len(counts))]
        return names

    @property
    def mistakes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
        """Images (K, C, H, W), true and predicted classes and confidences (K,), or None."""
        keys = [f"mistake_{name}" for name in ("images", "true", "predicted", "confidence")]
        if any(key not in self.pictures for key in keys):
            return None
        images, true, predicted, confidence = (self.pictures[key] for key in keys)
        fits = images.ndim == 4 and len(images) > 0
        if not fits or any(part.shape != (len(images),) for part in (true, predicted, confidence)):
            return None
        return images, true, predicted, confidence

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Shape (C, H, W) of the images, or None if the network's input is no picture."""
        if _MIXING & set(_strings(self.config.get("data", {}))):
            return None
        shape = self.data.get("input_shape") or ()
        if len(shape) == 3:
            return tuple(int(n) for n in shape)
        return None if self.mistakes is None else tuple(self.mistakes[0].shape[1:])

    @property
    def heading(self) -> str:
        """Such as "convnet on cifar10"."""
        names = [_name(self.config, "model"), _name(self.config, "data")]
        return " on ".join(name for name in names if name) or self.run.name


def _name(config: Mapping[str, Any], section: str) -> str:
    part = config.get(section)
    name = part.get("name", "") if isinstance(part, Mapping) else part or ""
    return Path(str(name)).stem if str(name).endswith((".toml", ".npz")) else str(name)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _strings(item)]
    return []


def read_run(path: str | Path) -> RunContents:
    """Read all that a report needs.

    Parameters
    ----------
    path : str or Path
        A run directory.

    Returns
    -------
    RunContents
        A damaged part is left out and described in `problems`; a missing one is just empty.

    Raises
    ------
    RunError
        If `path` is no run directory.
    """
    run = RunDirectory(path)
    problems: list[str] = []

    def attempt(read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except RunError as error:
            problems.append(str(error))
            return otherwise

    evaluations: dict[str, dict[str, Any]] = {}
    pictures: dict[str, np.ndarray] | None = None
    for name in ("test", "val"):
        record = attempt(partial(run.evaluation, name), None)
        if record:
            evaluations[name] = record
    split = next(iter(evaluations), None)
    if split:
        pictures = attempt(partial(run.evaluation_tensors, split), pictures)
    store = run.checkpoints
    trained = store.exists("best") or store.exists("last")
    return RunContents(
        run=run,
        config=attempt(run.config, {}),
        data=attempt(run.data, {}) if run.data_path.is_file() else {},
        environment=attempt(run.environment, {}),
        metrics=attempt(run.metrics, []),
        parameters=attempt(run.best_parameters, {}) if trained else {},
        evaluations=evaluations,
        split=split,
        pictures=pictures or {},
        problems=problems,
    )
