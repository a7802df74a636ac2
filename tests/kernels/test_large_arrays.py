"""Arrays that are stored past the caches hold what those of ordinary size would.

A batch of 16 MB is computed whole and in halves. What is computed image by image has to be the
same to the last bit.
"""

from contextlib import nullcontext

import numpy as np
import pytest

from chainrule import kernels, layers
from chainrule.kernels import Workspace

SETS = kernels.instruction_sets()
pytestmark = pytest.mark.skipif(not SETS, reason="no compiled kernels are installed")

SHAPES = [
    ("float32", (64, 64, 32, 32)),
    ("float64", (32, 64, 32, 32)),
    ("float32", (260, 257, 8, 8)),  # windows of a vector lie in several rows; the last is cut
    ("float32", (90, 64, 32, 24)),  # rows of windows are not whole vectors
    ("float32", (96, 64, 27, 27)),  # nor is anything else
]


def pool(x, dout):
    out, cache = layers.max_pool2d_forward(x, 2)
    height, width = out.shape[2:]
    return out, layers.max_pool2d_backward(dout[:, :, :height, :width], cache)


def relu(x, dout):
    out, cache = layers.relu_forward(x)
    return out, layers.relu_backward(dout, cache)


def normalise(x, dout):
    """With given statistics, so that images do not depend on each other."""
    scale = np.linspace(0.5, 2, x.shape[1], dtype=x.dtype)
    zero = np.zeros_like(scale)
    out, cache, _ = layers.batch_norm_forward(x, scale, zero, zero, scale, training=False)
    return out, layers.batch_norm_backward(dout, cache)[0]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("function", [pool, relu, normalise])
@pytest.mark.parametrize(("dtype", "shape"), SHAPES)
def test_whole_batch_equals_its_halves(name, aligned, function, dtype, shape):
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, shape).astype(dtype)
    x[::7, ::5, ::3] = np.nan
    dout = rng.integers(-9, 9, shape).astype(dtype)
    half = len(x) // 2
    with kernels.use(name), kernels.limited_threads(2):
        with Workspace() if aligned else nullcontext():  # those of a workspace begin with a page
            whole = function(x, dout)
        parts = [function(x[s], dout[s]) for s in (slice(half), slice(half, None))]
    for ours, *halves in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(ours, np.concatenate(halves), strict=True)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_of_a_large_batch_equals_its_definition(name, training):
    rng = np.random.default_rng(0)
    x, dout = rng.standard_normal((2, 64, 64, 32, 32), np.float32)
    rest = rng.uniform(0.5, 2, (4, 64)).astype(np.float32)
    results = []
    for implementation in ("fast", "reference"):
        forward, backward = layers.pair("batch_norm", implementation)
        with kernels.use(name), Workspace():
            out, cache, _ = forward(x, *rest, training=training)
            results.append((out, *backward(dout, cache)))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, 1e-4, 1e-4 * np.abs(theirs).max())
