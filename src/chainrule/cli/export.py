"""``chainrule export``: a run's network for other programs.

Nothing is imported before the command runs, as for all commands.
"""

from __future__ import annotations

from argparse import Namespace

from chainrule.cli.parser import Command, argument, choice
from chainrule.cli.settings import JSON, RUN

__all__ = ["EXPORT"]


def _export(options: Namespace) -> int:
    """Write the best network of a run in another format."""
    from chainrule.cli import output
    from chainrule.twin import require_torch

    require_torch("export")
    from chainrule.twin.export import export_run

    made = export_run(options.run, options.format, options.output)
    record = {
        "file": str(made.path),
        "preprocessing": str(made.preprocessing),
        "difference": made.difference,
        "checked_by": made.checked_by,
    }
    lines = [
        f"network        {made.path}",
        f"preprocessing  {made.preprocessing}",
        f"checked        by {made.checked_by}: scores within {made.difference:.1e} of NumPy's",
    ]
    output.show_record("\n".join(lines), record, options.json)
    return 0


EXPORT = Command(
    "export",
    "Write the best network of a run for other programs.",
    "RUN [options]",
    _export,
    (
        RUN,
        argument(
            "--format",
            type=choice("safetensors", "onnx", "torch"),
            default="safetensors",
            metavar="FORMAT",
            help="safetensors (default), onnx, or torch for a program of torch.export",
        ),
        argument(
            "--output", metavar="FILE", help="file to write (default: in the run's folder export)"
        ),
        JSON,
    ),
    (
        "chainrule export runs/20260101T120000Z_convnet_mnist --format onnx",
        "chainrule export runs/20260101T120000Z_convnet_mnist --output net.safetensors",
    ),
    "The file takes preprocessed examples and gives scores; it is read back and its\n"
    "scores are compared with NumPy's. The exit code is 5 if they differ.\n",
)
