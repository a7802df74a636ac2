"""Every exception that chainrule raises on purpose, and how its message is worded.

::

    ChainruleError                 exit code 1
    ├── InputError(ValueError)            a value out of range
    │   └── ShapeError                    an array of the wrong shape
    ├── DTypeError(TypeError)             an array of the wrong dtype, a value of the wrong type
    ├── ConfigError(ValueError)           exit code 2: configuration, key or name not understood
    ├── DataMissingError(FileNotFoundError)   exit code 3: a file or an optional package is absent
    ├── DataFormatError(ValueError)       a file is damaged, truncated, mislabelled or hostile
    ├── NoRuleError(NotImplementedError)  an operation without a derivative rule
    ├── TracerError(TypeError)            a traced value used where its derivative would be lost
    ├── RunError(ValueError)              a run directory or checkpoint cannot be used
    ├── DivergedError(FloatingPointError) exit code 4: loss or gradient is not finite
    └── GradientMismatchError(AssertionError) exit code 5: a gradient or parity check failed

Each derives from `ChainruleError` and from the built-in exception that a Python user would
expect, so ``except ValueError`` keeps working.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

__all__ = [
    "ChainruleError",
    "ConfigError",
    "DTypeError",
    "DataFormatError",
    "DataMissingError",
    "DivergedError",
    "GradientMismatchError",
    "InputError",
    "NoRuleError",
    "RunError",
    "ShapeError",
    "TracerError",
    "explain",
    "nearest",
]


class ChainruleError(Exception):
    """Base of all expected errors; `exit_code` is what the command line returns for it."""

    exit_code: ClassVar[int] = 1


class InputError(ChainruleError, ValueError):
    """An argument has a value outside its valid range."""


class ShapeError(InputError):
    """An array has the wrong shape."""


class DTypeError(ChainruleError, TypeError):
    """An array has the wrong dtype, or an argument the wrong type."""


class ConfigError(ChainruleError, ValueError):
    """A configuration key, value or name is not understood."""

    exit_code = 2


class DataMissingError(ChainruleError, FileNotFoundError):
    """A data file, or an optional package, is not there."""

    exit_code = 3

    def __str__(self) -> str:  # OSError would print "[Errno ...]" for more than one argument
        return str(self.args[0]) if self.args else ""


class DataFormatError(ChainruleError, ValueError):
    """A file is there but damaged, truncated, mislabelled or hostile."""


class NoRuleError(ChainruleError, NotImplementedError):
    """An operation under differentiation has no derivative rule."""


class TracerError(ChainruleError, TypeError):
    """A value under differentiation is used where its derivative would be lost."""


class RunError(ChainruleError, ValueError):
    """A run directory or a checkpoint cannot be used."""


class DivergedError(ChainruleError, FloatingPointError):
    """Training met a loss, gradient or weight that is not finite."""

    exit_code = 4


class GradientMismatchError(ChainruleError, AssertionError):
    """A gradient check or a parity check failed."""

    exit_code = 5


def explain(where: str, name: str, rule: str, got: object, remedy: str = "") -> str:
    """Word an error the way every chainrule error is worded.

    Parameters
    ----------
    where : str
        The public function or the file that found the problem.
    name : str
        The argument, key or tensor concerned.
    rule : str
        What it must be, completing "must".
    got : object
        What came instead.
    remedy : str, default ""
        What to do about it, as a sentence.

    Returns
    -------
    str
        ``{where}: {name} must {rule}; got {got}. {remedy}``

    Examples
    --------
    >>> explain("linear_forward", "x", "have shape (N, 4)", (9, 2, 2), "Flatten it first.")
    'linear_forward: x must have shape (N, 4); got (9, 2, 2). Flatten it first.'
    """
    return f"{where}: {name} must {rule}; got {got}. {remedy}".rstrip()


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is meant, for messages about an unknown one.

    Parameters
    ----------
    name : str
        The unknown name.
    known : iterable of str
        The names that exist.

    Returns
    -------
    str
        ``Did you mean 'x'?`` if one is close, else ``Known: ...``.

    Examples
    --------
    >>> nearest("momentun", ["lr", "momentum"])
    "Did you mean 'momentum'?"
    """
    known = sorted(known)
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
