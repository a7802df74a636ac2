"""Right backwards, in many styles and at awkward inputs: the doctor has to find nothing.

Besides chainrule's own layers and the styles of `handwritten` there are the same formulas written
in other ways: loops, einsum, one-hot matrices, log-sum-exp, full Jacobians.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from chainrule.layers import PAIRS
from doctor.cases import Case, cases
from doctor.handwritten import STYLES, style

__all__ = ["checks"]

Check = tuple[str, Callable[..., Any], Callable[..., Any], Case]

# name -> (layer whose cases it takes, source)
WAYS = {
    "linear_einsum": ("linear", """
def forward(x, w, b):
    return np.einsum("nd,fd->nf", x, w) + b, (x, w)

def backward(dout, cache):
    x, w = cache
    dx, dw = np.einsum("nf,fd->nd", dout, w), np.einsum("nf,nd->fd", dout, x)
    return dx, dw, np.einsum("nf->f", dout)
"""),
    "linear_loops": ("linear", """
def forward(x, w, b):
    out = np.array([[np.sum(row * f) for f in w] for row in x]) + b
    return out, (x, w)

def backward(dout, cache):
    x, w = cache
    dx, dw, db = np.zeros(x.shape), np.zeros(w.shape), np.zeros(len(w))
    for n in range(len(x)):
        for f in range(len(w)):
            dx[n] += dout[n, f] * w[f]
            dw[f] += dout[n, f] * x[n]
            db[f] += dout[n, f]
    return dx, dw, db
"""),
    "affine_ones": ("affine", """
def forward(x, w, b):
    rows = np.hstack([x.reshape(len(x), -1), np.ones((len(x), 1))])
    whole = np.vstack([w, b])
    return rows @ whole, (x.shape, rows, whole)

def backward(dout, cache):
    shape, rows, whole = cache
    dwhole = rows.T @ dout
    return (dout @ whole.T)[:, :-1].reshape(shape), dwhole[:-1], dwhole[-1]
"""),
    "relu_where": ("relu", """
def forward(x):
    return np.where(x > 0, x, 0.0), x > 0

def backward(dout, mask):
    return np.where(mask, dout, 0.0)
"""),
    "relu_at_zero": ("relu", """
def forward(x):
    return x * (x >= 0), x

def backward(dout, x):
    return dout * (x >= 0)
"""),
    "relu_by_output": ("relu", """
def forward(x):
    out = np.maximum(x, 0)
    return out, out

def backward(dout, out):
    return dout * np.sign(out)
"""),
    "relu_by_abs": ("relu", """
def forward(x):
    return 0.5 * (x + np.abs(x)), x

def backward(dout, x):
    return dout * 0.5 * (1 + np.sign(x))
"""),
    "leaky_max": ("leaky_relu", """
def forward(x):
    return np.maximum(x, 0.01 * x), x

def backward(dout, x):
    slope = np.full(x.shape, 0.01)
    slope[x > 0] = 1
    return slope * dout
"""),
    "sigmoid_branches": ("sigmoid", """
def forward(x):
    e = np.exp(-np.abs(x))
    s = np.where(x >= 0, 1 / (1 + e), e / (1 + e))
    return s, s

def backward(dout, s):
    return dout * (s - s**2)
"""),
    "sigmoid_input": ("sigmoid", """
def forward(x):
    return 1 / (1 + np.exp(-x)), x

def backward(dout, x):
    return dout * np.exp(-x) / (1 + np.exp(-x)) ** 2
"""),
    "tanh_exp": ("tanh", """
def forward(x):
    t = 1 - 2 / (np.exp(2 * x) + 1)
    return t, t

def backward(dout, t):
    return dout * (1 - t) * (1 + t)
"""),
    "tanh_cosh": ("tanh", """
def forward(x):
    return np.tanh(x), x

def backward(dout, x):
    return dout / np.cosh(x) ** 2
"""),
    "silu_output": ("silu", """
def forward(x):
    s = 1 / (1 + np.exp(-x))
    return x * s, (x * s, s)

def backward(dout, cache):
    out, s = cache
    return dout * (out + s * (1 - out))
"""),
    "softmax_jacobian": ("softmax", """
def forward(x):
    e = np.exp(x)
    p = e / e.sum(axis=1, keepdims=True)
    return p, p

def backward(dout, p):
    return np.stack([(np.diag(q) - np.outer(q, q)) @ d for q, d in zip(p, dout)])
"""),
    "cross_entropy_logsumexp": ("course_softmax", """
def forward(x, y):
    top = x.max(axis=1)
    lse = top + np.log(np.exp(x - top[:, None]).sum(axis=1))
    return np.mean(lse - x[np.arange(len(y)), y]), (x, y, lse)

def backward(cache):
    x, y, lse = cache
    return (np.exp(x - lse[:, None]) - np.eye(x.shape[1])[y]) / len(y)
"""),
    "cross_entropy_loops": ("course_softmax", """
def forward(x, y):
    loss = 0.0
    for n in range(len(y)):
        e = np.exp(x[n] - x[n].max())
        loss -= np.log(e[y[n]] / e.sum())
    return loss / len(y), (x, y)

def backward(cache):
    x, y = cache
    dx = np.zeros(x.shape)
    for n in range(len(y)):
        e = np.exp(x[n] - x[n].max())
        for c in range(x.shape[1]):
            dx[n, c] = (e[c] / e.sum() - (c == y[n])) / len(y)
    return dx
"""),
    "cross_entropy_sum": ("course_softmax", """
def forward(x, y):
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    return -np.log(p[np.arange(len(y)), y]).sum(), (p, y)

def backward(cache):
    p, y = cache
    return p - np.eye(p.shape[1])[y]
"""),
    "svm_loops": ("course_svm", """
def forward(x, y):
    loss = 0.0
    for n in range(len(y)):
        for c in range(x.shape[1]):
            if c != y[n]:
                loss += max(0.0, x[n, c] - x[n, y[n]] + 1)
    return loss / len(y), (x, y)

def backward(cache):
    x, y = cache
    dx = np.zeros(x.shape)
    for n in range(len(y)):
        for c in range(x.shape[1]):
            if c != y[n] and x[n, c] - x[n, y[n]] + 1 > 0:
                dx[n, c] += 1 / len(y)
                dx[n, y[n]] -= 1 / len(y)
    return dx
"""),
    "svm_matrix": ("course_svm", """
def forward(x, y):
    hot = np.eye(x.shape[1])[y]
    margins = (x - (x * hot).sum(axis=1, keepdims=True) + 1) * (1 - hot)
    inside = (margins >= 0) * (1 - hot)
    return np.sum(margins * inside) / len(y), (inside, hot)

def backward(cache):
    inside, hot = cache
    return (inside - hot * inside.sum(axis=1, keepdims=True)) / len(hot)
"""),
    "conv_windows": ("course_conv", """
def view(x, kernel, stride, padding):
    xp = np.pad(x, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(xp, kernel, axis=(2, 3))
    return windows[:, :, ::stride, ::stride]

def forward(x, w, b, stride, padding):
    windows = view(x, w.shape[2:], stride, padding)
    out = np.tensordot(windows, w, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
    return out + b[:, None, None], (x, w, stride, padding)

def backward(dout, cache):
    x, w, stride, padding = cache
    n, f, oh, ow = dout.shape
    kh, kw = w.shape[2:]
    dw = np.einsum("nfuv,ncuvij->fcij", dout, view(x, (kh, kw), stride, padding))
    spread = np.zeros((n, f, stride * (oh - 1) + 1, stride * (ow - 1) + 1))
    spread[:, :, ::stride, ::stride] = dout
    spread = np.pad(spread, ((0, 0), (0, 0), (kh - 1,) * 2, (kw - 1,) * 2))
    full = np.lib.stride_tricks.sliding_window_view(spread, (kh, kw), axis=(2, 3))
    inner = np.einsum("nfuvij,fcij->ncuv", full, w[:, :, ::-1, ::-1])
    dxp = np.zeros((n, x.shape[1], x.shape[2] + 2 * padding, x.shape[3] + 2 * padding))
    dxp[:, :, :inner.shape[2], :inner.shape[3]] = inner
    dx = dxp[:, :, padding:padding + x.shape[2], padding:padding + x.shape[3]]
    return dx, dw, dout.sum(axis=(0, 2, 3))
"""),
    "max_pool_argmax": ("course_max_pool", """
def forward(x, kernel_size, stride=None):
    stride = stride or kernel_size
    k = (kernel_size, kernel_size)
    w = np.lib.stride_tricks.sliding_window_view(x, k, axis=(2, 3))[:, :, ::stride, ::stride]
    flat = w.reshape(*w.shape[:4], -1)
    return flat.max(axis=-1), (x, flat.argmax(axis=-1), kernel_size, stride)

def backward(dout, cache):
    x, index, size, stride = cache
    dx = np.zeros(x.shape)
    for n, c, u, v in np.ndindex(dout.shape):
        i, j = divmod(index[n, c, u, v], size)
        dx[n, c, u * stride + i, v * stride + j] += dout[n, c, u, v]
    return dx
"""),
    "batch_norm_jacobian": ("batch_norm_alt", """
def forward(x, gamma, beta):
    xhat = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
    return gamma * xhat + beta, (x, xhat, gamma)

def backward(dout, cache):
    x, xhat, gamma = cache
    n = len(x)
    dx = np.empty(x.shape)
    for c in range(x.shape[1]):
        h = xhat[:, c]
        jacobian = (np.eye(n) - 1 / n - np.outer(h, h) / n) / np.sqrt(x[:, c].var() + 1e-5)
        dx[:, c] = gamma[c] * jacobian.T @ dout[:, c]
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)
"""),
    "batch_norm_one_line": ("batch_norm_alt", """
def forward(x, gamma, beta):
    mu, var = x.mean(axis=0), x.var(axis=0)
    inv = (var + 1e-5) ** -0.5
    return gamma * (x - mu) * inv + beta, (x - mu, inv, gamma)

def backward(dout, cache):
    c, inv, gamma = cache
    n = len(c)
    dgamma = np.sum(dout * c * inv, axis=0)
    dbeta = np.sum(dout, axis=0)
    return gamma * inv / n * (n * dout - c * inv * dgamma - dbeta), dgamma, dbeta
"""),
    "layer_norm_by_batch_norm": ("layer_norm", """
def forward(x, gamma, beta):
    rows = x.reshape(len(x), -1).T
    inv = 1 / np.sqrt(rows.var(axis=0) + 1e-5)
    hat = ((rows - rows.mean(axis=0)) * inv).T.reshape(x.shape)
    return gamma * hat + beta, (hat, inv, gamma)

def backward(dout, cache):
    hat, inv, gamma = cache
    d = (dout * gamma).reshape(len(dout), -1)
    h = hat.reshape(len(dout), -1)
    m = d.shape[1]
    dx = inv[:, None] / m * (m * d - d.sum(1, keepdims=True) - h * (d * h).sum(1, keepdims=True))
    return dx.reshape(dout.shape), (dout * hat).sum(axis=0), dout.sum(axis=0)
"""),
    "group_norm_loops": ("group_norm", """
def forward(x, gamma, beta, num_groups):
    hat, inv = np.empty(x.shape), np.empty((len(x), num_groups))
    size = x.shape[1] // num_groups
    for n in range(len(x)):
        for g in range(num_groups):
            part = x[n, g * size:(g + 1) * size]
            inv[n, g] = 1 / np.sqrt(part.var() + 1e-5)
            hat[n, g * size:(g + 1) * size] = (part - part.mean()) * inv[n, g]
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return gamma.reshape(shape) * hat + beta.reshape(shape), (hat, inv, gamma.reshape(shape), size)

def backward(dout, cache):
    hat, inv, gamma, size = cache
    dx, d = np.empty(dout.shape), dout * gamma
    for n, g in np.ndindex(inv.shape):
        s = slice(g * size, (g + 1) * size)
        dx[n, s] = (d[n, s] - d[n, s].mean() - hat[n, s] * (d[n, s] * hat[n, s]).mean()) * inv[n, g]
    axes = (0,) + tuple(range(2, dout.ndim))
    return dx, (dout * hat).sum(axis=axes), dout.sum(axis=axes)
"""),
    "dropout_boolean": ("course_dropout", """
def forward(x, p, rng):
    kept = rng.random(x.shape) >= p
    out = np.zeros(x.shape)
    out[kept] = x[kept] / (1 - p)
    return out, (kept, p)

def backward(dout, cache):
    kept, p = cache
    dx = np.zeros(dout.shape)
    dx[kept] = dout[kept] / (1 - p)
    return dx
"""),
    "flatten_ravel": ("flatten", """
def forward(x):
    return np.array([np.ravel(each) for each in x]), x.shape

def backward(dout, shape):
    return np.array([d.reshape(shape[1:]) for d in dout])
"""),
}  # fmt: skip


def way(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The forward and backward of one of the ways."""
    module = types.ModuleType(name)
    exec(compile(f"import numpy as np\n{WAYS[name][1]}", f"<{name}>", "exec"), module.__dict__)
    return module.forward, module.backward


def near_kinks(rng: np.random.Generator) -> Iterator[tuple[str, Case]]:
    """Inputs at and beside kinks, with the layer they are for."""
    for distance in (0.0, 1e-15, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3):
        x = rng.choice([-1.0, 0.0, 1.0], (3, 4)) * distance
        for layer in ("relu", "leaky_relu"):
            yield layer, Case((x,))
            yield layer, Case((np.where(rng.random((3, 4)) < 0.5, x, rng.standard_normal((3, 4))),))
        w, b = rng.standard_normal((5, 4)), rng.standard_normal(5) * distance
        yield "linear_relu", Case((rng.standard_normal((3, 4)), w, b * 0 + distance))
        yield "linear_relu", Case((x, w, b))
        yield "linear_relu", Case((x * 0, w, b))
        base = rng.integers(-2, 3, (2, 2, 4, 4)).astype(float)
        moved = base + distance * rng.choice([-1.0, 1.0], base.shape)
        yield "max_pool2d", Case((moved,), {"kernel_size": 2})
        yield "max_pool2d", Case((moved,), {"kernel_size": 3, "stride": 1, "padding": 1})
        scores = rng.integers(-2, 3, (4, 3)).astype(float)
        y = rng.integers(0, 3, 4)
        yield "multiclass_hinge", Case((scores + distance * rng.standard_normal((4, 3)), y))
        image, filters = rng.standard_normal((2, 2, 5, 5)), rng.standard_normal((3, 2, 3, 3))
        yield "conv_relu", Case((image * distance, filters, np.zeros(3)), {"padding": 1})
        yield "conv_relu_pool", Case((image * distance, filters, np.zeros(3)), {"padding": 1})


def checks(seeds: int = 3, kink_seeds: int = 5) -> Iterator[Check]:
    """All right backwards with the inputs to try them at."""
    for seed in range(seeds):
        for name, pair in PAIRS.items():
            for case in cases(name, seed):
                for label, forward, backward in (
                    ("fast", pair.forward, pair.backward),
                    ("numpy", pair.numpy_forward, pair.numpy_backward),
                    ("reference", pair.reference_forward, pair.reference_backward),
                ):
                    for each in (case, case.as_float32()):
                        yield f"{name} ({label})", forward, backward, each
        for name in STYLES:
            for case in cases(name, seed):
                for each in (case, case.as_float32()):
                    yield name, *style(name), each
        for name, (layer, _) in WAYS.items():
            options = [c for c in cases(layer, seed) if _fits(name, c)]
            for case in options:
                for each in (case, case.as_float32()):
                    yield name, *way(name), each
    for seed in range(kink_seeds):
        for layer, case in near_kinks(np.random.default_rng(seed)):
            pair = PAIRS[layer]
            for each in (case, case.as_float32()):
                yield f"{layer} near kinks", pair.forward, pair.backward, each
                if layer in ("relu", "leaky_relu"):
                    for name in (name for name, (of, _) in WAYS.items() if of == layer):
                        yield f"{name} near kinks", *way(name), each


def _fits(name: str, case: Case) -> bool:
    return name != "layer_norm_by_batch_norm" or case.inputs[0].ndim >= 2
