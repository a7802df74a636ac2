"""``python -m chainrule.course.pytorch.plot``: loss and validation accuracy from a log."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from chainrule.course.pytorch.command import Parser, run
from chainrule.course.pytorch.logs import read_log

__all__ = ["main"]

_ABOUT = """\
Draw the log of a training: MODEL_lossvstrain.png and MODEL_valaccuracy.png for MODEL.log."""
_MORE = """\
examples:
  python -m chainrule.course.pytorch.plot softmax.log twolayernn.log
  python -m chainrule.course.pytorch.plot logs/mymodel.log --out figures

Logs of the course's own train.py are understood as well."""


def _parser() -> Parser:
    parser = Parser("plot", _ABOUT, _MORE)
    parser.add_argument("logs", nargs="+", metavar="LOG", help="what `tee` wrote")
    parser.add_argument("--out", metavar="DIR", help="folder of the pictures (default: the log's)")
    return parser


def main(words: Sequence[str]) -> None:
    """Draw.

    Parameters
    ----------
    words : sequence of str
        What follows the command's name.

    Raises
    ------
    ChainruleError
        If a log cannot be read or a picture not be written.
    """
    options = _parser().read(words)
    logs = {Path(name): read_log(Path(name)) for name in options.logs}
    from chainrule.course.pytorch.figures import draw_accuracy, draw_losses, save_figure

    for path, log in logs.items():
        folder = path.parent if options.out is None else Path(options.out)
        for draw, kind in ((draw_losses, "lossvstrain"), (draw_accuracy, "valaccuracy")):
            picture = folder / f"{path.stem}_{kind}.png"
            save_figure(draw(log, path.stem), picture)
            sys.stdout.write(f"{picture}\n")


if __name__ == "__main__":
    sys.exit(run(main))
