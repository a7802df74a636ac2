"""A progress bar with loss, accuracy, images per second and time left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chainrule.training.loop import Callback, History, Trainer

__all__ = ["ProgressBar", "describe_evaluation"]


def describe_evaluation(record: Mapping[str, Any]) -> str:
    """Put an evaluation into one line.

    Parameters
    ----------
    record : mapping
        A record of kind ``"evaluation"``.

    Returns
    -------
    str
        Epoch, losses and accuracies that are known, and a star if it is the best so far.

    Examples
    --------
    >>> describe_evaluation({"epoch": 1.0, "step": 10, "val_accuracy": 0.5, "best": True})
    'epoch 1  step 10  val acc 0.500 *'
    """
    parts = [f"epoch {record['epoch']:.3g}", f"step {record['step']}"]
    for split in ("train", "val"):
        loss, accuracy = record.get(f"{split}_loss"), record.get(f"{split}_accuracy")
        known = [] if loss is None else [f"loss {loss:.4g}"]
        known += [] if accuracy is None else [f"acc {accuracy:.3f}"]
        parts += [" ".join([split, *known])] if known else []
    return "  ".join(parts) + (" *" if record.get("best") else "")


class ProgressBar(Callback):
    """Shows training on a terminal, and one line per evaluation everywhere.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to; default: standard error. The bar is drawn on terminals only.

    Examples
    --------
    >>> import io
    >>> bar = ProgressBar(Console(file=io.StringIO()))
    >>> bar.on_evaluation({"epoch": 1.0, "step": 10, "val_accuracy": 0.5, "best": True})
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = Console(stderr=True) if console is None else console
        self._speed = 0.0
        self._progress = Progress(
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task("training", status="", total=None)

    def on_start(self, trainer: Trainer) -> None:
        """Show the bar, at the step where training begins or continues."""
        self._progress.update(self._task, total=trainer.total_steps, completed=trainer.step)
        self._progress.start()

    def on_step(self, record: Mapping[str, Any]) -> None:
        """Move the bar."""
        speed = float(record["images_per_second"])
        self._speed = speed if not self._speed else 0.95 * self._speed + 0.05 * speed
        parts = [f"epoch {record['epoch']:.1f}", f"loss {record['loss']:.4f}"]
        if "accuracy" in record:
            parts.append(f"acc {record['accuracy']:.2f}")
        parts.append(f"{self._speed:,.0f} images/s")
        self._progress.update(self._task, completed=record["step"], status="  ".join(parts))

    def on_evaluation(self, record: Mapping[str, Any]) -> None:
        """Print one line."""
        text = describe_evaluation(record)
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def on_end(self, history: History) -> None:
        """Take the bar away."""
        self._progress.stop()
