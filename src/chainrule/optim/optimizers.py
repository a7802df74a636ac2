"""The update rules: sgd, momentum, nesterov, rmsprop, adagrad, adam, adamw.

Each docstring gives the rule as a formula, in which :math:`p` is a parameter, :math:`g` the
gradient of the loss with respect to it (plus :math:`\\lambda p` under coupled weight decay),
:math:`\\eta` the learning rate and :math:`t` the step, counted from 1. State starts at zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import kernels
from chainrule.errors import ConfigError, InputError, explain, nearest
from chainrule.optim.base import Optimizer
from chainrule.optim.checks import (
    FRACTION,
    POSITIVE,
    check_flag,
    check_keywords,
    check_number,
)

if TYPE_CHECKING:
    from chainrule.kernels._kernels import InstructionSet

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Momentum",
    "Nesterov",
    "RMSprop",
    "make_optimizer",
]


class SGD(Optimizer):
    r"""Stochastic gradient descent, plain or with momentum.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate :math:`\eta`, positive.
    momentum : float, default 0.0
        Momentum :math:`\mu` in [0, 1).
    nesterov : bool, default False
        Whether to step along the velocity as it will be, not as it is. Needs momentum.
    lr_in_velocity : bool, default False
        Whether the velocity accumulates steps (the course's rule) and not gradients
        (PyTorch's); see Notes.
    weight_decay : float, default 0.0
        Coupled weight decay :math:`\lambda`, zero or more.
    decay_bias : bool, default True
        If False, only parameters with more than one axis decay.

    Raises
    ------
    InputError
        If an option is out of range, or `nesterov` is set without momentum.
    DTypeError
        If an option has the wrong type.

    Notes
    -----
    Without momentum, :math:`p \leftarrow p - \eta g`. With momentum, as in PyTorch,

    .. math:: v \leftarrow \mu v + g, \qquad p \leftarrow p - \eta v,

    and with `nesterov` :math:`p \leftarrow p - \eta (g + \mu v)`.

    Sutskever et al. and the CS231n course put the learning rate into the velocity
    (`lr_in_velocity`), here with the sign of the gradient:

    .. math:: v \leftarrow \mu v + \eta g, \qquad p \leftarrow p - v,

    and with `nesterov` :math:`p \leftarrow p - (\eta g + \mu v)`. At a constant learning rate
    both give the same parameters. When a schedule lowers the rate they differ: the default
    applies the new rate to the whole velocity at once, whereas steps already accumulated keep
    the rate they were made with.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and
    momentum in deep learning", ICML 2013, equations 1 to 4.

    Examples
    --------
    >>> optimizer = SGD(lr=0.1, momentum=0.5)
    >>> params = {"weight": np.array([1.0])}
    >>> for _ in range(2):
    ...     optimizer.step(params, {"weight": np.array([2.0])})
    >>> params["weight"].round(6)
    array([0.5])
    """

    def __init__(
        self,
        lr: float = 1e-2,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        lr_in_velocity: bool = False,
        weight_decay: float = 0.0,
        decay_bias: bool = True,
    ) -> None:
        where = type(self).__name__
        self.momentum = check_number(where, "momentum", momentum, FRACTION)
        self.nesterov = check_flag(where, "nesterov", nesterov)
        self.lr_in_velocity = check_flag(where, "lr_in_velocity", lr_in_velocity)
        if self.nesterov and self.momentum == 0:
            rule = "be positive with nesterov=True"
            raise InputError(explain(where, "momentum", rule, momentum))
        super().__init__(lr, weight_decay, decay_bias)

    def _slots(self) -> tuple[str, ...]:
        return ("v",) if self.momentum else ()

    def _rule(
        self,
        param: np.ndarray,
        grad: np.ndarray,
        state: list[np.ndarray],
        scratch: np.ndarray,
        lr: float,
        step: int,
    ) -> None:
        change, scaled = scratch
        if not state:
            param -= np.multiply(grad, lr, out=change)
            return
        (v,) = state
        added = np.multiply(grad, lr, out=scaled) if self.lr_in_velocity else grad
        v *= self.momentum
        v += added
        ahead = v
        if self.nesterov:
            ahead = np.multiply(v, self.momentum, out=change)
            ahead += added
        param -= ahead if self.lr_in_velocity else np.multiply(ahead, lr, out=change)

    def _kernel(
        self,
        chosen: InstructionSet,
        param: np.ndarray,
        grad: np.ndarray,
        state: list[np.ndarray],
        lr: float,
        step: int,
        decay: float,
    ) -> None:
        threads = kernels.threads()
        if not state:
            chosen.sgd_update(param, grad, lr, decay, threads)
            return
        rule = (self.momentum, self.nesterov, self.lr_in_velocity)
        chosen.momentum_update(param, grad, state[0], lr, *rule, decay, threads)


class Momentum(SGD):
    r"""Stochastic gradient descent with momentum.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate :math:`\eta`, positive.
    momentum : float, default 0.9
        Momentum :math:`\mu` in [0, 1).
    lr_in_velocity : bool, default False
        Whether the velocity accumulates steps (the course's rule) and not gradients
        (PyTorch's); see `SGD`.
    weight_decay : float, default 0.0
        Coupled weight decay :math:`\lambda`, zero or more.
    decay_bias : bool, default True
        If False, only parameters with more than one axis decay.

    See Also
    --------
    SGD : The formulas of both forms.

    Notes
    -----
    .. math:: v \leftarrow \mu v + g, \qquad p \leftarrow p - \eta v

    References
    ----------
    B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR
    Computational Mathematics and Mathematical Physics 4(5), 1964.

    Examples
    --------
    >>> optimizer = Momentum(lr=0.1)
    >>> params = {"weight": np.array([1.0])}
    >>> optimizer.step(params, {"weight": np.array([2.0])})
    >>> params["weight"]
    array([0.8])
    """

    def __init__(
        self,
        lr: float = 1e-2,
        *,
        momentum: float = 0.9,
        lr_in_velocity: bool = False,
        weight_decay: float = 0.0,
        decay_bias: bool = True,
    ) -> None:
        super().__init__(
            lr,
            momentum=momentum,
            lr_in_velocity=lr_in_velocity,
            weight_decay=weight_decay,
            decay_bias=decay_bias,
        )


class Nesterov(SGD):
    r"""Stochastic gradient descent with Nesterov's momentum.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate :math:`\eta`, positive.
    momentum : float, default 0.9
        Momentum :math:`\mu` in (0, 1).
    lr_in_velocity : bool, default False
        Whether the velocity accumulates steps (the course's rule) and not gradients
        (PyTorch's); see `SGD`.
    weight_decay : float, default 0.0
        Coupled weight decay :math:`\lambda`, zero or more.
    decay_bias : bool, default True
        If False, only parameters with more than one axis decay.

    See Also
    --------
    SGD : The formulas of both forms.

    Notes
    -----
    .. math:: v \leftarrow \mu v + g, \qquad p \leftarrow p - \eta (g + \mu v)

    The parameters kept are those at which the gradient is taken ("looked ahead"), as in
    PyTorch and in the CS231n notes, so that no gradient at another point is needed.

    References
    ----------
    Y. Nesterov, "A method of solving a convex programming problem with convergence rate
    O(1/k^2)", Soviet Mathematics Doklady 27, 1983; in this form Y. Bengio, N.
    Boulanger-Lewandowski, R. Pascanu, "Advances in optimizing recurrent networks", ICASSP 2013,
    equation 7.

    Examples
    --------
    >>> optimizer = Nesterov(lr=0.1)
    >>> params = {"weight": np.array([1.0])}
    >>> optimizer.step(params, {"weight": np.array([2.0])})
    >>> params["weight"]
    array([0.62])
    """

    def __init__(
        self,
        lr: float = 1e-2,
        *,
        momentum: float = 0.9,
        lr_in_velocity: bool = False,
        weight_decay: float = 0.0,
        decay_bias: bool = True,
    ) -> None:
        super().__init__(
            lr,
            momentum=momentum,
            nesterov=True,
            lr_in_velocity=lr_in_velocity,
            weight_decay=weight_decay,
            decay_bias=decay_bias,
        )


class RMSprop(Optimizer):
    r"""Divide the gradient by a running root mean square of itself.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate :math:`\eta`, positive.
    alpha : float, default 0.99
        Decay :math:`\alpha` of the running mean, in [0, 1); the course's ``decay_rate``.
    eps : float, default 1e-8
        Positive constant :math:`\epsilon` that keeps the division finite.
    eps_inside_root : bool, default True
        Where `eps` stands: inside the root as in the course, or outside as in PyTorch.
    weight_decay : float, default 0.0
        Coupled weight decay :math:`\lambda`, zero or more.
    decay_bias : bool, default True
        If False, only parameters with more than one axis decay.

    Raises
    ------
    InputError
        If an option is out of range.
    DTypeError
        If an option has the wrong type.

    Notes
    -----
    .. math::

        c &\leftarrow \alpha c + (1 - \alpha) g^2 \\
        p &\leftarrow p - \eta \, g / \sqrt{c + \epsilon}
            && \text{(the course; default)} \\
        p &\leftarrow p - \eta \, g / (\sqrt{c} + \epsilon)
            && \text{(PyTorch; eps\_inside\_root=False)}

    The two agree while :math:`c \gg \epsilon`. For small gradients they do not: at the default
    :math:`\epsilon = 10^{-8}` the first divides by at least :math:`10^{-4}`, the second by at
    least :math:`10^{-8}`, so its steps along flat directions can be much longer.

    References
    ----------
    T. Tieleman, G. Hinton, "Lecture 6.5: rmsprop", Neural Networks for Machine Learning,
    Coursera 2012.

    Examples
    --------
    >>> optimizer = RMSprop(lr=0.1)
    >>> params = {"weight": np.array([1.0, 1.0])}
    >>> optimizer.step(params, {"weight": np.array([0.02, 200.0])})  # scale hardly matters
    >>> params["weight"].round(3)
    array([0.001, 0.   ])
    """

    def __init__(
        self,
        lr: float = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        eps_inside_root: bool = True,
        weight_decay: float = 0.0,
        decay_bias: bool = True,
    ) -> None:
        where = type(self).__name__
        self.alpha = check_number(where, "alpha", alpha, FRACTION)
        self.eps = check_number(where, "eps", eps, POSITIVE)
        self.eps_inside_root = check_flag(where, "eps_inside_root", eps_inside_root)
        super().__init__(lr, weight_decay, decay_bias)

    def _slots(self) -> tuple[str, ...]:
        return ("cache",)

    def _rule(
        self,
        param: np.ndarray,
        grad: np.ndarray,
        state: list[np.ndarray],
        scratch: np.ndarray,
        lr: float,
        step: int,
    ) -> None:
        (cache,) = state
        root, change = scratch
        _running_mean(cache, np.multiply(grad, grad, out=root), self.alpha, scratch=root)
        if self.eps_inside_root:
            np.sqrt(np.add(cache, self.eps, out=root), out=root)
        else:
            np.sqrt(cache, out=root)
            root += self.eps
        np.multiply(grad, lr, out=change)
        change /= root
        param -= change

    def _kernel(
        self,
        chosen: InstructionSet,
        param: np.ndarray,
        grad: np.ndarray,
        state: list[np.ndarray],
        lr: float,
        step: int,
        decay: float,
    ) -> None:
        threads = kernels.threads()
        rule = (self.alpha, self.eps, self.eps_inside_root)
        chosen.rmsprop_update(param, grad, state[0], lr, *rule, decay, threads)


class Adagrad(Optimizer):
    r"""Divide the gradient by the root of the sum of its squares so far.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate :math:`\eta`, positive.
    eps : float, default 1e-10
        Positive constant :math:`\epsilon` that keeps the division finite.
    weight_decay : float, default 0.0
        Coupled weight decay :math:`\lambda`, zero or more.
    decay_bias : bool, default True
        If False, only parameters with more than one axis decay.

    Raises
    ------
    InputError
        If an option is out of range.
    DTypeError
        If an option has the wrong type.

    Notes
    -----
    .. math:: c \leftarrow c + g^2, \qquad p \leftarrow p - \eta \, g / (\sqrt{c} + \epsilon)

    The sum only grows, so steps shrink at least as fast as :math:`1 / \sqrt{t}` while gradients
    keep their size.

    References
    ----------
    J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization", JMLR 12, 2011, figure 1 with a diagonal matrix.

    Examples
    --------
    >>> optimizer = Adagrad(lr=0.1)
    >>> params = {"weight": np.array([1.0])}
    >>> optimizer.step(params, {"weight": np.array([3.0])})
    >>> params["weight"].round(6)
    array([0.9])
    """

    def __init__(
        self,
        lr: float = 1e-2,
        *,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        decay_bias: bool = True,
    ) -> None:
        self.eps = check_number(type(self).__name__, "eps", eps, POSITIVE)
        super().__init__(lr, weight_decay, decay_bias)

    def _slots(self) -> tuple[str, ...]:
        return ("cache",)

    def _rule(
        self,
        param: np.ndarray,
        grad: np.ndarray,
        state: list[np.ndarray],
        scratch: np.ndarray,
        lr: float,
        step: int,
    ) -> None:
        (cache,) = state
        root, change = scratch
        cache += np.multiply(grad, grad, out=root)
        np.sqrt(cache, out=root)
        root += self.eps
        np.multiply(grad, lr, out=change)
        change /= root
        param -= change

    def _kernel(
        self,
        chosen: InstructionSet,
        param: np.ndarray,
        grad: np.ndarray,
        state: list[np.ndarray],
        lr: float,
        step: int,
        decay: float,
    ) -> None:
        threads = kernels.threads()
        chosen.adagrad_update(param, grad, state[0], lr, self.eps, decay, threads)


class Adam(Optimizer):
    r"""Momentum, divided by a running root mean square, both corrected for starting at zero.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate :math:`\eta`, positive.
    betas : pair of float, default (0.9, 0.999)
        Decays :math:`\beta_1, \beta_2` of the running means of gradient and squared gradient,
        each in [0, 1).
    eps : float, default 1e-8
        Positive constant :math:`\epsilon` that keeps the division finite.
    weight_decay : float, default 0.0
        Coupled weight decay :math:`\lambda`, zero or more.
    decay_bias : bool, default True
        If False, only parameters with more than one axis decay.

    Raises
    ------
    InputError
        If an option is out of range.
    DTypeError
        If an option has the wrong type.

    Notes
    -----
    .. math::

        m &\leftarrow \beta_1 m + (1 - \beta_1) g \\
        v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
        p &\leftarrow p - \eta \, \frac{m / (1 - \beta_1^t)}
            {\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    The first step has length :math:`\eta` in every coordinate whose gradient is well above
    :math:`\epsilon`, whatever the gradient's size.

    References
    ----------
    D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.

    Examples
    --------
    >>> optimizer = Adam(lr=0.1)
    >>> params = {"weight": np.array([1.0, 1.0])}
    >>> optimizer.step(params, {"weight": np.array([0.02, -200.0])})
    >>> params["weight"].round(6)
    array([0.9, 1.1])
    """

    def __init__(
        self,
        lr: float = 1e-3,
        *,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decay_bias: bool = True,
    ) -> None:
        where = type(self).__name__
        if isinstance(betas, str) or not isinstance(betas, Sequence) or len(betas) != 2:
            raise InputError(explain(where, "betas", "be a pair of numbers", repr(betas)))
        self.betas = (
            check_number(where, "betas[0]", betas[0], FRACTION),
            check_number(where, "betas[1]", betas[1], FRACTION),
        )
        self.eps = check_number(where, "eps", eps, POSITIVE)
        super().__init__(lr, weight_decay, decay_bias)

    def _slots(self) -> tuple[str, ...]:
        return ("m", "v")

    def _rule(
        self,
        param: np.ndarray,
        grad: np.ndarray,
        state: list[np.ndarray],
        scratch: np.ndarray,
        lr: float,
        step: int,
    ) -> None:
        m, v = state
        root, change = scratch
        beta1, beta2 = self.betas
        _running_mean(m, grad, beta1, scratch=change)
        _running_mean(v, np.multiply(grad, grad, out=root), beta2, scratch=root)
        # The corrections are numbers, not arrays: dividing the root, and scaling the rate, by
        # them saves two passes over memory.
        np.sqrt(v, out=root)
        root /= (1.0 - beta2**step) ** 0.5
        root += self.eps
        np.multiply(m, lr / (1.0 - beta1**step), out=change)
        change /= root
        param -= change

    def _kernel(
        self,
        chosen: InstructionSet,
        param: np.ndarray,
        grad: np.ndarray,
        state: list[np.ndarray],
        lr: float,
        step: int,
        decay: float,
    ) -> None:
        threads = kernels.threads()
        m, v = state
        coupled, decoupled = (0.0, decay) if self._decoupled_decay else (decay, 0.0)
        rule = (*self.betas, self.eps, step, coupled, decoupled)
        chosen.adam_update(param, grad, m, v, lr, *rule, threads)


class AdamW(Adam):
    r"""Adam with weight decay that bypasses the running means.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate :math:`\eta`, positive.
    betas : pair of float, default (0.9, 0.999)
        Decays :math:`\beta_1, \beta_2` of the running means of gradient and squared gradient,
        each in [0, 1).
    eps : float, default 1e-8
        Positive constant :math:`\epsilon` that keeps the division finite.
    weight_decay : float, default 0.01
        Decoupled weight decay :math:`\lambda`, zero or more.
    decay_bias : bool, default True
        If False, only parameters with more than one axis decay.

    See Also
    --------
    Adam : The rule that follows the decay.

    Notes
    -----
    First :math:`p \leftarrow (1 - \eta \lambda) p`, then Adam's rule with the loss's gradient
    alone. As in PyTorch the decay is scaled by the learning rate, schedule included; the
    paper's :math:`\lambda` is :math:`\eta \lambda` here.

    References
    ----------
    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.

    Examples
    --------
    >>> optimizer = AdamW(lr=0.1, weight_decay=0.5)
    >>> params = {"weight": np.array([1.0])}
    >>> optimizer.step(params, {"weight": np.array([0.0])})
    >>> params["weight"]
    array([0.95])
    """

    _decoupled_decay = True

    def __init__(
        self,
        lr: float = 1e-3,
        *,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        decay_bias: bool = True,
    ) -> None:
        super().__init__(lr, betas=betas, eps=eps, weight_decay=weight_decay, decay_bias=decay_bias)


def _running_mean(mean: np.ndarray, new: np.ndarray, decay: float, scratch: np.ndarray) -> None:
    """Update `mean` in place; `scratch` may be `new`, which is then overwritten."""
    mean *= decay
    mean += np.multiply(new, 1.0 - decay, out=scratch)


OPTIMIZERS: MappingProxyType[str, type[Optimizer]] = MappingProxyType(
    {
        "sgd": SGD,
        "momentum": Momentum,
        "nesterov": Nesterov,
        "rmsprop": RMSprop,
        "adagrad": Adagrad,
        "adam": Adam,
        "adamw": AdamW,
    }
)


def make_optimizer(name: str, **options: Any) -> Optimizer:
    """Build an optimizer from its name, as a configuration file gives it.

    Parameters
    ----------
    name : {"sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam", "adamw"}
        Which one.
    **options
        Keywords of its class, such as ``lr`` and ``weight_decay``.

    Returns
    -------
    Optimizer
        A fresh optimizer.

    Raises
    ------
    ConfigError
        If the name or a keyword is unknown; the message names the nearest known one.
    InputError
        If a value is out of range.
    DTypeError
        If a value has the wrong type.

    Examples
    --------
    >>> make_optimizer("adam", lr=3e-4).lr
    0.0003
    """
    if name not in OPTIMIZERS:
        rule = "be the name of an optimizer"
        hint = nearest(str(name), OPTIMIZERS)
        raise ConfigError(explain("make_optimizer", "name", rule, repr(name), hint))
    check_keywords(f"make_optimizer({name!r})", OPTIMIZERS[name], options)
    return OPTIMIZERS[name](**options)
