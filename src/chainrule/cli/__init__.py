"""The command line: ``chainrule COMMAND ...``.

Data go to standard output, progress and messages to standard error. An expected error is one
line that begins with ``chainrule:``. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 data missing,
4 training diverged, 5 a gradient or parity check failed, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

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
    >>> main(["info", "--nonsense"])
    Traceback (most recent call last):
    ...
    SystemExit: 2
    """
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    from typer.exceptions import Abort, Exit, TyperException

    from chainrule.cli.app import app

    try:
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False)
        sys.stdout.flush()
    except ChainruleError as error:
        return _fail(str(error), error.exit_code)
    except TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        return _fail("interrupted.", 130)
    except BrokenPipeError:  # the reader of our output has gone, as in: chainrule runs | head -1
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}.", 1)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"chainrule: {' '.join(message.split())}\n")
    return code
