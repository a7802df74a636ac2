r"""The log of a training, as the course's ``train.py`` prints it, written and read back.

::

    Train Epoch: 1 [0/49000 (0%)]\tTrain Loss: 2.302598\tVal Loss: 2.228190\tVal Acc: 23.4
    ...

    test set: Average loss: 1.7411, Accuracy: 4054/10000 (41%)

"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chainrule.errors import DataFormatError, DataMissingError, explain

__all__ = ["TrainingLog", "final_lines", "interval_line", "read_log"]

_FLOAT = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_INTERVAL = re.compile(
    rf"Train Epoch: (\d+) \[(\d+)/(\d+) .*Train Loss: ({_FLOAT})"
    rf".*Val Loss: ({_FLOAT}).*Val Acc: ({_FLOAT})"
)
_TEST = re.compile(rf"test set: Average loss: ({_FLOAT}), Accuracy: (\d+)/(\d+)")


def interval_line(
    epoch: int,
    seen: int,
    total: int,
    progress: float,
    train_loss: float,
    val_loss: float,
    val_accuracy: float,
) -> str:
    r"""Word a line of the log.

    Parameters
    ----------
    epoch : int
        From 1.
    seen : int
        Training images of this epoch that steps before this one used.
    total : int
        Training images.
    progress : float
        Steps before this one, in per cent of the epoch's.
    train_loss : float
        Of this step's batch.
    val_loss : float
        Of the validation images, after this step.
    val_accuracy : float
        Of the same, in per cent.

    Returns
    -------
    str
        The line, without its end.

    Examples
    --------
    >>> interval_line(1, 5120, 49000, 100 * 10 / 96, 2.25, 2.2, 20.5)
    'Train Epoch: 1 [5120/49000 (10%)]\tTrain Loss: 2.250000\tVal Loss: 2.200000\tVal Acc: 20.5'
    """
    return (
        f"Train Epoch: {epoch} [{seen}/{total} ({progress:.0f}%)]\t"
        f"Train Loss: {train_loss:.6f}\tVal Loss: {val_loss:.6f}\tVal Acc: {val_accuracy}"
    )


def final_lines(loss: float, correct: int, total: int) -> str:
    r"""Word the end of the log: a line between empty ones.

    Parameters
    ----------
    loss : float
        Mean over the test images.
    correct : int
        Test images in the right class.
    total : int
        Test images.

    Returns
    -------
    str
        Three lines, without the last one's end.

    Examples
    --------
    >>> final_lines(2.28, 5045, 10000)
    '\ntest set: Average loss: 2.2800, Accuracy: 5045/10000 (50%)\n'
    """
    percent = 100.0 * correct / total
    return f"\ntest set: Average loss: {loss:.4f}, Accuracy: {correct}/{total} ({percent:.0f}%)\n"


@dataclass(frozen=True)
class TrainingLog:
    """What a log says.

    Parameters
    ----------
    epochs : ndarray of float64, shape (N,)
        When each line was written: 0 at the beginning, 1 after the first epoch.
    train_losses, val_losses, val_accs : ndarray of float64, shape (N,)
        What the lines say; accuracies in per cent.
    test_accuracy : float or None
        Of the last line, in per cent; None where the training has not come to its end.
    """

    epochs: np.ndarray
    train_losses: np.ndarray
    val_losses: np.ndarray
    val_accs: np.ndarray
    test_accuracy: float | None


def read_log(path: Path) -> TrainingLog:
    """Read a log, of this program or of the course's own.

    Parameters
    ----------
    path : Path
        What ``tee`` wrote. Lines that are no part of the log are passed over.

    Returns
    -------
    TrainingLog
        A value for each line.

    Raises
    ------
    DataMissingError
        If there is no such file.
    DataFormatError
        If no line of it is one of a log.
    """
    if not path.is_file():
        remedy = f"Add `| tee {path.name}` to the command that trains."
        raise DataMissingError(explain(str(path), "log", "exist", "none", remedy))
    content = path.read_bytes()
    # PowerShell's `tee` writes UTF-16.
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    lines = content.decode("utf-16" if utf16 else "utf-8", errors="replace").splitlines()
    found = [match for line in lines if (match := _INTERVAL.search(line))]
    if not found:
        rule = "hold lines such as 'Train Epoch: 1 [0/49000 (0%)] Train Loss: 2.3 ...'"
        raise DataFormatError(explain(str(path), "log", rule, f"{len(lines)} lines, none of them"))
    values = np.array([[float(value) for value in match.groups()] for match in found])
    epoch, seen, total, train_losses, val_losses, val_accs = values.T
    ends = [match for line in lines if (match := _TEST.search(line))]
    accuracy = 100 * int(ends[-1][2]) / int(ends[-1][3]) if ends and int(ends[-1][3]) else None
    begun = epoch - 1 + seen / np.maximum(total, 1)
    return TrainingLog(begun, train_losses, val_losses, val_accs, accuracy)
