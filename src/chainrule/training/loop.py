"""The training loop: mini-batches, evaluation, the best weights, reasons to stop.

A `Trainer` owns everything that changes while a network learns: the position in the data order,
the random generators, the record of progress and, by way of a `Learner`, the model's parameters
and the optimizer. `Trainer.state` gives all of it and `Trainer.restore` takes it back, so that a
run continued from a checkpoint goes on with the same bits.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.data import Augment, BatchIterator
from chainrule.errors import InputError, RunError, explain
from chainrule.records import Checkpoint, CheckpointStore, MetricsLog
from chainrule.training.config import Config
from chainrule.training.divergence import raise_if_evaluation_diverged
from chainrule.training.learner import (
    Arrays,
    Learner,
    MakeLearner,
    Model,
    NumpyLearner,
    best_weights,
    make_update_rule,
)
from chainrule.training.world import ALONE, World

__all__ = ["Callback", "History", "Trainer"]

FAST_STEPS = 5  # of training.fast_dev_run


class Callback:
    """What a progress bar or a notebook hangs into the loop; every method may be left out."""

    def on_start(self, trainer: Trainer) -> None:
        """Training begins or continues."""

    def on_step(self, record: Mapping[str, Any]) -> None:
        """One step is done."""

    def on_evaluation(self, record: Mapping[str, Any]) -> None:
        """An evaluation is done."""

    def on_end(self, history: History) -> None:
        """Training has ended, for whatever reason."""


@dataclass
class History:
    """What happened in training.

    Attributes
    ----------
    records : list of dict
        As in ``metrics.jsonl``, of this session.
    stopped : str
        Why training ended: ``completed``, ``patience``, ``max_time``, ``fast_dev_run`` or
        ``interrupted``.
    best : dict
        The best evaluation so far.
    seconds : float
        Time spent training and evaluating, in all sessions.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""
    best: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def series(self, key: str, kind: str = "evaluation") -> list[float]:
        """Return one number of all records of a kind, in order.

        Parameters
        ----------
        key : str
            Such as ``"val_accuracy"`` or, with kind ``"step"``, ``"loss"``.
        kind : {"evaluation", "step"}, default "evaluation"
            Which records.

        Returns
        -------
        list of float
            One for each record that has it.

        Examples
        --------
        >>> History([{"kind": "step", "loss": 2.3}]).series("loss", "step")
        [2.3]
        """
        return [r[key] for r in self.records if r["kind"] == kind and key in r]


class Trainer:
    """Trains a model.

    Parameters
    ----------
    model : Model
        With initial parameters; they are updated in place.
    train, val : Arrays
        Preprocessed splits; `val` may be empty.
    config : Config
        Sections ``optimizer``, ``schedule`` and ``training``, and the augmentation.
    rng : numpy.random.Generator
        Data order, augmentation and dropout draw from three children spawned from it.
    log : MetricsLog, optional
        Where records are streamed to.
    store : CheckpointStore, optional
        Where checkpoints go. Without it the best weights are kept in memory.
    callbacks : iterable of Callback, optional
        Called in order.
    learner : callable, default NumpyLearner
        What does the arithmetic: called with the model, the configuration, the schedule and the
        generator of dropout.
    world : World, default ALONE
        The processes that train together. All need the same data and configuration; `log`,
        `store` and `callbacks` are for the one that leads.
    processes : int, optional
        Number of processes that the run was begun with, by which ``batch_size`` is multiplied.
        Default: those of `world`.

    Raises
    ------
    InputError
        If there are no training examples, or batches too small for batch normalisation in each
        process.
    ConfigError
        If the optimizer or the schedule is not understood.

    Notes
    -----
    Each epoch visits each example once. There is one exception: where a network with batch
    normalisation would be left with a last batch of a single example, or of fewer than two for
    each of several processes, that batch, a different one in each epoch, is left out.

    Examples
    --------
    >>> from chainrule.models import two_layer
    >>> from chainrule.training import load_config
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((60, 4))
    >>> y = (x[:, 0] > 0).astype(np.int64)
    >>> model = two_layer(2, hidden=8)
    >>> _ = model.init(rng, (4,))
    >>> config = load_config(overrides=["epochs=30", "lr=0.05", "batch_size=20"])
    >>> trainer = Trainer(model, Arrays(x, y), Arrays(x, y), config, rng)
    >>> trainer.fit().best["val_accuracy"] > 0.95
    True
    """

    def __init__(
        self,
        model: Model,
        train: Arrays,
        val: Arrays,
        config: Config,
        rng: np.random.Generator,
        *,
        log: MetricsLog | None = None,
        store: CheckpointStore | None = None,
        callbacks: Iterable[Callback] = (),
        learner: MakeLearner = NumpyLearner,
        world: World = ALONE,
        processes: int | None = None,
    ) -> None:
        settings = config.training
        if len(train.x) == 0:
            raise InputError(explain("Trainer", "train", "hold at least one example", 0))
        self.world, self.processes = world, processes or world.size
        batch_size = settings.batch_size * self.processes
        if settings.overfit_batches:
            train = train.head(settings.overfit_batches * batch_size)
            val = train
        if settings.fast_dev_run:
            val = val.head(batch_size)
        self.model, self.train, self.val, self.config = model, train, val, config
        self.log, self.store, self.callbacks = log, store, list(callbacks)
        order, augment, noise = rng.spawn(3)
        # Batch statistics of one example mean nothing, and layers refuse to compute them.
        last = len(train.x) % batch_size
        drop_last = bool(model.buffers) and 0 < last < min(2 * self.processes, len(train.x))
        smallest = min(batch_size, len(train.x)) if drop_last or not last else last
        if model.buffers and world.size > 1 and smallest < 2 * world.size:
            rule = f"leave two examples of each batch to each of {world.size} processes"
            remedy = "Batch normalisation needs them."
            raise InputError(explain("Trainer", "batch_size", rule, smallest, remedy))
        self.batches = BatchIterator(len(train.x), batch_size, order, drop_last)
        self._generators = {"augment": augment, "model": noise}
        self.steps_per_epoch = self.batches.batches_per_epoch
        self.total_steps = settings.epochs * self.steps_per_epoch
        if settings.fast_dev_run:
            self.total_steps = min(FAST_STEPS, self.total_steps)
        self.schedule = make_update_rule(config, self.total_steps, self.steps_per_epoch)[1]
        self.learner: Learner = learner(model, config, self.schedule, noise)
        data = config.data
        change = Augment(data.flip, data.shift, data.cutout)
        self._stream = self.learner.stream(
            train, self.batches, (lambda x, *place: change(x, augment, *place)) if change else None
        )
        self.history = History()
        self.step = 0
        self.stop_requested = ""
        self._asked = ""  # why this or another process has to stop
        self._since_best = 0
        self._best_tensors: dict[str, np.ndarray] = {}
        self._layers_record: dict[str, Any] = {}

    def fit(self) -> History:
        """Train until a reason to stop, then put the best weights into the model.

        Returns
        -------
        History
            Records of this session, the best evaluation and why training ended.

        Raises
        ------
        DivergedError
            At the first loss, gradient or weight that is not finite.
        RunError
            If a file cannot be written; the last good checkpoint stays.
        """
        for callback in self.callbacks:
            callback.on_start(self)
        started = time.perf_counter() - self.history.seconds
        try:
            with np.errstate(all="ignore"):  # raise_if_diverged says more than a warning
                while not self.history.stopped:
                    record = self._take_step(started)
                    self._after_step(record, started)
        finally:
            for callback in self.callbacks:
                callback.on_end(self.history)
            self.learner.publish()
        if self.history.stopped != "interrupted":
            self._restore_best()
        return self.history

    def _take_step(self, started: float) -> dict[str, Any]:
        """Do one update; return its record."""
        before = time.perf_counter()
        x, y = next(self._stream)
        lr = self.schedule.lr_at(self.step)
        statistics = self._evaluation_due(self.step + 1)
        update = self.learner.step(x, y, self.step, self.history.records, statistics)
        self.step += 1
        now = time.perf_counter()
        self.history.seconds = now - started
        record = {
            "kind": "step",
            "step": self.step,
            "epoch": self.step / self.steps_per_epoch,
            "loss": update.loss,
        }
        if update.accuracy is not None:
            record["accuracy"] = update.accuracy
        record |= {
            "lr": lr,
            "images_per_second": len(y) / max(now - before, 1e-9),
            "seconds": self.history.seconds,
        }
        if statistics:
            self._layers_record = {
                "kind": "layers",
                "step": self.step,
                "epoch": record["epoch"],
                "layers": update.layers,
                "parameters": update.parameters,
            }
        return record

    def _after_step(self, record: dict[str, Any], started: float) -> None:
        """Log, evaluate, decide whether to stop, and save."""
        settings = self.config.training
        if self.step % settings.log_every == 0 or self.step in (1, self.total_steps):
            self._record(record)
        for callback in self.callbacks:
            callback.on_step(record)
        self._heed()
        evaluate_now = self._evaluation_due(self.step) or self._asked == "max_time"
        best = False
        if evaluate_now:
            best = self._evaluate(record["lr"])
            self._heed()
        self.history.stopped = self._reason_to_stop()
        self.history.seconds = time.perf_counter() - started
        every = settings.checkpoint_every
        due = evaluate_now if every is None else self.step % every == 0 or best
        if self.store is not None and (due or self.history.stopped):
            self.store.save(self.state(), best=best)

    def _evaluation_due(self, step: int) -> bool:
        every = self.config.training.eval_every
        interval = self.steps_per_epoch if every == "epoch" else every
        return step % interval == 0 or step == self.total_steps

    def _evaluate(self, lr: float) -> bool:
        """Evaluate on training and validation examples; return whether it is the best so far."""
        record: dict[str, Any] = {
            "kind": "evaluation",
            "step": self.step,
            "epoch": self.step / self.steps_per_epoch,
        }
        some = self.train.head(self.config.training.eval_train_examples)
        for split, arrays in (("train", some), ("val", self.val)):
            if len(arrays.x):
                loss, accuracy = self.learner.evaluate(arrays)
                raise_if_evaluation_diverged(
                    split, arrays.x, loss, self.step, lr, self.history.records
                )
                record[f"{split}_loss"] = loss
                if accuracy is not None:
                    record[f"{split}_accuracy"] = accuracy
        best = not self.history.best or _merit(record) > _merit(self.history.best)
        record |= {"lr": lr, "best": best, "seconds": self.history.seconds}
        self._since_best = 0 if best else self._since_best + 1
        if best:
            self.history.best = record
            if self.store is None:
                self._best_tensors = self.learner.weights()
        self._record(record)
        if self._layers_record.get("step") == self.step:  # not where max_time came in between
            self._record(self._layers_record)
        for callback in self.callbacks:
            callback.on_evaluation(record)
        return best

    def _reason_to_stop(self) -> str:
        settings = self.config.training
        if self.step >= self.total_steps:
            return "fast_dev_run" if settings.fast_dev_run else "completed"
        if settings.patience is not None and self._since_best >= settings.patience:
            return "patience"
        return self._asked

    def _heed(self) -> None:
        """Learn whether time is over, or this or another process was asked to stop."""
        max_time = self.config.training.max_time
        out_of_time = max_time is not None and self.history.seconds >= max_time
        self._asked = self.world.agree("max_time" if out_of_time else self.stop_requested)

    def _record(self, record: dict[str, Any]) -> None:
        self.history.records.append(record)
        if self.log is not None:
            self.log.append(record)

    def _restore_best(self) -> None:
        """Put the weights of the best evaluation into the model."""
        if self.store is not None:
            if not self.store.exists("best"):
                return
            checkpoint = self.store.load("best")
            params, buffers = best_weights(checkpoint)
        else:
            if not self._best_tensors:  # the best were those of an earlier session
                return
            found = Checkpoint(self._best_tensors, {})
            params, buffers = found.named("params"), found.named("buffers")
        self.learner.adopt(params, buffers)

    def state(self) -> Checkpoint:
        """Return everything that an identical continuation needs.

        Returns
        -------
        Checkpoint
            Parameters, buffers, optimizer state and averages; step, generators, position in
            the data order, best evaluation, length of the metrics log.
        """
        tensors, scalars = self.learner.state()
        state = {
            "step": self.step,
            "epoch": self.step / self.steps_per_epoch,
            "batches": self.batches.state_dict(),
            "generators": {k: g.bit_generator.state for k, g in self._generators.items()},
            "best": self.history.best,
            "since_best": self._since_best,
            "seconds": self.history.seconds,
            "stopped": self.history.stopped,
            "processes": self.processes,
            "data": self._fingerprint(),
            "metrics_bytes": 0 if self.log is None else self.log.sync(),
        }
        return Checkpoint(tensors, state | scalars)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to the state of a checkpoint.

        Parameters
        ----------
        checkpoint : Checkpoint
            From `state` of a trainer with the same configuration and data.

        Raises
        ------
        RunError
            If it belongs to another network or other training data.
        """
        state = checkpoint.state
        if state["data"] != self._fingerprint():
            raise RunError(
                "resume: the training data are not those that the run was started with. Put the "
                "same files back, or start a new run."
            )
        self.learner.restore(checkpoint)
        self.batches.load_state_dict(state["batches"])
        for key, generator in self._generators.items():
            generator.bit_generator.state = state["generators"][key]
        self.step = state["step"]
        self.history.best = state["best"]
        self.history.stopped = "" if state["stopped"] == "interrupted" else state["stopped"]
        self._since_best = state["since_best"]
        self.history.seconds = state["seconds"]

    def _fingerprint(self) -> str:
        """Identify the training data by shape, labels and a sample of the examples."""
        x, y = self.train.x, self.train.y
        digest = hashlib.sha256(f"{x.shape}{x.dtype}".encode())
        digest.update(y.tobytes())
        digest.update(x[:: max(1, len(x) // 500)].tobytes())
        return digest.hexdigest()


def _merit(record: Mapping[str, Any]) -> tuple[float, float]:
    """Order evaluations by validation accuracy, then validation loss, else training loss."""
    loss = record.get("val_loss", record.get("train_loss"))
    known = loss is not None and not math.isnan(loss)
    return float(record.get("val_accuracy", 0.0)), -float(loss) if known else -math.inf
