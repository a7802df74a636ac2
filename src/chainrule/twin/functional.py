"""The same layers in PyTorch, called with the same arguments and differentiated by its autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from chainrule.errors import ConfigError, DataMissingError, explain, nearest

__all__ = ["FUNCTIONS", "available", "differentiate", "require_torch"]


def _multiclass_hinge(F: Any, scores: Any, y: Any, margin: float = 1.0) -> Any:
    """PyTorch divides the sum over classes by their number."""
    return F.multi_margin_loss(scores, y, margin=margin) * scores.shape[1]


def _conv_relu_pool(
    F: Any, x: Any, *, pool_kernel_size: Any = 2, pool_stride: Any = None, **arguments: Any
) -> Any:
    return F.max_pool2d(F.conv2d(x, **arguments).relu(), pool_kernel_size, pool_stride)


def _conv_bn_relu(
    F: Any,
    x: Any,
    weight: Any,
    bias: Any,
    bn_weight: Any,
    bn_bias: Any,
    running_mean: Any,
    running_var: Any,
    *,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    **convolution: Any,
) -> Any:
    hidden = F.conv2d(x, weight, bias, **convolution)
    normalised = F.batch_norm(
        hidden, running_mean, running_var, bn_weight, bn_bias, training, momentum, eps
    )
    return normalised.relu()


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "linear": lambda F, **a: F.linear(a["x"], a["weight"], a["bias"]),
    "flatten": lambda F, x: x.flatten(1),
    "relu": lambda F, x: F.relu(x),
    "leaky_relu": lambda F, x, **a: F.leaky_relu(x, **a),
    "sigmoid": lambda F, x: F.sigmoid(x),
    "tanh": lambda F, x: F.tanh(x),
    "silu": lambda F, x: F.silu(x),
    "gelu": lambda F, x, **a: F.gelu(x, **a),
    "cross_entropy": lambda F, scores, y, **a: F.cross_entropy(scores, y, **a),
    "multiclass_hinge": _multiclass_hinge,
    "conv2d": lambda F, x, **a: F.conv2d(x, **a),
    "max_pool2d": lambda F, x, **a: F.max_pool2d(x, **a),
    "avg_pool2d": lambda F, x, **a: F.avg_pool2d(x, **a),
    "global_avg_pool2d": lambda F, x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0],
    "batch_norm": lambda F, x, **a: F.batch_norm(x, **a),
    "layer_norm": lambda F, x, **a: F.layer_norm(x, a["weight"].shape, **a),
    "group_norm": lambda F, x, **a: F.group_norm(x, **a),
    "dropout": lambda F, x, **a: F.dropout(x, **a),
    "linear_relu": lambda F, **a: F.linear(a["x"], a["weight"], a["bias"]).relu(),
    "conv_relu": lambda F, x, **a: F.conv2d(x, **a).relu(),
    "conv_relu_pool": _conv_relu_pool,
    "conv_bn_relu": _conv_bn_relu,
}
"""By name of chainrule's layer: ``FUNCTIONS[name](torch.nn.functional, **arguments)``."""


def available() -> bool:
    """Say whether PyTorch is installed.

    Returns
    -------
    bool
        Found without importing it.

    Examples
    --------
    >>> isinstance(available(), bool)
    True
    """
    return find_spec("torch") is not None


def require_torch(where: str) -> None:
    """Refuse to go on without PyTorch.

    Parameters
    ----------
    where : str
        Who needs it.

    Raises
    ------
    DataMissingError
        If PyTorch is not installed; the message says how to install it.

    Examples
    --------
    >>> if available():
    ...     require_torch("example")
    """
    if not available():
        raise DataMissingError(
            f"{where}: PyTorch is not installed. Install it with: pip install 'chainrule[torch]'"
        )


def differentiate(
    name: str,
    arrays: Mapping[str, np.ndarray | None],
    others: Mapping[str, Any],
    dout: np.ndarray,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Evaluate and differentiate a layer with PyTorch.

    Parameters
    ----------
    name : str
        A key of `FUNCTIONS`.
    arrays : mapping of str to ndarray or None
        The arguments to differentiate by, as chainrule's forward names them.
    others : mapping
        Its remaining arguments; arrays become tensors.
    dout : ndarray
        Gradient of a final scalar by the result, in its shape.

    Returns
    -------
    out : ndarray
        The result.
    gradients : dict of str to ndarray
        One for each array that is not None.

    Raises
    ------
    DataMissingError
        If PyTorch is not installed.
    ConfigError
        If there is no such layer.

    Examples
    --------
    >>> import numpy as np
    >>> if available():
    ...     _, gradients = differentiate("relu", {"x": np.array([-1.0, 2.0])}, {}, np.ones(2))
    ...     assert gradients["x"].tolist() == [0.0, 1.0]
    """
    if name not in FUNCTIONS:
        rule, known = "be a layer", nearest(str(name), FUNCTIONS)
        raise ConfigError(explain("differentiate", "name", rule, repr(name), known))
    require_torch("differentiate")
    import torch

    tensors: dict[str, Any] = {
        key: None if value is None else torch.tensor(value, requires_grad=True)
        for key, value in arrays.items()
    }
    rest = {
        key: torch.tensor(value) if isinstance(value, np.ndarray) else value
        for key, value in others.items()
    }
    out = FUNCTIONS[name](torch.nn.functional, **tensors, **rest)
    out.backward(torch.tensor(dout))
    gradients = {key: tensor.grad.numpy() for key, tensor in tensors.items() if tensor is not None}
    return out.detach().numpy(), gradients
