"""What a gradient check found, as numbers, as text and as a table for notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np

from chainrule.errors import GradientMismatchError

__all__ = ["Element", "Entry", "GradientReport", "Problem"]


@dataclass(frozen=True)
class Element:
    """One element of a gradient.

    Parameters
    ----------
    index : tuple of int
        Where it is in the array; empty for a number.
    analytic, numeric : float
        What the backward pass says, and what differences of the function say.
    error : float
        How far the numeric value may be off.
    """

    index: tuple[int, ...]
    analytic: float
    numeric: float
    error: float

    def __str__(self) -> str:
        """Words such as ``[0, 2]: -0.5, but 0.5 numerically``."""
        place = f"[{', '.join(map(str, self.index))}]" if self.index else "value"
        return f"{place}: {self.analytic:.6g}, but {self.numeric:.6g} numerically"


@dataclass(frozen=True)
class Entry:
    """The check of the gradient by one input.

    Parameters
    ----------
    name : str
        Name of the input.
    relative_error : float
        The largest; NaN if nothing could be compared.
    worst : Element or None
        Where it is; None where a sum over many elements disagrees that no single element explains.
    wrong : tuple of Element
        Elements that fail, worst first, eight at most.
    checked : int
        How many elements were compared one by one.
    excluded : int
        How many were left out since the function has a kink there.
    projections : int
        How many random directions were compared instead of the rest; 0 for small arrays.
    size : int
        Number of elements of the input.
    ok : bool
        Whether the gradient is right as far as it was compared.
    """

    name: str
    relative_error: float
    worst: Element | None
    wrong: tuple[Element, ...]
    checked: int
    excluded: int
    projections: int
    size: int
    ok: bool


@dataclass(frozen=True)
class Problem:
    """Something other than a wrong value that was noticed.

    Parameters
    ----------
    code : str
        Short name, such as ``nondeterministic`` or ``shape``.
    sentence : str
        What it is.
    fails : bool, default True
        Whether the check fails for it; remarks do not.
    name : str, default ""
        The input concerned, if it is one.
    """

    code: str
    sentence: str
    fails: bool = True
    name: str = ""


@dataclass(frozen=True)
class GradientReport:
    """The result of `check_gradients` and `check_layer`.

    Parameters
    ----------
    where : str
        Name of the function that was checked.
    entries : tuple of Entry
        One for each gradient that could be compared.
    problems : tuple of Problem
        What is wrong apart from values, and remarks.
    tolerance : float
        The largest relative error that passes.
    """

    where: str
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether everything that was checked is right."""
        return all(entry.ok for entry in self.entries) and not any(
            problem.fails for problem in self.problems
        )

    @property
    def worst(self) -> float:
        """The largest relative error; 0.0 if nothing was compared."""
        errors = [entry.relative_error for entry in self.entries if entry.checked]
        return float(np.max(errors)) if errors else 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """All problems and remarks as sentences."""
        return tuple(problem.sentence for problem in self.problems)

    @property
    def excluded(self) -> int:
        """How many elements were left out at kinks."""
        return sum(entry.excluded for entry in self.entries)

    def raise_if_failed(self) -> None:
        """Raise for a wrong gradient.

        Raises
        ------
        GradientMismatchError
            With the text of this report, if it is not ok.
        """
        if not self.ok:
            raise GradientMismatchError(str(self))

    def __str__(self) -> str:
        """Write one line for each input and each problem."""
        lines = [f"{self.where}: {'right' if self.ok else 'WRONG'}"]
        lines += [f"  {problem.sentence}" for problem in self.problems]
        for entry in self.entries:
            parts = [f"  {entry.name}: relative error {entry.relative_error:.1e}"]
            parts.append(f"{entry.checked} of {entry.size} elements")
            if entry.projections:
                parts.append(f"{entry.projections} random directions")
            if entry.excluded:
                parts.append(f"{entry.excluded} at kinks left out")
            lines.append(", ".join(parts))
            lines += [f"    {element}" for element in entry.wrong[:3]]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Show a table in a notebook."""
        rows = "".join(
            f"<tr><td>{escape(entry.name)}</td><td>{'right' if entry.ok else 'wrong'}</td>"
            f"<td>{entry.relative_error:.1e}</td><td>{entry.checked} of {entry.size}</td>"
            f"<td>{entry.excluded}</td>"
            f"<td>{escape('; '.join(map(str, entry.wrong[:3])))}</td></tr>"
            for entry in self.entries
        )
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        verdict = "right" if self.ok else "wrong"
        return (
            f"<p><strong>{escape(self.where)}: {verdict}</strong></p>"
            "<table><thead><tr><th>gradient by</th><th>verdict</th><th>relative error</th>"
            "<th>compared</th><th>at kinks</th><th>elements that differ</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>" + (f"<ul>{notes}</ul>" if notes else "")
        )
