"""``python -m chainrule.course.pytorch.train``: the course's driver.

It takes the flags of the course's ``train.py``, prints the same log and leaves the same files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from chainrule.course.pytorch.command import Parser, at_least, number, run, say
from chainrule.course.pytorch.settings import RECIPES, Settings, complete
from chainrule.errors import nearest
from chainrule.twin import require_torch

__all__ = ["main", "read_settings"]

_ABOUT = """\
Train a network of the course's PyTorch part on CIFAR-10, test it, and save it as MODEL.pt."""
_MORE = """\
examples:
  python -u -m chainrule.course.pytorch.train --model softmax --recipe | tee softmax.log
  python -u -m chainrule.course.pytorch.train --model twolayernn --hidden-dim 512 --epochs 10 \\
      --weight-decay 0.001 --momentum 0.9 --batch-size 128 --lr 0.001 | tee twolayernn.log
  python -m chainrule.course.pytorch.train --model mymodel --recipe --script > run_mymodel.sh
  python -u -m chainrule.course.pytorch.train --model models/mymodel.py:MyModel --epochs 10 \\
      --momentum 0.9 --batch-size 128 --lr 0.01 | tee mymodel.log

The log goes to standard output. `python -m chainrule.course.pytorch.plot MODEL.log` draws it,
`... .filters MODEL.pt` the first layer, `... .predict --model MODEL.pt` writes predictions.csv."""


def _model(word: str) -> str:
    if word not in RECIPES and ".py" not in word:
        hint = nearest(word, RECIPES)
        raise argparse.ArgumentTypeError(f"{word!r} is not known. {hint} Your own: FILE.py:CLASS")
    return word


def _parser() -> Parser:
    parser = Parser("train", _ABOUT, _MORE)
    course = parser.add_argument_group("the course's flags")
    add = course.add_argument
    add(
        "--model",
        type=_model,
        required=True,
        metavar="MODEL",
        help="softmax, twolayernn, convnet, mymodel, or FILE.py:CLASS for your own",
    )
    add("--lr", type=number("above 0", lambda v: v > 0), metavar="LR", help="learning rate")
    add(
        "--momentum",
        type=number("from 0 to below 1", lambda v: 0 <= v < 1),
        metavar="M",
        help="momentum of SGD",
    )
    add(
        "--weight-decay",
        type=number("of at least 0", lambda v: v >= 0),
        metavar="W",
        help="weight decay (default 0)",
    )
    add("--batch-size", type=at_least(1), metavar="N", help="images in a step")
    add("--epochs", type=at_least(1), metavar="N", help="passes over the training images")
    add("--hidden-dim", type=at_least(1), metavar="N", help="hidden units, or filters")
    add("--kernel-size", type=at_least(1), metavar="N", help="side of the filters")
    add("--no-cuda", action="store_true", default=None, help="stay on the CPU")
    add("--seed", type=at_least(0), metavar="S", help="random seed (default 1)")
    add(
        "--test-batch-size",
        type=at_least(1),
        metavar="N",
        help="images at a time in validation and test (default 1000)",
    )
    add(
        "--log-interval",
        type=at_least(1),
        metavar="N",
        help="steps from one line of the log to the next (default 10)",
    )
    add(
        "--cifar10-dir",
        metavar="DIR",
        help="folder with cifar-10-batches-py, or that folder (default data)",
    )
    add = parser.add_argument_group("beyond the course").add_argument
    add(
        "--recipe",
        action="store_true",
        help="take what is not given from settings chosen for the model",
    )
    add(
        "--script",
        action="store_true",
        help="print a shell script that does this training, and do not train",
    )
    add("--flip", action="store_true", default=None, help="mirror training images at random")
    add(
        "--shift",
        type=at_least(0),
        metavar="N",
        help="move training images by up to N pixels at random",
    )
    add(
        "--schedule",
        choices=("constant", "one_cycle"),
        help="of the learning rate (default constant)",
    )
    add(
        "--channels-last",
        action="store_true",
        default=None,
        help="PyTorch's other memory format, faster for convolutions",
    )
    return parser  # fmt: skip


def read_settings(words: Sequence[str]) -> tuple[Settings, bool]:
    """Read the command line.

    Parameters
    ----------
    words : sequence of str
        What follows the command's name.

    Returns
    -------
    settings : Settings
        The training that is asked for.
    script : bool
        Whether only its script is wanted.

    Raises
    ------
    ConfigError
        If a flag is unknown, missing or out of range.
    """
    options = vars(_parser().read(words))
    recipe, script = options.pop("recipe"), options.pop("script")
    return complete(options, recipe), script


def main(words: Sequence[str]) -> None:
    """Train.

    Parameters
    ----------
    words : sequence of str
        What follows the command's name.

    Raises
    ------
    ChainruleError
        If something is not as it must be.
    """
    settings, script = read_settings(words)
    if script:
        sys.stdout.write(settings.script())
        return
    require_torch("train")
    from chainrule.course.pytorch.loop import train_model

    def log(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    path = train_model(settings, log, say, Path())
    say(f"weights saved to {path}")


if __name__ == "__main__":
    sys.exit(run(main))
