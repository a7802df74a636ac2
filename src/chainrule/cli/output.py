"""What the commands print: tables for people, JSON for programs."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console

from chainrule.data import DatasetInfo, DataSplits
from chainrule.records import write_atomically
from chainrule.training import Callback, ProgressBar, SanityCheck, TrainedRun, Trainer
from chainrule.training.preparation import Prepared

if TYPE_CHECKING:
    from chainrule.proof import LayerProof

__all__ = [
    "callbacks",
    "say",
    "show_benchmarks",
    "show_checks",
    "show_datasets",
    "show_evaluation",
    "show_files",
    "show_info",
    "show_plan",
    "show_predictions",
    "show_proofs",
    "show_record",
    "show_runs",
    "show_splits",
    "show_training",
]


class _WhereTo(Callback):
    """Says at the start where the run is, so that it is known however training ends."""

    def on_start(self, trainer: Trainer) -> None:
        if trainer.store is not None:
            say(f"run directory {trainer.store.folder.parent}")


def callbacks() -> list[Callback]:
    """Return what watches the training loop: a message, and a progress bar on terminals."""
    return [_WhereTo(), ProgressBar(_console())]


def say(message: str) -> None:
    """Tell a person something on standard error."""
    sys.stderr.write(f"chainrule: {message}\n")


def show_training(
    trained: TrainedRun, page: Path | None, as_json: bool, resume_command: str
) -> None:
    """Show where a run is and how well it did.

    Parameters
    ----------
    trained : TrainedRun
        What training left.
    page : Path, optional
        Its report, if one was written.
    as_json : bool
        For programs.
    resume_command : str
        What continues the run, should it have been interrupted.
    """
    history, run = trained.history, trained.run
    test = run.evaluation("test")
    if as_json:
        _json(
            {
                "run": str(run.path),
                "stopped": history.stopped,
                "best": history.best or None,
                "test": test and {key: test[key] for key in ("num_examples", "loss", "accuracy")},
                "report": page and str(page),
            }
        )
    else:
        rows = [("run", str(run.path)), ("stopped", history.stopped)]
        if best := history.best:
            keys = ("val_accuracy", "val_loss", "train_accuracy", "train_loss")
            rows += [
                (key.replace("_", " "), f"{best[key]:.4f}")
                for key in keys
                if best.get(key) is not None
            ]
            rows.append(("best step", f"{best['step']:,} (epoch {best['epoch']:g})"))
        if test:
            rows += [("test accuracy", f"{test['accuracy']:.4f}")]
        rows.append(("time", _duration(history.seconds)))
        rows += [("report", str(page))] if page else []
        _pairs(rows)
    name = shlex.quote(str(run.path))
    if history.stopped == "interrupted":
        say(f"interrupted. Continue with: {resume_command}")
    elif page is None:
        say(f"next: chainrule evaluate {name}")
        say(f"next: chainrule report {name}")


def show_plan(prepared: Prepared, as_json: bool) -> None:
    """Show what would be trained."""
    splits, summary = prepared.splits, prepared.model.summary()
    sizes = {name: len(getattr(splits, name)) for name in ("train", "val", "test")}
    if as_json:
        layers = [dataclasses.asdict(row) for row in summary.rows]
        config = prepared.config.model_dump()
        _json({"config": config, "layers": layers, "examples": sizes})
        return
    counts = "\n".join(f"# {count:>7,} {name} examples" for name, count in sizes.items())
    sys.stdout.write(f"{prepared.config.to_toml()}\n")
    sys.stdout.write("".join(f"# {line}\n" for line in f"{summary}".splitlines()))
    sys.stdout.write(f"#\n{counts}\n")


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
    sys.stdout.write("\n")
    classes = [str(name) for name in record["classes"]]
    rows = []
    for index, counts in enumerate(record["confusion"]):
        wrong = [(n, classes[j]) for j, n in enumerate(counts) if j != index and n]
        share = f"{counts[index] / sum(counts):.4f}" if sum(counts) else "-"
        often = "{1} ({0:,})".format(*max(wrong)) if wrong else "-"
        rows.append((classes[index], f"{sum(counts):,}", share, often))
    _table(("class", "examples", "accuracy", "most often taken for"), rows, right=(1, 2))


def show_predictions(
    rows: Sequence[Mapping[str, Any]], csv_file: str | None, as_json: bool
) -> None:
    """Show predicted classes; write them as CSV where a file is given.

    Parameters
    ----------
    rows : sequence of mappings
        From `chainrule.training.predict_run`.
    csv_file : str, optional
        Where to; ``-`` is standard output.
    as_json : bool
        For programs.
    """
    if csv_file is not None:
        text = io.StringIO()
        writer = csv.DictWriter(
            text, ["file", "label", "class", "probability"], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)
        if csv_file == "-":
            sys.stdout.write(text.getvalue())
            return
        # The names of files are written as the bytes they are.
        write_atomically(Path(csv_file), text.getvalue().encode(errors="surrogateescape"))
        say(f"{_count(len(rows), 'prediction')} written to {csv_file}")
    if as_json:
        _json(rows)
    elif csv_file is None:
        cells = [(r["file"], r["class"], f"{r['probability']:.4f}") for r in rows]
        _table(("file", "class", "probability"), cells, right=(2,))


def show_checks(checks: Iterable[SanityCheck], as_json: bool) -> list[SanityCheck]:
    """Show the sanity checks, once all are done, and return them."""
    done: list[SanityCheck] = []
    console = _console()
    if console.is_terminal:  # the checks of a large network take minutes
        with console.status("checking ...") as status:
            for check in checks:
                done.append(check)
                status.update(f"{_count(len(done), 'check')} done, last: {check.name}")
    else:
        done.extend(checks)
    if as_json:
        _json([dataclasses.asdict(check) for check in done])
    else:
        cells = [("pass" if c.passed else "FAIL", c.name, c.expected, c.measured) for c in done]
        _table(("", "check", "expected", "measured"), cells)
        passed = sum(check.passed for check in done)
        say(f"{passed} of {_count(len(done), 'check')} passed.")
    return done


def show_files(files: Sequence[Path], as_json: bool) -> None:
    """Show which files there are now, one a line."""
    if as_json:
        _json([str(path) for path in files])
    else:
        sys.stdout.write("".join(f"{path}\n" for path in files))


def show_runs(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Show a table of runs."""
    if as_json:
        _json(rows)
        return
    cells = [
        (
            row["path"],
            row["status"],
            _number(row["val_accuracy"]),
            _number(row["val_loss"]),
            _number(row["test_accuracy"]),
            f"{row['steps']:,}",
            "-" if row["seconds"] is None else _duration(row["seconds"]),
        )
        for row in rows
    ]
    header = ("run", "status", "val acc", "val loss", "test acc", "steps", "time")
    _table(header, cells, right=(2, 3, 4, 5, 6), needed=3)


def show_benchmarks(record: Mapping[str, Any]) -> None:
    """Show times, ratios, training steps and what the course states, as tables.

    Parameters
    ----------
    record : mapping
        From `chainrule.bench.run_benchmarks`.
    """
    environment, settings = record["environment"], record["settings"]
    peaks = record["machine"]["matmul_gflops"]
    _pairs(
        [
            ("cpu", environment["cpu"]),
            ("kernels", record["kernels"]),
            ("torch", f"{environment['packages']['torch']} ({record['torch_cpu_capability']})"),
            ("threads", f"{settings['threads']}"),
            ("rounds", f"{settings['rounds']}"),
            *((f"{name} peak", f"{peak:.0f} GFLOP/s") for name, peak in peaks.items()),
        ]
    )
    opponents = {"eager": "eager", "channels_last": "ch. last", "tuned_allocator": "tuned"}
    if cases := record["cases"]:
        sys.stdout.write("\n")
        header = ["case", "dtype", "ms", "eager/ours", "best/ours", "GFLOP/s", "of peak"]
        header += [f"{name} ms" for name in opponents.values()]
        cells = [
            (
                case["name"],
                case["dtype"],
                _milliseconds(case["forms"]["chainrule"]),
                f"{case['ratio_to_eager']:.2f}",
                f"{case['ratio_to_best']:.2f}",
                f"{case['gflops']:.1f}" if "gflops" in case else "-",
                f"{case['of_peak']:.0%}" if "of_peak" in case else "-",
                *(_milliseconds(case["forms"].get(form)) for form in opponents),
            )
            for case in cases
        ]
        _table(header, cells, right=range(2, len(header)), needed=7)
    for case in cases:
        if "times_floor" in case:
            floor = case["floor"]
            sys.stdout.write(
                f"\n{case['name']}: {case['times_floor']:.2f} times the floor of "
                f"{1e3 * floor['seconds']:.1f} ms, the larger of "
                f"{1e3 * floor['reading_seconds']:.1f} ms for reading X once at "
                f"{floor['read_gb_per_second']:.1f} GB/s and "
                f"{1e3 * floor['computing_seconds']:.1f} ms for the arithmetic at the peak\n"
            )
    _show_steps([case for case in cases if "images_per_second" in case])
    if course := record["course"]:
        sys.stdout.write("\n")
        keys = ("naive", "fast", "chainrule")
        speeds = [(row["what"], *(f"{1e3 * row[key]:.3f}" for key in keys)) for row in course]
        titles = ("course, float64", "its naive ms", "its fast ms", "ours ms")
        _table(titles, speeds, right=(1, 2, 3))
        sys.stdout.write("The course's times are those it states, on a machine of its own.\n")
    for note in record["notes"]:
        say(note)


def _show_steps(steps: Sequence[Mapping[str, Any]]) -> None:
    """Show what training steps come to, in images a second and in memory."""
    if not steps:
        return
    sys.stdout.write("\n")
    cells = [
        (
            step["name"],
            form,
            f"{rate:,.0f}",
            f"{step['memory_bytes'][form] / 2**20:,.1f}" if form in step["memory_bytes"] else "-",
        )
        for step in steps
        for form, rate in step["images_per_second"].items()
    ]
    _table(("training", "by", "images/s", "peak MiB"), cells, right=(2, 3))
    for step in steps:
        if step["epoch_seconds"] is not None:
            sys.stdout.write(f"{step['name']}: {step['epoch_seconds']:.1f} s for 980 steps\n")


def show_proofs(proofs: Sequence[LayerProof], as_json: bool) -> None:
    """Show what each witness says of each layer.

    Parameters
    ----------
    proofs : sequence of LayerProof
        The rows.
    as_json : bool
        For programs; says why a witness was not heard, too.
    """
    if as_json:
        _json([dataclasses.asdict(proof) | {"ok": proof.ok} for proof in proofs])
        return
    witnesses = [finding.witness for finding in proofs[0].findings]
    rows = [
        [
            proof.layer,
            str(proof.num_cases),
            *("-" if f.error is None else f"{f.error:.1e}" for f in proof.findings),
            "ok" if proof.ok else "FAILED",
        ]
        for proof in proofs
    ]
    _table(["layer", "cases", *witnesses, ""], rows, right=range(1, 2 + len(witnesses)))
    limits = ", ".join(f"{f.witness} {f.limit:.0e}" for f in proofs[0].findings)
    say(f"the worst relative errors; what passes: {limits}")
    if silent := {f.where for p in proofs for f in p.findings if f.error is None}:
        say(f"not heard (-): {'; '.join(sorted(silent))}")


def show_record(text: str, record: Any, as_json: bool) -> None:
    """Show a record as its own text, or as JSON for programs."""
    if as_json:
        _json(record)
    else:
        sys.stdout.write(f"{text}\n")


def show_info(record: Mapping[str, Any], as_json: bool) -> None:
    """Show versions, CPU and kernels."""
    if as_json:
        _json(record)
        return
    rows = [(key, str(record[key])) for key in ("chainrule", "python", "platform", "cpu", "cores")]
    rows += record["packages"].items()
    for pool in record["blas"]:
        words = [str(pool[key]) for key in ("internal_api", "version") if pool.get(key)]
        words.append(f"({_count(pool.get('num_threads', 0), 'thread')})")
        rows.append((pool.get("user_api", "threads"), " ".join(words)))
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
            "x".join(map(str, info.shape)),
            f"{info.num_train:,} / {info.num_val:,} / {info.num_test:,}",
            info.where,
        )
        for info in infos
    ]
    _table(("name", "there", "image", "train / val / test", "where"), cells, needed=5)
    if lacking := [info.name for info in infos if not info.available]:
        say(f"download what is not there with: chainrule data fetch {lacking[0]}")


def show_splits(splits: DataSplits, about: DatasetInfo | None, as_json: bool) -> None:
    """Show shapes and classes of a data set.

    Parameters
    ----------
    splits : chainrule.data.DataSplits
        The data.
    about : chainrule.data.DatasetInfo, optional
        What is known of a named data set.
    as_json : bool
        For programs.
    """
    parts = {name: getattr(splits, name) for name in ("train", "val", "test")}
    record = {
        "name": splits.name,
        "input_shape": list(splits.input_shape),
        "dtype": str(splits.train.x.dtype),
        "classes": list(splits.classes),
        "examples": {name: len(split) for name, split in parts.items()},
    }
    known = ("description", "source", "licence", "where")
    record |= {key: getattr(about, key) for key in known if about is not None}
    if as_json:
        _json(record)
        return
    shape = "x".join(map(str, splits.input_shape))
    rows = [("name", splits.name), ("example", f"{shape}, {record['dtype']}")]
    _pairs(rows + [(key, str(record[key])) for key in known if key in record])
    sys.stdout.write("\n")
    cells = [
        (name, *(f"{int((split.y == label).sum()):,}" for split in parts.values()))
        for label, name in enumerate(splits.classes)
    ]
    total = ("all", *(f"{len(split):,}" for split in parts.values()))
    _table(("class", *parts), [*cells, total], right=(1, 2, 3))


def _console() -> Console:
    # Rich takes FORCE_COLOR, as many build servers set it, for a terminal: bars in log files.
    return Console(stderr=True, force_terminal=sys.stderr.isatty())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _milliseconds(times: Mapping[str, Any] | None) -> str:
    return "-" if times is None else f"{1e3 * times['median']:.3f}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _json(value: Any) -> None:
    text = json.dumps(_finite(value), indent=2, allow_nan=False)
    sys.stdout.write(text + "\n")


def _finite(value: Any) -> Any:
    """Replace numbers that JSON cannot hold by None, at any depth."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _pairs(rows: Iterable[tuple[str, str]]) -> None:
    rows = list(rows)
    width = max(len(key) for key, _ in rows)
    sys.stdout.write("".join(f"{key:{width}}  {value}\n" for key, value in rows))


def _table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[int] = (),
    needed: int | None = None,
) -> None:
    """Print columns, two spaces between them.

    Parameters
    ----------
    header : sequence of str
        Names of the columns.
    rows : sequence of sequences of str
        The cells.
    right : sequence of int
        Columns that are aligned to the right.
    needed : int, optional
        How many columns are printed on any terminal; the others only where it has the width.
    """
    lines = [list(header), *(list(map(str, row)) for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    terminal = sys.stdout.isatty()
    count = len(header)
    if terminal and needed is not None:
        available = shutil.get_terminal_size().columns
        while count > needed and sum(widths[:count]) + 2 * (count - 1) > available:
            count -= 1
    for number, line in enumerate(lines):
        cells = []
        for index, cell in enumerate(line[:count]):
            padding = " " * (widths[index] - cell_len(cell))
            cells.append(padding + cell if index in right else cell + padding)
        text = "  ".join(cells).rstrip()
        if number == 0 and terminal and not os.environ.get("NO_COLOR"):
            text = f"\033[1m{text}\033[0m"
        sys.stdout.write(f"{text}\n")
