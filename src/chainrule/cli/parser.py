"""The words of a command line: what a command takes, how its help looks, what is wrong.

Built on argparse alone, so that ``--help`` answers at once and an error is one line.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from chainrule.errors import ConfigError, nearest

__all__ = ["Argument", "Command", "argument", "choice", "find_command", "overview"]

WIDTH = 100  # of help on wider terminals
FLAGS = ("-h", "--help")


@dataclass(frozen=True)
class Argument:
    """One argument of a command: its names or flags, and what argparse is to know of it."""

    names: tuple[str, ...]
    keywords: dict[str, Any]


def argument(*names: str, **keywords: Any) -> Argument:
    """Describe an argument as ``ArgumentParser.add_argument`` takes it."""
    return Argument(names, keywords)


def choice(*known: str) -> Callable[[str], str]:
    """Return a converter that admits certain words and names the nearest to any other."""

    def convert(word: str) -> str:
        if word not in known:
            raise argparse.ArgumentTypeError(f"{word!r} is not known. {nearest(word, known)}")
        return word

    return convert


@dataclass(frozen=True)
class Command:
    """A command.

    Parameters
    ----------
    name : str
        One word or two: ``"train"``, ``"data list"``.
    summary : str
        What it does, in one line.
    usage : str
        What follows the name.
    run : callable
        Does it, given the parsed arguments; returns the exit code.
    arguments : tuple of Argument
        What it takes, apart from ``--help``.
    examples : tuple of str
        Command lines to learn from.
    more : str, default ""
        Shown at the end of its help.
    """

    name: str
    summary: str
    usage: str
    run: Callable[[argparse.Namespace], int]
    arguments: tuple[Argument, ...]
    examples: tuple[str, ...] = ()
    more: str = ""

    def help(self) -> str:
        """Return what ``--help`` shows, as wide as the terminal."""
        return self._parser().format_help()

    def parse(self, words: Sequence[str], lenient: bool = False) -> argparse.Namespace:
        """Parse what follows the name.

        Parameters
        ----------
        words : sequence of str
            The rest of the command line; options may stand anywhere.
        lenient : bool, default False
            Let words be missing or too many, as those before ``--help`` may be.

        Returns
        -------
        argparse.Namespace
            A value for each argument.

        Raises
        ------
        ConfigError
            If a word is missing, unknown or too many.
        """
        parser = self._parser(lenient)
        options, unknown = parser.parse_known_intermixed_args(list(words))
        if unknown and unknown[0].startswith("-"):
            flag = unknown[0].partition("=")[0]
            flags = [name for one in self.arguments for name in one.names if name[0] == "-"]
            parser.error(f"option {flag} is not known. {nearest(flag, [*flags, *FLAGS])}")
        if unknown:
            parser.error(f"{unknown[0]!r} is one word too many.")
        return options

    def _parser(self, lenient: bool = False) -> _Parser:
        parser = _Parser(self)
        groups = {"arguments": parser.add_argument_group("arguments")}
        groups["options"] = parser.add_argument_group("options")
        for one in self.arguments:
            if one.names[0].startswith("-"):
                groups["options"].add_argument(*one.names, **one.keywords)
            else:
                keywords = one.keywords | ({"nargs": "*"} if lenient else {})
                groups["arguments"].add_argument(*one.names, **keywords)
        groups["options"].add_argument(*FLAGS, action="store_true", help="show this help")
        return parser


class _Parser(argparse.ArgumentParser):
    def __init__(self, command: Command) -> None:
        examples = "".join(f"\n  {line}" for line in command.examples)
        super().__init__(
            prog=f"chainrule {command.name}",
            usage=f"chainrule {command.name} {command.usage}".rstrip(),
            description=command.summary,
            epilog=(f"examples:{examples}\n\n" if examples else "") + command.more,
            formatter_class=_Formatter,
            add_help=False,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        message = message.removesuffix(".")
        stop = "" if message.endswith("?") else "."
        raise ConfigError(f"{self.prog.partition(' ')[2]}: {message}{stop} See: {self.prog} --help")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size().columns, WIDTH)
        super().__init__(prog, max_help_position=22, width=width)


def find_command(
    commands: Iterable[Command], words: Sequence[str]
) -> tuple[Command | str, Sequence[str]]:
    """Find the command that a command line begins with.

    Parameters
    ----------
    commands : iterable of Command
        All there are.
    words : sequence of str
        The command line; of one or more words.

    Returns
    -------
    command : Command or str
        The command; or the first word of several commands (``"data"``) where no second one
        follows.
    rest : sequence of str
        What follows its name.

    Raises
    ------
    ConfigError
        If there is no such command.
    """
    by_name = {command.name: command for command in commands}
    for length in (2, 1):
        if command := by_name.get(" ".join(words[:length])):
            return command, words[length:]
    first, rest = words[0], words[1:]
    family = {name.partition(" ")[2] for name in by_name if name.startswith(f"{first} ")}
    if family and (not rest or rest[0] in FLAGS):
        return first, rest
    if family:
        word, known, flags, prog = rest[0], family, [*FLAGS], f"chainrule {first}"
    else:
        known = {name.partition(" ")[0] for name in by_name}
        word, flags, prog = first, [*FLAGS, "--version"], "chainrule"
    kind = "option" if word.startswith("-") else "command"
    hint = nearest(word, flags if kind == "option" else known)
    raise ConfigError(f"{kind} {word!r} is not known. {hint} See: {prog} --help")


def overview(commands: Iterable[Command], family: str = "") -> str:
    """Return the help of chainrule as a whole, or of a family of commands.

    Parameters
    ----------
    commands : iterable of Command
        All there are.
    family : str, default ""
        The first word of the commands to show; all by default.

    Returns
    -------
    str
        One line for each command, and what they have in common.
    """
    shown = [c for c in commands if not family or c.name.startswith(f"{family} ")]
    # A few long names stand out rather than push every summary beyond the terminal's edge.
    width = min(10, max(len(command.name) for command in shown))
    lines = "".join(f"  {command.name:{width}}  {command.summary}\n" for command in shown)
    if family:
        return f"usage: chainrule {family} COMMAND ...\n\ncommands:\n{lines}"
    return f"""\
usage: chainrule COMMAND ...

A neural-network workbench in which every derivative is written out and proven.

commands:
{lines}
options:
  {"-h, --help":{width}}  show this help; after a command, that command's
  {"--version":{width}}  show the version

examples:
  chainrule train convnet --data digits --report
  chainrule sanity two_layer --data cifar10
  chainrule runs

Data go to standard output, progress and messages to standard error.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 data missing, 4 training
diverged, 5 a gradient or parity check failed, 130 interrupted.
"""
