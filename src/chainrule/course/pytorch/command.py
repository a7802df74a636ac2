"""What the course's commands share: how flags are read, and what an error looks like.

An expected error is one line that begins with ``chainrule:``; the exit codes are those of the
command line: 0 done, 1 failed, 2 wrong usage, 3 data missing, 4 training diverged, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from chainrule.errors import ChainruleError, ConfigError, nearest

__all__ = ["Parser", "at_least", "number", "run", "say"]


class Parser(argparse.ArgumentParser):
    """Flags as argparse knows them, and errors as chainrule words them.

    Parameters
    ----------
    name : str
        The last word of ``python -m chainrule.course.pytorch.NAME``.
    about : str
        What the command does.
    more : str, default ""
        Shown at the end of its help, as it stands.
    """

    def __init__(self, name: str, about: str, more: str = "") -> None:
        super().__init__(
            prog=f"python -m chainrule.course.pytorch.{name}",
            description=about,
            epilog=more,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.command = name

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse the words after the command's name.

        Parameters
        ----------
        words : sequence of str
            Flags and their values.

        Returns
        -------
        argparse.Namespace
            A value for each flag.

        Raises
        ------
        ConfigError
            If one is unknown, missing or out of range.
        """
        options, unknown = self.parse_known_args(list(words))
        if unknown and unknown[0].startswith("-"):
            flag = unknown[0].partition("=")[0]
            known = [name for action in self._actions for name in action.option_strings]
            self.error(f"{flag} is not known. {nearest(flag, known)}")
        if unknown:
            self.error(f"{unknown[0]!r} is one word too many")
        return options

    def error(self, message: str) -> NoReturn:
        """Refuse what was given.

        Parameters
        ----------
        message : str
            Argparse's words.

        Raises
        ------
        ConfigError
            Always.
        """
        message = re.sub(r"^argument (-\S+|\S+): ", r"\1 ", message.removesuffix("."))
        stop = "" if message.endswith("?") else "."
        raise ConfigError(f"{self.command}: {message}{stop} See: {self.prog} --help")


def at_least(smallest: int) -> Callable[[str], int]:
    """Return a converter to integers that are not below `smallest`."""

    def convert(word: str) -> int:
        try:
            value = int(word)
        except ValueError:
            value = smallest - 1
        if value < smallest:
            raise argparse.ArgumentTypeError(
                f"must be a whole number of at least {smallest}; got {word!r}"
            )
        return value

    return convert


def number(rule: str, holds: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a converter to numbers for which a rule holds; infinity and NaN never do."""

    def convert(word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            value = float("nan")
        if not (abs(value) < float("inf") and holds(value)):
            raise argparse.ArgumentTypeError(f"must be a number {rule}; got {word!r}")
        return value

    return convert


def say(message: str) -> None:
    """Tell the user something that is no result: on standard error."""
    sys.stderr.write(f"chainrule: {message}\n")
    sys.stderr.flush()


def run(body: Callable[[Sequence[str]], None], words: Sequence[str] | None = None) -> int:
    """Run a command; turn what it raises into one line and an exit code.

    Parameters
    ----------
    body : callable
        The command, given its words. Bugs, a student's own included, keep their traceback.
    words : sequence of str, optional
        Default: those that the process was started with.

    Returns
    -------
    int
        The exit code.
    """
    try:
        body(sys.argv[1:] if words is None else words)
        sys.stdout.flush()
    except ChainruleError as error:
        say(" ".join(str(error).split()))
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted.")
        return 130
    except BrokenPipeError:  # the reader of our output has gone; Python would try once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"{where}{error.strerror or error}.")
        return 1
    return 0
