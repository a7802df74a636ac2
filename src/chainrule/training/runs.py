"""Whole runs: from a configuration to a run directory, and back from it to a model."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from chainrule import data
from chainrule.errors import ConfigError, DivergedError, RunError, explain, nearest
from chainrule.models import Sequential, build_model, make_loss, read_network
from chainrule.records import (
    MetricsLog,
    RunDirectory,
    load_tensors,
    new_run_directory,
    save_tensors,
    write_json,
)
from chainrule.training.config import Config, load_config
from chainrule.training.environment import describe_environment, limited_threads, session_record
from chainrule.training.evaluation import evaluate, probabilities, summarise
from chainrule.training.learner import (
    Arrays,
    MakeLearner,
    NumpyLearner,
    best_weights,
    make_update_rule,
)
from chainrule.training.loop import Callback, History, Trainer

__all__ = [
    "BACKENDS",
    "Backend",
    "MakeScorer",
    "Prepared",
    "TrainedRun",
    "evaluate_run",
    "list_runs",
    "load_data",
    "load_run",
    "network_of",
    "numpy_backend",
    "predict_run",
    "prepare",
    "resolve",
    "resume_run",
    "train_run",
]

Message = Callable[[str], None]
Backend = Callable[[Config], MakeLearner]
MakeScorer = Callable[[Sequential], Any]  # makes an object with `scores` and `loss`, as a network

SPLITS = ("train", "val", "test")


def numpy_backend(config: Config) -> MakeLearner:
    """Return what makes learners of chainrule's own layers.

    Parameters
    ----------
    config : Config
        Its section ``backend`` must leave PyTorch's options at their defaults.

    Returns
    -------
    callable
        `NumpyLearner`.

    Raises
    ------
    ConfigError
        If an option of PyTorch is set.

    Examples
    --------
    >>> numpy_backend(load_config()).__name__
    'NumpyLearner'
    """
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
class Prepared:
    """Data and network of a configuration, ready to train.

    Attributes
    ----------
    config : Config
        Resolved: layers of a network of one's own filled in.
    splits : chainrule.data.DataSplits
        The data as they came.
    preprocessor : chainrule.data.Preprocessor
        Fitted on the training split.
    model : Sequential
        With initial parameters.
    train, val : Arrays
        Preprocessed splits.
    """

    config: Config
    splits: data.DataSplits
    preprocessor: data.Preprocessor
    model: Sequential
    train: Arrays
    val: Arrays


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


def resolve(config: Config) -> Config:
    """Read the network file that a configuration names, so that it stands for itself.

    Parameters
    ----------
    config : Config
        As given by the user.

    Returns
    -------
    Config
        The same, or with ``model.layers`` filled in.

    Raises
    ------
    DataMissingError
        If the file does not exist.
    ConfigError
        If it is not a network.
    """
    if config.model.layers is not None or not config.model.name.endswith(".toml"):
        return config
    network = read_network(config.model.name)
    filled = {"name": network["name"], "layers": network["layers"]}
    if config.model.loss is None and network["loss"] is not None:
        filled["loss"] = network["loss"]
    return config.model_copy(update={"model": config.model.model_copy(update=filled)})


def network_of(config: Config, num_classes: int) -> Sequential:
    """Build the network of a resolved configuration, without parameters.

    Parameters
    ----------
    config : Config
        Resolved.
    num_classes : int
        Number of classes.

    Returns
    -------
    Sequential
        Call its `init`.

    Raises
    ------
    ConfigError
        If a name or option is not understood.
    """
    section = config.model
    network = build_model(
        section.name,
        num_classes,
        layers=section.layers,
        loss=section.loss,
        implementation=section.implementation,
        fuse=section.fuse,
        **section.options,
    )
    if section.label_smoothing:
        if network.loss_name != "cross_entropy":
            raise ConfigError(
                explain(
                    "configuration",
                    "model.label_smoothing",
                    f"be 0 with the loss {network.loss_name!r}",
                    section.label_smoothing,
                )
            )
        smoothing = section.label_smoothing
        network.loss = make_loss("cross_entropy", section.implementation, label_smoothing=smoothing)
    return network


def load_data(config: Config, download: bool = True) -> data.DataSplits:
    """Load the data of a configuration, cut to the sizes it asks for."""
    section = config.data
    splits = data.load(
        section.name,
        section.folder,
        num_validation=section.num_validation,
        download=download,
        resize=section.resize,
    )
    train = splits.train if section.num_train is None else splits.train.head(section.num_train)
    test = splits.test if section.num_test is None else splits.test.head(section.num_test)
    return data.DataSplits(splits.name, train, splits.val, test, splits.classes)


def prepare(config: Config, preprocessor: data.Preprocessor | None = None) -> Prepared:
    """Load and preprocess the data and initialise the network.

    Parameters
    ----------
    config : Config
        As given by the user.
    preprocessor : chainrule.data.Preprocessor, optional
        Already fitted; default: fitted here on the training split.

    Returns
    -------
    Prepared
        Nothing has been written yet.

    Raises
    ------
    ChainruleError
        If a name is not known, data are missing or damaged, or shapes do not fit.

    Examples
    --------
    >>> prepared = prepare(load_config(overrides=["data.name=digits", "hidden=32"]))
    >>> prepared.train.x.shape, prepared.model.summary().parameters
    ((1297, 1, 8, 8), 2410)
    """
    config = resolve(config)
    fresh = data.make_preprocessor(config.data.preprocess, **config.data.options)
    network_of(config, 2)  # report a misspelt option before a long load
    make_update_rule(config, 1, 1)
    splits = load_data(config)
    preprocessor = preprocessor or fresh.fit(splits.train.x)
    model = network_of(config, splits.num_classes)
    initial = _generator(config, "init")
    shape = preprocessor.output_shape(splits.input_shape)
    model.init(initial, shape, config.model.init, config.model.dtype)
    dtype = np.dtype(config.model.dtype)
    if (config.data.flip or config.data.shift or config.data.cutout) and len(shape) != 3:
        raise ConfigError(
            explain("configuration", "augmentation", "be off for data that are not images", shape)
        )
    train, val = (
        Arrays(preprocessor.transform(split.x, dtype), split.y)
        for split in (splits.train, splits.val)
    )
    return Prepared(config, splits, preprocessor, model, train, val)


def train_run(
    config: Config,
    root: str | Path = "runs",
    *,
    start: str | Path | None = None,
    backends: Mapping[str, Backend] = BACKENDS,
    callbacks: Iterable[Callback] = (),
    message: Message | None = None,
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
    make_learner = _backend(config, backends)
    with limited_threads(config.threads):
        prepared = prepare(config) if start is None else _continued(config, Path(start))
        labels = [prepared.config.model.name, Path(prepared.config.data.name).stem]
        run = new_run_directory(Path(root), labels, prepared.config.to_toml().encode())
        write_json(run.path / "environment.json", describe_environment() | {"sessions": []})
        return _run(prepared, run, "train", make_learner, callbacks, message or _silent)


def resume_run(
    path: str | Path,
    *,
    backends: Mapping[str, Backend] = BACKENDS,
    callbacks: Iterable[Callback] = (),
    message: Message | None = None,
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
    make_learner = _backend(config, backends)
    with limited_threads(config.threads):
        preprocessor = None
        if run.preprocessing_path.is_file() and _has_checkpoint(run):
            preprocessor = _load_preprocessor(run)
        prepared = prepare(config, preprocessor)
        return _run(prepared, run, "resume", make_learner, callbacks, message or _silent)


def _run(
    prepared: Prepared,
    run: RunDirectory,
    command: str,
    make_learner: MakeLearner,
    callbacks: Iterable[Callback],
    message: Message,
) -> TrainedRun:
    """Train into a run directory, from its checkpoint where it has one."""
    store, checkpoint = run.checkpoints, None
    if command == "resume" and _has_checkpoint(run):
        checkpoint, problems = store.recover()
        for problem in problems:
            message(f"{problem} Continuing from the checkpoint before it.")
    elif command == "resume":
        message("No checkpoint had been written yet: starting this run from its beginning.")
    if checkpoint is None:
        tensors, options = prepared.preprocessor.state()
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
    kept = 0 if checkpoint is None else checkpoint.state["metrics_bytes"]
    with MetricsLog(run.metrics_path, kept) as log:
        trainer = Trainer(
            prepared.model,
            prepared.train,
            prepared.val,
            prepared.config,
            _generator(prepared.config, "training"),
            log=log,
            store=store,
            callbacks=callbacks,
            learner=make_learner,
        )
        if checkpoint is not None:
            trainer.restore(checkpoint)
        _add_session(run, command, trainer.step, trainer.learner.describe())
        try:
            with _stop_on_signal(trainer):
                history = trainer.fit()
        except DivergedError:
            _end_session(run, "diverged")
            raise
    if history.stopped != "interrupted" and len(prepared.val.x):
        _write_evaluation(run, prepared.model, "val", prepared.splits, prepared.val)
    return TrainedRun(run, history, prepared.model)


def load_run(path: str | Path) -> tuple[RunDirectory, Config, Sequential, data.Preprocessor]:
    """Load the best model of a run.

    Parameters
    ----------
    path : path
        The run directory.

    Returns
    -------
    run : RunDirectory
        The directory.
    config : Config
        Its configuration.
    model : Sequential
        With the weights of the best evaluation.
    preprocessor : chainrule.data.Preprocessor
        As fitted in the run.

    Raises
    ------
    RunError
        If it is not a run, or has no intact checkpoint.

    Examples
    --------
    >>> import tempfile
    >>> config = load_config(overrides=["fast_dev_run=true"])
    >>> path = train_run(config, tempfile.mkdtemp()).run.path
    >>> run, config, model, preprocessor = load_run(path)
    >>> model.input_shape, preprocessor.name
    ((1, 8, 8), 'standardize')
    """
    run = RunDirectory(path)
    config = load_config(run.path / "config.toml")
    store = run.checkpoints
    checkpoint = store.load("best" if store.exists("best") else "last")
    params, buffers = best_weights(checkpoint)
    preprocessor = _load_preprocessor(run)
    description = run.data()
    shape = preprocessor.output_shape(tuple(description["input_shape"]))
    model = network_of(config, len(description["classes"]))
    model.init(np.random.default_rng(0), shape, 0.0, config.model.dtype)
    model.params.update(params)
    model.buffers.update(buffers)
    return run, config, model, preprocessor


def evaluate_run(
    path: str | Path,
    split: str = "test",
    data_dir: str | Path | None = None,
    *,
    scorer: MakeScorer | None = None,
) -> dict[str, Any]:
    """Evaluate the best weights of a run on a split and keep the result in its directory.

    Parameters
    ----------
    path : path
        The run directory.
    split : {"train", "val", "test"}, default "test"
        Which examples.
    data_dir : path, optional
        Where the data lie now, if not where they lay in training.
    scorer : callable, optional
        Wraps the network in what computes its scores instead: `chainrule.twin.TwinScorer`.

    Returns
    -------
    dict
        Number of examples, loss, accuracy, classes and confusion matrix.

    Raises
    ------
    ConfigError
        If there is no such split.
    RunError
        If it is not a run, or has no intact checkpoint.
    DataMissingError
        If the data are not there.

    Examples
    --------
    >>> import tempfile
    >>> config = load_config(overrides=["fast_dev_run=true"])
    >>> path = train_run(config, tempfile.mkdtemp()).run.path
    >>> record = evaluate_run(path, "test")
    >>> record["num_examples"], len(record["confusion"])
    (300, 10)
    """
    if split not in SPLITS:
        raise ConfigError(f"evaluate: split {split!r} is not known. {nearest(split, SPLITS)}")
    run, config, model, preprocessor = load_run(path)
    if data_dir is not None:
        section = config.data.model_copy(update={"folder": str(data_dir)})
        config = config.model_copy(update={"data": section})
    with limited_threads(config.threads):
        splits = load_data(config)
        chosen = getattr(splits, split)
        arrays = Arrays(preprocessor.transform(chosen.x, np.dtype(config.model.dtype)), chosen.y)
        judged = model if scorer is None else scorer(model)
        return _write_evaluation(run, judged, split, splits, arrays)


def predict_run(
    path: str | Path,
    images: Sequence[str | Path],
    *,
    resize: bool = False,
    scorer: MakeScorer | None = None,
) -> list[dict[str, Any]]:
    """Predict the classes of image files with the best weights of a run.

    Parameters
    ----------
    path : path
        The run directory.
    images : sequence of paths
        Image files.
    resize : bool, default False
        Scale images of another size instead of refusing them.
    scorer : callable, optional
        As for `evaluate_run`.

    Returns
    -------
    list of dict
        ``file``, ``label``, ``class`` and ``probability`` of each image.

    Raises
    ------
    RunError
        If it is not a run.
    DataMissingError
        If an image is missing.
    DataFormatError
        If an image is damaged.
    ShapeError
        If an image has another size, or the run was not trained on images.

    Examples
    --------
    >>> import tempfile
    >>> config = load_config(overrides=["fast_dev_run=true"])
    >>> path = train_run(config, tempfile.mkdtemp()).run.path
    >>> from PIL import Image
    >>> Image.new("L", (8, 8)).save(path / "black.png")
    >>> [row["class"] in "0123456789" for row in predict_run(path, [path / "black.png"])]
    [True]
    """
    run, config, model, preprocessor = load_run(path)
    description = run.data()
    x = data.read_images(images, tuple(description["input_shape"]), resize=resize)
    with limited_threads(config.threads):
        judged = model if scorer is None else scorer(model)
        scores = judged.scores(preprocessor.transform(x, np.dtype(config.model.dtype)))
    chances = probabilities(scores)
    labels = np.argmax(scores, axis=1)
    return [
        {
            "file": str(image),
            "label": int(label),
            "class": description["classes"][label],
            "probability": float(chance[label]),
        }
        for image, label, chance in zip(images, labels, chances, strict=True)
    ]


def list_runs(root: str | Path = "runs") -> list[dict[str, Any]]:
    """List the runs of a folder, best first.

    Parameters
    ----------
    root : path, default "runs"
        The folder of runs.

    Returns
    -------
    list of dict
        ``run``, ``path``, ``status``, ``model``, ``data``, ``steps``, ``val_accuracy``,
        ``val_loss``, ``test_accuracy`` and ``seconds``; what is not known is None.

    Raises
    ------
    RunError
        If the folder does not exist.

    Examples
    --------
    >>> import tempfile
    >>> root = tempfile.mkdtemp()
    >>> _ = train_run(load_config(overrides=["fast_dev_run=true"]), root)
    >>> [(row["model"], row["data"], row["status"], row["steps"]) for row in list_runs(root)]
    [('two_layer', 'digits', 'fast_dev_run', 5)]
    """
    root = Path(root)
    if not root.is_dir():
        raise RunError(f"{root}: there is no such folder of runs. Train one, or name it.")
    found = [_describe(RunDirectory(p.parent)) for p in sorted(root.glob("*/config.toml"))]

    def merit(row: dict[str, Any]) -> tuple[float, float, str]:
        accuracy, loss = row["val_accuracy"], row["val_loss"]
        return (
            -1.0 if accuracy is None else accuracy,
            float("-inf") if loss is None else -loss,
            row["run"],
        )

    return sorted(found, key=merit, reverse=True)


def _describe(run: RunDirectory) -> dict[str, Any]:
    """Describe a run by what can be read of it: one that is damaged must not hide the others."""
    keys = ("model", "data", "steps", "val_accuracy", "val_loss", "test_accuracy", "seconds")
    row: dict[str, Any] = {"run": run.name, "path": str(run.path), "status": "started"}
    row |= dict.fromkeys(keys) | {"steps": 0}
    try:
        config = run.config()
        row |= {key: config.get(key, {}).get("name") for key in ("model", "data")}
        evaluations = run.metrics("evaluation")
        if evaluations:
            row |= {"steps": evaluations[-1]["step"], "seconds": evaluations[-1]["seconds"]}
        for record in [r for r in evaluations if r.get("best")][-1:]:
            row |= {key: record.get(key) for key in ("val_accuracy", "val_loss")}
        if (test := run.evaluation("test")) is not None:
            row["test_accuracy"] = test["accuracy"]
        if run.checkpoints.exists("last"):
            row["status"] = run.checkpoints.state("last")["stopped"] or "unfinished"
        if any("ended" in session for session in run.environment().get("sessions", [])[-1:]):
            row["status"] = run.environment()["sessions"][-1]["ended"]
    except RunError:
        row["status"] = "damaged"
    return row


def _write_evaluation(
    run: RunDirectory, model: Any, split: str, splits: data.DataSplits, arrays: Arrays
) -> dict[str, Any]:
    loss, _, scores = evaluate(model, arrays.x, arrays.y)
    assert scores is not None
    images = getattr(splits, split).x if splits.is_image else None
    record, tensors = summarise(split, loss, scores, arrays.y, splits.classes, images)
    run.write_evaluation(split, record, tensors)
    return record


def _generator(config: Config, purpose: str) -> np.random.Generator:
    """Return a stream of the run's seed that is independent of those for other purposes."""
    key = ("init", "training").index(purpose)
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(key,)))


def _backend(config: Config, backends: Mapping[str, Backend]) -> MakeLearner:
    """Find what a configuration asks for, before anything is loaded or written."""
    name = config.backend.name
    if name not in backends:
        rule = f"be one of {', '.join(backends)} here"
        remedy = "Pass backends=chainrule.twin.BACKENDS."
        raise ConfigError(explain("configuration", "backend.name", rule, repr(name), remedy))
    return backends[name](config)


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


def _load_preprocessor(run: RunDirectory) -> data.Preprocessor:
    tensors, options = load_tensors(run.preprocessing_path)
    return data.preprocessor_from_state(tensors, options)


def _add_session(run: RunDirectory, command: str, step: int, backend: str) -> None:
    environment = run.environment() or describe_environment()  # none: killed before it was written
    session = session_record(command, step) | {"backend": backend}
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
