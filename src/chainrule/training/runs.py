"""Runs: from a configuration to a run directory, and on from its checkpoint."""

from __future__ import annotations

import signal
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from chainrule.data import preprocessor_from_state
from chainrule.errors import ConfigError, DivergedError, RunError, explain
from chainrule.models import Sequential
from chainrule.records import (
    Checkpoint,
    MetricsLog,
    RunDirectory,
    new_run_directory,
    save_tensors,
    write_json,
)
from chainrule.training.config import Config, load_config
from chainrule.training.environment import describe_environment, limited_threads, session_record
from chainrule.training.evaluation import MeanOfViews
from chainrule.training.finished import load_preprocessor, load_run, write_evaluation
from chainrule.training.learner import MakeLearner, NumpyLearner
from chainrule.training.loop import Callback, History, Trainer
from chainrule.training.preparation import Prepared, generator, prepare
from chainrule.training.world import ALONE, World

__all__ = [
    "BACKENDS",
    "Backend",
    "TrainedRun",
    "follow_run",
    "numpy_backend",
    "resume_run",
    "train_run",
]

Message = Callable[[str], None]
Backend = Callable[[Config, World], MakeLearner]


def numpy_backend(config: Config, world: World = ALONE) -> MakeLearner:
    """Return what makes learners of chainrule's own layers.

    Parameters
    ----------
    config : Config
        Its section ``backend`` must leave PyTorch's options at their defaults.
    world : World, default ALONE
        Must be one process.

    Returns
    -------
    callable
        `NumpyLearner`.

    Raises
    ------
    ConfigError
        If an option of PyTorch is set, or there are several processes.

    Examples
    --------
    >>> numpy_backend(load_config()).__name__
    'NumpyLearner'
    """
    if world.size > 1:
        rule = f"be 'torch' for {world.size} processes"
        remedy = "Set backend.name=torch (--backend torch), or start one process without torchrun."
        raise ConfigError(explain("configuration", "backend.name", rule, "'numpy'", remedy))
    default = type(config.backend)()
    for key, value in config.backend:
        if key != "name" and value != getattr(default, key):
            rule = f"be {getattr(default, key)!r} with the backend 'numpy'"
            remedy = "Only PyTorch has it: set backend.name=torch."
            raise ConfigError(explain("configuration", f"backend.{key}", rule, repr(value), remedy))
    return NumpyLearner


BACKENDS: Mapping[str, Backend] = MappingProxyType({"numpy": numpy_backend})
"""What this room can train with; `chainrule.twin.BACKENDS` adds PyTorch."""


@dataclass(frozen=True)
class TrainedRun:
    """What training leaves behind.

    Attributes
    ----------
    run : RunDirectory
        Where everything is on the disk.
    history : History
        Records of this session and the best evaluation.
    model : Sequential
        With the best weights.
    """

    run: RunDirectory
    history: History
    model: Sequential


def train_run(
    config: Config,
    root: str | Path = "runs",
    *,
    start: str | Path | None = None,
    backends: Mapping[str, Backend] = BACKENDS,
    callbacks: Iterable[Callback] = (),
    message: Message | None = None,
    world: World = ALONE,
) -> TrainedRun:
    """Train as a configuration says, into a new run directory.

    Parameters
    ----------
    config : Config
        Everything that determines the run.
    root : path, default "runs"
        The folder of runs.
    start : path, optional
        A run, of any backend, whose best weights and fitted preprocessing are started from.
    backends : mapping, default BACKENDS
        By the names that ``backend.name`` may have; `chainrule.twin.BACKENDS` has PyTorch too.
    callbacks : iterable of Callback, optional
        Progress bars and the like.
    message : callable, optional
        Told in one sentence what a person should know.
    world : World, default ALONE
        The processes that train together, of which this one leads; the others call `follow_run`.

    Returns
    -------
    TrainedRun
        Run directory, history and the model with its best weights.

    Raises
    ------
    ChainruleError
        Where data, configuration, training or disk fail. What was saved stays.

    Examples
    --------
    >>> import tempfile
    >>> config = load_config(overrides=["data.name=digits", "epochs=2", "lr=0.01"])
    >>> trained = train_run(config, tempfile.mkdtemp())
    >>> trained.history.stopped, sorted(p.name for p in trained.run.path.glob("*.toml"))
    ('completed', ['config.toml'])
    """
    make_learner = _backend(config, backends, world)
    with limited_threads(config.threads):
        prepared = prepare(config) if start is None else _continued(config, Path(start))
        labels = [prepared.config.model.name, Path(prepared.config.data.name).stem]
        run = new_run_directory(Path(root), labels, prepared.config.to_toml().encode())
        write_json(run.path / "environment.json", describe_environment() | {"sessions": []})
        return _run(prepared, run, "train", make_learner, callbacks, message or _silent, world)


def resume_run(
    path: str | Path,
    *,
    backends: Mapping[str, Backend] = BACKENDS,
    callbacks: Iterable[Callback] = (),
    message: Message | None = None,
    world: World = ALONE,
) -> TrainedRun:
    """Continue a run that was interrupted, to the same bits it would have reached.

    Parameters
    ----------
    path : path
        The run directory.
    backends : mapping, default BACKENDS
        As for `train_run`.
    callbacks : iterable of Callback, optional
        Progress bars and the like.
    message : callable, optional
        Told when a damaged checkpoint was passed over.
    world : World, default ALONE
        As for `train_run`. There may be more or fewer processes than before: together they take
        the same batches.

    Returns
    -------
    TrainedRun
        As `train_run`. A run that had finished is evaluated and otherwise left alone.

    Raises
    ------
    RunError
        If there is no such run, no checkpoint is intact, or the data have changed.

    Examples
    --------
    >>> import tempfile
    >>> class Impatient(Callback):
    ...     def on_start(self, trainer):
    ...         trainer.stop_requested = "interrupted"
    >>> config = load_config(overrides=["epochs=2"])
    >>> begun = train_run(config, tempfile.mkdtemp(), callbacks=[Impatient()])
    >>> begun.history.stopped, resume_run(begun.run.path).history.stopped
    ('interrupted', 'completed')
    """
    run = RunDirectory(path)
    config = load_config(run.path / "config.toml")
    make_learner = _backend(config, backends, world)
    with limited_threads(config.threads):
        preprocessor = None
        if run.preprocessing_path.is_file() and _has_checkpoint(run):
            preprocessor = load_preprocessor(run)
        prepared = prepare(config, preprocessor)
        return _run(prepared, run, "resume", make_learner, callbacks, message or _silent, world)


def follow_run(world: World, *, backends: Mapping[str, Backend] = BACKENDS) -> History:
    """Train along with the process that leads, which is in `train_run` or `resume_run`.

    Parameters
    ----------
    world : World
        The processes that train together. Configuration, fitted preprocessing and state come from
        the leader; the data are read here, and nothing is written.
    backends : mapping, default BACKENDS
        As for `train_run`.

    Returns
    -------
    History
        As the leader's.

    Raises
    ------
    ChainruleError
        Where data or training fail, here or in another process.

    Examples
    --------
    >>> follow_run(ALONE)
    Traceback (most recent call last):
    ...
    chainrule.errors.InputError: World: size must be 2 or more, to follow; got 1. \
Call train_run or resume_run.
    """
    given = world.take()
    config = load_config(tomllib.loads(given.state["config"]))
    world.run = given.state["run"]
    make_learner = _backend(config, backends, world)
    with limited_threads(config.threads):
        preprocessor = preprocessor_from_state(given.tensors, given.state["preprocessing"])
        with world.in_turn():
            prepared = prepare(config, preprocessor)
        trainer = _trainer(prepared, make_learner, world, given.state["processes"])
        trainer.restore(world.take())
        with _stop_on_signal(trainer):
            return trainer.fit()


def _run(
    prepared: Prepared,
    run: RunDirectory,
    command: str,
    make_learner: MakeLearner,
    callbacks: Iterable[Callback],
    message: Message,
    world: World,
) -> TrainedRun:
    """Train into a run directory, from its checkpoint where it has one."""
    store, checkpoint = run.checkpoints, None
    if command == "resume" and _has_checkpoint(run):
        checkpoint, problems = store.recover()
        for problem in problems:
            message(f"{problem} Continuing from the checkpoint before it.")
    elif command == "resume":
        message("No checkpoint had been written yet: starting this run from its beginning.")
    tensors, options = prepared.preprocessor.state()
    if checkpoint is None:
        save_tensors(run.preprocessing_path, tensors, options)
        splits = prepared.splits
        write_json(
            run.data_path,
            {
                "name": splits.name,
                "classes": list(splits.classes),
                "input_shape": list(splits.input_shape),
                "num_train": len(splits.train),
                "num_val": len(splits.val),
                "num_test": len(splits.test),
            },
        )
    state = {} if checkpoint is None else checkpoint.state
    processes = state.get("processes", 1) if state else world.size
    world.run = str(run.path)
    about = {
        "run": world.run,
        "config": prepared.config.to_toml(),
        "preprocessing": options,
        "processes": processes,
    }
    world.give(lambda: Checkpoint(tensors, about))
    with world.in_turn():  # this process has its data already
        pass
    with MetricsLog(run.metrics_path, state.get("metrics_bytes", 0)) as log:
        trainer = _trainer(
            prepared, make_learner, world, processes, log=log, store=store, callbacks=callbacks
        )
        if checkpoint is not None:
            trainer.restore(checkpoint)
        world.give(trainer.state)
        if world.size > 1 or processes > 1:
            message(_who_trains(trainer))
        _add_session(run, command, trainer)
        try:
            with _stop_on_signal(trainer):
                history = trainer.fit()
        except DivergedError:
            _end_session(run, "diverged")
            raise
    if history.stopped != "interrupted" and len(prepared.val.x):
        judged = MeanOfViews(prepared.model, prepared.config.data.tta)
        write_evaluation(run, judged, "val", prepared.splits, prepared.val)
    return TrainedRun(run, history, prepared.model)


def _trainer(
    prepared: Prepared, learner: MakeLearner, world: World, processes: int, **options: Any
) -> Trainer:
    """Make the trainer of a run."""
    return Trainer(
        prepared.model,
        prepared.train,
        prepared.val,
        prepared.config,
        generator(prepared.config, "training"),
        learner=learner,
        world=world,
        processes=processes,
        **options,
    )


def _who_trains(trainer: Trainer) -> str:
    """Say how many processes train, and what has changed where they are not as many as before."""
    count, before = trainer.world.size, trainer.processes
    examples = trainer.config.training.batch_size * before
    text = f"{count} process{'es' * (count > 1)} on batches of {examples} examples in all"
    if count != before:
        text += f", as the {before} that the run was begun with"
    return f"{text}: {trainer.learner.describe()}."


def _backend(config: Config, backends: Mapping[str, Backend], world: World) -> MakeLearner:
    """Find what a configuration asks for, before anything is loaded or written."""
    name = config.backend.name
    if name not in backends:
        rule = f"be one of {', '.join(backends)} here"
        remedy = "Pass backends=chainrule.twin.BACKENDS."
        raise ConfigError(explain("configuration", "backend.name", rule, repr(name), remedy))
    return backends[name](config, world)


def _continued(config: Config, start: Path) -> Prepared:
    """Prepare a run that starts from the best weights of another."""
    _, _, found, preprocessor = load_run(start)
    prepared = prepare(config, preprocessor)
    model = prepared.model
    for group, own in ((found.params, model.params), (found.buffers, model.buffers)):
        if {k: v.shape for k, v in group.items()} != {k: v.shape for k, v in own.items()}:
            raise RunError(
                f"{start}: its weights do not fit this network and these data. Start from it with "
                "its own settings, and change only how it is trained."
            )
        own.update({key: value.astype(model.dtype) for key, value in group.items()})
    return prepared


def _has_checkpoint(run: RunDirectory) -> bool:
    return run.checkpoints.exists("last") or run.checkpoints.exists("previous")


def _add_session(run: RunDirectory, command: str, trainer: Trainer) -> None:
    environment = run.environment() or describe_environment()  # none: killed before it was written
    session = session_record(command, trainer.step)
    session |= {"backend": trainer.learner.describe(), "processes": trainer.world.size}
    sessions = [*environment.get("sessions", []), session]
    write_json(run.path / "environment.json", environment | {"sessions": sessions})


def _end_session(run: RunDirectory, how: str) -> None:
    environment = run.environment()
    *earlier, last = environment["sessions"]
    sessions = [*earlier, last | {"ended": how}]
    write_json(run.path / "environment.json", environment | {"sessions": sessions})


def _silent(text: str) -> None:
    """Say nothing."""


@contextmanager
def _stop_on_signal(trainer: Trainer) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end training after the current step; a second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request(number: int, frame: Any) -> None:
        if trainer.stop_requested:
            raise KeyboardInterrupt
        trainer.stop_requested = "interrupted"

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, request) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
