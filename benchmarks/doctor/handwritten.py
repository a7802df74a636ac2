"""Backwards in the styles of courses and tutorials, and text edits that break them.

Each style is source text with a ``forward`` and a ``backward``. An edit replaces one passage and
says what codes name the bug; none where it has no name.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator

from doctor.mutation import Mutant

__all__ = ["EDITS", "STYLES", "edited", "style"]

STYLES = {
    "affine": """
def forward(x, w, b):
    out = x.reshape(x.shape[0], -1).dot(w) + b
    return out, (x, w, b)

def backward(dout, cache):
    x, w, b = cache
    dx = dout.dot(w.T).reshape(x.shape)
    dw = x.reshape(x.shape[0], -1).T.dot(dout)
    db = np.sum(dout, axis=0)
    return dx, dw, db
""",
    "course_relu": """
def forward(x):
    return np.maximum(0, x), x

def backward(dout, cache):
    x = cache
    dx = dout.copy()
    dx[x <= 0] = 0
    return dx
""",
    "affine_relu": """
def forward(x, w, b):
    rows = x.reshape(x.shape[0], -1)
    a = rows @ w + b
    out = np.maximum(a, 0)
    return out, (x, rows, w, a, out)

def backward(dout, cache):
    x, rows, w, a, out = cache
    da = dout * (a > 0)
    dx = (da @ w.T).reshape(x.shape)
    dw = rows.T @ da
    db = da.sum(axis=0)
    return dx, dw, db
""",
    "course_conv": """
def forward(x, w, b, stride, padding):
    n, c, h, wd = x.shape
    f, _, hh, ww = w.shape
    oh = 1 + (h + 2 * padding - hh) // stride
    ow = 1 + (wd + 2 * padding - ww) // stride
    xp = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    out = np.zeros((n, f, oh, ow))
    for i in range(n):
        for k in range(f):
            for u in range(oh):
                for v in range(ow):
                    hs, ws = u * stride, v * stride
                    out[i, k, u, v] = np.sum(xp[i, :, hs:hs+hh, ws:ws+ww] * w[k]) + b[k]
    return out, (x, w, b, stride, padding)

def backward(dout, cache):
    x, w, b, stride, padding = cache
    n, f, oh, ow = dout.shape
    hh, ww = w.shape[2:]
    xp = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    dxp = np.zeros_like(xp)
    dw = np.zeros_like(w)
    db = np.zeros_like(b)
    for i in range(n):
        for k in range(f):
            for u in range(oh):
                for v in range(ow):
                    hs, ws = u * stride, v * stride
                    dxp[i, :, hs:hs+hh, ws:ws+ww] += w[k] * dout[i, k, u, v]
                    dw[k] += xp[i, :, hs:hs+hh, ws:ws+ww] * dout[i, k, u, v]
                    db[k] += dout[i, k, u, v]
    dx = dxp[:, :, padding:padding+x.shape[2], padding:padding+x.shape[3]]
    return dx, dw, db
""",
    "conv_im2col": """
def indices(shape, hh, ww, stride, padding):
    n, c, h, w = shape
    oh, ow = (h + 2 * padding - hh) // stride + 1, (w + 2 * padding - ww) // stride + 1
    i0 = np.tile(np.repeat(np.arange(hh), ww), c)
    i1 = stride * np.repeat(np.arange(oh), ow)
    j0 = np.tile(np.arange(ww), hh * c)
    j1 = stride * np.tile(np.arange(ow), oh)
    k = np.repeat(np.arange(c), hh * ww).reshape(-1, 1)
    return k, i0.reshape(-1, 1) + i1, j0.reshape(-1, 1) + j1, oh, ow

def forward(x, w, b, stride, padding):
    f, _, hh, ww = w.shape
    k, i, j, oh, ow = indices(x.shape, hh, ww, stride, padding)
    xp = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    cols = xp[:, k, i, j].transpose(1, 2, 0).reshape(w[0].size, -1)
    out = (w.reshape(f, -1) @ cols + b.reshape(-1, 1)).reshape(f, oh, ow, len(x))
    return out.transpose(3, 0, 1, 2), (x.shape, w, cols, stride, padding)

def backward(dout, cache):
    shape, w, cols, stride, padding = cache
    f, c, hh, ww = w.shape
    k, i, j, oh, ow = indices(shape, hh, ww, stride, padding)
    db = dout.sum(axis=(0, 2, 3))
    d = dout.transpose(1, 2, 3, 0).reshape(f, -1)
    dw = (d @ cols.T).reshape(w.shape)
    dcols = (w.reshape(f, -1).T @ d).reshape(c * hh * ww, -1, shape[0]).transpose(2, 0, 1)
    dxp = np.zeros((shape[0], c, shape[2] + 2 * padding, shape[3] + 2 * padding))
    np.add.at(dxp, (slice(None), k, i, j), dcols)
    dx = dxp[:, :, padding:padding+shape[2], padding:padding+shape[3]]
    return dx, dw, db
""",
    "course_max_pool": """
def forward(x, kernel_size, stride=None):
    stride = stride or kernel_size
    n, c, h, w = x.shape
    oh, ow = (h - kernel_size) // stride + 1, (w - kernel_size) // stride + 1
    out = np.zeros((n, c, oh, ow))
    for u in range(oh):
        for v in range(ow):
            a, b = u * stride, v * stride
            out[:, :, u, v] = x[:, :, a:a+kernel_size, b:b+kernel_size].max(axis=(2, 3))
    return out, (x, kernel_size, stride)

def backward(dout, cache):
    x, size, stride = cache
    dx = np.zeros_like(x)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            for u in range(dout.shape[2]):
                for v in range(dout.shape[3]):
                    a, b = u * stride, v * stride
                    window = x[n, c, a:a+size, b:b+size]
                    mask = window == np.max(window)
                    dx[n, c, a:a+size, b:b+size] += mask * dout[n, c, u, v]
    return dx
""",
    "softmax": """
def forward(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return p, p

def backward(dout, cache):
    p = cache
    inner = np.sum(p * dout, axis=1, keepdims=True)
    dx = p * (dout - inner)
    return dx
""",
    "course_softmax": """
def forward(x, y):
    z = x - np.max(x, axis=1, keepdims=True)
    p = np.exp(z) / np.sum(np.exp(z), axis=1, keepdims=True)
    n = x.shape[0]
    return -np.sum(np.log(p[np.arange(n), y])) / n, (p, y)

def backward(cache):
    p, y = cache
    n = p.shape[0]
    dx = p.copy()
    dx[np.arange(n), y] -= 1
    dx /= n
    return dx
""",
    "course_svm": """
def forward(x, y):
    n = x.shape[0]
    correct = x[np.arange(n), y]
    margins = np.maximum(0, x - correct[:, None] + 1.0)
    margins[np.arange(n), y] = 0
    return np.sum(margins) / n, (margins, y)

def backward(cache):
    margins, y = cache
    n = margins.shape[0]
    count = np.sum(margins > 0, axis=1)
    dx = np.zeros_like(margins)
    dx[margins > 0] = 1
    dx[np.arange(n), y] -= count
    dx /= n
    return dx
""",
    "batch_norm_graph": """
def forward(x, gamma, beta):
    n = x.shape[0]
    mu = x.sum(axis=0) / n
    xmu = x - mu
    var = (xmu ** 2).sum(axis=0) / n
    sqrtvar = np.sqrt(var + 1e-5)
    ivar = 1.0 / sqrtvar
    xhat = xmu * ivar
    return gamma * xhat + beta, (xhat, gamma, xmu, ivar, sqrtvar, var)

def backward(dout, cache):
    xhat, gamma, xmu, ivar, sqrtvar, var = cache
    n, d = dout.shape
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * xhat, axis=0)
    dxhat = dout * gamma
    divar = np.sum(dxhat * xmu, axis=0)
    dxmu1 = dxhat * ivar
    dsqrtvar = -1.0 / sqrtvar ** 2 * divar
    dvar = 0.5 / np.sqrt(var + 1e-5) * dsqrtvar
    dsq = np.ones((n, d)) / n * dvar
    dxmu2 = 2 * xmu * dsq
    dx1 = dxmu1 + dxmu2
    dmu = -np.sum(dxmu1 + dxmu2, axis=0)
    dx2 = np.ones((n, d)) / n * dmu
    dx = dx1 + dx2
    return dx, dgamma, dbeta
""",
    "batch_norm_alt": """
def forward(x, gamma, beta):
    mu, var = x.mean(axis=0), x.var(axis=0)
    std = np.sqrt(var + 1e-5)
    xhat = (x - mu) / std
    return gamma * xhat + beta, (x, mu, xhat, std, gamma)

def backward(dout, cache):
    x, mu, xhat, std, gamma = cache
    n = len(dout)
    dgamma = (dout * xhat).sum(axis=0)
    dbeta = dout.sum(axis=0)
    dxhat = dout * gamma
    dx = (n * dxhat - dxhat.sum(axis=0) - xhat * (dxhat * xhat).sum(axis=0)) / (n * std)
    return dx, dgamma, dbeta
""",
    "course_dropout": """
def forward(x, p, rng):
    keep = 1 - p
    mask = (rng.random(x.shape) < keep) / keep
    return x * mask, (mask, keep)

def backward(dout, cache):
    mask, keep = cache
    dx = dout * mask
    return dx
""",
    "two_layer": """
def forward(X, W1, b1, W2, b2, y, reg):
    z = X @ W1 + b1
    h = np.maximum(z, 0)
    scores = h @ W2 + b2
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    n = len(y)
    loss = -np.log(p[np.arange(n), y]).mean() + 0.5 * reg * (np.sum(W1 * W1) + np.sum(W2 * W2))
    return loss, (X, W1, W2, z, h, p, y, reg)

def backward(cache):
    X, W1, W2, z, h, p, y, reg = cache
    n = len(y)
    ds = p.copy()
    ds[np.arange(n), y] -= 1
    ds /= n
    dW2 = h.T @ ds + reg * W2
    db2 = ds.sum(axis=0)
    dh = ds @ W2.T
    dz = dh * (z > 0)
    dW1 = X.T @ dz + reg * W1
    db1 = dz.sum(axis=0)
    return dW1, db1, dW2, db2
""",
    "softmax_loss": """
def forward(W, X, y, reg):
    n = X.shape[0]
    s = X @ W
    s = s - s.max(axis=1, keepdims=True)
    p = np.exp(s) / np.exp(s).sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(n), y]).sum() / n + reg * np.sum(W * W)
    return loss, (W, X, y, p, reg)

def backward(cache):
    W, X, y, p, reg = cache
    n = X.shape[0]
    d = p.copy()
    d[np.arange(n), y] -= 1
    dW = X.T @ d
    dW = dW / n
    dW = dW + 2 * reg * W
    return dW
""",
    "softmax_loss_columns": """
def forward(W, X, y, reg):
    n = X.shape[1]
    s = W @ X
    s = s - s.max(axis=0)
    p = np.exp(s) / np.exp(s).sum(axis=0)
    loss = -np.log(p[y, np.arange(n)]).sum() / n + 0.5 * reg * np.sum(W * W)
    return loss, (W, X, y, p, reg)

def backward(cache):
    W, X, y, p, reg = cache
    n = X.shape[1]
    d = p.copy()
    d[y, np.arange(n)] -= 1
    dW = d @ X.T / n
    dW = dW + reg * W
    return dW
""",
    "momentum": """
def forward(w, dw, v):
    v = 0.9 * v - 0.01 * dw
    return w + v, None

def backward(dout, cache):
    return dout, -0.01 * dout, 0.9 * dout
""",
}

_LOOPS = """range(n):
        for k in range(f):
            for u in range(oh):
                for v in range(ow):"""
_LAST = """
                    hs, ws = u * stride, v * stride
                    """
# (what stands there, what is put in its place, codes that name it)
Edit = tuple[str, str, str]
EDITS: dict[str, list[Edit]] = {
    "affine": [
        ("dout.dot(w.T)", "-dout.dot(w.T)", "sign"),
        ("dout.dot(w.T).reshape(x.shape)", "dout.dot(w.T)", "reshaped"),
        ("dw = x", "dw = 2 * x", "factor"),
        ("x.reshape(x.shape[0], -1).T.dot(dout)", "dout.T.dot(x.reshape(x.shape[0], -1))",
         "transposed"),
        ("x.reshape(x.shape[0], -1).T.dot(dout)",
         "dout.T.dot(x.reshape(x.shape[0], -1)).reshape(w.shape)", "transposed"),
        (".T.dot(dout)", ".T.dot(dout) / x.shape[0]", "double_mean"),
        ("np.sum(dout, axis=0)", "np.sum(dout, axis=1)", "wrong_axis"),
        ("np.sum(dout, axis=0)", "np.mean(dout, axis=0)", "double_mean"),
        ("np.sum(dout, axis=0)", "dout", "missing_sum"),
        ("np.sum(dout, axis=0)", "np.sum(dout, axis=0, keepdims=True)", "wrong_axis reshaped"),
        ("np.sum(dout, axis=0)", "np.sum(dout) * np.ones_like(b)", ""),
        ("np.sum(dout, axis=0)", "np.zeros_like(b)", "zero"),
        ("np.sum(dout, axis=0)", "np.ones_like(b) * x.shape[0]", "upstream_ignored"),
        ("np.sum(dout, axis=0)", "dout[-1]", "overwritten"),
        ("np.sum(dout, axis=0)", "np.sum(dout, axis=0) + b", "wrong_term"),
        ("T.dot(dout)", "T.dot(dout) + 0.1 * w", "wrong_term"),
        ("dw = x.reshape(x.shape[0], -1).T.dot(dout)",
         "dw = np.zeros_like(w)\n    for i in range(len(x)):\n        dw = np.outer(x[i], dout[i])",
         "overwritten"),
        ("dw = x.reshape(x.shape[0], -1).T.dot(dout)",
         "dw = x.reshape(x.shape[0], -1).T.dot(dout).astype(int)", "integer_truncation"),
        ("np.sum(dout, axis=0)", "np.sum(dout, axis=0).astype(int)", "integer_truncation"),
        (".T.dot(dout)", ".T.dot(np.ones_like(dout))", "upstream_ignored"),
        ("dout.dot(w.T)", "np.ones_like(dout).dot(w.T)", "upstream_ignored"),
        ("return dx, dw, db", "return dx, dw, -db", "sign"),
        ("return dx, dw, db", "return dx * 0, dw, db", "zero"),
        ("return dx, dw, db", "return dx, dw", "count"),
        ("return dx, dw, db", "return None", "none"),
        ("    dw = x", "    dout *= 2\n    dw = x", "modifies_input"),
        ("    dx = dout", "    x *= 1.5\n    dx = dout", "modifies_input changes_cache"),
    ],
    "course_relu": [
        ("x <= 0", "x >= 0", "mask_wrong_tensor"),
        ("x <= 0", "dout <= 0", "mask_wrong_tensor"),
        ("x <= 0", "x <= 1", "mask_wrong_tensor"),
        ("x <= 0", "x < 0", "mask_boundary"),
        ("dx[x <= 0] = 0", "pass", "local_missing"),
        ("dout.copy()", "np.ones_like(dout)", "upstream_ignored"),
        ("dout.copy()", "dout.astype(int)", "integer_truncation"),
        ("dout.copy()", "dout", "modifies_input"),
        ("dout.copy()", "x.copy()", "upstream_ignored"),
        ("dx[x <= 0] = 0", "dx[x <= 0] = -1", "mask_wrong_tensor"),
        ("dx[x <= 0] = 0", "dx[x <= 0] *= -1", "mask_wrong_tensor"),
    ],
    "affine_relu": [
        ("(a > 0)", "(dout > 0)", "mask_wrong_tensor"),
        ("(a > 0)", "(a < 0)", "mask_wrong_tensor"),
        ("(a > 0)", "a", "mask_wrong_tensor"),
        ("(a > 0)", "out", "mask_wrong_tensor"),
        ("(a > 0)", "(a >= 0)", "mask_boundary"),
        (" * (a > 0)", "", "local_missing"),
        ("rows.T @ da", "rows.T @ dout", "upstream_wrong local_missing"),
        ("da.sum(axis=0)", "dout.sum(axis=0)", "upstream_wrong local_missing"),
        ("da @ w.T", "dout @ w.T", "upstream_wrong local_missing"),
        ("da.sum(axis=0)", "da.mean(axis=0)", "double_mean"),
        ("da.sum(axis=0)", "da.sum(axis=1)", "wrong_axis"),
        ("dout * (a > 0)", "(a > 0) * 1.0", "upstream_ignored"),
        ("rows.T @ da", "rows.T @ da * 0.5", "factor"),
        ("rows.T @ da", "-rows.T @ da", "sign"),
        ("rows.T @ da", "(da.T @ rows).reshape(w.shape)", "transposed"),
    ],
    "course_conv": [
        ("ws:ws+ww] += w[k]", "ws:ws+ww] = w[k]", "overwritten"),
        ("dw[k] += xp", "dw[k] = xp", "overwritten"),
        ("db[k] += dout", "db[k] = dout", "overwritten"),
        ("dxp[:, :, padding:padding+x.shape[2], padding:padding+x.shape[3]]", "dxp", "padding"),
        ("dxp[:, :, padding:padding+x.shape[2], padding:padding+x.shape[3]]",
         "dxp[:, :, :x.shape[2], :x.shape[3]]", "padding"),
        ("dxp[:, :, padding:padding+x.shape[2], padding:padding+x.shape[3]]",
         "dxp[:, :, 2*padding:, 2*padding:]", "padding"),
        ("dxp[i, :, hs:hs+hh, ws:ws+ww] +=", "dxp[i, :, hs:hs+hh, ws:ws+ww] -=", "sign"),
        ("dw[k] +=", "dw[k] -=", "sign"),
        ("dw[k] += xp[i, :, hs:hs+hh, ws:ws+ww]", "dw[k] += xp[i, :, u:u+hh, v:v+ww]",
         "window_offset"),
        ("ws:ws+ww] += w[k]", "ws:ws+ww] += w[k][:, ::-1, ::-1]", "flipped"),
        ("w[k] * dout[i, k, u, v]", "w[k]", "upstream_ignored"),
        ("ws:ws+ww] * dout[i, k, u, v]", "ws:ws+ww]", "upstream_ignored"),
        ("db[k] += dout[i, k, u, v]", "db[k] += 1", "upstream_ignored"),
        ("                    db[k] += dout[i, k, u, v]\n    dx",
         "                db[k] += dout[i, k, u, v]\n    dx", "missing_sum overwritten"),
        ("return dx, dw, db", "return dx, dw / len(x), db", "double_mean"),
        ("return dx, dw, db", "return dx, dw, db / (oh * ow)", "double_mean"),
        ("return dx, dw, db", "return dx, dw[:, :, ::-1, ::-1], db", "flipped"),
        ("return dx, dw, db", "return dx, dw, dout.sum(axis=(2, 3))", "missing_sum"),
        ("np.zeros_like(w)\n    db", "np.zeros(w.shape, dtype=int)\n    db", "integer_truncation"),
        ("    dx = dxp", "    dxp = np.trunc(dxp)\n    dx = dxp", "integer_truncation"),
        (f"{_LOOPS}{_LAST}dxp", f"{_LOOPS.replace('(oh)', '(oh - 1)')}{_LAST}dxp", "window_offset"),
    ],
    "conv_im2col": [
        ("np.add.at(dxp, (slice(None), k, i, j), dcols)", "dxp[:, k, i, j] = dcols",
         "overwritten"),
        ("np.add.at(dxp, (slice(None), k, i, j), dcols)", "dxp[:, k, i, j] += dcols",
         "overwritten"),
        ("dxp[:, :, padding:padding+shape[2], padding:padding+shape[3]]",
         "dxp[:, :, :shape[2], :shape[3]]", "padding"),
        ("dout.transpose(1, 2, 3, 0)", "dout.transpose(1, 0, 2, 3)", "reshaped transposed"),
        ("(d @ cols.T).reshape(w.shape)", "(cols @ d.T).reshape(w.shape)", "transposed"),
        ("dout.sum(axis=(0, 2, 3))", "dout.sum(axis=(0, 2))", "missing_sum"),
        ("dout.sum(axis=(0, 2, 3))", "dout.mean(axis=(0, 2, 3))", "double_mean"),
        ("w.reshape(f, -1).T @ d", "w[..., ::-1, ::-1].reshape(f, -1).T @ d", "flipped"),
        ("w.reshape(f, -1).T @ d", "w.swapaxes(2, 3).reshape(f, -1).T @ d", "transposed"),
    ],
    "course_max_pool": [
        ("b:b+size] += mask", "b:b+size] = mask", "overwritten"),
        ("== np.max(window)", "== np.min(window)", "mask_wrong_tensor"),
        ("mask * dout[n, c, u, v]", "mask * window", "upstream_ignored"),
        ("mask * dout[n, c, u, v]", "mask", "upstream_ignored"),
        ("mask * dout[n, c, u, v]", "dout[n, c, u, v]", "mask_wrong_tensor"),
        ("mask * dout[n, c, u, v]", "dout[n, c, u, v] / size**2", "mask_wrong_tensor"),
        ("mask * dout[n, c, u, v]", "mask.T * dout[n, c, u, v]", "transposed"),
        ("range(dout.shape[2])", "range(dout.shape[2] - 1)", "window_offset"),
        ("range(dout.shape[3])", "range(1, dout.shape[3])", "window_offset"),
        ("a, b = u * stride, v * stride", "a, b = u, v", "window_offset"),
        ("np.zeros_like(x)", "np.zeros(x.shape, dtype=int)", "integer_truncation"),
        ("    return dx", "    return -dx", "sign"),
    ],
    "softmax": [
        ("dx = p * (dout - inner)", "dx = p * dout", "softmax_correction"),
        ("dx = p * (dout - inner)", "dx = p * (1 - p) * dout", "softmax_correction"),
        ("dx = p * (dout - inner)", "dx = p * (dout + inner)", "softmax_correction"),
        ("dx = p * (dout - inner)", "dx = p * dout - inner", "softmax_correction"),
        ("dx = p * (dout - inner)", "dx = dout - inner", "missing_factor"),
        ("axis=1, keepdims=True)\n    dx", "axis=0, keepdims=True)\n    dx", "wrong_axis"),
        ("np.sum(p * dout", "np.sum(dout", "softmax_correction"),
        ("np.sum(p * dout", "np.mean(p * dout", "softmax_correction"),
    ],
    "course_softmax": [
        ("    dx /= n\n", "", "missing_mean"),
        ("    dx /= n\n", "    dx /= n * n\n", "double_mean"),
        ("    dx /= n\n", "    dx *= n\n", "missing_mean factor"),
        ("    dx /= n\n", "    dx /= p.shape[1]\n", "wrong_count"),
        ("    dx[np.arange(n), y] -= 1\n", "", "softmax_correction"),
        ("-= 1", "+= 1", "softmax_correction"),
        ("p.copy()", "np.zeros_like(p)", "softmax_correction"),
        ("p.copy()", "np.log(p)", "softmax_correction"),
        ("p.copy()", "p * (1 - p)", ""),
        ("dx /= n", "dx /= -n", "sign"),
        ("-= 1", "-= p[np.arange(n), y]", "softmax_correction"),
        ("    return dx", "    return dx.astype(int)", "integer_truncation zero"),
        ("    dx /= n\n", "    dx /= n\n    dx *= 0.5\n", "factor"),
    ],
    "course_svm": [
        ("    dx /= n\n", "", "missing_mean"),
        ("    dx[np.arange(n), y] -= count\n", "", "true_class"),
        ("-= count", "+= count", "true_class"),
        ("-= count", "-= 1", "true_class"),
        ("dx[margins > 0] = 1", "dx[margins > 0] = -1", "true_class"),
        ("dx[margins > 0] = 1", "dx[margins > 1] = 1", "mask_wrong_tensor true_class"),
        ("margins > 0, axis=1)", "margins > 1, axis=1)", "mask_wrong_tensor true_class"),
        ("dx[margins > 0] = 1", "dx = margins.copy()", "mask_wrong_tensor true_class"),
        ("    dx /= n\n", "    dx /= n\n    dx = -dx\n", "sign"),
        ("dx[margins > 0] = 1", "dx[margins > 0] = 2", "true_class"),
        ("dx /= n", "dx /= margins.shape[1]", "wrong_count"),
    ],
    "batch_norm_graph": [
        ("dx = dx1 + dx2", "dx = dx1", "norm_mean_path"),
        ("dx = dx1 + dx2", "dx = dx1 - dx2", "norm_mean_path"),
        ("dx1 = dxmu1 + dxmu2", "dx1 = dxmu1", "norm_var_path"),
        ("dmu = -np.sum(dxmu1 + dxmu2, axis=0)", "dmu = np.sum(dxmu1 + dxmu2, axis=0)",
         "norm_mean_path"),
        ("dsqrtvar = -1.0", "dsqrtvar = 1.0", "norm_var_path"),
        ("dvar = 0.5", "dvar = 1.0", "norm_var_path"),
        ("dxmu2 = 2 * xmu", "dxmu2 = xmu", "norm_var_path"),
        ("dsq = np.ones((n, d)) / n * dvar", "dsq = np.ones((n, d)) * dvar", "norm_var_path"),
        ("dx2 = np.ones((n, d)) / n * dmu", "dx2 = np.ones((n, d)) * dmu", "norm_mean_path"),
        ("dxhat = dout * gamma", "dxhat = dout", "missing_factor"),
        ("dout * xhat, axis=0)", "dout * xmu, axis=0)", "missing_factor"),
        ("dout * xhat, axis=0)", "dout, axis=0)", "missing_factor"),
        ("dxmu1 = dxhat * ivar", "dxmu1 = dxhat", ""),
        ("divar = np.sum(dxhat * xmu, axis=0)", "divar = np.sum(dout * xmu, axis=0)",
         "missing_factor"),
        ("dbeta = np.sum(dout, axis=0)", "dbeta = np.sum(dout, axis=1)", "wrong_axis"),
        ("dbeta = np.sum(dout, axis=0)", "dbeta = np.mean(dout, axis=0)", "double_mean"),
        ("return dx, dgamma, dbeta", "return dx, dbeta, dgamma", "swapped"),
        ("return dx, dgamma, dbeta", "return dx1 - dxmu2, dgamma, dbeta",
         "norm_mean_path norm_var_path"),
    ],
    "batch_norm_alt": [
        (" - dxhat.sum(axis=0)", "", "norm_mean_path"),
        (" - xhat * (dxhat * xhat).sum(axis=0)", "", "norm_var_path"),
        ("(n * dxhat - dxhat.sum(axis=0) - xhat * (dxhat * xhat).sum(axis=0)) / (n * std)",
         "dxhat / std", "norm_mean_path norm_var_path"),
        ("/ (n * std)", "/ n", "missing_factor"),
        ("/ (n * std)", "/ std", "missing_mean factor"),
        ("/ (n * std)", "/ (n * std**2)", "extra_factor"),
        ("n * dxhat -", "dxhat -", "wrong_term norm_mean_path"),
        ("- xhat * (dxhat", "- x * (dxhat", "input_for_output"),
        ("- xhat * (dxhat", "- (x - mu) * (dxhat", "input_for_output"),
        ("- xhat * (dxhat", "+ xhat * (dxhat", "norm_var_path"),
        ("- dxhat.sum(axis=0)", "+ dxhat.sum(axis=0)", "norm_mean_path"),
        ("dxhat = dout * gamma", "dxhat = dout / gamma", "missing_factor"),
        ("(dout * xhat).sum(axis=0)\n", "(dout * x).sum(axis=0)\n", "input_for_output"),
        ("(dout * xhat).sum(axis=0)\n", "(dout * xhat).sum(axis=1)\n", "wrong_axis"),
        ("(dout * xhat).sum(axis=0)\n", "dout * xhat\n", "missing_sum"),
        ("dbeta = dout.sum(axis=0)", "dbeta = dout", "missing_sum"),
    ],
    "course_dropout": [
        ("dout * mask", "dout", "local_missing dropout_mask"),
        ("dout * mask", "dout * (mask > 0)", "dropout_scale"),
        ("dout * mask", "dout * mask / keep", "dropout_scale"),
        ("dout * mask", "dout * (mask > 0) * keep", "dropout_scale"),
        ("dout * mask", "dout * (mask == 0) / keep", "dropout_mask"),
        ("dout * mask", "dout / keep", "dropout_mask"),
        ("dout * mask", "mask", "upstream_ignored"),
        ("dout * mask", "-dout * mask", "sign"),
        ("dout * mask", "dout * (mask > 0) / (1 - keep)", "dropout_scale"),
    ],
    "two_layer": [
        ("+ reg * W2", "", "regulariser_missing"),
        ("+ reg * W1", "", "regulariser_missing"),
        ("+ reg * W2", "+ 2 * reg * W2", "regulariser_factor"),
        ("+ reg * W1", "+ 0.5 * reg * W1", "regulariser_factor"),
        ("+ reg * W1", "- reg * W1", "regulariser_sign"),
        ("    ds /= n\n", "", "missing_mean"),
        ("    ds /= n\n", "    ds /= n**2\n", "double_mean"),
        ("-= 1", "+= 1", "softmax_correction"),
        ("    ds[np.arange(n), y] -= 1\n", "", "softmax_correction"),
        ("dh * (z > 0)", "dh", "local_missing"),
        ("dh * (z > 0)", "dh * (dh > 0)", "mask_wrong_tensor"),
        ("dh * (z > 0)", "dh * (z < 0)", "mask_wrong_tensor"),
        ("dh * (z > 0)", "dh * z", "mask_wrong_tensor"),
        ("h.T @ ds", "z.T @ ds", "input_for_output"),
        ("X.T @ dz", "X.T @ dh", "upstream_wrong local_missing"),
        ("dz.sum(axis=0)", "dh.sum(axis=0)", "upstream_wrong local_missing"),
        ("ds.sum(axis=0)", "ds.mean(axis=0)", "double_mean"),
        ("ds.sum(axis=0)", "ds.sum(axis=1)", "wrong_axis"),
        ("return dW1, db1, dW2, db2", "return dW1, db1, -dW2, db2", "sign"),
        ("return dW1, db1, dW2, db2", "return dW1, db1 * 2, dW2, db2", "factor"),
        ("X.T @ dz + reg * W1", "X.T @ dz * n + reg * W1", "missing_mean"),
        ("dh = ds @ W2.T", "dh = -(ds @ W2.T)", "sign"),
    ],
    "softmax_loss": [
        ("2 * reg * W", "reg * W", "regulariser_factor"),
        ("2 * reg * W", "4 * reg * W", "regulariser_factor"),
        ("    dW = dW + 2 * reg * W\n", "", "regulariser_missing"),
        ("+ 2 * reg", "- 2 * reg", "regulariser_sign"),
        ("2 * reg * W", "2 * reg * np.sum(W)", ""),
        ("    dW = dW / n\n", "", "missing_mean"),
        ("-= 1", "+= 1", "softmax_correction"),
        ("X.T @ d", "(d.T @ X).reshape(W.shape)", "transposed"),
        ("X.T @ d", "(d.T @ X)", "transposed raises"),
        ("X.T @ d\n", "-(X.T @ d)\n", "sign"),
    ],
    "softmax_loss_columns": [
        ("    dW = dW + reg * W\n", "", "regulariser_missing"),
        ("reg * W\n    return", "2 * reg * W\n    return", "regulariser_factor"),
        ("@ X.T / n", "@ X.T", "missing_mean"),
        ("@ X.T / n", "@ X.T / n / n", "double_mean"),
        ("    d[y, np.arange(n)] -= 1\n", "", "softmax_correction"),
        ("    d[y, np.arange(n)] -= 1\n", "    d[y, np.arange(n)] += 1\n", "softmax_correction"),
    ],
    "momentum": [
        ("0.9 * dout", "-0.9 * dout", "velocity_sign"),
        ("-0.01 * dout", "0.01 * dout", "sign"),
        ("return dout, ", "return 0 * dout, ", "zero"),
        ("-0.01 * dout, 0.9 * dout", "0.9 * dout, -0.01 * dout", "swapped"),
        ("0.9 * dout", "0.1 * dout", "factor"),
        ("0.9 * dout", "0.9 * np.ones_like(dout)", "upstream_ignored"),
    ],
}  # fmt: skip


def style(name: str, old: str = "", new: str = "") -> tuple[Callable[..., object], ...]:
    """The forward and backward of a style, the backward perhaps edited."""
    source = STYLES[name]
    start = source.index("def backward")
    head, body = source[:start], source[start:]
    if old not in body:
        raise ValueError(f"{name}: no passage {old!r}")
    modules = []
    for text in (source, head + body.replace(old, new, 1) if old else source):
        module = types.ModuleType(name)
        exec(compile(f"import numpy as np\n{text}", f"<{name}>", "exec"), module.__dict__)
        modules.append(module)
    return modules[0].forward, modules[1].backward


def edited() -> Iterator[Mutant]:
    """All edits as mutants."""
    for name, edits in EDITS.items():
        for old, new, codes in edits:
            if old == new or old not in STYLES[name][STYLES[name].index("def backward") :]:
                continue
            forward, backward = style(name, old, new)
            change = f"{name}: {old.strip()} -> {new.strip()}"
            yield Mutant(change, name, forward, backward, frozenset(codes.split()))
