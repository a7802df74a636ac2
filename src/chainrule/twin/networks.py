"""Networks of chainrule as PyTorch modules: the same layers, names and weights.

A `TwinNetwork` is made from a `chainrule.models.Sequential`, built-in or from a TOML file. Its
``state_dict`` has exactly the names of the network's parameters and running statistics, so that
weights go both ways as they are. The first weights are always chainrule's: the same seed gives the
same network on both sides.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.errors import ConfigError, InputError, RunError, ShapeError, explain, nearest
from chainrule.models import Module, Sequential
from chainrule.records import load_tensors, save_tensors
from chainrule.training import load_run

__all__ = ["GlobalAvgPool2d", "TwinNetwork", "TwinScorer", "Whiten2d", "twin_of_run"]

Shape = tuple[int, ...]
Arrays = dict[str, np.ndarray]


class GlobalAvgPool2d(nn.Module):
    """Mean of each channel: (N, C, H, W) to (N, C).

    Examples
    --------
    >>> GlobalAvgPool2d()(torch.ones(2, 3, 4, 4)).shape
    torch.Size([2, 3])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the means of images (N, C, H, W)."""
        return x.mean(dim=(2, 3))


class Whiten2d(nn.Module):
    """A convolution whose filters are not trained.

    Parameters
    ----------
    shape : tuple of int
        Of the filters, (F, C, KH, KW).
    padding : int or (int, int)
        Zeros added on each side.

    Examples
    --------
    >>> layer = Whiten2d((4, 3, 2, 2), 0)
    >>> layer(torch.ones(1, 3, 5, 5)).shape, list(layer.state_dict()), list(layer.parameters())
    (torch.Size([1, 4, 4, 4]), ['weight'], [])
    """

    weight: Tensor

    def __init__(self, shape: Sequence[int], padding: int | tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(*shape))
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Return the components of each patch of images (N, C, H, W)."""
        return F.conv2d(x, self.weight, padding=self.padding)


def _whitening(layer: Any, shape: Shape) -> nn.Module:
    return Whiten2d(layer.buffers(shape)["weight"].shape, layer.padding)


def _convolution(layer: Any, shape: Shape) -> nn.Module:
    padding = layer.padding
    if padding == "same":  # numbers, since PyTorch's "same" admits no stride
        size = layer.kernel_size
        padding = tuple((k - 1) // 2 for k in ((size, size) if isinstance(size, int) else size))
    return nn.Conv2d(
        shape[0],
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        padding,
        groups=layer.groups,
        bias=layer.bias,
    )


def _batch_norm(layer: Any, shape: Shape) -> nn.Module:
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    module = kind(shape[0], layer.eps, layer.momentum)
    # With a fixed momentum nothing reads the counter, and chainrule has none.
    module.num_batches_tracked = None
    return module


# By the kind of a layer: what makes the PyTorch layer, given the shape of one input.
MAKERS: dict[str, Callable[[Any, Shape], nn.Module]] = {
    "linear": lambda layer, shape: nn.Linear(shape[0], layer.out_features, layer.bias),
    "conv2d": _convolution,
    "max_pool2d": lambda layer, _: nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding),
    "avg_pool2d": lambda layer, _: nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding),
    "global_avg_pool2d": lambda layer, _: GlobalAvgPool2d(),
    "flatten": lambda layer, _: nn.Flatten(),
    "relu": lambda layer, _: nn.ReLU(),
    "leaky_relu": lambda layer, _: nn.LeakyReLU(layer.negative_slope),
    "sigmoid": lambda layer, _: nn.Sigmoid(),
    "tanh": lambda layer, _: nn.Tanh(),
    "gelu": lambda layer, _: nn.GELU(layer.approximate),
    "silu": lambda layer, _: nn.SiLU(),
    "batch_norm": _batch_norm,
    "layer_norm": lambda layer, shape: nn.LayerNorm(shape, layer.eps),
    "group_norm": lambda layer, shape: nn.GroupNorm(layer.num_groups, shape[0], layer.eps),
    "dropout": lambda layer, _: nn.Dropout(layer.p),
    "whiten2d": _whitening,
}


class TwinNetwork(nn.Sequential):
    """A network of chainrule in PyTorch.

    Parameters
    ----------
    model : Sequential
        With its parameters; they and the running statistics are copied.

    Attributes
    ----------
    loss_name : str
        Name of the network's loss.
    penalised : tuple of str
        Names of the weights that the L2 penalty is taken of.

    Raises
    ------
    InputError
        If the network has not been initialised.
    ConfigError
        If a layer has a name that PyTorch does not admit.

    Notes
    -----
    Making one draws no random numbers. ``num_batches_tracked``, a counter that PyTorch's batch
    normalisation keeps and does not use when its momentum is given, is left out, so that the names
    of ``state_dict`` are chainrule's.

    Examples
    --------
    >>> from chainrule.models import two_layer
    >>> model = two_layer(3, hidden=4)
    >>> _ = model.init(np.random.default_rng(0), (5,))
    >>> network = TwinNetwork(model)
    >>> list(network.state_dict()) == list(model.params)
    True
    >>> scores = network(torch.ones(2, 5))
    >>> np.abs(scores.detach().numpy() - model.forward(np.ones((2, 5)))).max() < 1e-6
    np.True_
    """

    def __init__(self, model: Sequential) -> None:
        if not model.input_shape:
            remedy = "Call model.init(rng, input_shape) first."
            rule, got = "be initialised", "no parameters"
            raise InputError(explain("TwinNetwork", "model", rule, got, remedy))
        made: OrderedDict[str, nn.Module] = OrderedDict()
        shape = model.input_shape
        with torch.device("meta"):  # neither memory nor random numbers for what is overwritten
            for layer in model.layers:
                _check_name(layer)
                made[layer.name] = MAKERS[layer.kind](layer, shape)
                shape = layer.output_shape(shape)
        super().__init__(made)
        self.to_empty(device="cpu")
        self.to(torch.float64 if model.dtype == np.float64 else torch.float32)
        self.loss_name = model.loss_name
        self.loss_options: dict[str, Any] = dict(getattr(model.loss, "options", {}))
        self.penalised = tuple(f"{each.name}.{k}" for each in model.layers for k in each.penalised)
        self.load_numpy(model.params, model.buffers)

    def to_numpy(self) -> tuple[Arrays, Arrays]:
        """Copy the weights out, under the names that chainrule gives them.

        Returns
        -------
        params : dict of str to ndarray
            Trainable arrays, as in `Sequential.params`.
        buffers : dict of str to ndarray
            Running statistics, as in `Sequential.buffers`.
        """
        params = {name: _array(value) for name, value in self.named_parameters()}
        return params, {name: _array(value) for name, value in self.named_buffers()}

    def load_numpy(
        self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]
    ) -> None:
        """Copy weights in.

        Parameters
        ----------
        params : mapping of str to ndarray
            A value for each parameter; the dtype is that of the network.
        buffers : mapping of str to ndarray
            A value for each running statistic.

        Raises
        ------
        RunError
            If a name is missing or unknown. Nothing has been copied then.
        ShapeError
            If an array has another shape. Nothing has been copied then.
        """
        given, own = {**params, **buffers}, self.state_dict()
        for name in [*given.keys() - own.keys(), *own.keys() - given.keys()]:
            got = f"no {name!r}" if name in own else repr(name)
            rule, hint = "name each parameter and running statistic", nearest(name, own)
            raise RunError(explain("TwinNetwork", "weights", rule, got, hint))
        for name, value in own.items():
            if given[name].shape != tuple(value.shape):
                rule = f"have shape {tuple(value.shape)}"
                raise ShapeError(explain("TwinNetwork", name, rule, given[name].shape))
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(torch.from_numpy(np.array(given[name], order="C")))

    def copy_to(self, model: Sequential) -> None:
        """Copy the weights into a chainrule network.

        Parameters
        ----------
        model : Sequential
            The network that this one was made from, or one alike; initialised.

        Raises
        ------
        RunError
            If it has other parameters.
        """
        params, buffers = self.to_numpy()
        for group, own in ((params, model.params), (buffers, model.buffers)):
            if {k: v.shape for k, v in group.items()} != {k: v.shape for k, v in own.items()}:
                raise RunError("TwinNetwork: the weights belong to another network.")
            for key, value in group.items():
                own[key] = value.astype(model.dtype, copy=False)

    def save(self, path: str | Path) -> None:
        """Write the weights to a safetensors file.

        Parameters
        ----------
        path : path
            Destination.

        Raises
        ------
        RunError
            If it cannot be written.
        """
        params, buffers = self.to_numpy()
        save_tensors(Path(path), params | buffers)

    def load(self, path: str | Path) -> None:
        """Read weights from a safetensors file, of this class or any other program.

        Parameters
        ----------
        path : path
            The file. Pickled files such as ``.pt`` are not read: they can run any code.

        Raises
        ------
        RunError
            If it is missing, damaged or holds other names.
        ShapeError
            If an array has another shape.
        """
        tensors, _ = load_tensors(Path(path))
        self.load_numpy(tensors, {})

    def loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """Return the network's loss of scores (N, C) for labels (N,), without the penalty.

        Parameters
        ----------
        scores : Tensor (N, C)
            What the network returns.
        y : Tensor (N,), int64
            Labels.

        Returns
        -------
        Tensor
            A scalar.

        Raises
        ------
        ConfigError
            If the network's loss is a function of its own, which is NumPy's.
        """
        if self.loss_name == "cross_entropy":
            return F.cross_entropy(scores, y, **self.loss_options)
        if self.loss_name == "multiclass_hinge":  # PyTorch divides by the number of classes too
            return F.multi_margin_loss(scores, y, **self.loss_options) * scores.shape[1]
        rule, known = "be known by name", "Give loss='cross_entropy' or 'multiclass_hinge'."
        raise ConfigError(explain("TwinNetwork", "loss", rule, repr(self.loss_name), known))

    def penalty(self, l2: float) -> Tensor:
        """Return ``l2 / 2 * sum(w ** 2)`` over the weights of linear and convolutional layers.

        Parameters
        ----------
        l2 : float
            Strength.

        Returns
        -------
        Tensor
            A scalar.
        """
        weights = [self.get_parameter(name) for name in self.penalised]
        squares = [weight.square().sum() for weight in weights]
        return 0.5 * l2 * torch.stack(squares).sum()


class TwinScorer:
    """A network's scores and loss by PyTorch, on arrays.

    Parameters
    ----------
    model : Sequential
        With its parameters.

    Examples
    --------
    >>> from chainrule.models import softmax
    >>> model = softmax(3)
    >>> _ = model.init(np.random.default_rng(0), (5,))
    >>> TwinScorer(model).scores(np.ones((2, 5))).shape
    (2, 3)
    """

    def __init__(self, model: Sequential) -> None:
        self._network = TwinNetwork(model)
        self._network.eval()
        self._dtype = model.dtype

    def scores(self, x: np.ndarray, batch_size: int = 500) -> np.ndarray:
        """Return the scores of examples, in evaluation mode.

        Parameters
        ----------
        x : ndarray (N, ...)
            Preprocessed examples.
        batch_size : int, default 500
            Examples per batch.

        Returns
        -------
        ndarray (N, C)
            Scores.
        """
        whole = torch.tensor(x.astype(self._dtype))
        batches = [whole[i : i + batch_size] for i in range(0, max(1, len(whole)), batch_size)]
        with torch.no_grad():
            return torch.cat([self._network(batch) for batch in batches]).numpy()

    def loss(self, scores: np.ndarray, y: np.ndarray) -> tuple[float, None]:
        """Return the network's loss of scores.

        Parameters
        ----------
        scores : ndarray (N, C)
            Scores.
        y : ndarray (N,)
            Labels.

        Returns
        -------
        loss : float
            The mean.
        gradient : None
            Not computed.
        """
        return self._network.loss(torch.tensor(scores), torch.tensor(y)).item(), None


def twin_of_run(path: str | Path) -> TwinNetwork:
    """Load the best weights of a run, of either backend, into PyTorch.

    Parameters
    ----------
    path : path
        The run directory.

    Returns
    -------
    TwinNetwork
        In evaluation mode. It takes preprocessed examples.

    Raises
    ------
    RunError
        If it is not a run, or has no intact checkpoint.

    Examples
    --------
    >>> import tempfile
    >>> from chainrule.training import load_config, train_run
    >>> path = train_run(load_config(overrides=["fast_dev_run=true"]), tempfile.mkdtemp()).run.path
    >>> twin_of_run(path)(torch.zeros(1, 1, 8, 8)).shape
    torch.Size([1, 10])
    """
    model = load_run(path)[2]
    network = TwinNetwork(model)
    network.eval()
    return network


def _check_name(layer: Module) -> None:
    if "." in layer.name or hasattr(nn.Sequential, layer.name) or layer.name == "training":
        rule = "have no dot and be no attribute of torch.nn.Sequential"
        remedy = "Rename the layer."
        raise ConfigError(explain("TwinNetwork", "layer name", rule, repr(layer.name), remedy))


def _array(value: Tensor) -> np.ndarray:
    return value.detach().cpu().contiguous().numpy().copy()
