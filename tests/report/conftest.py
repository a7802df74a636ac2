"""Run directories as training leaves them, built from plain numbers."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.records import Checkpoint, MetricsLog, RunDirectory, write_json

CLASSES = ["cat", "dog", "<script>document.title='hacked'</script>", "US$ or CA$", "日本"]
CONFUSION = [
    [40, 6, 2, 1, 1],
    [9, 35, 3, 2, 1],
    [0, 1, 48, 1, 0],
    [2, 2, 2, 42, 2],
    [5, 5, 5, 5, 30],
]
CONFIG = """
seed = 7

[model]
name = "convnet"
title = "<b>bold</b>"

[data]
name = "pets"

[optimizer]
name = "adam"
lr = 1e-3
betas = [0.9, 0.999]
"""


def step_records(count: int = 120, *, accuracy: bool = True) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    records = []
    for step in range(1, count + 1):
        record: dict[str, Any] = {"kind": "step", "step": step, "epoch": step / 40}
        record["loss"] = 2.3 * math.exp(-step / 60) + 0.1 + 0.05 * float(rng.random())
        if accuracy:
            record["accuracy"] = 1 - math.exp(-step / 50)
        record |= {"lr": 1e-3 * (1 - step / 200), "images_per_second": 5000.0 + step}
        record["seconds"] = step / 2
        records.append(record)
    return records


def evaluation_records(*, accuracy: bool = True) -> list[dict[str, Any]]:
    records = []
    for epoch, (train, val) in enumerate([(1.2, 1.3), (0.7, 0.9), (0.4, 1.0)], 1):
        record: dict[str, Any] = {"kind": "evaluation", "step": 40 * epoch, "epoch": float(epoch)}
        record |= {"train_loss": train, "val_loss": val, "lr": 1e-3, "best": epoch == 2}
        if accuracy:
            record |= {"train_accuracy": 1 - train / 3, "val_accuracy": 1 - val / 3}
        records.append(record)
    return records


def layer_records() -> list[dict[str, Any]]:
    return [
        {
            "kind": "layers",
            "step": step,
            "epoch": step / 40,
            "layers": {
                "conv1": {"activation_mean": 0.1, "activation_std": 1.0, "activation_zeros": 0.0},
                "relu1": {"activation_mean": 0.4, "activation_std": 0.6, "activation_zeros": 0.5},
            },
            "parameters": {
                "conv1.weight": {"weight_norm": 3.0, "update_ratio": 2e-3, "grad_norm": 0.4},
                "conv1.bias": {"weight_norm": 0.1, "update_ratio": 3e-2, "grad_norm": 0.1},
                "linear1.weight": {"weight_norm": 5.0, "update_ratio": 1e-3 / step, "grad_norm": 1},
            },
        }
        for step in (40, 80, 120)
    ]


def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "conv1.weight": rng.normal(size=(6, 3, 5, 5)).astype(np.float32),
        "conv1.bias": np.zeros(6, np.float32),
        "linear1.weight": rng.normal(size=(5, 96)).astype(np.float32),
    }


def mistake_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {
        "mistake_images": rng.integers(0, 256, (7, 3, 8, 8), dtype=np.uint8),
        "mistake_true": np.array([0, 1, 2, 3, 4, 0, 1]),
        "mistake_predicted": np.array([2, 0, 1, 4, 0, 1, 2]),
        "mistake_confidence": np.linspace(0.99, 0.4, 7).astype(np.float32),
        "mistake_index": np.arange(7),
    }


RunMaker = Callable[..., RunDirectory]


@pytest.fixture
def make_run(tmp_path: Path) -> RunMaker:
    """A function that writes a run directory; each part can be replaced or left out."""

    def make(
        name: str = "20260101T100000Z_convnet_pets",
        *,
        metrics: list[dict[str, Any]] | None = None,
        weights: dict[str, np.ndarray] | None = None,
        evaluation: dict[str, Any] | None = None,
        split: str = "test",
        tensors: dict[str, np.ndarray] | None = None,
        config: str = CONFIG,
    ) -> RunDirectory:
        path = tmp_path / name
        path.mkdir()
        (path / "config.toml").write_text(config, encoding="utf-8")
        run = RunDirectory(path)
        if metrics:
            with MetricsLog(run.metrics_path) as log:
                for record in metrics:
                    log.append(record)
        if weights:
            tensors_of = {f"params/{key}": value for key, value in weights.items()}
            run.checkpoints.save(Checkpoint(tensors_of, {"step": 80}), best=True)
        if evaluation:
            run.write_evaluation(split, evaluation, tensors or {})
        return run

    return make


@pytest.fixture
def full_metrics() -> list[dict[str, Any]]:
    return [*step_records(), *evaluation_records(), *layer_records()]


@pytest.fixture
def custom_loss_metrics() -> list[dict[str, Any]]:
    """A run trained with a function of one's own: no accuracies anywhere."""
    return [*step_records(accuracy=False), *evaluation_records(accuracy=False)]


@pytest.fixture
def evaluation() -> dict[str, Any]:
    return {
        "split": "test",
        "num_examples": 250,
        "loss": 0.71,
        "accuracy": 0.78,
        "classes": CLASSES,
        "confusion": CONFUSION,
        "step": 80,
    }


@pytest.fixture
def full_run(
    make_run: RunMaker, full_metrics: list[dict[str, Any]], evaluation: dict[str, Any]
) -> RunDirectory:
    run = make_run(
        metrics=full_metrics,
        weights=parameters(),
        evaluation=evaluation,
        tensors=mistake_tensors(),
    )
    environment = {
        "python": "3.12.1",
        "sessions": [{"started": "2026-01-01", "blas": [{"name": "openblas"}]}],
    }
    write_json(run.path / "environment.json", environment)
    return run
