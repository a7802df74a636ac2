"""``cs231n.classifiers.fc_net``: fully connected networks.

Notebooks take the layers from here as well, by ``from cs231n.classifiers.fc_net import *``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.course.arrays import as_floats
from chainrule.course.cs231n.layer_utils import (
    affine_relu_backward,
    affine_relu_forward,
    conv_bn_relu_backward,
    conv_bn_relu_forward,
    conv_relu_backward,
    conv_relu_forward,
    conv_relu_pool_backward,
    conv_relu_pool_forward,
)
from chainrule.course.cs231n.layers import (
    affine_backward,
    affine_forward,
    batchnorm_backward,
    batchnorm_backward_alt,
    batchnorm_forward,
    conv_backward_naive,
    conv_forward_naive,
    dropout_backward,
    dropout_forward,
    layernorm_backward,
    layernorm_forward,
    max_pool_backward_naive,
    max_pool_forward_naive,
    relu_backward,
    relu_forward,
    softmax_loss,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
    spatial_groupnorm_backward,
    spatial_groupnorm_forward,
    svm_loss,
)
from chainrule.course.networks import CourseNetwork, draw
from chainrule.errors import ConfigError, InputError, explain
from chainrule.models import BatchNorm, Dropout, LayerNorm, Linear, Module, ReLU
from chainrule.records import load_tensors, save_tensors

__all__ = [
    "FullyConnectedNet",
    "TwoLayerNet",
    "affine_backward",
    "affine_forward",
    "affine_relu_backward",
    "affine_relu_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "conv_backward_naive",
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_forward_naive",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
    "dropout_backward",
    "dropout_forward",
    "layernorm_backward",
    "layernorm_forward",
    "max_pool_backward_naive",
    "max_pool_forward_naive",
    "relu_backward",
    "relu_forward",
    "softmax_loss",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
    "svm_loss",
]

Params = dict[str, np.ndarray]


class TwoLayerNet:
    """Affine - ReLU - affine - softmax, to be trained by a `Solver`.

    Parameters
    ----------
    input_dim : int, default 3 * 32 * 32
        Numbers in an example, D.
    hidden_dim : int, default 100
        Hidden units, H.
    num_classes : int, default 10
        Number of classes, C.
    weight_scale : float, default 1e-3
        Standard deviation of the weights.
    reg : float, default 0.0
        Strength of the penalty ``0.5 reg sum(W ** 2)``.

    Attributes
    ----------
    params : dict of str to ndarray of float64
        ``W1`` (D, H), ``b1`` (H,), ``W2`` (H, C), ``b2`` (C,).
    """

    def __init__(
        self,
        input_dim: int = 3 * 32 * 32,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
    ) -> None:
        self.reg = reg
        self.params: Params = {
            "W1": draw(weight_scale, input_dim, hidden_dim),
            "b1": np.zeros(hidden_dim),
            "W2": draw(weight_scale, hidden_dim, num_classes),
            "b2": np.zeros(num_classes),
        }
        layers = [Linear(hidden_dim), ReLU(), Linear(num_classes)]
        self._network = CourseNetwork("TwoLayerNet.loss", layers, (input_dim,))

    def loss(self, X: np.ndarray, y: np.ndarray | None = None) -> Any:
        """Compute scores, or loss and gradients.

        Parameters
        ----------
        X : ndarray, shape (N, d_1, ..., d_k)
            Examples of D = d_1 ... d_k numbers each.
        y : ndarray, shape (N,), integer, optional
            Labels.

        Returns
        -------
        ndarray (N, C), or (float, dict of str to ndarray)
            Scores without labels, else loss and gradients.
        """
        return self._network.run(self.params, X, y, self.reg)

    def save(self, fname: str | os.PathLike[str]) -> None:
        """Write the parameters to a file, in the safetensors format whatever its name.

        Parameters
        ----------
        fname : path
            The file.
        """
        save_tensors(Path(fname), self.params)

    def load(self, fname: str | os.PathLike[str]) -> bool:
        """Read the parameters from a file that `save` wrote.

        Parameters
        ----------
        fname : path
            The file.

        Returns
        -------
        bool
            True.

        Raises
        ------
        RunError
            If the file is missing or was not written by `save`. The course's own files, which
            are pickles, are not read.
        """
        self.params, _ = load_tensors(Path(fname))
        return True


class FullyConnectedNet:
    """{affine - [norm] - ReLU - [dropout]} x (L - 1) - affine - softmax.

    Parameters
    ----------
    hidden_dims : sequence of int
        Units of each hidden layer.
    input_dim : int, default 3 * 32 * 32
        Numbers in an example.
    num_classes : int, default 10
        Number of classes.
    dropout_keep_ratio : float, default 1
        Probability of keeping a hidden unit in training; 1 for no dropout. Keyword only, as are
        all that follow.
    normalization : {"batchnorm", "layernorm"}, optional
        Normalisation before each ReLU.
    reg : float, default 0.0
        Strength of the penalty ``0.5 reg sum(W ** 2)``.
    weight_scale : float, default 1e-2
        Standard deviation of the weights.
    dtype : dtype, default float32
        float32 or float64.
    seed : int, optional
        Makes each dropout mask the same at each call.
    dropout : float, optional
        What `dropout_keep_ratio` was called until 2020; 0 stands for no dropout too.
    use_batchnorm : bool, default False
        What ``normalization="batchnorm"`` was called until 2017.

    Attributes
    ----------
    params : dict of str to ndarray
        ``W1``, ``b1``, ..., and ``gamma1``, ``beta1``, ... with normalisation.
    """

    def __init__(
        self,
        hidden_dims: Sequence[int],
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        *,
        dropout_keep_ratio: float = 1,
        normalization: str | None = None,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: Any = np.float32,
        seed: int | None = None,
        dropout: float | None = None,
        use_batchnorm: bool = False,
    ) -> None:
        keep = dropout_keep_ratio if dropout is None else (dropout or 1)
        normalization = "batchnorm" if use_batchnorm else normalization
        _check(keep, normalization)
        self.reg, self.dtype, self.seed = reg, np.dtype(dtype), seed
        self.normalization, self.use_dropout = normalization, keep != 1
        self.num_layers = 1 + len(hidden_dims)
        self.params: Params = {}
        layers: list[Module] = []
        for depth, (fan_in, units) in enumerate(
            zip([input_dim, *hidden_dims], [*hidden_dims, num_classes], strict=True), 1
        ):
            self.params[f"W{depth}"] = draw(weight_scale, fan_in, units)
            self.params[f"b{depth}"] = np.zeros(units)
            layers.append(Linear(units))
            if depth == self.num_layers:
                break
            if normalization is not None:
                self.params[f"gamma{depth}"] = np.ones(units)
                self.params[f"beta{depth}"] = np.zeros(units)
                layers.append(BatchNorm() if normalization == "batchnorm" else LayerNorm())
            layers.append(ReLU())
            if self.use_dropout:
                layers.append(Dropout(1 - keep))
        self.params = {name: value.astype(self.dtype) for name, value in self.params.items()}
        self._network = CourseNetwork("FullyConnectedNet.loss", layers, (input_dim,))

    def loss(self, X: np.ndarray, y: np.ndarray | None = None) -> Any:
        """Compute scores in test mode, or loss and gradients in training mode.

        Parameters
        ----------
        X : ndarray, shape (N, d_1, ..., d_k)
            Examples.
        y : ndarray, shape (N,), integer, optional
            Labels.

        Returns
        -------
        ndarray (N, C), or (float, dict of str to ndarray)
            Scores without labels, else loss and gradients.
        """
        X = as_floats("FullyConnectedNet.loss", X=X)[0].astype(self.dtype, copy=False)
        return self._network.run(self.params, X, y, self.reg, self.seed)

    @property
    def bn_params(self) -> list[dict[str, np.ndarray]]:
        """``running_mean`` and ``running_var`` of each batch normalisation."""
        return self._network.running_statistics()


def _check(keep: float, normalization: str | None) -> None:
    where = "FullyConnectedNet"
    if not 0 < keep <= 1:
        rule = "be above 0 and at most 1"
        raise InputError(explain(where, "dropout_keep_ratio", rule, keep))
    if normalization not in (None, "batchnorm", "layernorm"):
        rule = "be 'batchnorm', 'layernorm' or None"
        raise ConfigError(explain(where, "normalization", rule, repr(normalization)))
