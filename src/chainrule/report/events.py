"""TensorBoard event files, converted from a run directory."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chainrule.errors import DataMissingError, RunError
from chainrule.records import RunDirectory
from chainrule.report.files import run_figures

__all__ = ["write_tensorboard"]

_SUFFIX = ".chainrule"
_DPI = 100


def write_tensorboard(run_path: str | Path, logdir: str | Path | None = None) -> Path:
    """Convert metrics and figures of a run to TensorBoard events.

    Parameters
    ----------
    run_path : str or Path
        A run directory.
    logdir : str or Path, optional
        Folder for the event file; ``tensorboard`` in the run directory by default. Event files
        written there by an earlier call are replaced, others are left alone.

    Returns
    -------
    Path
        The folder, to be opened with ``tensorboard --logdir``.

    Raises
    ------
    DataMissingError
        If the package tensorboard is not installed.
    RunError
        If `run_path` is no run directory, or the folder cannot be written.

    Notes
    -----
    Scalars are tagged ``step/loss``, ``evaluation/val_accuracy``, ``layers/conv1/activation_std``
    and ``parameters/conv1.weight/update_ratio``; figures ``figures/confusion_matrix``. Values that
    were not finite are written as NaN. An event's time is the age of the run at that moment,
    counted back from the last change of its metrics.

    Examples
    --------
    >>> import tempfile
    >>> from chainrule.records import MetricsLog, new_run_directory
    >>> run = new_run_directory(Path(tempfile.mkdtemp()), ["mlp", "digits"], b"seed = 1")
    >>> with MetricsLog(run.metrics_path) as log:
    ...     log.append({"kind": "evaluation", "step": 100, "val_loss": 0.5})
    >>> write_tensorboard(run.path).name
    'tensorboard'
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise DataMissingError(
            "write_tensorboard: the package tensorboard must be installed. "
            'Do so with: pip install "chainrule[tensorboard]"'
        ) from error
    run = RunDirectory(run_path)
    folder = run.path / "tensorboard" if logdir is None else Path(logdir)
    records = [record for record in run.metrics() if _number(record.get("step")) is not None]
    figures = run_figures(run_path)
    ages = [_number(record.get("seconds")) or 0.0 for record in records]
    log = run.metrics_path if run.metrics_path.is_file() else run.path
    start = log.stat().st_mtime - max(ages, default=0.0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"events.out.tfevents.*{_SUFFIX}"):
            old.unlink()
        with contextlib.closing(EventFileWriter(str(folder), filename_suffix=_SUFFIX)) as writer:
            for record, age in zip(records, ages, strict=True):
                values = [Summary.Value(tag=tag, simple_value=v) for tag, v in _scalars(record)]
                event = Event(wall_time=start + age, step=int(record["step"]))
                event.summary.CopyFrom(Summary(value=values))
                writer.add_event(event)
            last = max((int(record["step"]) for record in records), default=0)
            for name, figure in figures.items():
                stream = io.BytesIO()
                figure.savefig(stream, format="png", dpi=_DPI)
                png = stream.getvalue()
                width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))
                image = Summary.Image(width=width, height=height, encoded_image_string=png)
                event = Event(wall_time=start + max(ages, default=0.0), step=last)
                event.summary.CopyFrom(
                    Summary(value=[Summary.Value(tag=f"figures/{name}", image=image)])
                )
                writer.add_event(event)
    except OSError as error:
        raise RunError(f"{folder}: could not be written ({error.strerror}).") from error
    return folder


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """List the measured numbers of a record with their tags; null was a number not finite."""
    for key, value in record.items():
        if key in ("layers", "parameters"):
            for name, values in value.items():
                for statistic, number in values.items():
                    yield f"{key}/{name}/{statistic}", math.nan if number is None else number
        elif key not in ("step", "epoch", "seconds") and not isinstance(value, (str, bool)):
            yield f"{record['kind']}/{key}", math.nan if value is None else value
