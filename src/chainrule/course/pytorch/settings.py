"""What ``train`` is told: the course's flags, recipes for its networks, run scripts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from chainrule.errors import ConfigError

__all__ = ["RECIPES", "Settings", "complete"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a training depends on.

    Parameters
    ----------
    model : str
        ``softmax``, ``twolayernn``, ``convnet``, ``mymodel``, or ``FILE.py:CLASS``.
    lr : float
        Learning rate, above 0; with ``one_cycle`` its maximum.
    momentum : float
        Of SGD, from 0 to below 1.
    batch_size : int
        Images in a step.
    epochs : int
        Passes over the training images.
    hidden_dim : int or None, default None
        Hidden units of ``twolayernn``, filters of ``convnet``, filters of the first stage of
        ``mymodel``.
    kernel_size : int or None, default None
        Side of the filters of ``convnet`` and ``mymodel``.
    weight_decay : float, default 0.0
        Factor of the weights that SGD adds to the gradients.
    no_cuda : bool, default False
        Train on the CPU in any case.
    seed : int, default 1
        Of initial weights, order of images, dropout and augmentation.
    test_batch_size : int, default 1000
        Images at a time in evaluation.
    log_interval : int, default 10
        Steps from one line of the log to the next.
    cifar10_dir : str, default "data"
        The folder that holds ``cifar-10-batches-py``, or that folder itself.
    flip : bool, default False
        Mirror training images at random.
    shift : int, default 0
        Move training images by up to this many pixels at random.
    schedule : str, default "constant"
        ``constant`` or ``one_cycle``.
    channels_last : bool, default False
        Keep the channels of a pixel side by side in memory, which is faster for convolutions.
    """

    model: str
    lr: float
    momentum: float
    batch_size: int
    epochs: int
    hidden_dim: int | None = None
    kernel_size: int | None = None
    weight_decay: float = 0.0
    no_cuda: bool = False
    seed: int = 1
    test_batch_size: int = 1000
    log_interval: int = 10
    cifar10_dir: str = "data"
    flip: bool = False
    shift: int = 0
    schedule: str = "constant"
    channels_last: bool = False

    @property
    def stem(self) -> str:
        """The name that the files of this training begin with: ``softmax`` of ``softmax.pt``."""
        return Path(self.model.partition(":")[0]).stem if ".py" in self.model else self.model

    def script(self) -> str:
        """Write the training as a shell script, as the course's ``run_softmax.sh``.

        Returns
        -------
        str
            A script that repeats this training and keeps its log.

        Examples
        --------
        >>> settings = Settings(model="softmax", lr=1e-4, momentum=0.0, batch_size=512, epochs=1)
        >>> print(settings.script())
        #!/bin/sh
        python -u -m chainrule.course.pytorch.train \\
            --model softmax \\
            --lr 0.0001 \\
            --momentum 0.0 \\
            --batch-size 512 \\
            --epochs 1 \\
            --weight-decay 0.0 | tee softmax.log
        <BLANKLINE>
        """
        flags = []
        for field in fields(self):
            value = getattr(self, field.name)
            flag = f"--{field.name.replace('_', '-')}"
            if isinstance(value, bool):
                flags += [flag] if value else []
            elif value != field.default or field.name == "weight_decay":
                flags.append(f"{flag} {shlex.quote(str(value))}")
        body = " \\\n    ".join(["python -u -m chainrule.course.pytorch.train", *flags])
        return f"#!/bin/sh\n{body} | tee {shlex.quote(f'{self.stem}.log')}\n"


RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "softmax": {
            "lr": 1e-4,
            "momentum": 0.9,
            "weight_decay": 0.01,
            "batch_size": 256,
            "epochs": 8,
            "schedule": "one_cycle",
        },
        "twolayernn": {
            "lr": 3e-3,
            "momentum": 0.9,
            "weight_decay": 1e-3,
            "batch_size": 128,
            "epochs": 10,
            "hidden_dim": 512,
            "schedule": "one_cycle",
        },
        "convnet": {
            "lr": 1e-3,
            "momentum": 0.9,
            "weight_decay": 1e-3,
            "batch_size": 64,
            "epochs": 5,
            "hidden_dim": 32,
            "kernel_size": 5,
            "schedule": "one_cycle",
            "channels_last": True,
            "log_interval": 50,
        },
        "mymodel": {
            "lr": 0.1,
            "momentum": 0.9,
            "weight_decay": 1e-3,
            "batch_size": 128,
            "epochs": 16,
            "hidden_dim": 48,
            "kernel_size": 3,
            "flip": True,
            "shift": 2,
            "schedule": "one_cycle",
            "channels_last": True,
            "log_interval": 50,
        },
    }
)
"""Settings that were chosen for each model; what they leave out is the default."""


def complete(given: Mapping[str, Any], recipe: bool) -> Settings:
    """Fill up what a command line leaves out.

    Parameters
    ----------
    given : mapping of str to object
        Settings by name; None where the command line has none.
    recipe : bool
        Whether to take what is missing from the model's recipe; else from the course's defaults.

    Returns
    -------
    Settings
        All of them.

    Raises
    ------
    ConfigError
        If one is missing that has no default, or there is no recipe for the model.

    Examples
    --------
    >>> complete({"model": "mymodel", "epochs": 2}, recipe=True).epochs
    2
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    model = chosen["model"]
    if recipe and model not in RECIPES:
        raise ConfigError(
            f"train: --recipe is for {', '.join(RECIPES)}; got --model {model}. "
            "Give --lr, --momentum, --batch-size and --epochs."
        )
    if recipe:
        chosen = {**RECIPES[model], **chosen}
    required = ["lr", "momentum", "batch_size", "epochs"]
    required += ["hidden_dim"] * (model in ("twolayernn", "convnet"))
    required += ["kernel_size"] * (model == "convnet")
    if missing := [name for name in required if name not in chosen]:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in missing)
        known = RECIPES.get(model, {})
        advice = "; ".join(f"{name} {known[name]}" for name in missing if name in known)
        remedy = f" Give it, or --recipe ({advice})." if advice else ""
        raise ConfigError(f"train: {flags} must be given for {model}; got none.{remedy}")
    return Settings(**chosen)
