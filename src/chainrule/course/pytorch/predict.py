r"""``python -m chainrule.course.pytorch.predict``: ``predictions.csv`` for the challenge server.

The server takes a row ``image_id,label`` and then one for each image, counted from 0, with the
number of its class, in lines that end with ``\r\n``.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chainrule.course.pytorch.command import Parser, at_least, run, say
from chainrule.errors import DataFormatError, DataMissingError, explain
from chainrule.records import write_atomically
from chainrule.twin import require_torch

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["main", "predict", "predictions_csv", "read_challenge"]

_ABOUT = """\
Classify the images of the challenge, or CIFAR-10's test images, and write predictions.csv."""
_MORE = """\
examples:
  python -m chainrule.course.pytorch.predict --model mymodel.pt --test-dir data
  python -m chainrule.course.pytorch.predict --model mymodel.pt --cifar10-dir data
  python -m chainrule.course.pytorch.predict --model mine.pt --code models/mymodel.py:MyModel

The challenge's images are DIR/test_images.npy, from the course. With --cifar10-dir the test images
of CIFAR-10 are classified instead, whose classes are known, and the accuracy is told."""


def _parser() -> Parser:
    parser = Parser("predict", _ABOUT, _MORE)
    add = parser.add_argument
    add("--model", required=True, metavar="FILE.pt", help="weights that train has saved")
    add(
        "--test-dir",
        default="data",
        metavar="DIR",
        help="folder with test_images.npy (default data)",
    )
    add("--cifar10-dir", metavar="DIR", help="classify CIFAR-10's test images in this folder")
    add(
        "--test-batch-size",
        type=at_least(1),
        default=1000,
        metavar="N",
        help="images at a time (default 1000)",
    )
    add("--no-cuda", action="store_true", help="stay on the CPU")
    add(
        "--out",
        default="predictions.csv",
        metavar="FILE",
        help="what to write (default predictions.csv)",
    )
    add("--code", metavar="FILE.py:CLASS", help="your own network, if the weights are of one")
    add("--hidden-dim", type=at_least(1), metavar="N", help="if the file does not say")
    add("--kernel-size", type=at_least(1), metavar="N", help="if the file does not say")
    return parser  # fmt: skip


def read_challenge(folder: Path) -> np.ndarray:
    """Read the images of the challenge.

    Parameters
    ----------
    folder : Path
        Where ``test_images.npy`` is.

    Returns
    -------
    ndarray of uint8, shape (N, 3, 32, 32)
        The images.

    Raises
    ------
    DataMissingError
        If the file is not there.
    DataFormatError
        If it holds no images of 32 x 32 pixels with values from 0 to 255.
    """
    path = folder / "test_images.npy"
    if not path.is_file():
        remedy = "The course gives it out; or classify CIFAR-10's test images by --cifar10-dir."
        raise DataMissingError(explain("predict", str(path), "exist", "none", remedy))
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        rule = "be a complete .npy file of numbers"
        raise DataFormatError(explain(str(path), "file", rule, error)) from error
    if images.ndim != 4 or images.shape[1:] != (32, 32, 3) or not len(images):
        rule = "have shape (N, 32, 32, 3)"
        raise DataFormatError(explain(str(path), "images", rule, images.shape))
    if images.dtype != np.uint8:
        rule = "hold values from 0 to 255"
        if images.dtype.kind not in "iuf" or not (images.min() >= 0 and images.max() <= 255):
            raise DataFormatError(explain(str(path), "images", rule, f"{images.dtype} beyond"))
        images = images.astype(np.uint8)  # as the course does
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def predict(
    module: nn.Module, images: np.ndarray, device: torch.device, batch_size: int = 1000
) -> np.ndarray:
    """Classify images.

    Parameters
    ----------
    module : torch.nn.Module
        A trained network, on `device` and in evaluation mode.
    images : ndarray of uint8, shape (N, 3, 32, 32)
        The images.
    device : torch.device
        Where to compute.
    batch_size : int, default 1000
        Images at a time.

    Returns
    -------
    ndarray of int64, shape (N,)
        The class with the highest score, the first one of several.
    """
    from torch import no_grad

    from chainrule.course.pytorch.dataset import normalize

    labels = np.empty(len(images), np.int64)
    with no_grad():
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            labels[part] = module(normalize(images[part]).to(device)).argmax(1).cpu().numpy()
    return labels


def predictions_csv(labels: np.ndarray) -> bytes:
    r"""Word the file for the server.

    Parameters
    ----------
    labels : ndarray of int, shape (N,)
        Classes in the order of the images.

    Returns
    -------
    bytes
        The whole file.

    Examples
    --------
    >>> predictions_csv(np.array([8, 5]))
    b'image_id,label\r\n0,8\r\n1,5\r\n'
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["image_id", "label"])
    rows.writerows(enumerate(labels.tolist()))
    return text.getvalue().encode()


def main(words: Sequence[str]) -> None:
    """Classify.

    Parameters
    ----------
    words : sequence of str
        What follows the command's name.

    Raises
    ------
    ChainruleError
        If weights or images cannot be read.
    """
    options = _parser().read(words)
    require_torch("predict")
    from chainrule.course.pytorch.dataset import read_splits
    from chainrule.course.pytorch.loop import choose_device
    from chainrule.course.pytorch.weights import load_model

    device, _ = choose_device(options.no_cuda)
    sizes = (options.hidden_dim, options.kernel_size)
    module = load_model(Path(options.model), options.code, *sizes).to(device)
    if options.cifar10_dir is None:
        images, known = read_challenge(Path(options.test_dir)), None
    else:
        test = read_splits("predict", options.cifar10_dir).test
        images, known = test.x, test.y
    labels = predict(module, images, device, options.test_batch_size)
    write_atomically(Path(options.out), predictions_csv(labels))
    if known is not None:
        correct = int((labels == known).sum())
        say(f"{correct} of {len(known)} right ({100 * correct / len(known):.2f} %)")
    sys.stdout.write(f"{options.out}\n")


if __name__ == "__main__":
    sys.exit(run(main))
