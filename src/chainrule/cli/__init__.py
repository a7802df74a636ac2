"""The command line: ``chainrule COMMAND ...``.

Data go to standard output, progress and messages to standard error. An expected error is one
line that begins with ``chainrule:``. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 data missing,
4 training diverged, 5 a gradient or parity check failed, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from chainrule import __version__
from chainrule.errors import ChainruleError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those the process was started with.

    Raises
    ------
    SystemExit
        Always; its code is the exit code.

    Examples
    --------
    >>> main(["data", "fetch", "--nonsense"])
    Traceback (most recent call last):
    ...
    SystemExit: 2
    """
    sys.exit(_guarded(sys.argv[1:] if arguments is None else arguments))


def _guarded(words: Sequence[str]) -> int:
    """Turn what a command raises into one line and an exit code; bugs keep their traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may hold bytes that are no text
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(words)
        sys.stdout.flush()
    except ChainruleError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted.", 130)
    except BrokenPipeError:  # the reader of our output has gone, as in: chainrule runs | head -1
        _give_up_output()
        return 1
    except MemoryError as error:
        return _fail(f"not enough memory. {error}", 1)
    except OSError as error:
        _give_up_output()
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}.", 1)
    return code


def _run(words: Sequence[str]) -> int:
    from chainrule.cli.commands import COMMANDS
    from chainrule.cli.parser import FLAGS, find_command, overview

    if not words:
        sys.stderr.write(overview(COMMANDS))
        return 2
    if words[0] == "--version":
        sys.stdout.write(f"chainrule {__version__}\n")
        return 0
    if words[0] in FLAGS:
        sys.stdout.write(overview(COMMANDS))
        return 0
    command, rest = find_command(COMMANDS, words)
    if isinstance(command, str):
        (sys.stdout if rest else sys.stderr).write(overview(COMMANDS, command))
        return 0 if rest else 2
    before = rest[: rest.index("--")] if "--" in rest else rest
    asked = any(flag in before for flag in FLAGS)
    options = command.parse(rest, lenient=asked)
    if asked:
        sys.stdout.write(command.help())
        return 0
    return command.run(options)


def _give_up_output() -> None:
    """Drop what standard output does not take, before Python tries once more at its exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"chainrule: {' '.join(message.split())}\n")
    return code
