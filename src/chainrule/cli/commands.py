"""The commands. Each parses, builds a configuration and calls one function.

Nothing is imported before the command that needs it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from chainrule.cli.descend import DESCEND
from chainrule.cli.explain import EXPLAIN
from chainrule.cli.export import EXPORT
from chainrule.cli.grade import GRADE
from chainrule.cli.parity import PARITY
from chainrule.cli.parser import Command, argument, choice
from chainrule.cli.proof import PROOF
from chainrule.cli.settings import (
    BACKEND,
    CONFIGURATION,
    DATA_DIR,
    JSON,
    RUN,
    SETTINGS,
    configuration,
)
from chainrule.errors import ConfigError

if TYPE_CHECKING:
    from chainrule.training import TrainedRun
    from chainrule.training.finished import MakeScorer
    from chainrule.training.world import World

__all__ = ["COMMANDS"]


def _train(options: Namespace) -> int:
    """Train into a new run directory, or continue one; under torchrun, together."""
    from chainrule.training import follow_run
    from chainrule.twin import BACKENDS, joined

    with joined() as world:
        if world.leads:
            trained = _lead(options, world)
            stopped = trained.history.stopped if trained else ""
        else:
            stopped = "" if options.dry_run else follow_run(world, backends=BACKENDS).stopped
    if world.leads and trained:
        _conclude(options, world, trained)
    return 130 if stopped == "interrupted" else 0


def _lead(options: Namespace, world: World) -> TrainedRun | None:
    """Train as the only process, or as that which leads the others."""
    from chainrule.cli import output
    from chainrule.training import prepare, resume_run, train_run
    from chainrule.twin import BACKENDS

    if options.resume is None:
        config = configuration("train", options)
        if options.dry_run:
            output.show_plan(prepare(config), options.json)
            return None
        root = "runs" if options.runs is None else options.runs
        return train_run(
            config,
            root,
            start=options.start,
            backends=BACKENDS,
            callbacks=output.callbacks(),
            message=output.say,
            world=world,
        )
    _refuse_settings(options)
    trained = resume_run(
        options.resume,
        backends=BACKENDS,
        callbacks=output.callbacks(),
        message=output.say,
        world=world,
    )
    if not trained.history.records:
        output.say("this run had ended already, so there was nothing left to do.")
    return trained


def _conclude(options: Namespace, world: World, trained: TrainedRun) -> None:
    """Report on a run that has been trained."""
    from chainrule.cli import output

    page = None
    if options.report and trained.history.stopped != "interrupted":
        from chainrule.report import make_report
        from chainrule.training import evaluate_run

        if trained.run.data()["num_test"]:
            evaluate_run(trained.run.path, "test", options.data_dir)
        page = make_report(trained.run.path).page
    output.show_training(trained, page, options.json, world.resume_command(trained.run.path))


def _evaluate(options: Namespace) -> int:
    """Evaluate the best weights of a run."""
    from chainrule.cli import output
    from chainrule.training import evaluate_run

    record = evaluate_run(
        options.run, options.split, options.data_dir, scorer=_scorer(options.backend)
    )
    output.show_evaluation(record, options.json)
    return 0


def _predict(options: Namespace) -> int:
    """Predict the classes of image files."""
    from chainrule.cli import output
    from chainrule.training import predict_run

    if options.csv == "-" and options.json:
        raise ConfigError("predict: --csv - and --json both ask for standard output. Give one.")
    scorer = _scorer(options.backend)
    rows = predict_run(options.run, options.images, resize=options.resize, scorer=scorer)
    output.show_predictions(rows, options.csv, options.json)
    return 0


def _sanity(options: Namespace) -> int:
    """Check a network before it is trained."""
    from chainrule.cli import output
    from chainrule.training import sanity_checks

    checks = output.show_checks(sanity_checks(configuration("sanity", options)), options.json)
    failed = [check for check in checks if not check.passed]
    if not failed:
        return 0
    return 5 if any(check.is_gradient for check in failed) else 1


def _report(options: Namespace) -> int:
    """Draw a run."""
    from chainrule.cli import output
    from chainrule.report import make_report, write_tensorboard

    made = make_report(options.run, formats=tuple(options.format or ("png", "svg")))
    files = [made.page, *made.figures]
    if options.tensorboard:
        files.append(write_tensorboard(options.run))
    output.show_files(files, options.json)
    return 0


def _runs(options: Namespace) -> int:
    """List runs."""
    from chainrule.cli import output
    from chainrule.training import list_runs

    output.show_runs(list_runs(options.folder), options.json)
    return 0


def _bench(options: Namespace) -> int:
    """Compare speed and memory with PyTorch's."""
    from chainrule.bench import run_benchmarks
    from chainrule.cli import output
    from chainrule.records import write_json

    if options.figure is not None:  # what cannot be written is refused before anything is timed
        from chainrule.report import benchmark_figure, figure_format, save_figure

        figure_format(options.figure)
    record = run_benchmarks(
        options.what,
        dtype=options.dtype,
        rounds=options.rounds,
        threads=options.threads,
        quick=options.quick,
        message=output.say,
    )
    output.show_benchmarks(record)
    if options.json is not None:
        write_json(Path(options.json), record)
        output.say(f"results written to {options.json}")
    if options.figure is not None:
        save_figure(benchmark_figure(record), options.figure)
        output.say(f"figure written to {options.figure}")
    return 0


def _info(options: Namespace) -> int:
    """Describe what chainrule runs on."""
    from chainrule.cli import output
    from chainrule.training.environment import describe_environment

    output.show_info(describe_environment(), options.json)
    return 0


def _data_list(options: Namespace) -> int:
    """List data sets."""
    from chainrule.cli import output
    from chainrule.data import list_datasets

    output.show_datasets(list_datasets(options.data_dir), options.json)
    return 0


def _data_fetch(options: Namespace) -> int:
    """Download a data set."""
    from chainrule.cli import output
    from chainrule.data import fetch

    output.show_files(fetch(options.name, options.data_dir), options.json)
    return 0


def _data_info(options: Namespace) -> int:
    """Describe a data set."""
    from chainrule.cli import output
    from chainrule.data import list_datasets, load

    splits = load(options.name, options.data_dir, download=False)
    about = [one for one in list_datasets(options.data_dir) if one.name == options.name]
    output.show_splits(splits, about[0] if about else None, options.json)
    return 0


COMMANDS = (
    Command(
        "train",
        "Train a network and keep everything about it in a run directory.",
        "MODEL [KEY=VALUE ...] [options]\n       chainrule train --from RUN [KEY=VALUE ...]\n"
        "       chainrule train --resume RUN",
        _train,
        (
            *CONFIGURATION,
            argument("--resume", metavar="RUN", help="continue this run, with its own settings"),
            argument(
                "--from",
                dest="start",
                metavar="RUN",
                help="start from the best weights of this run, of either backend, with its "
                "settings where none are given",
            ),
            argument("--runs", metavar="DIR", help="folder for run directories (default: runs)"),
            BACKEND,
            argument(
                "--device",
                metavar="NAME",
                type=choice("auto", "cpu", "cuda", "mps"),
                help="where torch computes: auto (default), cpu, cuda or mps",
            ),
            argument(
                "--precision",
                metavar="NAME",
                type=choice("float32", "bf16", "fp16"),
                help="torch: float32 (default), or mixed with bf16 or fp16",
            ),
            argument("--compile", action="store_true", help="torch: compile the network"),
            argument(
                "--channels-last", action="store_true", help="torch: images with channels last"
            ),
            argument(
                "--report",
                action="store_true",
                help="afterwards evaluate on the test split and write report.html",
            ),
            argument(
                "--dry-run",
                action="store_true",
                help="show all settings, as TOML, and the layers; train nothing",
            ),
            JSON,
        ),
        (
            "chainrule train two_layer --data cifar10 hidden=1024 epochs=20 flip=true",
            "chainrule train convnet --data mnist --config mine.toml --seed 3 --report",
            "chainrule train mlp hidden=[256,128] norm=batch schedule.name=cosine --dry-run",
            "chainrule train --config speednet",
            "chainrule train convnet --backend torch --device auto --precision bf16",
            "torchrun --nproc-per-node 4 -m chainrule train convnet --backend torch",
            "chainrule train --resume runs/20260101T120000Z_convnet_mnist",
            "chainrule train --from runs/20260101T120000Z_convnet_mnist lr=1e-4",
        ),
        SETTINGS,
    ),
    Command(
        "evaluate",
        "Evaluate the best weights of a run on the test split, or another.",
        "RUN [options]",
        _evaluate,
        (
            RUN,
            argument(
                "--split",
                type=choice("train", "val", "test"),
                default="test",
                metavar="SPLIT",
                help="train, val or test (default)",
            ),
            DATA_DIR,
            BACKEND,
            JSON,
        ),
        ("chainrule evaluate runs/20260101T120000Z_convnet_mnist --split val",),
    ),
    Command(
        "predict",
        "Predict the classes of image files with the best weights of a run.",
        "RUN IMAGE ... [options]",
        _predict,
        (
            RUN,
            argument("images", metavar="IMAGE", nargs="+", help="image files"),
            argument("--csv", metavar="FILE", help="write CSV; - for standard output"),
            argument(
                "--resize",
                action="store_true",
                help="scale images to the size that the network takes",
            ),
            BACKEND,
            JSON,
        ),
        ("chainrule predict runs/20260101T120000Z_convnet_mnist *.png --csv labels.csv",),
    ),
    Command(
        "sanity",
        "Check a network before training it: loss, gradients, overfitting.",
        "MODEL [KEY=VALUE ...] [options]",
        _sanity,
        (*CONFIGURATION, JSON),
        (
            "chainrule sanity convnet --data cifar10 filters=8",
            "chainrule sanity network.toml --data photos/",
        ),
        SETTINGS,
    ),
    Command(
        "report",
        "Draw the figures of a run and write its page, report.html.",
        "RUN [options]",
        _report,
        (
            RUN,
            argument(
                "--format",
                action="append",
                type=choice("png", "svg", "pdf"),
                metavar="FORMAT",
                help="png, svg or pdf; may be given several times (default: png and svg)",
            ),
            argument(
                "--tensorboard", action="store_true", help="write TensorBoard event files too"
            ),
            JSON,
        ),
        ("chainrule report runs/20260101T120000Z_convnet_mnist",),
    ),
    Command(
        "runs",
        "List the runs of a folder, best first.",
        "[FOLDER] [options]",
        _runs,
        (
            argument("folder", metavar="FOLDER", nargs="?", default="runs", help="default: runs"),
            JSON,
        ),
    ),
    EXPORT,
    EXPLAIN,
    Command(
        "data list",
        "List the data sets and whether they are there.",
        "[options]",
        _data_list,
        (DATA_DIR, JSON),
    ),
    Command(
        "data fetch",
        "Download a data set into the data folder.",
        "NAME [options]",
        _data_fetch,
        (argument("name", metavar="NAME", help="digits, mnist or cifar10"), DATA_DIR, JSON),
    ),
    Command(
        "data info",
        "Load a data set and describe what is in it.",
        "NAME [options]",
        _data_info,
        (
            argument("name", metavar="NAME", help="a data set, .npz file or folder of images"),
            DATA_DIR,
            JSON,
        ),
    ),
    *DESCEND,
    *PROOF,
    PARITY,
    GRADE,
    Command(
        "bench",
        "Compare speed and memory with PyTorch's, results first.",
        "[CASE ...] [options]",
        _bench,
        (
            argument(
                "what",
                metavar="CASE",
                nargs="*",
                help="conv, conv_no_dx, conv_relu_pool, max_pool2d, batch_norm_relu, "
                "softmax_regression, step, update, course; or one such as conv/S1 (default: all)",
            ),
            argument(
                "--dtype",
                type=choice("float32", "float64", "both"),
                default="both",
                metavar="DTYPE",
                help="float32, float64 or both (default)",
            ),
            argument(
                "--rounds",
                metavar="N",
                type=int,
                default=15,
                help="turns of each, of which the median counts (default: 15)",
            ),
            argument(
                "--threads",
                metavar="N",
                type=int,
                default=2,
                help="threads of chainrule and of PyTorch (default: 2)",
            ),
            argument("--json", metavar="FILE", help="write all results, for programs"),
            argument("--figure", metavar="FILE", help="draw the ratios: .png, .svg or .pdf"),
            argument(
                "--quick",
                action="store_true",
                help="three rounds of small sizes, to see that everything works",
            ),
        ),
        (
            "chainrule bench --json results.json --figure ratios.svg",
            "chainrule bench conv/S4 step --dtype float32",
        ),
    ),
    Command(
        "info",
        "Show versions, CPU, threads and which kernels are active.",
        "[options]",
        _info,
        (JSON,),
    ),
)


def _scorer(backend: str | None) -> MakeScorer | None:
    """Return what lets another backend than NumPy compute the scores of a run's network."""
    if backend != "torch":
        return None
    from chainrule.twin import TwinScorer

    return TwinScorer


def _refuse_settings(options: Namespace) -> None:
    """A run that is continued ends as it would have: with the settings it began with."""
    own = {"resume", "report", "json", "help"}
    given = [key for key, value in vars(options).items() if key not in own and value]
    if given or options.seed is not None or options.threads is not None:
        file = Path(options.resume, "config.toml")
        raise ConfigError(
            "train: --resume takes no other settings, so that the run ends as it would have. "
            f"To change something, start a new run with --config {file}"
        )
