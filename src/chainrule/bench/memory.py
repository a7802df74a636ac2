"""Peak memory of a training step, measured by the system."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from chainrule.bench.contest import CHAINRULE, CHANNELS_LAST, EAGER, load_torch
from chainrule.bench.steps import step_of
from chainrule.errors import RunError

__all__ = ["MEASURED", "report_step_bytes", "step_memory"]

MEASURED = (
    "The largest resident memory of a process of its own that has done five training steps, less "
    "that of the same process after steps with one image (VmHWM of /proc). It counts what "
    "a step holds at a time, whatever library allocated it: activations, gradients, scratch, and "
    "the memory that an allocator keeps; not the libraries, the parameters and the images."
)
_STATUS = Path("/proc/self/status")
_STEPS = 5


def step_memory(network: str, batch: int, threads: int) -> dict[str, int]:
    """Measure how much memory a training step needs, in chainrule and in PyTorch.

    Parameters
    ----------
    network : str
        As for `chainrule.bench.steps.step_of`.
    batch : int
        Number of images.
    threads : int
        Threads of each.

    Returns
    -------
    dict of str to int
        Bytes by form, as `MEASURED` says; empty on systems other than Linux, which do not tell.

    Raises
    ------
    RunError
        If a measuring process fails.
    """
    if not _STATUS.is_file():
        return {}
    code = f"from {__name__} import report_step_bytes; report_step_bytes()"
    found = {}
    for form in (CHAINRULE, EAGER, CHANNELS_LAST):
        words = [network, str(batch), form, str(threads)]
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RunError(f"bench: measuring the memory of {network} in {form} failed: {last}")
        found[form] = int(json.loads(done.stdout))
    return found


def report_step_bytes() -> None:
    """Measure one form in this process, which has done nothing else; write the bytes as JSON.

    Network, batch, form and threads are the words of the command line.
    """
    from chainrule.training.environment import limited_threads

    network, batch, form, threads = sys.argv[1:]
    if form != CHAINRULE:
        load_torch().set_num_threads(int(threads))
    with limited_threads(int(threads)):
        small, _ = step_of(network, form, 1)
        step, _ = step_of(network, form, int(batch))
        for _ in range(_STEPS):
            small()
        before = _peak_bytes()
        for _ in range(_STEPS):
            step()
        sys.stdout.write(json.dumps(_peak_bytes() - before))


def _peak_bytes() -> int:
    """The largest resident memory of this process so far."""
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="utf-8"), re.M)
    return 1024 * int(kilobytes)
