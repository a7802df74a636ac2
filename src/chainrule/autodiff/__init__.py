"""Automatic differentiation of ordinary NumPy code, in forward and reverse mode, to any order.

::

    import numpy as np
    from chainrule.autodiff import grad

    grad(lambda w: np.sum(np.tanh(x @ w) ** 2))(w)

Three things in files of their own: `tracing` is the mechanism; `rules`, `arrays`, `reductions`,
`products`, `linalg` and `constants` are the table of derivatives; `operators` are the functions
that a user calls. This room knows nothing of chainrule's layers, and they know nothing of it:
each is a witness of the other's derivatives.
"""

from chainrule.autodiff import numeric
from chainrule.autodiff.extend import define, primitive, supported
from chainrule.autodiff.functions import (
    log_softmax,
    logsumexp,
    relu,
    sigmoid,
    softmax,
    softplus,
)
from chainrule.autodiff.operators import (
    Trace,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    trace,
    value_and_grad,
    vjp,
)
from chainrule.autodiff.rules import ties
from chainrule.autodiff.tracing import Dual, Node, Rule, Tracer, stop_gradient

__all__ = [
    "Dual",
    "Node",
    "Rule",
    "Trace",
    "Tracer",
    "define",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "log_softmax",
    "logsumexp",
    "numeric",
    "primitive",
    "relu",
    "sigmoid",
    "softmax",
    "softplus",
    "stop_gradient",
    "supported",
    "ties",
    "trace",
    "value_and_grad",
    "vjp",
]
