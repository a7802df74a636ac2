"""Cases of training steps and of parameter updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.bench.contest import (
    CHAINRULE,
    CHANNELS_LAST,
    EAGER,
    Arrays,
    Case,
    Contest,
    Contestant,
    load_torch,
)
from chainrule.models import BUILTIN, Sequential
from chainrule.optim import Optimizer, make_optimizer

__all__ = ["BATCHES", "step_cases", "step_of", "update_cases"]

BATCHES = {"two_layer": 128, "convnet": 50, "vgg_small": 128, "speednet": 128}
_IMAGE = (3, 32, 32)
_CLASSES = 10
_LR = 1e-4
_PARAMETERS = (3000, 1000)
_QUICK_BATCH = 4
_QUICK_PARAMETERS = (30, 100)

# A ReLU or maximum that rounding tips over changes a gradient by percents: in float32 the losses
# are compared, in float64 the updates.
_STEP_TOLERANCE = 1e-5
_UPDATE_LR = 0.01
_UPDATE_TOLERANCE = {"float32": 1e-4, "float64": 1e-11}


def step_cases(quick: bool = False) -> list[Case]:
    """List the cases of whole training steps: forward, loss, backward, update.

    Parameters
    ----------
    quick : bool, default False
        With few images, to see that everything works.

    Returns
    -------
    list of Case
        The course's fully connected and convolutional networks, and two larger ones with batch
        normalisation; float32.
    """
    cases = []
    for name, batch in BATCHES.items():
        size = _QUICK_BATCH if quick else batch
        shape = f"batch {size}, {'x'.join(map(str, _IMAGE))}"

        def prepare(name: str = name, size: int = size) -> Contest:
            return _step_contest(name, size)

        flops = float(size * _arithmetic(BUILTIN[name](_CLASSES)))
        cases.append(
            Case(f"step/{name}", "float32", shape, prepare, flops, images=size, network=name)
        )
    return cases


def _arithmetic(network: Sequential) -> int:
    """Operations of a training step of one image, in convolutions and linear layers.

    Each takes as many for its output, its gradient by the input and that by its parameters;
    nothing is differentiated by the input of the first layer that has parameters.
    """
    rows = network.summary(_IMAGE).rows
    trained = [row.flops for row in rows if row.type in ("conv2d", "linear")]
    fixed = [row.flops for row in rows if row.type == "whiten2d"]
    return 3 * sum(trained) - trained[0] + sum(fixed)


def _step_contest(name: str, batch: int) -> Contest:
    def outcome(form: str, dtype: str) -> Arrays:
        loss = {"loss": np.array(float(step_of(name, form, batch, dtype=dtype)[0]()))}
        step, parameters = step_of(name, form, batch, lr=1.0, dtype="float64")
        before = {key: value.copy() for key, value in parameters().items()}
        step()
        return loss | {f"update of {key}": parameters()[key] - before[key] for key in before}

    def contestant(form: str) -> Contestant:
        return Contestant(step_of(name, form, batch)[0], lambda: outcome(form, "float32"))

    contestants = {form: contestant(form) for form in (CHAINRULE, EAGER, CHANNELS_LAST)}
    return Contest(contestants, lambda: outcome(EAGER, "float64"), _STEP_TOLERANCE)


def step_of(
    name: str, form: str, batch: int, lr: float = _LR, dtype: str = "float32"
) -> tuple[Callable[[], Any], Callable[[], Arrays]]:
    """Make a training step of a network on a batch of its own.

    Parameters
    ----------
    name : {"two_layer", "convnet", "vgg_small", "speednet"}
        The network. All forms begin with the same parameters and the same batch.
    form : {"chainrule", "eager", "channels_last"}
        Who trains it.
    batch : int
        Number of images.
    lr : float, default 1e-4
        Learning rate.
    dtype : {"float32", "float64"}
        Type of all arrays.

    Returns
    -------
    step : callable
        Does a step, with momentum 0.9, and returns the loss.
    parameters : callable
        Returns the parameters as they are now, by name.
    """
    rng = np.random.default_rng(0)
    net = BUILTIN[name](_CLASSES)
    net.init(rng, _IMAGE)  # in float32, so that all types begin with the same numbers
    x = rng.standard_normal((batch, *_IMAGE), np.float32)
    y = rng.integers(_CLASSES, size=batch)
    if form != CHAINRULE:
        return _torch_step(net, x, y, form, lr, dtype)
    net.params = {key: value.astype(dtype) for key, value in net.params.items()}
    net.buffers = {key: value.astype(dtype) for key, value in net.buffers.items()}
    x = x.astype(dtype)
    optimizer = make_optimizer("momentum", lr=lr)

    def step() -> float:
        loss, grads = net.loss_and_grads(x, y)
        optimizer.step(net.params, grads)
        return loss

    return step, lambda: net.params


def _torch_step(
    net: Sequential, x: np.ndarray, y: np.ndarray, form: str, lr: float, dtype: str
) -> tuple[Callable[[], Any], Callable[[], Arrays]]:
    torch = load_torch()
    from chainrule.twin.networks import TwinNetwork

    layout = torch.channels_last if form == CHANNELS_LAST else torch.contiguous_format
    kind = getattr(torch, dtype)
    network: Any = TwinNetwork(net).to(dtype=kind)
    network = network.to(memory_format=layout)
    images = torch.tensor(x, dtype=kind).contiguous(memory_format=layout)
    labels = torch.tensor(y)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    loss_of = torch.nn.functional.cross_entropy

    def step() -> Any:
        optimizer.zero_grad()
        loss = loss_of(network(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def parameters() -> Arrays:
        return {name: tensor.detach().numpy() for name, tensor in network.named_parameters()}

    return step, parameters


def update_cases(quick: bool = False) -> list[Case]:
    """List the cases of parameter updates.

    Parameters
    ----------
    quick : bool, default False
        With few parameters, to see that everything works.

    Returns
    -------
    list of Case
        momentum, rmsprop and adam on three million parameters, float32 and float64.
    """
    shape = _QUICK_PARAMETERS if quick else _PARAMETERS
    cases = []
    for dtype in ("float32", "float64"):
        for name in ("momentum", "rmsprop", "adam"):

            def prepare(name: str = name, dtype: str = dtype) -> Contest:
                return _update_contest(name, shape, dtype)

            sizes = f"{shape[0] * shape[1]:,} parameters"
            cases.append(Case(f"update/{name}", dtype, sizes, prepare))
    return cases


def _update_contest(name: str, shape: tuple[int, ...], dtype: str) -> Contest:
    torch = load_torch()
    rng = np.random.default_rng(0)
    initial = rng.standard_normal(shape).astype(dtype)
    grad = rng.standard_normal(shape).astype(dtype)
    # PyTorch adds eps outside the root.
    options: dict[str, Any] = {"eps_inside_root": False} if name == "rmsprop" else {}

    def ours() -> tuple[Callable[[], None], Callable[[], np.ndarray]]:
        optimizer: Optimizer = make_optimizer(name, lr=_UPDATE_LR, **options)
        params, grads = {"weight": initial.copy()}, {"weight": grad}
        return lambda: optimizer.step(params, grads), lambda: params["weight"]

    def theirs(kind: Any = None) -> tuple[Callable[[], None], Callable[[], np.ndarray]]:
        weight = torch.tensor(initial, dtype=kind).requires_grad_()
        weight.grad = torch.tensor(grad, dtype=kind)
        made: dict[str, Callable[[], Any]] = {
            "momentum": lambda: torch.optim.SGD([weight], lr=_UPDATE_LR, momentum=0.9),
            "rmsprop": lambda: torch.optim.RMSprop([weight], lr=_UPDATE_LR),
            "adam": lambda: torch.optim.Adam([weight], lr=_UPDATE_LR),
        }
        optimizer = made[name]()
        return lambda: optimizer.step(), lambda: weight.detach().numpy()

    def change(pair: tuple[Callable[[], None], Callable[[], np.ndarray]]) -> Arrays:
        step, weight = pair
        for _ in range(3):  # so that the state counts as well
            step()
        return {"change of the weights": weight() - initial}

    contestants = {
        CHAINRULE: Contestant(ours()[0], lambda: change(ours())),
        EAGER: Contestant(theirs()[0], lambda: change(theirs())),
    }
    return Contest(contestants, lambda: change(theirs(torch.float64)), _UPDATE_TOLERANCE[dtype])
