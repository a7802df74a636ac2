"""TensorBoard event files, converted from a run directory."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chainrule.errors import DataMissingError, RunError
from chainrule.report.contents import read_run
from chainrule.report.files import run_figures

__all__ = ["write_tensorboard"]

_SUFFIX = ".chainrule"
_NOT_SCALARS = frozenset({"kind", "step", "epoch", "seconds", "best", "layers", "parameters"})


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
    are not finite are written as NaN. An event's time is the age of the run at that moment,
    counted back from the last change of its metrics.
    """
    writer_module, messages = _tensorboard()
    contents = read_run(run_path)
    folder = contents.run.path / "tensorboard" if logdir is None else Path(logdir)
    figures = run_figures(run_path)
    log = contents.run.metrics_path
    ages = [r["seconds"] for r in contents.metrics if _is_number(r.get("seconds"))]
    end = log.stat().st_mtime if log.is_file() else contents.run.path.stat().st_mtime
    start = end - max(ages, default=0.0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"events.out.tfevents.*{_SUFFIX}"):
            old.unlink()
        writer = writer_module.EventFileWriter(str(folder), filename_suffix=_SUFFIX)
        age, last = 0.0, 0
        for record in contents.metrics:
            age = record["seconds"] if _is_number(record.get("seconds")) else age
            last = max(last, int(record["step"]))
            values = [messages.Summary.Value(tag=t, simple_value=v) for t, v in _scalars(record)]
            writer.add_event(
                messages.Event(
                    wall_time=start + age,
                    step=int(record["step"]),
                    summary=messages.Summary(value=values),
                )
            )
        for name, figure in figures.items():
            stream = io.BytesIO()
            figure.savefig(stream, format="png", dpi=100)
            width, height = (round(float(n) * 100) for n in figure.get_size_inches())
            image = messages.Summary.Image(
                width=width, height=height, colorspace=4, encoded_image_string=stream.getvalue()
            )
            value = messages.Summary.Value(tag=f"figures/{name}", image=image)
            writer.add_event(
                messages.Event(
                    wall_time=start + age, step=last, summary=messages.Summary(value=[value])
                )
            )
        writer.close()
    except OSError as error:
        raise RunError(f"{folder}: could not be written ({error.strerror}).") from error
    return folder


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """List the numbers of a record with their tags."""
    for key, value in record.items():
        if key not in _NOT_SCALARS and (value is None or isinstance(value, (int, float))):
            yield f"{record['kind']}/{key}", math.nan if value is None else float(value)
    for group in ("layers", "parameters"):
        for name, values in (record.get(group) or {}).items():
            for key, value in values.items():
                yield f"{group}/{name}/{key}", math.nan if value is None else float(value)


def _tensorboard() -> tuple[Any, Any]:
    """Return the module of the event writer, and a namespace of the two message types."""
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer import event_file_writer
    except ImportError as error:
        raise DataMissingError(
            'TensorBoard is not installed. Install it with: pip install "chainrule[tensorboard]"'
        ) from error
    return event_file_writer, _Messages(event_pb2.Event, summary_pb2.Summary)


class _Messages:
    def __init__(self, event: Any, summary: Any) -> None:
        self.Event, self.Summary = event, summary
