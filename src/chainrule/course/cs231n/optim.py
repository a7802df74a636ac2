"""``cs231n.optim``: chainrule's update rules as functions of a weight, its gradient and a dict.

Each takes ``config``, fills in what it lacks, keeps its state there and returns
``next_w, config``; the weight that it is given stays as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.course.arrays import as_floats
from chainrule.optim import SGD, Adam, Momentum, Optimizer, RMSprop

__all__ = ["adam", "rmsprop", "sgd", "sgd_momentum"]

Config = dict[str, Any]
Step = tuple[np.ndarray, Config]


def _with_defaults(config: Config | None, **defaults: Any) -> Config:
    """The dict that was given, or a new one, with every key in it."""
    config = {} if config is None else config
    for key, value in defaults.items():
        config.setdefault(key, value)
    return config


def _step(
    rule: Optimizer,
    w: np.ndarray,
    dw: np.ndarray,
    config: Config,
    state: dict[str, np.ndarray],
    steps: int = 0,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Take one step from a given state; return the weight and the state after it."""
    name = f"{type(rule).__name__.lower()}"
    w, dw, *values = as_floats(name, w=w, dw=dw, **state)
    tensors = {f"{slot}/w": value for slot, value in zip(state, values, strict=True)}
    if state:
        rule.load_state_dict(tensors, {"lr": rule.lr, "step_count": steps, "steps/w": steps})
    after = w.copy()
    rule.step({"w": after}, {"w": dw}, lr=config["learning_rate"])
    found, _ = rule.state_dict()
    return after, {slot: found[f"{slot}/w"] for slot in state}


def sgd(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> Step:
    """Step against the gradient.

    Parameters
    ----------
    w, dw : ndarray, same shape
        Weight and gradient.
    config : dict, optional
        ``learning_rate`` (1e-2).

    Returns
    -------
    next_w : ndarray
        The weight after the step.
    config : dict
        As it was.
    """
    config = _with_defaults(config, learning_rate=1e-2)
    return _step(SGD(), w, dw, config, {})[0], config


def sgd_momentum(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> Step:
    """Step along a velocity that friction slows down.

    Parameters
    ----------
    w, dw : ndarray, same shape
        Weight and gradient.
    config : dict, optional
        ``learning_rate`` (1e-2), ``momentum`` (0.9), ``velocity`` (zeros, shape of w), with the
        sign of the step.

    Returns
    -------
    next_w : ndarray
        The weight after the step.
    config : dict
        With the new velocity.
    """
    config = _with_defaults(config, learning_rate=1e-2, momentum=0.9)
    velocity = config.setdefault("velocity", np.zeros_like(w))
    if config["momentum"] == 0:  # chainrule keeps no velocity then
        next_w, _ = sgd(w, dw, config)
        config["velocity"] = next_w - w
        return next_w, config
    rule = Momentum(momentum=config["momentum"], lr_in_velocity=True)
    # chainrule's velocity has the sign of the gradient, the course's that of the step.
    next_w, state = _step(rule, w, dw, config, {"v": -np.asarray(velocity)})
    config["velocity"] = -state["v"]
    return next_w, config


def rmsprop(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> Step:
    """Step against the gradient, divided by a running root mean square of itself.

    Parameters
    ----------
    w, dw : ndarray, same shape
        Weight and gradient.
    config : dict, optional
        ``learning_rate`` (1e-2), ``decay_rate`` (0.99), ``epsilon`` (1e-8, added outside the root),
        ``cache`` (zeros, shape of w).

    Returns
    -------
    next_w : ndarray
        The weight after the step.
    config : dict
        With the new cache.
    """
    config = _with_defaults(config, learning_rate=1e-2, decay_rate=0.99, epsilon=1e-8)
    cache = config.setdefault("cache", np.zeros_like(w))
    rule = RMSprop(alpha=config["decay_rate"], eps=config["epsilon"], eps_inside_root=False)
    next_w, state = _step(rule, w, dw, config, {"cache": cache})
    config["cache"] = state["cache"]
    return next_w, config


def adam(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> Step:
    """Step along a running mean of the gradient, divided by its running root mean square.

    Parameters
    ----------
    w, dw : ndarray, same shape
        Weight and gradient.
    config : dict, optional
        ``learning_rate`` (1e-3), ``beta1`` (0.9), ``beta2`` (0.999), ``epsilon`` (1e-8), ``m`` and
        ``v`` (zeros, shape of w), ``t`` (0), the number of steps so far.

    Returns
    -------
    next_w : ndarray
        The weight after the step.
    config : dict
        With the new m, v and t.
    """
    config = _with_defaults(config, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, t=0)
    moments = {slot: config.setdefault(slot, np.zeros_like(w)) for slot in ("m", "v")}
    rule = Adam(betas=(config["beta1"], config["beta2"]), eps=config["epsilon"])
    next_w, state = _step(rule, w, dw, config, moments, int(config["t"]))
    config.update(state, t=config["t"] + 1)
    return next_w, config
