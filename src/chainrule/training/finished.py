"""What a run left behind: its model, evaluations, predictions and the list of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule import data
from chainrule.errors import ConfigError, RunError, nearest
from chainrule.models import Sequential
from chainrule.records import RunDirectory, load_tensors
from chainrule.training.config import Config, load_config
from chainrule.training.environment import limited_threads
from chainrule.training.evaluation import MeanOfViews, evaluate, probabilities, summarise
from chainrule.training.learner import Arrays, best_weights
from chainrule.training.preparation import load_data, network_of

__all__ = [
    "MakeScorer",
    "evaluate_run",
    "list_runs",
    "load_preprocessor",
    "load_run",
    "predict_run",
    "write_evaluation",
]

MakeScorer = Callable[[Sequential], Any]  # makes an object with `scores` and `loss`, as a network

SPLITS = ("train", "val", "test")


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
    >>> from chainrule.training import train_run
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
    preprocessor = load_preprocessor(run)
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
    >>> from chainrule.training import train_run
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
        judged = _judged(config, model, scorer)
        return write_evaluation(run, judged, split, splits, arrays)


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
    >>> from chainrule.training import train_run
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
        judged = _judged(config, model, scorer)
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
    >>> from chainrule.training import train_run
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


def write_evaluation(
    run: RunDirectory, model: Any, split: str, splits: data.DataSplits, arrays: Arrays
) -> dict[str, Any]:
    """Evaluate a model on a split and keep the result in the run's directory.

    Parameters
    ----------
    run : RunDirectory
        Where it goes.
    model : object
        With `scores` and `loss`, as a network.
    split : {"train", "val", "test"}
        Which examples.
    splits : chainrule.data.DataSplits
        The data as they came.
    arrays : Arrays
        That split, preprocessed.

    Returns
    -------
    dict
        What was written.
    """
    loss, _, scores = evaluate(model, arrays.x, arrays.y)
    assert scores is not None
    images = getattr(splits, split).x if splits.is_image else None
    record, tensors = summarise(split, loss, scores, arrays.y, splits.classes, images)
    run.write_evaluation(split, record, tensors)
    return record


def load_preprocessor(run: RunDirectory) -> data.Preprocessor:
    """Load the preprocessing of a run, as it was fitted.

    Parameters
    ----------
    run : RunDirectory
        The run.

    Returns
    -------
    chainrule.data.Preprocessor
        Fitted.

    Raises
    ------
    RunError
        If its file is missing or damaged.
    """
    tensors, options = load_tensors(run.preprocessing_path)
    return data.preprocessor_from_state(tensors, options)


def _judged(config: Config, model: Sequential, scorer: MakeScorer | None) -> Any:
    """Return what computes the scores of a run, with its test-time augmentation."""
    judged = model if scorer is None else scorer(model)
    return MeanOfViews(judged, config.data.tta)


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
