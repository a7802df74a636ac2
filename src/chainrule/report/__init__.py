"""See a run: figures, one self-contained page, TensorBoard events.

Everything is drawn from files: from a run directory, or from arrays and records given by hand.
Importing this room loads matplotlib, so the command line imports it only when it is needed.
"""

from __future__ import annotations

from chainrule.report.benchmarks import benchmark_figure
from chainrule.report.charts import smooth
from chainrule.report.curves import (
    activation_statistics,
    compare_runs,
    learning_curves,
    update_ratios,
)
from chainrule.report.descent import (
    animate_descent,
    ascent_figure,
    descent_figure,
    path_figure,
)
from chainrule.report.events import write_tensorboard
from chainrule.report.files import (
    ReportFiles,
    figure_format,
    make_report,
    run_figures,
    save_figure,
)
from chainrule.report.grid import image_grid
from chainrule.report.pictures import mistakes, weights
from chainrule.report.scores import class_accuracy, confusion_matrix

__all__ = [
    "ReportFiles",
    "activation_statistics",
    "animate_descent",
    "ascent_figure",
    "benchmark_figure",
    "class_accuracy",
    "compare_runs",
    "confusion_matrix",
    "descent_figure",
    "figure_format",
    "image_grid",
    "learning_curves",
    "make_report",
    "mistakes",
    "path_figure",
    "run_figures",
    "save_figure",
    "smooth",
    "update_ratios",
    "weights",
    "write_tensorboard",
]
