"""Write the report of a run into its directory."""

from __future__ import annotations

import io
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from chainrule.errors import ConfigError, InputError, explain, nearest
from chainrule.records import write_atomically
from chainrule.report.contents import RunContents, read_run
from chainrule.report.curves import activation_statistics, learning_curves, update_ratios
from chainrule.report.page import render_page
from chainrule.report.pictures import mistakes, weights
from chainrule.report.scores import class_accuracy, confusion_matrix

__all__ = ["ReportFiles", "figure_format", "make_report", "run_figures", "save_figure"]

_FORMATS = ("png", "svg", "pdf")
_DPI = 150


@dataclass(frozen=True)
class ReportFiles:
    """What `make_report` wrote.

    Attributes
    ----------
    page : Path
        ``report.html``.
    figures : tuple of Path
        The pictures.
    notes : tuple of str
        One sentence for each figure that could not be drawn, and for each damaged file.
    """

    page: Path
    figures: tuple[Path, ...]
    notes: tuple[str, ...]


def make_report(
    run_path: str | Path, *, formats: Sequence[str] = ("png", "svg"), open_page: bool = False
) -> ReportFiles:
    """Write the figures and the page of a run, from its directory alone.

    Parameters
    ----------
    run_path : str or Path
        A run directory.
    formats : sequence of {"png", "svg", "pdf"}, default ("png", "svg")
        Each figure is written in all of them; none are written if it is empty.
    open_page : bool, default False
        Show the page in the web browser.

    Returns
    -------
    ReportFiles
        ``figures/*`` and ``report.html`` in the run directory. Parts that the run does not
        have are left out.

    Raises
    ------
    RunError
        If `run_path` is no run directory, or a file cannot be written.
    ConfigError
        If a format is not known.

    Examples
    --------
    >>> import tempfile
    >>> from chainrule.records import MetricsLog, new_run_directory
    >>> run = new_run_directory(Path(tempfile.mkdtemp()), ["mlp", "digits"], b"seed = 1")
    >>> with MetricsLog(run.metrics_path) as log:
    ...     log.append({"kind": "evaluation", "step": 100, "val_loss": 0.5})
    >>> report = make_report(run.path, formats=["svg"])
    >>> report.page.name, [path.name for path in report.figures]
    ('report.html', ['learning_curves.svg'])
    """
    for name in formats:
        if name not in _FORMATS:
            raise ConfigError(
                explain(
                    "make_report",
                    "formats",
                    f"be among {', '.join(_FORMATS)}",
                    repr(name),
                    nearest(str(name), _FORMATS),
                )
            )
    contents = read_run(run_path)
    figures, notes = _drawn(contents) if formats else ({}, [])
    written = []
    for name, figure in figures.items():
        for suffix in formats:
            path = contents.run.figures_dir / f"{name}.{suffix}"
            write_atomically(path, _encoded(figure, suffix))
            written.append(path)
    page = contents.run.path / "report.html"
    write_atomically(page, render_page(contents).encode())
    if open_page:
        webbrowser.open(page.resolve().as_uri())
    return ReportFiles(page, tuple(written), tuple(contents.problems + notes))


def run_figures(run_path: str | Path) -> dict[str, Figure]:
    """Draw every figure that a run has the data for.

    Parameters
    ----------
    run_path : str or Path
        A run directory.

    Returns
    -------
    dict of str to Figure
        By file name: ``learning_curves``, ``weights``, ``confusion_matrix``, ``class_accuracy``,
        ``mistakes``, ``update_ratios`` and ``activations``, or those of them that can be drawn.

    Raises
    ------
    RunError
        If `run_path` is no run directory.

    Examples
    --------
    >>> import tempfile
    >>> from chainrule.records import MetricsLog, new_run_directory
    >>> run = new_run_directory(Path(tempfile.mkdtemp()), ["mlp", "digits"], b"seed = 1")
    >>> with MetricsLog(run.metrics_path) as log:
    ...     log.append({"kind": "evaluation", "step": 100, "val_loss": 0.5})
    >>> list(run_figures(run.path))
    ['learning_curves']
    """
    return _drawn(read_run(run_path))[0]


def _drawn(contents: RunContents) -> tuple[dict[str, Figure], list[str]]:
    figures: dict[str, Figure] = {}
    notes: list[str] = []

    def draw(name: str, make: Callable[[], Figure]) -> None:
        try:
            figures[name] = make()
        except InputError as error:
            notes.append(f"{name} is not drawn. {error}")

    classes, counts, wrong = contents.classes, contents.confusion, contents.mistakes
    draw("learning_curves", lambda: learning_curves(contents.metrics))
    draw("weights", lambda: weights(contents.parameters, contents.input_shape, classes))
    if counts is not None:
        where = f", {contents.split} split"
        draw(
            "confusion_matrix",
            lambda: confusion_matrix(counts, classes, heading=f"Confusion matrix{where}"),
        )
        draw(
            "class_accuracy",
            lambda: class_accuracy(counts, classes, heading=f"Accuracy by class{where}"),
        )
    if wrong is not None:
        draw("mistakes", lambda: mistakes(*wrong, classes))
    draw("update_ratios", lambda: update_ratios(contents.metrics))
    draw("activations", lambda: activation_statistics(contents.metrics))
    return figures, notes


def _encoded(figure: Figure, suffix: str) -> bytes:
    # Without a date, drawing the same run again gives the same picture.
    date = {"svg": "Date", "pdf": "CreationDate"}.get(suffix)
    stream = io.BytesIO()
    figure.savefig(stream, format=suffix, dpi=_DPI, metadata={date: None} if date else None)
    return stream.getvalue()


def figure_format(path: str | Path) -> str:
    """Return the format that the name of a picture's file asks for.

    Parameters
    ----------
    path : str or Path
        Where the picture is to be.

    Returns
    -------
    {"png", "svg", "pdf"}
        The suffix, in lower case.

    Raises
    ------
    ConfigError
        If the suffix is another.

    Examples
    --------
    >>> figure_format("ratios.SVG")
    'svg'
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in _FORMATS:
        endings = " or ".join(f".{name}" for name in _FORMATS)
        raise ConfigError(
            explain("figure", "the file's name", f"end in {endings}", repr(str(path)))
        )
    return suffix


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to a file of its own.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        From a function of this room.
    path : str or Path
        Its suffix is the format; see `figure_format`.

    Raises
    ------
    ConfigError
        If the suffix is not known.
    RunError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from chainrule.report import class_accuracy
    >>> path = Path(tempfile.mkdtemp(), "accuracy.svg")
    >>> save_figure(class_accuracy(np.eye(2), ["cat", "dog"]), path)
    >>> path.is_file()
    True
    """
    write_atomically(Path(path), _encoded(figure, figure_format(path)))
