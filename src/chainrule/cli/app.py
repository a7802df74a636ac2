"""The commands. Each parses, builds a configuration and calls one function.

Nothing but typer is imported before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from chainrule.training import Config

__all__ = ["app"]

app = typer.Typer(
    name="chainrule",
    help="A neural-network workbench in which every derivative is written out and proven.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
data_app = typer.Typer(no_args_is_help=True, help="List, download and describe data sets.")
app.add_typer(data_app, name="data")

Model = Annotated[
    str, typer.Argument(help="Built-in network or TOML file.", metavar="MODEL", show_default=False)
]
Data = Annotated[
    str | None, typer.Option("--data", help="digits, mnist, cifar10, FILE.npz or a folder.")
]
DataDir = Annotated[
    str | None,
    typer.Option("--data-dir", help="Folder of the data files [default: $CHAINRULE_DATA]."),
]
ConfigFile = Annotated[str | None, typer.Option("--config", help="Configuration file (TOML).")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every random number.")]
Threads = Annotated[int | None, typer.Option("--threads", help="Threads of the linear algebra.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Settings = Annotated[
    list[str] | None,
    typer.Argument(help="Settings such as lr=0.01 or training.epochs=5.", metavar="[KEY=VALUE]..."),
]
Root = Annotated[str, typer.Option("--runs", help="Folder of runs.")]
Run = Annotated[str, typer.Argument(help="Run directory.", metavar="RUN", show_default=False)]


def _version(show: bool) -> None:
    if show:
        from chainrule import __version__

        typer.echo(f"chainrule {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
def train(
    model: Annotated[
        str | None, typer.Argument(help="Built-in network or TOML file.", metavar="[MODEL]")
    ] = None,
    settings: Settings = None,
    data: Data = None,
    config: ConfigFile = None,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Continue this run directory.")
    ] = None,
    seed: Seed = None,
    threads: Threads = None,
    data_dir: DataDir = None,
    runs: Root = "runs",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show configuration and network; train nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a network and keep everything about it in a run directory.

    Examples:

    chainrule train two_layer --data cifar10 hidden=1024 epochs=20 flip=true

    chainrule train convnet --data mnist --config settings.toml --seed 3

    chainrule train --resume runs/20260101T120000Z_convnet_mnist
    """
    from chainrule.cli import output
    from chainrule.errors import ConfigError
    from chainrule.training import ProgressBar, prepare, resume_run, train_run

    words = [word for word in [model, *(settings or [])] if word]
    given = bool(words or data or config or seed is not None or threads is not None)
    if resume is not None and given:
        raise ConfigError(
            "train --resume: takes no other settings, so that the run ends as it would have. To "
            f"change something, start a new run with --config {Path(resume) / 'config.toml'}."
        )
    callbacks = [ProgressBar(output.errors())]
    if resume is not None:
        trained = resume_run(resume, callbacks=callbacks, message=output.say)
    else:
        resolved = _config(words, data, config, seed, threads, data_dir)
        if dry_run:
            prepared = prepare(resolved)
            output.show_plan(prepared, json)
            return
        trained = train_run(resolved, runs, callbacks=callbacks, message=output.say)
    output.show_training(trained, json)
    if trained.history.stopped == "interrupted":
        raise typer.Exit(130)


@app.command()
def evaluate(
    run: Run,
    split: Annotated[str, typer.Option("--split", help="train, val or test.")] = "test",
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Evaluate the best weights of a run on a split, the test split by default."""
    from chainrule.cli import output
    from chainrule.training import evaluate_run

    output.show_evaluation(evaluate_run(run, split, data_dir), json)


@app.command()
def predict(
    run: Run,
    images: Annotated[list[str], typer.Argument(help="Image files.", metavar="IMAGES...")],
    csv: Annotated[
        str | None, typer.Option("--csv", help="Write CSV to this file; - for standard output.")
    ] = None,
    resize: Annotated[
        bool, typer.Option("--resize", help="Scale images to the size the network takes.")
    ] = False,
    json: Json = False,
) -> None:
    """Predict the classes of image files with the best weights of a run."""
    from chainrule.cli import output
    from chainrule.training import predict_run

    output.show_predictions(predict_run(run, images, resize=resize), csv, json)


@app.command()
def sanity(
    model: Model,
    settings: Settings = None,
    data: Data = None,
    config: ConfigFile = None,
    seed: Seed = None,
    threads: Threads = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Check a network before training it: first loss, gradients, 50 images by heart."""
    from chainrule.cli import output
    from chainrule.training import sanity_checks

    resolved = _config([model, *(settings or [])], data, config, seed, threads, data_dir)
    checks = output.show_checks(sanity_checks(resolved), json)
    failed = [check for check in checks if not check.passed]
    if failed:
        raise typer.Exit(5 if any(check.is_gradient for check in failed) else 1)


@app.command()
def report(
    run: Run,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="png or svg; may be given twice.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard event files too.")
    ] = False,
    json: Json = False,
) -> None:
    """Draw figures of a run and write its page, report.html."""
    from chainrule.cli import output
    from chainrule.report import make_report, write_tensorboard

    made = make_report(run, formats=tuple(formats or ("png", "svg")))
    files = [made.page, *made.figures]
    if tensorboard:
        files.append(write_tensorboard(run))
    output.show_files(files, json)


@app.command("runs")
def list_runs(
    folder: Annotated[str, typer.Argument(help="Folder of runs.", metavar="[FOLDER]")] = "runs",
    json: Json = False,
) -> None:
    """List the runs of a folder, best first."""
    from chainrule.cli import output
    from chainrule.training import list_runs as runs_of

    output.show_runs(runs_of(folder), json)


@app.command()
def info(json: Json = False) -> None:
    """Show versions, CPU, threads and which kernels are active."""
    from chainrule.cli import output
    from chainrule.training.environment import describe_environment

    output.show_info(describe_environment(), json)


@data_app.command("list")
def data_list(data_dir: DataDir = None, json: Json = False) -> None:
    """List the data sets and whether they are there."""
    from chainrule.cli import output
    from chainrule.data import list_datasets

    output.show_datasets(list_datasets(data_dir), json)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="Data set.", metavar="NAME")],
    data_dir: DataDir = None,
) -> None:
    """Download a data set into the data folder."""
    from chainrule.cli import output
    from chainrule.data import fetch

    output.show_files(fetch(name, data_dir), as_json=False)


@data_app.command("info")
def data_info(
    name: Annotated[str, typer.Argument(help="Data set, .npz file or folder.", metavar="NAME")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Load a data set and describe what is in it."""
    from chainrule.cli import output
    from chainrule.data import load

    output.show_splits(load(name, data_dir, download=False), json)


def _config(
    words: list[str],
    data: str | None,
    config: str | None,
    seed: int | None,
    threads: int | None,
    data_dir: str | None,
) -> Config:
    """Put the words of a command line into one configuration; a later one goes before."""
    from chainrule.errors import ConfigError
    from chainrule.training import load_config

    name = {}
    if words and "=" not in words[0]:
        name = {"model.name": words[0]}
        words = words[1:]
    for word in words:
        if "=" not in word:
            raise ConfigError(
                f"train: {word!r} is neither the first word nor of the form key=value. "
                "Write: chainrule train MODEL key=value ..."
            )
    options = {"data.name": data, "data.folder": data_dir, "seed": seed, "threads": threads}
    given = {key: value for key, value in options.items() if value is not None}
    return load_config(config, words, settings=name | given)
