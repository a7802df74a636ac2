"""From a configuration to data and a network, ready to train."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chainrule import data
from chainrule.errors import ConfigError, explain
from chainrule.models import Sequential, build_model, make_loss, read_network
from chainrule.training.config import Config
from chainrule.training.learner import Arrays, make_update_rule

__all__ = ["Prepared", "generator", "load_data", "network_of", "prepare", "resolve"]


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
    >>> from chainrule.training import load_config
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
    shape = preprocessor.output_shape(splits.input_shape)
    dtype = np.dtype(config.model.dtype)
    section = config.data
    changes = section.flip or section.shift or section.cutout or section.tta != "none"
    if changes and len(shape) != 3:
        raise ConfigError(
            explain("configuration", "augmentation", "be off for data that are not images", shape)
        )
    train, val = (
        Arrays(preprocessor.transform(split.x, dtype), split.y)
        for split in (splits.train, splits.val)
    )
    model.init(generator(config, "init"), shape, config.model.init, dtype, train.x)
    return Prepared(config, splits, preprocessor, model, train, val)


def generator(config: Config, purpose: str) -> np.random.Generator:
    """Return a stream of the run's seed that is independent of those for other purposes.

    Parameters
    ----------
    config : Config
        Has the seed.
    purpose : {"init", "training"}
        What is drawn.

    Returns
    -------
    numpy.random.Generator
        The stream.
    """
    key = ("init", "training").index(purpose)
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(key,)))
