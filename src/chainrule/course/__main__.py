"""``python -m chainrule.course``: enable and disable the kit in a folder of notebooks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from chainrule.course.folders import Stub, disable, enable, status
from chainrule.errors import ChainruleError

__all__: list[str] = []

_ABOUT = """\
Make `import cs231n` work: the notebooks of CS231n and CS7643 run unchanged on chainrule."""
_MORE = """\
examples:
  python -m chainrule.course enable assignment1
  python -m chainrule.course enable hw2 --generation A
  python -m chainrule.course disable assignment1

`enable` writes two small files, cs231n/__init__.py and load_cifar10_tvt.py; a cs231n of your own is
never overwritten. CIFAR-10 is read from cs231n/datasets/cifar-10-batches-py, or else from
chainrule's data folder: `chainrule data fetch cifar10` downloads it."""


class _Parser(argparse.ArgumentParser):
    """Words its errors as chainrule's command line does."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"chainrule: {message}. Help: python -m chainrule.course --help\n")
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m chainrule.course",
        description=_ABOUT,
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    about = {
        "enable": "make `import cs231n` work in a folder",
        "disable": "take away what enable wrote there",
        "status": "say whether the kit is enabled there",
    }
    for name, text in about.items():
        command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
        command.add_argument("folder", metavar="DIR", help="where the notebooks are")
        if name == "enable":
            command.add_argument(
                "--generation",
                choices=("A", "B"),
                help="what counts where shapes do not tell: A is CS231n 2015 and CS7643 (examples "
                "are columns), B is CS231n from 2016 (rows)",
            )
    return parser


def _describe(folder: str, stub: Stub | None) -> str:
    if stub is None:
        return f"{folder}: the kit is not enabled."
    chosen = f"generation {stub.generation}" if stub.generation else "the generation by shapes"
    return f"{folder}: `import cs231n` gives chainrule's course kit, {chosen}."


def _run(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.command == "enable":
            text = _describe(options.folder, enable(options.folder, options.generation))
        elif options.command == "disable":
            removed = disable(options.folder)
            names = ", ".join(str(path) for path in removed)
            text = f"Removed {names}." if removed else _describe(options.folder, None)
        else:
            text = _describe(options.folder, status(options.folder))
    except ChainruleError as error:
        sys.stderr.write(f"chainrule: {error}\n")
        return error.exit_code
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"chainrule: {where}{error.strerror or error}.\n")
        return 1
    sys.stdout.write(f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1:]))
