"""The order in which examples are visited, and its exact continuation after an interruption."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import InputError, RunError, explain

__all__ = ["BatchIterator"]


class BatchIterator:
    """Endless epochs of shuffled index arrays.

    Parameters
    ----------
    num_examples : int
        Size of the training split, at least 1.
    batch_size : int
        Examples in a batch, at least 1; more than there are means all of them.
    rng : numpy.random.Generator
        Draws one permutation an epoch. It must belong to this iterator alone: its position is
        saved and restored with the iterator.
    drop_last : bool, default False
        Leave out the last batch of an epoch where it is smaller than the others.

    Raises
    ------
    InputError
        When a number is below 1.

    Notes
    -----
    Each epoch visits each example once (with `drop_last`, at most once). The state holds the
    generator's state before the current epoch's permutation was drawn, so that it is small and
    says all: a loaded iterator draws the same permutation again and goes on behind the batches
    already given.

    Examples
    --------
    >>> batches = BatchIterator(5, 2, np.random.default_rng(0))
    >>> [(epoch, len(indices)) for epoch, indices in (batches.next_batch() for _ in range(4))]
    [(0, 2), (0, 2), (0, 1), (1, 2)]
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        rng: np.random.Generator,
        drop_last: bool = False,
    ) -> None:
        for name, value in (("num_examples", num_examples), ("batch_size", batch_size)):
            if value < 1:
                raise InputError(explain("BatchIterator", name, "be at least 1", value))
        self._num_examples = num_examples
        self._batch_size = min(batch_size, num_examples)
        self._drop_last = drop_last
        self._rng = rng
        self._start_epoch(0)

    def _start_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._position = 0  # examples of this epoch already given
        self._rng_state = _to_json(self._rng.bit_generator.state)
        self._order = self._rng.permutation(self._num_examples)

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        full, rest = divmod(self._num_examples, self._batch_size)
        return full + bool(rest and not self._drop_last)

    def next_batch(self) -> tuple[int, np.ndarray]:
        """Give the next batch, beginning a new epoch where one has ended.

        Returns
        -------
        epoch : int
            The epoch this batch belongs to, counted from 0.
        indices : numpy.ndarray of int64, shape (B,)
            Examples to visit.
        """
        left = self._num_examples - self._position
        if left < (self._batch_size if self._drop_last else 1):
            self._start_epoch(self._epoch + 1)
        start = self._position
        self._position = min(start + self._batch_size, self._num_examples)
        return self._epoch, self._order[start : self._position]

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to continue, made of what JSON can hold.

        Returns
        -------
        dict
            ``num_examples``, ``batch_size``, ``drop_last``, ``epoch``, ``position`` (examples of
            the epoch already given) and ``rng`` (at the start of the epoch).
        """
        return {
            "num_examples": self._num_examples,
            "batch_size": self._batch_size,
            "drop_last": self._drop_last,
            "epoch": self._epoch,
            "position": self._position,
            "rng": self._rng_state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where the iterator that gave `state` stood.

        Parameters
        ----------
        state : dict
            From `state_dict`, perhaps by way of JSON.

        Raises
        ------
        RunError
            When the state belongs to another number of examples, batch size, `drop_last` or
            kind of generator, or is damaged. The iterator is then as it was.
        """
        own = self.state_dict()
        for key in own:
            if key not in state:
                raise RunError(explain("BatchIterator", "state", f"contain {key!r}", "none"))
        for key in ("num_examples", "batch_size", "drop_last"):
            if state[key] != own[key]:
                remedy = "Resume with the data and the settings of the saved run."
                raise RunError(explain("BatchIterator", key, f"be {own[key]}", state[key], remedy))
        epoch, position = state["epoch"], state["position"]
        if not (isinstance(epoch, int) and epoch >= 0):
            raise RunError(explain("BatchIterator", "epoch", "be a count", epoch))
        if not (isinstance(position, int) and 0 <= position <= self._num_examples):
            rule = f"lie in 0..{self._num_examples}"
            raise RunError(explain("BatchIterator", "position", rule, position))
        try:
            self._rng.bit_generator.state = state["rng"]
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            rule = f"be a state of {type(self._rng.bit_generator).__name__}"
            raise RunError(explain("BatchIterator", "rng", rule, error)) from error
        self._start_epoch(epoch)
        self._position = position


def _to_json(state: Any) -> Any:
    """Replace the arrays that some generators keep in their state (MT19937, SFC64) by lists."""
    if isinstance(state, dict):
        return {key: _to_json(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state
