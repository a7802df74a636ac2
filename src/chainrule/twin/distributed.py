"""Several processes that train one network: how they meet, what they exchange, how they end.

The processes were started by ``torchrun``, or by anything else that sets the same environment
variables. They exchange gradients by `DistributedDataParallel`, over NCCL on GPUs and gloo on
CPUs. Everything else, a few numbers a step, goes over gloo. What is sent is numbers and JSON, never
a pickle, which whoever reaches the port could fill with code.

A process that fails leaves a note in the store that they met at. The others lose their connection
to it, find the note and end without a word; where there is none, it was killed, and the first to
see that says so.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist
from safetensors.numpy import load, save
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from chainrule.errors import ChainruleError, ConfigError, DivergedError, RunError, explain
from chainrule.records import Checkpoint
from chainrule.training.learner import activation_statistics
from chainrule.training.world import World

__all__ = ["DistributedWorld", "joined", "parallel", "pooled"]

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
FAILURE, LEADER, KILLED = "chainrule/failure", "chainrule/leader", "chainrule/killed"  # notes
TIMEOUT = timedelta(minutes=10)  # of a step; a machine that vanishes closes no connection
PATIENCE = timedelta(hours=2)  # while the data are downloaded and prepared
GRACE = 15.0  # seconds to wait for the leader's last words; torchrun kills after 30


class DistributedWorld(World):
    """Processes connected by `torch.distributed`.

    Parameters
    ----------
    environment : mapping of str to str
        ``RANK``, ``LOCAL_RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``, ``MASTER_PORT`` and, optionally,
        ``LOCAL_WORLD_SIZE``, as ``torchrun`` sets them.

    Raises
    ------
    ConfigError
        If a variable is missing or no number.
    RunError
        If the processes do not find each other.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.rank, self.local_rank, self.size = (_number(environment, k) for k in VARIABLES[:3])
        _number(environment, "MASTER_PORT")
        _text(environment, "MASTER_ADDR")
        self.local_size = int(environment.get("LOCAL_WORLD_SIZE", self.size))
        gpus = torch.cuda.is_available() and dist.is_nccl_available()
        try:
            self._store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if gpus else "gloo",
                store=self._store,
                rank=self.rank,
                world_size=self.size,
                timeout=TIMEOUT,
            )
            self._patient = dist.new_group(backend="gloo", timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            where = f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
            raise RunError(
                f"process {self.rank}: the {self.size} processes could not be connected at {where} "
                f"({error}). Start all of them with torchrun."
            ) from error

    def total(self, values: np.ndarray) -> np.ndarray:
        """Add up the numbers of all processes.

        Parameters
        ----------
        values : ndarray, float64
            Of the same shape everywhere.

        Returns
        -------
        ndarray, float64
            The sum, the same to the last bit everywhere.
        """
        numbers = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(numbers)
        return numbers.numpy()

    def gather(self, text: str) -> list[str]:
        """Return the texts of all processes, in order."""
        return [self._send(text.encode(), source).decode() for source in range(self.size)]

    def give(self, make: Callable[[], Checkpoint]) -> None:
        """As the leader, hand something to the others.

        Parameters
        ----------
        make : callable
            Returns it.
        """
        given = make()
        self._send(json.dumps(given.state).encode(), 0)
        self._send(save({k: np.asarray(v, order="C") for k, v in given.tensors.items()}), 0)

    def take(self) -> Checkpoint:
        """Return what the leader gives."""
        state = json.loads(self._send(b"", 0))
        tensors = load(self._send(b"", 0))
        return Checkpoint({key: np.array(value) for key, value in tensors.items()}, state)

    def wait(self) -> None:
        """Go on when all processes have come here."""
        dist.barrier(self._patient)

    def _send(self, content: bytes, source: int) -> bytes:
        """Return the content that one process has."""
        size = torch.tensor([len(content)])
        dist.broadcast(size, source, self._patient)
        data = torch.zeros(int(size), dtype=torch.uint8)
        if self.rank == source:
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else data
        if len(data):
            dist.broadcast(data, source, self._patient)
        return data.numpy().tobytes()

    def leave(self) -> None:
        """Disconnect, all at once."""
        with suppress(RuntimeError):  # the others may have gone while they still waited
            self.wait()
        dist.destroy_process_group()

    def fail(self, error: BaseException) -> NoReturn:
        """End this process, so that all processes together say what happened once.

        Parameters
        ----------
        error : BaseException
            What ended it.

        Raises
        ------
        BaseException
            The error, where it is for this process to report it.
        RunError
            If another process was killed and this one is the first to say so.
        SystemExit
            If another process reports it, with the exit code of that.
        """
        if isinstance(error, KeyboardInterrupt) and _disconnected(error.__context__):
            assert error.__context__ is not None
            error = error.__context__  # torchrun ends us because of what we have seen already
        if _disconnected(error):
            self._outlive(error)
        code = error.exit_code if isinstance(error, ChainruleError) else 1
        code = 130 if isinstance(error, KeyboardInterrupt) else code
        with suppress(RuntimeError):
            self._store.compare_set(FAILURE, "", str(code))
            if self.leads:
                self._store.set(LEADER, str(code))
            elif isinstance(error, DivergedError | KeyboardInterrupt):  # then the leader has it too
                deadline = time.monotonic() + GRACE
                while time.monotonic() < deadline:
                    if self._store.check([LEADER]):
                        raise SystemExit(code)
                    time.sleep(0.05)
        raise error

    def _outlive(self, error: BaseException) -> NoReturn:
        """End because another process has."""
        with suppress(RuntimeError):  # where the store has gone too, each speaks for itself
            if self._store.check([FAILURE]):
                raise SystemExit(int(self._store.get(FAILURE)))
            if self._store.add(KILLED, 1) > 1:
                raise SystemExit(RunError.exit_code)
        advice = f"Continue with: {self.resume_command(self.run)}" if self.run else ""
        raise RunError(
            "training: another process of this job was killed or lost, so all of it ends here. "
            f"What was saved stays. {advice}".strip()
        ) from error


@contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[World]:
    """Connect this process with the others that were started with it.

    Parameters
    ----------
    environment : mapping of str to str
        What the launcher says.

    Yields
    ------
    World
        Of all of them.

    Raises
    ------
    ConfigError
        If the environment is not that of a launcher.
    RunError
        If the processes do not find each other, or one of them was killed.
    SystemExit
        If another process has failed, and says why.
    """
    world = DistributedWorld(environment)

    def end(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {n: signal.signal(n, end) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield world
        world.leave()
    except BaseException as error:
        for number in before:  # torchrun ends all when one has failed: let the last words be said
            signal.signal(number, signal.SIG_IGN)
        world.fail(error)
    for number, handler in before.items():
        signal.signal(number, handler)


def parallel(network: nn.Module, world: World, device: torch.device) -> nn.Module:
    """Return what computes a network's scores in training, in one process or several.

    Parameters
    ----------
    network : nn.Module
        Its parameters and its names stay as they are. On a GPU its batch normalisation is made to
        take its statistics from all processes.
    world : World
        Who trains.
    device : torch.device
        Where the network is.

    Returns
    -------
    nn.Module
        The network itself, or a `DistributedDataParallel` around it.
    """
    if world.size == 1:
        return network
    if device.type == "cuda":
        torch.cuda.set_device(device)
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        for module in network.modules():
            if isinstance(module, nn.SyncBatchNorm) and module.num_batches_tracked is None:
                del module.num_batches_tracked  # counted, yet no part of the network's state
                module.num_batches_tracked = torch.zeros((), dtype=torch.long)
    return DistributedDataParallel(network, [device] if device.type == "cuda" else None)


def pooled(
    outputs: Mapping[str, np.ndarray], weight: float, world: World
) -> dict[str, dict[str, float]]:
    """Describe the outputs of layers for a batch, of which each process has its part.

    Parameters
    ----------
    outputs : mapping of str to ndarray
        By layer, for this process's part of the batch.
    weight : float
        Share of the batch that this part is.
    world : World
        Who trains.

    Returns
    -------
    dict of str to dict
        By layer, as from `chainrule.training.learner.activation_statistics`; of the whole batch.
    """
    if world.size == 1:
        return {name: activation_statistics(out) for name, out in outputs.items()}
    moments = np.zeros((len(outputs), 3))
    for row, out in zip(moments, outputs.values(), strict=True):
        if weight:
            mean, std, zeros = activation_statistics(out).values()
            row[:] = weight * mean, weight * (std**2 + mean**2), weight * zeros
    moments = world.total(moments)
    moments[:, 1] = np.sqrt(np.maximum(moments[:, 1] - moments[:, 0] ** 2, 0))
    keys = ("activation_mean", "activation_std", "activation_zeros")
    rows = zip(outputs, moments.tolist(), strict=True)
    return {name: dict(zip(keys, row, strict=True)) for name, row in rows}


def _disconnected(error: BaseException | None) -> bool:
    """Say whether an error is that a message did not get through."""
    if isinstance(error, dist.DistError):
        return True
    return type(error) is RuntimeError and "gloo" in str(error).lower()


def _text(environment: Mapping[str, str], name: str) -> str:
    """Return a variable that a launcher sets."""
    found = environment.get(name, "")
    if not found:
        rule = f"be set where WORLD_SIZE is {environment.get('WORLD_SIZE')}"
        remedy = "Start the processes with torchrun, or unset WORLD_SIZE for one alone."
        raise ConfigError(explain("environment", name, rule, "nothing", remedy))
    return found


def _number(environment: Mapping[str, str], name: str) -> int:
    found = _text(environment, name)
    if not found.isdecimal():
        raise ConfigError(explain("environment", name, "be a number", repr(found)))
    return int(found)
