"""`fit`: training on arrays, without files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from chainrule.errors import ConfigError, InputError, explain
from chainrule.training.config import load_config
from chainrule.training.learner import Arrays, Model
from chainrule.training.loop import Callback, History, Trainer

__all__ = ["fit"]

AUGMENTATION = {"flip", "shift", "cutout"}


def fit(
    model: Model,
    x: np.ndarray,
    y: np.ndarray,
    x_val: np.ndarray | None = None,
    y_val: np.ndarray | None = None,
    *,
    rng: np.random.Generator,
    callbacks: Iterable[Callback] = (),
    **settings: Any,
) -> History:
    """Train a model on arrays.

    Parameters
    ----------
    model : Sequential, FunctionModel or alike
        With initial parameters. They are updated in place and are at the end those of the best
        evaluation.
    x : ndarray (N, ...)
        Training examples, preprocessed.
    y : ndarray (N,)
        Labels.
    x_val, y_val : ndarray, optional
        Validation examples and labels; without them the training loss decides what is best.
    rng : numpy.random.Generator
        Data order, augmentation and dropout come from it.
    callbacks : iterable of Callback, optional
        For instance ``[ProgressBar()]``.
    **settings
        Any key of the sections ``optimizer``, ``schedule`` and ``training`` of a configuration,
        and ``flip``, ``shift``, ``cutout``: ``epochs=5, lr=0.1, patience=3``. A section's
        ``name`` is given by the section: ``optimizer="momentum", schedule="cosine"``.

    Returns
    -------
    History
        Records, best evaluation, reason to stop.

    Raises
    ------
    ConfigError
        If a key or value is not understood, or is one of the network or the data.
    DivergedError
        At the first loss, gradient or weight that is not finite.
    InputError
        If `x_val` comes without `y_val`.

    Examples
    --------
    >>> from chainrule.models import softmax
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((200, 2))
    >>> y = (x[:, 0] > x[:, 1]).astype(np.int64)
    >>> model = softmax(2)
    >>> _ = model.init(rng, (2,))
    >>> history = fit(model, x, y, rng=rng, epochs=20, lr=0.1)
    >>> history.series("train_accuracy")[-1] > 0.95
    True
    """
    if (x_val is None) != (y_val is None):
        raise InputError(explain("fit", "x_val and y_val", "come together", "one of them"))
    config = load_config(settings=settings)
    unused = config.model.model_fields_set | (config.data.model_fields_set - AUGMENTATION)
    for key in unused | (config.model_fields_set & {"seed", "threads"}):
        raise ConfigError(
            f"fit: {key!r} has no meaning here: the network, its data and the generator are given "
            "as arguments, built with what they need."
        )
    empty = slice(0, 0)
    val = Arrays(x[empty], y[empty]) if x_val is None or y_val is None else Arrays(x_val, y_val)
    return Trainer(model, Arrays(x, y), val, config, rng, callbacks=callbacks).fit()
