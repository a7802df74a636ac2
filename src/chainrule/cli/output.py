"""What the commands print: tables for people, JSON for programs."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from chainrule.data import DatasetInfo, DataSplits
from chainrule.records import write_atomically
from chainrule.training import SanityCheck, TrainedRun
from chainrule.training.runs import Prepared

__all__ = [
    "errors",
    "say",
    "show_checks",
    "show_datasets",
    "show_evaluation",
    "show_files",
    "show_info",
    "show_plan",
    "show_predictions",
    "show_runs",
    "show_splits",
    "show_training",
]

PIPE_WIDTH = 200  # of tables that go to a file or a program


def errors() -> Console:
    """Return the console of progress and messages."""
    return Console(stderr=True)


def say(message: str) -> None:
    """Tell a person something on standard error."""
    errors().print(f"chainrule: {message}", highlight=False, markup=False, soft_wrap=True)


def show_training(trained: TrainedRun, as_json: bool) -> None:
    """Show where a run is and how well it did."""
    best = trained.history.best
    if as_json:
        record = {"run": str(trained.run.path), "stopped": trained.history.stopped, "best": best}
        _json(record)
        return
    rows = [("run", str(trained.run.path)), ("stopped", trained.history.stopped)]
    keys = ("val_accuracy", "val_loss", "train_accuracy", "train_loss")
    rows += [
        (f"best {key.replace('_', ' ')}", f"{best[key]:.4f}")
        for key in keys
        if best.get(key) is not None
    ]
    rows.append(("at step", f"{best.get('step', 0)} (epoch {best.get('epoch', 0):g})"))
    rows.append(("seconds", f"{trained.history.seconds:.1f}"))
    _pairs(rows)
    if trained.history.stopped == "interrupted":
        say(f"interrupted. Continue with: chainrule train --resume {trained.run.path}")
    else:
        say(f"next: chainrule evaluate {trained.run.path} && chainrule report {trained.run.path}")


def show_plan(prepared: Prepared, as_json: bool) -> None:
    """Show what would be trained."""
    summary = prepared.model.summary()
    if as_json:
        layers = [dataclasses.asdict(row) for row in summary.rows]
        _json({"config": prepared.config.model_dump(), "layers": layers})
        return
    sys.stdout.write(prepared.config.to_toml())
    splits = prepared.splits
    sizes = f"{len(splits.train):,} / {len(splits.val):,} / {len(splits.test):,}"
    sys.stdout.write(f"\n{summary}\n\ntraining / validation / test: {sizes}\n")


def show_evaluation(record: Mapping[str, Any], as_json: bool) -> None:
    """Show loss and accuracy, overall and for each class."""
    if as_json:
        _json(record)
        return
    _pairs(
        [
            ("split", str(record["split"])),
            ("examples", f"{record['num_examples']:,}"),
            ("loss", f"{record['loss']:.4f}"),
            ("accuracy", f"{record['accuracy']:.4f}"),
        ]
    )
    rows = []
    for name, counts, index in zip(
        record["classes"], record["confusion"], range(len(record["classes"])), strict=True
    ):
        wrong = [(n, record["classes"][j]) for j, n in enumerate(counts) if j != index and n]
        share = f"{counts[index] / sum(counts):.4f}" if sum(counts) else "-"
        often = "{1} ({0})".format(*max(wrong)) if wrong else "-"
        rows.append((str(name), str(sum(counts)), share, often))
    _table(("class", "examples", "accuracy", "most often taken for"), rows, right=(1, 2))


def show_predictions(
    rows: Sequence[Mapping[str, Any]], csv_file: str | None, as_json: bool
) -> None:
    """Show predicted classes, or write them as CSV."""
    if csv_file is not None:
        text = io.StringIO()
        writer = csv.DictWriter(text, ["file", "label", "class", "probability"])
        writer.writeheader()
        writer.writerows(rows)
        if csv_file == "-":
            sys.stdout.write(text.getvalue())
        else:
            write_atomically(Path(csv_file), text.getvalue().encode())
            say(f"{len(rows)} predictions written to {csv_file}")
    elif as_json:
        _json(rows)
    else:
        cells = [(r["file"], r["class"], f"{r['probability']:.4f}") for r in rows]
        _table(("file", "class", "probability"), cells, right=(2,))


def show_checks(checks: Iterable[SanityCheck], as_json: bool) -> list[SanityCheck]:
    """Show the sanity checks and return them."""
    done = list(checks)
    if as_json:
        _json([dataclasses.asdict(check) for check in done])
    else:
        cells = [("pass" if c.passed else "FAIL", c.name, c.expected, c.measured) for c in done]
        _table(("", "check", "expected", "measured"), cells)
        failed = sum(not c.passed for c in done)
        say(f"{len(done) - failed} of {len(done)} checks passed.")
    return done


def show_files(files: Sequence[Path], as_json: bool) -> None:
    """Show which files were written."""
    if as_json:
        _json([str(path) for path in files])
    else:
        sys.stdout.write("".join(f"{path}\n" for path in files))


def show_runs(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Show a table of runs."""
    if as_json:
        _json(rows)
        return
    keys = ("run", "status", "steps", "val_accuracy", "val_loss", "test_accuracy", "seconds")
    cells = [tuple(_cell(row[key]) for key in keys) for row in rows]
    header = tuple(key.replace("_", " ") for key in keys)
    _table(header, cells, right=(2, 3, 4, 5, 6))


def show_info(record: Mapping[str, Any], as_json: bool) -> None:
    """Show versions, CPU and kernels."""
    if as_json:
        _json(record)
        return
    rows = [(key, str(record[key])) for key in ("chainrule", "python", "platform", "cpu", "cores")]
    rows += [(name, version) for name, version in record["packages"].items()]
    rows += [
        (
            pool.get("user_api", "threads"),
            f"{pool.get('internal_api', '')} {pool.get('version') or ''} "
            f"({pool.get('num_threads')} threads)".strip(),
        )
        for pool in record["blas"]
    ]
    _pairs([*rows, ("kernels", record["kernels"])])


def show_datasets(infos: Sequence[DatasetInfo], as_json: bool) -> None:
    """Show the data sets and whether they are there."""
    if as_json:
        _json([dataclasses.asdict(info) for info in infos])
        return
    cells = [
        (
            info.name,
            "yes" if info.available else "no",
            f"{info.num_train:,} / {info.num_val:,} / {info.num_test:,}",
            "x".join(map(str, info.shape)),
            info.description,
            info.where,
        )
        for info in infos
    ]
    header = ("name", "there", "train / val / test", "image", "what", "where")
    _table(header, cells)


def show_splits(splits: DataSplits, as_json: bool) -> None:
    """Show shapes and classes of a data set."""
    parts = {name: getattr(splits, name) for name in ("train", "val", "test")}
    record = {
        "name": splits.name,
        "classes": list(splits.classes),
        "input_shape": list(splits.input_shape),
        "dtype": str(splits.train.x.dtype),
        "examples": {name: len(split) for name, split in parts.items()},
    }
    if as_json:
        _json(record)
        return
    _pairs([(key, str(value)) for key, value in record.items() if key != "examples"])
    cells = [
        (name, *(str(int((split.y == label).sum())) for name, split in parts.items()))
        for label, name in enumerate(splits.classes)
    ]
    total = ("all", *(str(len(split)) for split in parts.values()))
    _table(("class", *parts), [*cells, total], right=(1, 2, 3))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _pairs(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(key) for key, _ in rows)
    sys.stdout.write("".join(f"{key.ljust(width)}  {value}\n" for key, value in rows))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index in right else "left")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table, markup=False, highlight=False)
