"""The built-in networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from chainrule.errors import ConfigError, explain
from chainrule.models.module import Module
from chainrule.models.modules import (
    GELU,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sigmoid,
    SiLU,
    Tanh,
)
from chainrule.models.sequential import Sequential
from chainrule.models.whitening import Whiten2d

__all__ = ["BUILTIN", "convnet", "mlp", "softmax", "speednet", "svm", "two_layer", "vgg_small"]

ACTIVATIONS: dict[str, Callable[[], Module]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "gelu": GELU,
    "silu": SiLU,
}

# The last layer starts small, so that the first scores are near zero and the first loss near
# log C: every class is equally likely before anything is learned.
HEAD = 1e-3


def softmax(num_classes: int, **network: Any) -> Sequential:
    """Softmax regression: one linear layer under the cross-entropy.

    Parameters
    ----------
    num_classes : int
        Number of classes C.
    **network
        Passed on to `Sequential` (``loss``, ``implementation``).

    Returns
    -------
    Sequential
        flatten - linear.

    Examples
    --------
    >>> softmax(10).summary((3, 32, 32)).parameters
    30730
    """
    return Sequential([Flatten(), Linear(num_classes, init_weight=HEAD)], **network)


def svm(num_classes: int, **network: Any) -> Sequential:
    """Linear support vector machine: one linear layer under the multiclass hinge loss.

    Parameters
    ----------
    num_classes : int
        Number of classes C.
    **network
        Passed on to `Sequential` (``loss``, ``implementation``).

    Returns
    -------
    Sequential
        flatten - linear.

    Examples
    --------
    >>> svm(10).summary((1, 8, 8)).parameters
    650
    """
    network = {"loss": "multiclass_hinge"} | network
    return Sequential([Flatten(), Linear(num_classes, init_weight=HEAD)], **network)


def two_layer(
    num_classes: int, *, hidden: int = 100, dropout: float = 0.0, **network: Any
) -> Sequential:
    """Fully connected network with one hidden ReLU layer.

    Parameters
    ----------
    num_classes : int
        Number of classes C.
    hidden : int, default 100
        Hidden units.
    dropout : float, default 0
        Probability of dropping a hidden unit.
    **network
        Passed on to `Sequential` (``loss``, ``implementation``).

    Returns
    -------
    Sequential
        flatten - linear - relu - [dropout] - linear.

    Examples
    --------
    >>> two_layer(10, hidden=20).summary((1, 8, 8)).parameters
    1510
    """
    return mlp(num_classes, hidden=[hidden], dropout=dropout, **network)


def mlp(
    num_classes: int,
    *,
    hidden: Sequence[int] = (100, 100),
    activation: Literal["relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu"] = "relu",
    norm: Literal["none", "batch", "layer"] = "none",
    dropout: float = 0.0,
    **network: Any,
) -> Sequential:
    """Fully connected network of any depth.

    Parameters
    ----------
    num_classes : int
        Number of classes C.
    hidden : sequence of int, default (100, 100)
        Units of each hidden layer; may be empty.
    activation : str, default "relu"
        Non-linearity after each hidden layer.
    norm : {"none", "batch", "layer"}, default "none"
        Normalisation before each non-linearity.
    dropout : float, default 0
        Probability of dropping a hidden unit, after each non-linearity.
    **network
        Passed on to `Sequential` (``loss``, ``implementation``).

    Returns
    -------
    Sequential
        flatten - {linear - [norm] - activation - [dropout]} x len(hidden) - linear.

    Raises
    ------
    ConfigError
        If `activation` or `norm` is unknown.

    Examples
    --------
    >>> [layer.name for layer in mlp(10, hidden=[32], norm="batch").layers]
    ['flatten1', 'linear1', 'bn1', 'relu1', 'linear2']
    """
    if activation not in ACTIVATIONS:
        rule = f"be one of {', '.join(ACTIVATIONS)}"
        raise ConfigError(explain("mlp", "activation", rule, repr(activation)))
    normalisation = _norm("mlp", norm, ("none", "batch", "layer"))
    layers: list[Module] = [Flatten()]
    for units in hidden:
        layers += [Linear(units), *normalisation, ACTIVATIONS[activation]()]
        if dropout:
            layers.append(Dropout(dropout))
    return Sequential([*layers, Linear(num_classes, init_weight=HEAD)], **network)


def convnet(
    num_classes: int,
    *,
    filters: int = 32,
    kernel_size: int = 7,
    hidden: int = 0,
    dropout: float = 0.0,
    **network: Any,
) -> Sequential:
    """Two-layer convolutional network of the classic course.

    Parameters
    ----------
    num_classes : int
        Number of classes C.
    filters : int, default 32
        Filters of the convolution.
    kernel_size : int, default 7
        Their height and width, odd; the padding keeps the image size.
    hidden : int, default 0
        Units of a hidden linear layer; 0 for none.
    dropout : float, default 0
        Probability of dropping an input of the last layer.
    **network
        Passed on to `Sequential` (``loss``, ``implementation``).

    Returns
    -------
    Sequential
        conv - relu - 2x2 max pool - flatten - [linear - relu] - [dropout] - linear.

    Examples
    --------
    >>> print(convnet(10).summary((3, 32, 32)))
    layer     type        output        parameters      FLOPs
    ---------------------------------------------------------
    conv1     conv2d      (32, 32, 32)       4,736  9,633,792
    relu1     relu        (32, 32, 32)           0     32,768
    pool1     max_pool2d  (32, 16, 16)           0     32,768
    flatten1  flatten     (8192,)                0          0
    linear1   linear      (10,)             81,930    163,840
    ---------------------------------------------------------
    total                                   86,666  9,863,168
    """
    layers: list[Module] = [
        Conv2d(filters, kernel_size, padding="same"),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
    ]
    if hidden:
        layers += [Linear(hidden), ReLU()]
    if dropout:
        layers.append(Dropout(dropout))
    return Sequential([*layers, Linear(num_classes, init_weight=HEAD)], **network)


def vgg_small(
    num_classes: int,
    *,
    channels: Sequence[Sequence[int]] = ((32, 32), (64, 64), (128,)),
    norm: Literal["none", "batch"] = "batch",
    dropout: float = 0.0,
    **network: Any,
) -> Sequential:
    """Blocks of 3x3 convolutions with batch normalisation, each ended by a 2x2 max pool.

    Parameters
    ----------
    num_classes : int
        Number of classes C.
    channels : sequence of sequences of int, default ((32, 32), (64, 64), (128,))
        Filters of each convolution, block by block.
    norm : {"none", "batch"}, default "batch"
        Normalisation between convolution and ReLU. With it the convolutions have no bias.
    dropout : float, default 0
        Probability of dropping an input of the last layer.
    **network
        Passed on to `Sequential` (``loss``, ``implementation``).

    Returns
    -------
    Sequential
        {{conv3x3 - [bn] - relu} x n - pool} x blocks - flatten - [dropout] - linear.

    Raises
    ------
    ConfigError
        If `norm` is unknown.

    References
    ----------
    Simonyan and Zisserman, "Very deep convolutional networks for large-scale image
    recognition", arXiv:1409.1556, section 2.1.

    Examples
    --------
    >>> vgg_small(10).summary((3, 32, 32)).rows[-1].output_shape
    (10,)
    """
    normalisation = _norm("vgg_small", norm, ("none", "batch"))
    layers: list[Module] = []
    for block in channels:
        for filters in block:
            conv = Conv2d(filters, 3, padding=1, bias=norm == "none")
            layers += [conv, *normalisation, ReLU()]
        layers.append(MaxPool2d(2))
    layers.append(Flatten())
    if dropout:
        layers.append(Dropout(dropout))
    return Sequential([*layers, Linear(num_classes, init_weight=HEAD)], **network)


def speednet(
    num_classes: int,
    *,
    channels: Sequence[int] = (48, 96, 192),
    components: int = 12,
    dropout: float = 0.0,
    **network: Any,
) -> Sequential:
    """Whitened patches, then blocks of two 3x3 convolutions: made for short training on CIFAR-10.

    The recipe ``speednet`` (``chainrule train --config speednet``) trains it.

    Parameters
    ----------
    num_classes : int
        Number of classes C.
    channels : sequence of int, default (48, 96, 192)
        Filters of both convolutions of each block.
    components : int, default 12
        Principal components of the 3x3 patches that the first layer whitens.
    dropout : float, default 0
        Probability of dropping an input of the last layer.
    **network
        Passed on to `Sequential` (``loss``, ``implementation``).

    Returns
    -------
    Sequential
        whiten - relu - {conv3x3 - pool - bn - relu - conv3x3 - bn - relu} x blocks - flatten -
        [dropout] - linear.

    Notes
    -----
    Give `Sequential.init` the training images as ``examples``: the first layer is computed from
    them and not trained. Pooling comes right behind a convolution, so that normalisation and
    ReLU have a quarter of the numbers to do.

    References
    ----------
    K. Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498: the order of
    the layers; this network is narrower, for processors without a GPU.

    Examples
    --------
    >>> [layer.name for layer in speednet(10, channels=[16]).layers][:6]
    ['whiten1', 'relu1', 'conv1', 'pool1', 'bn1', 'relu2']
    """
    layers: list[Module] = [Whiten2d(components, 3, padding=1), ReLU()]
    for filters in channels:
        layers += [
            Conv2d(filters, 3, padding=1, bias=False, init_weight="dirac"),
            MaxPool2d(2),
            BatchNorm(),
            ReLU(),
            Conv2d(filters, 3, padding=1, bias=False, init_weight="dirac"),
            BatchNorm(),
            ReLU(),
        ]
    layers.append(Flatten())
    if dropout:
        layers.append(Dropout(dropout))
    return Sequential([*layers, Linear(num_classes, init_weight=HEAD)], **network)


def _norm(where: str, name: str, known: Sequence[str]) -> list[Module]:
    if name not in known:
        raise ConfigError(explain(where, "norm", f"be one of {', '.join(known)}", repr(name)))
    norms: dict[str, list[Module]] = {"batch": [BatchNorm()], "layer": [LayerNorm()]}
    return norms.get(name, [])


BUILTIN: dict[str, Callable[..., Sequential]] = {
    "softmax": softmax,
    "svm": svm,
    "two_layer": two_layer,
    "mlp": mlp,
    "convnet": convnet,
    "vgg_small": vgg_small,
    "speednet": speednet,
}
