"""The process that a test runs in: read a job, guard oneself, run the student's code, answer.

Started as ``python -I -S -c "..." DESCRIPTOR`` with the job on standard input. The answer and the
notes of how far it came go to the pipe DESCRIPTOR as frames: one letter, a length, the content.
Letters: R ready, P progress, F the final answer.
"""

from __future__ import annotations

import os
import struct
import sys
from importlib import import_module
from typing import Any

import numpy as np

from .calls import Machine, plain, seed_numpy
from .codec import decode, encode
from .compat import add_old_names
from .guard import add_audit_hook, set_limits
from .im2col import add_im2col

__all__ = ["main"]


def main(descriptor: int) -> None:
    """Run one job and end the process, whatever threads the student's code left running."""
    with open(0, "rb", closefd=False) as stream:
        job = decode(stream.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    leave, write, pack = os._exit, os.write, struct.pack  # before student code could replace them

    def send(kind: bytes, content: bytes) -> None:
        rest = memoryview(kind + pack("<I", len(content)) + content)
        while rest:
            rest = rest[write(descriptor, rest) :]

    home = job["home"]
    sys.path[:] = [home, *sys.path, *job["paths"]]
    sys.dont_write_bytecode = True
    os.chdir(home)
    doctor = _load_doctor(job) if job["kind"] == "diagnose" else None
    add_old_names()
    add_im2col()
    refused = set_limits(job["limits"])
    # A diagnosis is not scored, and the doctor may import more of itself later.
    _forbid([name for name in job["forbid"] if doctor is None or name != "chainrule"])
    if job["audit"]:
        readable = [p for p in sys.path if p] + job["readable"]
        add_audit_hook(readable, job["writable"])
    machine = Machine(home, lambda words: send(b"P", words.encode()))
    send(b"R", ",".join(refused).encode())
    if doctor is None:
        result = machine.run(job["script"])
    else:
        result = _diagnose(doctor, machine, job["diagnosis"])
    sys.stdout.flush()
    sys.stderr.flush()
    send(b"F", encode(result))
    leave(0)


class _Forbidden:
    """Finds forbidden modules before anyone else does, and refuses them."""

    def __init__(self, names: list[str]) -> None:
        self.names = frozenset(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in self.names:
            raise ImportError(f"a submission may not import {name.partition('.')[0]}")


def _forbid(names: list[str]) -> None:
    sys.meta_path.insert(0, _Forbidden(names))


def _load_doctor(job: dict[str, Any]) -> Any:
    sys.path.append(job["doctor"])
    return import_module("chainrule.gradcheck").diagnose


def _diagnose(diagnose: Any, machine: Machine, about: dict[str, Any]) -> dict[str, Any]:
    """Ask the doctor about functions of the submission.

    `about` has the targets ``forward`` and ``backward``, or ``loss``, one function that returns
    a loss and its gradient, or ``net``, see `Plan.diagnose_net`; ``inputs``, the first arguments,
    by name; and ``after``, the further ones.
    """
    module, _, name = str(about.get("forward") or about.get("loss") or about["net"]).partition(":")
    owner = machine.load(module)
    function = getattr(owner, name)
    seed, wrt = about.get("seed", 0), about.get("wrt")

    def forward(**inputs: np.ndarray) -> Any:
        seed_numpy(seed)
        if "net" in about:
            loss, gradients = _network(function, machine, about, inputs)
            return loss, [gradients[key] for key in about["wrt"]]
        out = function(*inputs.values(), *machine.value(about["after"]))
        return out[:2]  # output and cache, or loss and gradient

    def scaled(dout: Any, gradient: Any) -> Any:
        return tuple(dout * each for each in gradient) if "net" in about else dout * gradient

    backward = scaled
    if "backward" in about:
        backward = getattr(owner, about["backward"].partition(":")[2])
    forward.__name__ = name
    rng = np.random.default_rng(seed)
    found = diagnose(forward, backward, about["inputs"], rng=rng, wrt=wrt)
    causes = [[str(c.sentence), *(str(line) for line in c.evidence)] for c in found.causes]
    answer: dict[str, Any] = plain({"ok": bool(found.ok), "causes": causes})
    return answer


def _network(
    function: Any, machine: Machine, about: dict[str, Any], inputs: dict[str, np.ndarray]
) -> Any:
    params = {key: inputs[key] for key in about["wrt"]}
    if "options" not in about:
        return function(inputs["X"], params, inputs["y"], about["reg"])
    net = function(**machine.value(about["options"]))
    net.params.update(params)
    return net.loss(inputs["X"], inputs["y"])
