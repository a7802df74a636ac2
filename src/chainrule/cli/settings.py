"""What commands that build a network and its data have in common: their words and settings.

Nothing is imported before the command that needs it runs, as for all commands.
"""

from __future__ import annotations

import re
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from chainrule.cli.parser import argument, choice
from chainrule.errors import ConfigError

if TYPE_CHECKING:
    from chainrule.training import Config

__all__ = [
    "BACKEND",
    "BACKEND_OPTIONS",
    "CONFIGURATION",
    "DATA_DIR",
    "JSON",
    "MODEL",
    "RUN",
    "SETTINGS",
    "configuration",
]

SETTING = re.compile(r"[\w.\-]+=")  # what sets lr=0.1 apart from a file such as nets/a=b.toml

# What the registries of the rooms below know; a test compares, since --help may not import them.
SETTINGS = """\
settings, as KEY=VALUE, or SECTION.KEY=VALUE where two sections have the key:
  model      loss label_smoothing init dtype implementation fuse
             built-in networks take: hidden dropout activation norm filters
             kernel_size channels components
  data       num_train num_validation num_test resize flip shift cutout tta
             folder
             preprocess=none|mean_image|standardize|pca_whiten|hog_color
             these take: eps n_components scale orientations pixels_per_cell
             cells_per_block hue_bins
  optimizer  lr clip_norm ema_decay weight_decay decay_bias
             optimizer.name=sgd|momentum|nesterov|rmsprop|adagrad|adam|adamw
             these take: momentum nesterov lr_in_velocity alpha betas eps
             eps_inside_root
  schedule   warmup_epochs
             schedule.name=constant|exponential|step|cosine|one_cycle
             these take: gamma milestones step_epochs min_lr pct_start
             div_factor final_div_factor
  training   epochs batch_size l2 eval_every eval_train_examples log_every
             checkpoint_every patience max_time overfit_batches fast_dev_run
  backend    device precision compile channels_last
             backend.name=numpy|torch

A file for --config has the same sections and keys. Every run keeps such a file:
--config RUN/config.toml repeats that run. --config speednet is a recipe that
comes with chainrule: a strong network for CIFAR-10 in some minutes.
"""

MODEL = "softmax, svm, two_layer, mlp, convnet, vgg_small, speednet, or a network in a .toml file"
RUN = argument("run", metavar="RUN", help="a run directory, such as chainrule runs lists")
JSON = argument("--json", action="store_true", help="print JSON, for programs")
DATA_DIR = argument(
    "--data-dir", metavar="DIR", help="folder of the data sets (default: $CHAINRULE_DATA or cache)"
)
BACKEND = argument(
    "--backend", metavar="NAME", type=choice("numpy", "torch"), help="numpy (default) or torch"
)
BACKEND_OPTIONS = ("device", "precision", "compile", "channels_last")
CONFIGURATION = (
    argument("model", metavar="MODEL", nargs="?", help=MODEL),
    argument("settings", metavar="KEY=VALUE", nargs="*", help="settings, such as lr=0.01 epochs=5"),
    argument(
        "--data",
        metavar="NAME",
        help="digits (default), mnist, cifar10, a .npz file, or a folder with a folder of "
        "images for each class",
    ),
    argument(
        "--config",
        metavar="FILE",
        help="TOML file of settings, or a recipe: speednet; those given here prevail",
    ),
    argument("--seed", metavar="N", type=int, help="where all random numbers come from"),
    argument("--threads", metavar="N", type=int, help="threads of linear algebra and kernels"),
    DATA_DIR,
)


def configuration(command: str, options: Namespace) -> Config:
    """Put the words of a command line into one configuration; the later ones prevail.

    Parameters
    ----------
    command : str
        Its name, for messages.
    options : Namespace
        What the arguments of `CONFIGURATION` were given.

    Returns
    -------
    Config
        Validated.

    Raises
    ------
    ConfigError
        If there is no network, or a word is not understood.
    """
    from chainrule.records import RunDirectory
    from chainrule.training import Config, load_config

    words = [word for word in [options.model, *options.settings] if word is not None]
    named = {}
    if words and not SETTING.match(words[0]):
        named = {"model.name": words.pop(0)}
    for word in words:
        if not SETTING.match(word):
            raise ConfigError(
                f"{command}: {word!r} is neither the first word nor of the form KEY=VALUE. "
                f"Write: chainrule {command} MODEL KEY=VALUE ..."
            )
    start, source = vars(options).get("start"), options.config
    if source is None and start is not None:
        source = RunDirectory(start).path / "config.toml"
    if not named and source is None and not any(w.startswith("model.") for w in words):
        raise ConfigError(f"{command}: MODEL must be given. It may be {MODEL}.")
    given: dict[str, Any] = {
        "data.name": options.data,
        "data.folder": options.data_dir,
        "seed": options.seed,
        "threads": options.threads,
    }
    own = {f"backend.{key}": vars(options).get(key) or None for key in BACKEND_OPTIONS}
    backend = vars(options).get("backend")
    if backend == "numpy" and source is not None:  # whose options are PyTorch's, perhaps
        default = Config().backend.model_dump(exclude={"name"})
        given |= {f"backend.{key}": value for key, value in default.items()}
    given |= {"backend.name": backend} | {k: v for k, v in own.items() if v is not None}
    settings = named | {key: value for key, value in given.items() if value is not None}
    return load_config(source, words, settings=settings)
