"""How long chainrule and PyTorch train `speednet` until CIFAR-10's test accuracy is good.

    python benchmarks/speednet.py --json benchmarks/results/speednet.json [--seeds 3]

Both backends train the same network from the same weights on the same batches; PyTorch uses the
extra `torch`, with its layout `channels_last`, the faster one here. Runs take turns, seed by seed.
After every second epoch, and each of the last four, the averaged weights are judged on the 10,000
test images, with the recipe's test-time augmentation; the time counted is that of training steps
alone, augmentation included.
Each finished run is written to the file at once, and not repeated when the command is.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.records import write_json
from chainrule.report.style import INK, LIGHT, MUTED, legend_below, new_figure, style_axes, title
from chainrule.training import Arrays, Callback, Trainer, load_config, prepare
from chainrule.training.environment import describe_environment, limited_threads
from chainrule.twin import BACKENDS

NAMES = {"numpy": "chainrule", "torch": "PyTorch"}
MARKS = (0.70, 0.80, 0.85, 0.88)
LAST = 4


class Judge(Callback):
    """Adds up the time of the steps, and judges the weights now and then."""

    def __init__(self, test: Arrays) -> None:
        self.test, self.seconds = test, 0.0
        self.curve: list[dict[str, float]] = []

    def on_start(self, trainer: Trainer) -> None:
        """Remember whose weights to judge, and start the clock."""
        self.trainer, self._since = trainer, time.perf_counter()

    def on_step(self, record: dict[str, Any]) -> None:
        """Count the time since the last step or evaluation."""
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now

    def on_evaluation(self, record: dict[str, Any]) -> None:
        """Judge, where it is time to."""
        epoch = round(record["epoch"])
        if epoch % 2 and epoch <= self.trainer.config.training.epochs - LAST:
            self._since = time.perf_counter()
            return
        loss, accuracy = self.trainer.learner.evaluate(self.test)
        assert accuracy is not None
        point = {"epoch": record["epoch"], "seconds": self.seconds}
        point |= {"test_loss": loss, "test_accuracy": accuracy}
        self.curve.append(point)
        self._since = time.perf_counter()
        say(f"  epoch {point['epoch']:.0f}  {self.seconds:6.1f} s  test {accuracy:.4f}")


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def run(backend: str, seed: int, threads: int, settings: list[str]) -> dict[str, Any]:
    """Train once and describe it."""
    layout = ["backend.device=cpu", "backend.channels_last=true"] if backend == "torch" else []
    own = [f"backend.name={backend}", *layout, f"seed={seed}", f"threads={threads}"]
    config = load_config("speednet", [*own, "training.log_every=1000000", *settings])
    with limited_threads(threads):
        prepared = prepare(config)
        test = prepared.splits.test
        images = prepared.preprocessor.transform(test.x, np.dtype(config.model.dtype))
        judge = Judge(Arrays(images, test.y))
        trainer = Trainer(
            prepared.model,
            prepared.train,
            prepared.val,
            config,
            np.random.default_rng(seed),
            callbacks=[judge],
            learner=BACKENDS[backend](config),
        )
        trainer.fit()
    reached = {
        f"{mark:.2f}": next((p["seconds"] for p in judge.curve if p["test_accuracy"] >= mark), None)
        for mark in MARKS
    }
    images_seen = config.training.epochs * len(prepared.train.y)
    return {
        "backend": backend,
        "seed": seed,
        "test_accuracy": judge.curve[-1]["test_accuracy"],
        "seconds": judge.seconds,
        "images_per_second": images_seen / judge.seconds,
        "seconds_to": reached,
        "curve": judge.curve,
        "computed_by": trainer.learner.describe(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def table(record: dict[str, Any]) -> str:
    """Write medians, and the range where there are several seeds, as Markdown."""
    heads = [f"to {mark:.0%}" for mark in MARKS]
    lines = [f"| | {' | '.join(heads)} | whole run | test accuracy | images/s |"]
    lines.append("|---|" + "---:|" * (len(heads) + 3))
    for backend, name in NAMES.items():
        runs = [each for each in record["runs"] if each["backend"] == backend]
        if not runs:
            continue
        cells = []
        for mark in MARKS:
            times = [each["seconds_to"][f"{mark:.2f}"] for each in runs]
            known = [time for time in times if time is not None]
            cells.append(f"{statistics.median(known):.0f} s" if known else "-")
            if known and len(known) < len(times):
                cells[-1] += f" ({len(known)} of {len(times)})"
        whole = [each["seconds"] for each in runs]
        found = [each["test_accuracy"] for each in runs]
        cells.append(f"{statistics.median(whole):.0f} s ({min(whole):.0f} to {max(whole):.0f})")
        cells.append(f"{statistics.median(found):.2%} ({min(found):.2%} to {max(found):.2%})")
        cells.append(f"{statistics.median(each['images_per_second'] for each in runs):,.0f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw test accuracy over training time."""
    figure = new_figure(6.4, 3.8)
    ax = figure.subplots()
    for colour, (backend, name) in zip(LIGHT, NAMES.items(), strict=False):
        runs = [each for each in record["runs"] if each["backend"] == backend]
        for number, each in enumerate(runs):
            minutes = [point["seconds"] / 60 for point in each["curve"]]
            accuracy = [100 * point["test_accuracy"] for point in each["curve"]]
            seeds = f"{len(runs)} seed{'s' * (len(runs) > 1)}"
            label = f"{name}, {seeds}" if number == 0 else None
            ax.plot(minutes, accuracy, color=colour, lw=1.5, marker="o", ms=3, label=label)
    ax.axhline(88, color=INK, lw=0.8, ls=(0, (2, 2)))
    ax.text(0.02, 88.2, "88 %", color=MUTED, fontsize=8, transform=ax.get_yaxis_transform())
    ax.set_xlim(left=0)
    lowest = min(p["test_accuracy"] for each in record["runs"] for p in each["curve"])
    ax.set_ylim(math.floor(10 * lowest) * 10, 92)
    ax.set_xlabel("minutes of training")
    ax.set_ylabel("test accuracy, %")
    style_axes(ax)
    title(ax, "speednet on CIFAR-10")
    legend_below(figure, ax, 2)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run what is missing, then show all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="changes to the recipe")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each backend (default: 3)")
    parser.add_argument("--backends", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--figure", type=Path, help="draw the curves, as .png or .svg")
    options = parser.parse_args()
    record: dict[str, Any] = {"environment": describe_environment(), "runs": []}
    if options.json.exists():
        record = json.loads(options.json.read_text(encoding="utf-8"))
    record |= {"threads": options.threads, "settings": options.settings}
    done = {(each["backend"], each["seed"]) for each in record["runs"]}
    for seed in range(options.seeds):
        for backend in options.backends:
            if (backend, seed) not in done:
                say(f"{NAMES[backend]}, seed {seed}")
                found = run(backend, seed, options.threads, options.settings)
                record["runs"].append(found)
                write_json(options.json, record)
    print(table(record))
    if options.figure:
        draw(record, options.figure)


if __name__ == "__main__":
    main()
