"""The processes that train together, as training sees them; this room knows of one alone.

Each process of a world takes its part of every batch, and all end each step with the same weights.
The first one leads: it alone reads and writes files, and the others learn from it what they need.
`chainrule.twin.joined` connects the processes that ``torchrun`` started.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from chainrule.errors import InputError, explain
from chainrule.records import Checkpoint

__all__ = ["ALONE", "World"]


class World:
    """One process that trains alone, and what several that train together have in common.

    Attributes
    ----------
    rank : int
        Number of this process, from 0.
    local_rank : int
        Its number on its machine, from 0.
    size, local_size : int
        Number of processes, on all machines and on this one.
    run : str
        The run directory, once it is known.

    Examples
    --------
    >>> ALONE.leads, ALONE.part(10), ALONE.total(np.ones(2)), ALONE.agree("max_time")
    (True, slice(0, 10, None), array([1., 1.]), 'max_time')
    """

    rank = 0
    local_rank = 0
    size = 1
    local_size = 1
    run = ""

    @property
    def leads(self) -> bool:
        """Whether this is the process that reads and writes files."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """Return which of so many things fall to this process: a run of them, no two sizes apart.

        Parameters
        ----------
        count : int
            How many there are.

        Returns
        -------
        slice
            Those of all processes, in order, are all of them. It may be empty.
        """
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

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
        return values

    def gather(self, text: str) -> list[str]:
        """Return the texts of all processes, in order."""
        return [text]

    def give(self, make: Callable[[], Checkpoint]) -> None:
        """As the leader, hand something to the others, made only if there are any."""

    def take(self) -> Checkpoint:
        """Return what the leader gives; for one alone an error."""
        remedy = "Call train_run or resume_run."
        raise InputError(explain("World", "size", "be 2 or more, to follow", self.size, remedy))

    def wait(self) -> None:
        """Go on when all processes have come here."""

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Let the first process of each machine go before its others, which find what it fetched.

        Yields
        ------
        None
        """
        if self.local_rank:
            self.wait()
        yield
        if not self.local_rank:
            self.wait()

    def agree(self, reason: str) -> str:
        """Let every process know why one of them has to stop.

        Parameters
        ----------
        reason : str
            Of this process; empty if it may go on.

        Returns
        -------
        str
            That of the first process which has one; the same everywhere.
        """
        if not self.total(np.array([float(bool(reason))]))[0]:
            return ""
        return next(filter(None, self.gather(reason)))

    def resume_command(self, run: str | Path) -> str:
        """Return the command that continues a run with as many processes.

        Parameters
        ----------
        run : path
            The run directory.

        Returns
        -------
        str
            For a shell.

        Examples
        --------
        >>> ALONE.resume_command("runs/a b")
        "chainrule train --resume 'runs/a b'"
        """
        launcher = ""
        if self.size > 1:
            machines = self.size // self.local_size
            nodes = f" --nnodes {machines} --rdzv-backend c10d --rdzv-endpoint HOST:PORT"
            launcher = f"torchrun{nodes * (machines > 1)} --nproc-per-node {self.local_size} -m "
        return f"{launcher}chainrule train --resume {shlex.quote(str(run))}"


ALONE = World()
"""A process that trains alone."""
