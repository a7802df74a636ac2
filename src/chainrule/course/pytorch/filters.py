"""``python -m chainrule.course.pytorch.filters``: the first layer's weights as pictures."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chainrule.course.pytorch.command import Parser, run
from chainrule.errors import DataFormatError, explain
from chainrule.twin import require_torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["first_filters", "main"]

_ABOUT = """\
Draw the first layer of a trained network: MODEL_filt.png, all filters on one scale, and
MODEL_gridfilt.png, each stretched to its full contrast, for MODEL.pt."""
_MORE = """\
examples:
  python -m chainrule.course.pytorch.filters softmax.pt twolayernn.pt
  python -m chainrule.course.pytorch.filters models/mine.pt --out figures

Any file of torch.save(model.state_dict(), ...) will do."""
_IMAGE = (3, 32, 32)
_SHORT = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def first_filters(weights: Mapping[str, Tensor], where: str) -> np.ndarray:
    """Find the weights that act on pixels, and bring them into the shape of pictures.

    Parameters
    ----------
    weights : mapping of str to Tensor
        A state dictionary, first layer first.
    where : str
        The file, for messages.

    Returns
    -------
    ndarray of float32, shape (N, H, W, 3)
        The filters of a convolution, or an image for each unit of a linear layer.

    Raises
    ------
    DataFormatError
        If no tensor is made for images of 3 channels, or a weight is not finite.
    """
    for tensor in weights.values():
        if tensor.ndim == 2 and tensor.shape[1] == prod(_IMAGE):
            found = tensor.reshape(-1, *_IMAGE)
        elif tensor.ndim == 4 and tensor.shape[1] == _IMAGE[0]:
            found = tensor
        else:
            continue
        filters = found.float().permute(0, 2, 3, 1).numpy()
        if len(filters) and np.isfinite(filters).all():
            return filters
        raise DataFormatError(explain(where, "first layer", "be finite", "infinity or NaN"))
    rule = "hold a layer for images (3, 32, 32)"
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in list(weights.values())[:4])
    raise DataFormatError(explain(where, "weights", rule, f"shapes {shapes or 'of nothing'}"))


def _parser() -> Parser:
    parser = Parser("filters", _ABOUT, _MORE)
    parser.add_argument("models", nargs="+", metavar="FILE.pt", help="weights of a network")
    parser.add_argument("--out", metavar="DIR", help="folder of the pictures (default: the file's)")
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
        If a file cannot be read or a picture not be written.
    """
    options = _parser().read(words)
    require_torch("filters")
    from chainrule.course.pytorch.figures import draw_filters, save_figure, save_grid
    from chainrule.course.pytorch.weights import load_weights

    for path in map(Path, options.models):
        weights, _ = load_weights(path)
        filters = first_filters(weights, str(path))
        folder = path.parent if options.out is None else Path(options.out)
        # Ten images of 32 x 32 pixels are what a softmax classifier has: one for each class.
        names = _SHORT if filters.shape == (10, 32, 32, 3) else ()
        for kind in ("filt", "gridfilt"):
            picture = folder / f"{path.stem}_{kind}.png"
            if kind == "filt":
                save_figure(draw_filters(filters, names), picture)
            else:
                save_grid(filters, picture)
            sys.stdout.write(f"{picture}\n")


if __name__ == "__main__":
    sys.exit(run(main))
