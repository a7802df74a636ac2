"""The configuration of a run: sections, defaults, files and ``key=value`` overrides."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chainrule.errors import ConfigError, DataMissingError, explain, nearest

__all__ = [
    "RECIPES",
    "BackendConfig",
    "Config",
    "DataConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ScheduleConfig",
    "TrainingConfig",
    "load_config",
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)


class _OpenSection(_Section):
    """A section that passes what it does not know to the thing it names."""

    model_config = ConfigDict(extra="allow", validate_default=True, allow_inf_nan=False)

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are not the section's own."""
        return dict(self.model_extra or {})


class ModelConfig(_OpenSection):
    """``[model]``: the network. Other keys are options of the built-in network.

    Parameters
    ----------
    name : str
        Built-in name, or the path of a TOML network.
    layers : list of dict, optional
        Layers of a network of one's own; filled in when its file is read.
    loss : {"cross_entropy", "multiclass_hinge"}, optional
        Default: the network's own.
    label_smoothing : float, default 0
        For the cross-entropy, in [0, 1).
    init : {"he", "glorot"} or float, default "he"
        Initial weights.
    dtype : {"float32", "float64"}, default "float32"
        Type of all arithmetic.
    implementation : {"fast", "numpy", "reference"}, default "fast"
        Which layer pairs compute it.
    fuse : bool, default True
        Compute sandwiches such as convolution, ReLU and pooling together.
    """

    name: str = "two_layer"
    layers: list[dict[str, Any]] | None = None
    loss: Literal["cross_entropy", "multiclass_hinge"] | None = None
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    init: Literal["he", "glorot"] | float = "he"
    dtype: Literal["float32", "float64"] = "float32"
    implementation: Literal["fast", "numpy", "reference"] = "fast"
    fuse: bool = True


class DataConfig(_OpenSection):
    """``[data]``: images, preprocessing and augmentation. Other keys go to the preprocessing.

    Parameters
    ----------
    name : str
        Data set name, ``.npz`` file or folder of images.
    folder : str, optional
        Where data sets lie; default: ``CHAINRULE_DATA``, else the user's cache.
    num_train, num_validation, num_test : int, optional
        Sizes of the splits; default: the data set's own.
    resize : int, optional
        Bring all images of a folder to this height and width.
    preprocess : str, default "standardize"
        ``none``, ``mean_image``, ``standardize``, ``pca_whiten`` or ``hog_color``.
    flip : bool, default False
        Augmentation: mirror half of the training images.
    shift : int, default 0
        Augmentation: move by up to this many pixels.
    cutout : int, default 0
        Augmentation: blank a square of this many pixels.
    tta : {"none", "flip", "flip_shift"}, default "none"
        Test-time augmentation: evaluate and predict by the mean score of each image and its
        mirror image, or of these also moved by a pixel.
    """

    name: str = "digits"
    folder: str | None = None
    num_train: int | None = Field(None, ge=1)
    num_validation: int | None = Field(None, ge=1)
    num_test: int | None = Field(None, ge=1)
    resize: int | None = Field(None, ge=1)
    preprocess: str = "standardize"
    flip: bool = False
    shift: int = Field(0, ge=0)
    cutout: int = Field(0, ge=0)
    tta: Literal["none", "flip", "flip_shift"] = "none"


class OptimizerConfig(_OpenSection):
    """``[optimizer]``: the update rule. Other keys are options of that rule.

    Parameters
    ----------
    name : str, default "adam"
        ``sgd``, ``momentum``, ``nesterov``, ``rmsprop``, ``adagrad``, ``adam`` or ``adamw``.
    lr : float, default 1e-3
        Learning rate.
    clip_norm : float, optional
        Gradients are scaled down to this norm.
    ema_decay : float, optional
        Evaluate with an exponential moving average of the weights.
    """

    name: str = "adam"
    lr: float = Field(1e-3, gt=0)
    clip_norm: float | None = Field(None, gt=0)
    ema_decay: float | None = Field(None, ge=0, lt=1)


class ScheduleConfig(_OpenSection):
    """``[schedule]``: the learning rate over time. Other keys are options of the schedule.

    Parameters
    ----------
    name : str, default "constant"
        ``constant``, ``exponential``, ``step``, ``cosine`` or ``one_cycle``.
    warmup_epochs : float, default 0
        Length of a linear warm-up.
    """

    name: str = "constant"
    warmup_epochs: float = Field(0.0, ge=0)


class TrainingConfig(_Section):
    """``[training]``: the loop.

    Parameters
    ----------
    epochs : int, default 10
        Passes over the training images.
    batch_size : int, default 128
        Images per step.
    l2 : float, default 0
        Strength of ``l2 / 2 * sum(w ** 2)`` over the weights.
    eval_every : "epoch" or int, default "epoch"
        Evaluate after each epoch or every so many steps.
    eval_train_examples : int, default 1000
        Training images used for the training accuracy.
    log_every : int, default 10
        Steps between lines of the metrics log.
    checkpoint_every : int, optional
        Steps between checkpoints; default: one at each evaluation.
    patience : int, optional
        Stop after this many evaluations without improvement.
    max_time : float, optional
        Stop after this many seconds of training.
    overfit_batches : int, default 0
        Train and evaluate on this many batches only; 0 for all.
    fast_dev_run : bool, default False
        Five steps and one small evaluation, to see that everything works.
    """

    epochs: int = Field(10, ge=1)
    batch_size: int = Field(128, ge=1)
    l2: float = Field(0.0, ge=0)
    eval_every: Literal["epoch"] | Annotated[int, Field(ge=1)] = "epoch"
    eval_train_examples: int = Field(1000, ge=1)
    log_every: int = Field(10, ge=1)
    checkpoint_every: int | None = Field(None, ge=1)
    patience: int | None = Field(None, ge=1)
    max_time: float | None = Field(None, gt=0)
    overfit_batches: int = Field(0, ge=0)
    fast_dev_run: bool = False


class BackendConfig(_Section):
    """``[backend]``: what computes.

    Parameters
    ----------
    name : {"numpy", "torch"}, default "numpy"
        chainrule's own layers, or PyTorch.
    device : {"auto", "cpu", "cuda", "mps"}, default "auto"
        Where PyTorch computes; ``auto`` takes a GPU if there is one.
    precision : {"float32", "bf16", "fp16"}, default "float32"
        Of PyTorch's products: that of ``model.dtype``, or mixed precision with one of the short
        types. Weights and updates keep ``model.dtype``.
    compile : bool, default False
        Let PyTorch compile the network (``torch.compile``).
    channels_last : bool, default False
        Lay images out in memory with the channels last, which some GPUs like better.
    """

    name: Literal["numpy", "torch"] = "numpy"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    compile: bool = False
    channels_last: bool = False


class Config(_Section):
    """Everything that determines a run.

    Parameters
    ----------
    seed : int, default 0
        Every random number of the run comes from it.
    threads : int, default 0
        Threads of the linear algebra; 0 leaves it to the library.
    model, data, optimizer, schedule, training, backend
        The sections.

    Examples
    --------
    >>> config = load_config(overrides=["model.name=mlp", "lr=0.01", "hidden=[64,32]"])
    >>> config.optimizer.lr, config.model.options
    (0.01, {'hidden': [64, 32]})
    """

    seed: int = Field(0, ge=0)
    threads: int = Field(0, ge=0)
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
    backend: BackendConfig = BackendConfig()

    def to_toml(self) -> str:
        """Write the configuration, complete, as TOML that `load_config` reads back.

        Returns
        -------
        str
            TOML; options that are not set are left out.
        """
        return tomli_w.dumps(self.model_dump(exclude_none=True))


SECTIONS = ("model", "data", "optimizer", "schedule", "training", "backend")
_FOLDER = resources.files("chainrule.training") / "recipes"
RECIPES = tuple(sorted(file.name.removesuffix(".toml") for file in _FOLDER.iterdir()))
COMPUTED = {"num_classes", "total_steps", "steps_per_epoch", "warmup_steps"}  # not for a user


def load_config(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Config:
    """Build a configuration from a file, overrides and sections.

    Parameters
    ----------
    source : path or mapping, optional
        A TOML file, such as the ``config.toml`` of a run, or its content, or one of `RECIPES`.
    overrides : iterable of str
        ``section.key=value`` or, where only one section has the key, ``key=value``. Values are
        TOML; a word that is not TOML is a string.
    settings : mapping, optional
        The same as `overrides`, as values: ``{"lr": 0.01, "optimizer": "momentum"}``, where a
        section's name stands for its ``name``.

    Returns
    -------
    Config
        Validated.

    Raises
    ------
    ConfigError
        If a key or value is not understood; the message names the nearest known key.
    DataMissingError
        If the file does not exist.

    Examples
    --------
    >>> load_config("speednet").data.name
    'cifar10'
    >>> load_config(overrides=["batchsize=10"])
    Traceback (most recent call last):
    ...
    chainrule.errors.ConfigError: configuration: key 'batchsize' is not known. \
Did you mean 'batch_size'?
    """
    where, table = "configuration", {}
    if isinstance(source, Mapping):
        table = {k: dict(v) if isinstance(v, Mapping) else v for k, v in source.items()}
    elif source is not None:
        where = str(source)
        table = _read(Path(source))
    for section in SECTIONS:
        if not isinstance(table.get(section, {}), dict):
            got = f"{section} = {table[section]!r}"
            remedy = f"Write [{section}] on a line of its own, and its keys below it."
            raise ConfigError(explain(where, section, "be a table", got, remedy))
    for key, value in (settings or {}).items():
        _set(table, f"{key}.name" if key in SECTIONS else key, value)
    for override in overrides:
        _set(table, *_parse(override))
    return _validate(table, where)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if str(path) in RECIPES:
            return tomllib.loads((_FOLDER / f"{path}.toml").read_text(encoding="utf-8"))
        raise DataMissingError(
            f"{path}: there is no such configuration file. It may also be the name of a recipe: "
            f"{', '.join(RECIPES)}."
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: is not a TOML file ({error}).") from error


def _parse(override: str) -> tuple[str, Any]:
    """Split ``key=value``; values are TOML, and words that are not TOML are strings."""
    key, separator, text = override.partition("=")
    key = key.strip()
    if not separator or not key:
        raise ConfigError(
            f"configuration: {override!r} is not of the form key=value, such as lr=0.01 or "
            "training.epochs=5."
        )
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key, text


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    section, dot, option = key.rpartition(".")
    if not dot:
        section, option = _section_of(key), key
    if section == "":
        table[option] = value
    elif section in SECTIONS:
        table.setdefault(section, {})[option] = value
    else:
        raise ConfigError(
            f"configuration: section {section!r} is not known. {nearest(section, SECTIONS)}"
        )


def _section_of(key: str) -> str:
    """Find the one section that has a key; "" is the top level."""
    if key in ("seed", "threads"):
        return ""
    if key in SECTIONS:
        raise ConfigError(f"configuration: {key!r} is a section. Set {key}.name=... instead.")
    names = {section: _known(section) for section in SECTIONS}
    having = [section for section in SECTIONS if key in names[section]]
    if len(having) == 1:
        return having[0]
    if having:
        choices = " or ".join(f"{section}.{key}" for section in having)
        raise ConfigError(f"configuration: {key!r} is ambiguous. Write {choices}.")
    everything = {"seed", "threads"}.union(*names.values())
    raise ConfigError(f"configuration: key {key!r} is not known. {nearest(key, everything)}")


def _known(section: str) -> set[str]:
    """Return the keys of a section, with the options of everything that it can name.

    An option that only another network, rule or preprocessing has is refused when that is
    built, by a message that says what it is that does not know it.
    """
    model = Config.model_fields[section].annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    own = set(model.model_fields)
    if section == "model":
        from chainrule.models import BUILTIN

        own |= {key for builder in BUILTIN.values() for key in _keywords(builder)}
    elif section == "optimizer":
        from chainrule.optim import OPTIMIZERS

        own |= {key for rule in OPTIMIZERS.values() for key in _keywords(rule)}
    elif section == "schedule":
        from chainrule.optim import SCHEDULES

        own |= {key for rule in SCHEDULES.values() for key in _keywords(rule) - {"lr"}}
    elif section == "data":
        from chainrule.data import PREPROCESSORS

        own |= {key for rule in PREPROCESSORS.values() for key in rule.option_names()}
    return own - {"name", "layers"}


def _keywords(function: Any) -> set[str]:
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind in kinds} - COMPUTED


def _validate(table: dict[str, Any], where: str) -> Config:
    for section in SECTIONS:
        known = _known(section) | {"name"} | ({"layers"} if section == "model" else set())
        for key in table.get(section, {}):
            if key not in known:
                raise ConfigError(
                    f"{where}: key {key!r} in [{section}] is not known. {nearest(key, known)}"
                )
    for key in table:
        if key not in Config.model_fields:
            hint = nearest(key, Config.model_fields)
            raise ConfigError(f"{where}: key {key!r} is not known. {hint}")
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        problems = error.errors()
    # Alternatives of one value, such as "epoch" or a number, fail one by one: say all of them.
    path = problems[0]["loc"][:2]
    reasons = [p["msg"][0].lower() + p["msg"][1:] for p in problems if p["loc"][:2] == path]
    dotted = ".".join(map(str, path))
    value = problems[0]["input"]
    raise ConfigError(f"{where}: {dotted} = {value!r} is not valid: {', or '.join(reasons)}.")
