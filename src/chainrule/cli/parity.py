"""``chainrule parity``: do NumPy and PyTorch train a network alike, and where do they part?

Nothing is imported before the command runs, as for all commands.
"""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from chainrule.cli.parser import Command, argument
from chainrule.cli.settings import CONFIGURATION, JSON, SETTINGS, configuration
from chainrule.errors import ConfigError

if TYPE_CHECKING:
    from chainrule.twin.parity import ParityReport

__all__ = ["PARITY"]


def _parity(options: Namespace) -> int:
    """Train with both backends side by side and compare every tensor."""
    from dataclasses import asdict

    from chainrule.cli import output
    from chainrule.twin import require_torch

    if options.steps < 1:
        raise ConfigError(f"parity: --steps must be at least 1; got {options.steps}.")
    config = configuration("parity", options)
    require_torch("parity")
    from chainrule.twin.parity import compare_backends, raise_if_parted

    report = compare_backends(config, options.steps)
    record = asdict(report) | {
        "largest": report.largest,
        "tensors": [asdict(row) for row in report.tensors()],
        "agree": report.diverged is None,
    }
    output.show_record(_text(report), record, options.json)
    raise_if_parted(report)
    return 0


def _text(report: ParityReport) -> str:
    """Lay a report out for a terminal."""
    count = len(report.steps)
    lines = [
        f"{report.model} on {report.data}, {report.optimizer}, batches of {report.batch_size}, "
        "float64",
        "",
        "largest difference between NumPy and PyTorch over "
        f"{count} step{'s' * (count > 1)}, of tensors up to 1 absolute, of larger ones relative:",
        "",
    ]
    tensors = report.tensors()
    width = max(len(row.tensor) for row in tensors)
    for row in tensors:
        size = f"{row.difference:9.2e}  at step {row.step}"
        flag = "  PARTED" if row.difference > report.tolerance else ""
        lines.append(f"  {row.kind:10}  {row.tensor:{width}}  {size}{flag}")
    verdict = "the backends agree" if report.diverged is None else "THE BACKENDS PART"
    lines += ["", f"{verdict} (tolerance {report.tolerance:g})"]
    if report.conventions:
        lines += ["", "conventions that differ, and what the other one would change here:"]
    for each in report.conventions:
        effect = "nothing here" if each.effect is None else f"{each.effect:.2g} in {each.measured}"
        lines += [
            "",
            f"  {each.name}: {effect}",
            f"    chainrule  {each.chainrule}",
            f"    other      {each.other}" + (f"  [{each.option}]" if each.option else ""),
        ]
    return "\n".join(lines)


PARITY = Command(
    "parity",
    "Train with NumPy and PyTorch in lock-step; compare each tensor.",
    "MODEL [KEY=VALUE ...] [options]",
    _parity,
    (
        *CONFIGURATION,
        argument(
            "--steps", metavar="N", type=int, default=200, help="updates to compare (default: 200)"
        ),
        JSON,
    ),
    (
        "chainrule parity convnet --data digits --steps 50",
        "chainrule parity mlp norm=batch optimizer.name=rmsprop --json",
    ),
    SETTINGS + "\nAll arithmetic is in float64. The exit code is 5 if the backends part.\n",
)
