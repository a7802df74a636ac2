"""What the gradient doctor says: causes with their evidence, as text and for notebooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

from chainrule.gradcheck.reports import GradientReport

__all__ = ["Cause", "Diagnosis"]


@dataclass(frozen=True)
class Cause:
    """A bug, or a remark about what is no bug.

    Parameters
    ----------
    code : str
        Short name of the kind, such as ``missing_mean``; ``unrecognised`` where a gradient is
        wrong for an unknown reason.
    sentence : str
        What the backward does wrong.
    evidence : tuple of str
        Lines that show it.
    """

    code: str
    sentence: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """The result of `diagnose`.

    Parameters
    ----------
    ok : bool
        Whether the gradients are right.
    causes : tuple of Cause
        What is wrong, best first; empty if nothing is.
    report : GradientReport
        The check that it rests on.
    remarks : tuple of Cause
        What is not wrong but differs from custom, such as a rectifier that passes the gradient at
        exactly 0.
    recognised : str
        What forward was recognised to compute; empty if that is not known.
    """

    ok: bool
    causes: tuple[Cause, ...]
    report: GradientReport
    remarks: tuple[Cause, ...] = field(default=())
    recognised: str = ""

    def __str__(self) -> str:
        """Write what a student reads."""
        name = self.report.where
        if self.ok:
            number = sum(entry.checked for entry in self.report.entries)
            lines = [f"{name}: the gradients are right ({number} elements compared)."]
        else:
            lines = [f"{name}: the gradients are WRONG."]
        for cause in self.causes:
            lines.append(f"  {_upper(cause.sentence)}  [{cause.code}]")
            lines += [f"    {line}" for line in cause.evidence]
        for remark in self.remarks:
            lines.append(f"  Remark: {remark.sentence}  [{remark.code}]")
            lines += [f"    {line}" for line in remark.evidence]
        shown = {cause.sentence for cause in self.causes}
        lines += [
            f"  Note: {problem.sentence}"
            for problem in self.report.problems
            if problem.sentence not in shown and problem.code != "shape"  # the evidence has it
        ]
        if self.report.excluded:
            lines.append(f"  {self.report.excluded} elements at kinks were left out.")
        if self.recognised and not self.ok:
            lines.append(f"  (forward was recognised as: {self.recognised})")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Show the causes, their evidence and the check in a notebook."""
        items = "".join(
            f"<li><strong>{escape(_upper(each.sentence))}</strong> <code>{escape(each.code)}</code>"
            + "".join(f"<br>{escape(line)}" for line in each.evidence)
            + "</li>"
            for each in (*self.causes, *self.remarks)
        )
        known = f"<p>forward computes: {escape(self.recognised)}</p>" if self.recognised else ""
        return (
            f"{known}<ol>{items}</ol>{self.report._repr_html_()}"
            if items
            else (known + self.report._repr_html_())
        )


def _upper(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
