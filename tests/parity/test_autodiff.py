"""Autodiff against PyTorch: one lambda runs in both, on values, gradients, second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

from chainrule import autodiff
from chainrule.autodiff import grad, hvp, jvp, ties, vjp

torch = pytest.importorskip("torch")


class Numpy:
    """NumPy's functions, and under PyTorch's names those that NumPy calls otherwise."""

    linalg = np.linalg
    relu = staticmethod(autodiff.relu)
    softplus = staticmethod(autodiff.softplus)
    softmax = staticmethod(autodiff.softmax)
    log_softmax = staticmethod(autodiff.log_softmax)
    logsumexp = staticmethod(autodiff.logsumexp)
    sigmoid = staticmethod(special.expit)
    erf = staticmethod(special.erf)
    lgamma = staticmethod(special.gammaln)
    digamma = staticmethod(special.psi)
    xlogy = staticmethod(special.xlogy)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def permute(self, x: Any, axes: Any) -> Any:
        return np.transpose(x, axes)

    def variance(self, x: Any, axis: Any, ddof: int) -> Any:
        return np.var(x, axis=axis, ddof=ddof)

    def split(self, x: Any, size: int, axis: int) -> Any:
        return np.split(x, range(size, x.shape[axis], size), axis=axis)

    def pad(self, x: Any, width: Any, mode: str = "constant") -> Any:
        return np.pad(x, [(0, 0), (0, 0), width], mode={"replicate": "edge"}.get(mode, mode))

    def index(self, x: Any, *indices: Any) -> Any:
        return x[tuple(np.array(i) if isinstance(i, list) else i for i in indices)]

    def sort(self, x: Any, axis: int) -> Any:
        return np.sort(x, axis=axis)


class Torch:
    """PyTorch's functions, and under NumPy's names those that it calls otherwise."""

    linalg = torch.linalg

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def softplus(self, x: Any) -> Any:
        return torch.nn.functional.softplus(x, threshold=1e9)

    def concatenate(self, arrays: Any, axis: int) -> Any:
        return torch.cat(list(arrays), dim=axis)

    def variance(self, x: Any, axis: Any, ddof: int) -> Any:
        return torch.var(x, dim=axis, correction=ddof)

    def split(self, x: Any, size: int, axis: int) -> Any:
        return torch.split(x, size, dim=axis)

    def pad(self, x: Any, width: Any, mode: str = "constant") -> Any:
        return torch.nn.functional.pad(x, width, mode=mode)

    def index(self, x: Any, *indices: Any) -> Any:
        return x[tuple(torch.tensor(i) if isinstance(i, list) else i for i in indices)]

    def sort(self, x: Any, axis: int) -> Any:
        return torch.sort(x, dim=axis).values

    def max(self, x: Any, axis: int) -> Any:
        return torch.amax(x, dim=axis)

    def min(self, x: Any, axis: int) -> Any:
        return torch.amin(x, dim=axis)

    def median(self, x: Any) -> Any:
        return torch.quantile(x, 0.5)

    def transpose(self, x: Any) -> Any:
        return x.T


def positive(x: Any) -> Any:
    return x * x + 0.5


VECTOR, MATRIX, SQUARE, STACK = (4,), (3, 4), (3, 3), (2, 3, 4)

# Name, shapes of the arguments, call; `F` is either library.
CASES: list[tuple[str, list[tuple[int, ...]], Callable[..., Any]]] = [
    *(
        (name, [MATRIX], lambda F, x, name=name: getattr(F, name)(x))
        for name in ("exp", "expm1", "sin", "cos", "tanh", "sinh", "cosh", "arctan", "arcsinh")
    ),
    *(
        (name, [MATRIX], lambda F, x, name=name: getattr(F, name)(x))
        for name in ("sigmoid", "erf", "relu", "softplus", "square", "abs", "negative", "exp2")
    ),
    *(
        (name, [MATRIX], lambda F, x, name=name: getattr(F, name)(positive(x)))
        for name in ("sqrt", "log", "log2", "log10", "log1p", "reciprocal", "lgamma", "digamma")
    ),
    *(
        (name, [MATRIX], lambda F, x, name=name: getattr(F, name)(0.9 * F.sin(x)))
        for name in ("arcsin", "arccos", "arctanh", "tan")
    ),
    *(
        (name, [MATRIX, VECTOR], lambda F, x, y, name=name: getattr(F, name)(x, y))
        for name in ("add", "subtract", "multiply", "arctan2", "hypot", "logaddexp", "logaddexp2")
    ),
    *(
        (name, [MATRIX, VECTOR], lambda F, x, y, name=name: getattr(F, name)(x, y))
        for name in ("maximum", "minimum", "fmax", "fmin", "copysign")
    ),
    ("remainder", [MATRIX, VECTOR], lambda F, x, y: F.remainder(10 * x, positive(y))),
    ("divide", [MATRIX, (3, 1)], lambda F, x, y: x / positive(y)),
    ("power", [MATRIX, VECTOR], lambda F, x, y: positive(x) ** y),
    ("cube", [MATRIX], lambda F, x: x**3),
    ("square root as a power", [MATRIX], lambda F, x: positive(x) ** 0.5),
    ("xlogy", [MATRIX, VECTOR], lambda F, x, y: F.xlogy(x, positive(y))),
    ("sinc", [MATRIX], lambda F, x: F.sinc(x)),
    ("where", [MATRIX, VECTOR], lambda F, x, y: F.where(x > 0, x * x, y)),
    ("clip", [MATRIX], lambda F, x: F.clip(x, -0.5, 0.8)),
    ("sum", [STACK], lambda F, x: F.sum(x, axis=(0, 2))),
    ("mean", [STACK], lambda F, x: F.mean(x, axis=1, keepdims=True)),
    ("prod", [STACK], lambda F, x: F.prod(x, axis=1)),
    ("var", [STACK], lambda F, x: F.variance(x, (0, 2), 1)),
    ("std", [MATRIX], lambda F, x: F.sqrt(F.variance(x, 1, 0))),
    ("max", [STACK], lambda F, x: F.max(x, axis=1)),
    ("min", [STACK], lambda F, x: F.min(x, axis=2)),
    ("median", [MATRIX], lambda F, x: F.median(x)),
    ("sort", [MATRIX], lambda F, x: F.sort(x, axis=0)),
    ("cumsum", [MATRIX], lambda F, x: F.cumsum(x, axis=1)),
    ("cumprod", [MATRIX], lambda F, x: F.cumprod(x, axis=0)),
    ("logsumexp", [MATRIX], lambda F, x: F.logsumexp(x, 1)),
    ("softmax", [MATRIX], lambda F, x: F.softmax(x, 1)),
    ("log_softmax", [MATRIX], lambda F, x: F.log_softmax(x, 0)),
    ("diff", [MATRIX], lambda F, x: F.diff(x, n=2, axis=1)),
    ("trapezoid", [MATRIX], lambda F, x: F.trapezoid(x, dx=0.5)),
    ("cov", [MATRIX], lambda F, x: F.cov(x)),
    ("reshape", [STACK], lambda F, x: F.reshape(x, (4, -1))),
    ("permute", [STACK], lambda F, x: F.permute(x, (2, 0, 1))),
    ("broadcast", [VECTOR], lambda F, x: F.broadcast_to(x, (3, 4)) * x),
    ("concatenate", [MATRIX, MATRIX], lambda F, x, y: F.concatenate([x, y, x], axis=1)),
    ("stack", [MATRIX, MATRIX], lambda F, x, y: F.stack([x, y], axis=1)),
    ("split", [MATRIX], lambda F, x: F.split(x, 3, axis=1)[0] * F.split(x, 3, axis=1)[1]),
    ("tile", [MATRIX], lambda F, x: F.tile(x, (2, 1, 2))),
    ("roll", [MATRIX], lambda F, x: F.roll(x, 2, 1)),
    ("flip", [MATRIX], lambda F, x: F.flip(x, (0,))),
    ("diagonal", [MATRIX], lambda F, x: F.diagonal(x, 1)),
    ("tril", [SQUARE], lambda F, x: F.tril(x, -1)),
    ("pad", [STACK], lambda F, x: F.pad(x, (1, 2))),
    ("pad by reflection", [STACK], lambda F, x: F.pad(x, (1, 2), mode="reflect")),
    ("pad by the edge", [STACK], lambda F, x: F.pad(x, (1, 2), mode="replicate")),
    ("slices", [STACK], lambda F, x: F.index(x, slice(None), 1, slice(1, None, 2))),
    ("fancy index", [STACK], lambda F, x: F.index(x, [0, 1, 0], slice(None), [1, 1, 1])),
    ("mask", [VECTOR], lambda F, x: F.index(x, [True, False, True, True])),
    ("matmul", [STACK, (4, 2)], lambda F, x, y: x @ y),
    ("matrix times vector", [STACK, VECTOR], lambda F, x, y: F.matmul(x, y)),
    ("vector times matrix", [(3,), STACK], lambda F, x, y: F.matmul(x, y)),
    ("dot", [VECTOR, VECTOR], lambda F, x, y: F.dot(x, y)),
    ("outer", [VECTOR, (3,)], lambda F, x, y: F.outer(x, y)),
    ("inner", [MATRIX, VECTOR], lambda F, x, y: F.inner(x, y)),
    ("kron", [MATRIX, (2, 2)], lambda F, x, y: F.kron(x, y)),
    ("einsum", [STACK, (4, 2)], lambda F, x, y: F.einsum("bij,jk->kbi", x, y)),
    ("einsum of a diagonal", [SQUARE], lambda F, x: F.einsum("ii->i", x)),
    ("tensordot", [STACK, MATRIX], lambda F, x, y: F.tensordot(x, y, 2)),
    ("cross", [SQUARE, SQUARE], lambda F, x, y: F.linalg.cross(x, y)),
    ("trace", [SQUARE], lambda F, x: F.trace(x)),
    ("solve", [SQUARE, SQUARE], lambda F, x, y: F.linalg.solve(x @ F.transpose(x), y)),
    ("inv", [SQUARE], lambda F, x: F.linalg.inv(x)),
    ("pinv", [MATRIX], lambda F, x: F.linalg.pinv(x)),
    ("det", [SQUARE], lambda F, x: F.linalg.det(x)),
    ("slogdet", [SQUARE], lambda F, x: F.linalg.slogdet(x)[1]),
    ("matrix_power", [SQUARE], lambda F, x: F.linalg.matrix_power(x, 3)),
    ("cholesky", [(3, 5)], lambda F, x: F.linalg.cholesky(x @ F.transpose(x))),
    ("eigvalsh", [SQUARE], lambda F, x: F.linalg.eigvalsh(x + F.transpose(x))),
    ("eigh", [SQUARE], lambda F, x: F.linalg.eigh(x + F.transpose(x))[1] ** 2),
    ("svdvals", [MATRIX], lambda F, x: F.linalg.svdvals(x)),
    ("norm", [MATRIX], lambda F, x: F.linalg.norm(x)),
    ("norm of order 3", [MATRIX], lambda F, x: F.linalg.vector_norm(x, ord=3)),
    ("nuclear norm", [MATRIX], lambda F, x: F.linalg.matrix_norm(x, ord="nuc")),
    ("spectral norm", [MATRIX], lambda F, x: F.linalg.matrix_norm(x, ord=2)),
    (
        "network",
        [STACK, (4, 5), (5,), (5, 2)],
        lambda F, x, w, b, v: F.logsumexp(F.tanh(x @ w + b) @ v, -1),
    ),
    (
        "layer norm",
        [MATRIX, VECTOR],
        lambda F, x, w: (
            w * (x - F.mean(x, axis=1, keepdims=True)) / F.sqrt(F.variance(x, 1, 0) + 1e-5)[:, None]
        ),
    ),
    (
        "loop",
        [VECTOR, (4, 4)],
        lambda F, x, a: [x := x + 0.1 * F.tanh(a @ x) for _ in range(20)][-1],
    ),
]
every_case = pytest.mark.parametrize(
    ("shapes", "call"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)


def draw(shapes: list[tuple[int, ...]], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def tensors(arrays: list[np.ndarray]) -> list[Any]:
    return [torch.tensor(array, requires_grad=True) for array in arrays]


def assert_close(ours: Any, theirs: Any, tolerance: float = 1e-9) -> None:
    expected = theirs.detach().numpy()
    assert np.shape(ours) == expected.shape
    scale = max(1.0, float(np.max(np.abs(expected))))
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance * scale)


@every_case
def test_values_and_gradients_are_pytorchs(shapes: Any, call: Callable[..., Any]) -> None:
    arrays = draw(shapes, 0)
    out, pull_back = vjp(lambda *xs: call(Numpy(), *xs), *arrays)
    inputs = tensors(arrays)
    expected = call(Torch(), *inputs)
    assert_close(out, expected)
    dout = np.random.default_rng(1).standard_normal(np.shape(out))
    grads = torch.autograd.grad(expected, inputs, torch.tensor(dout))
    for mine, other in zip(pull_back(dout), grads, strict=True):
        assert_close(mine, other)


@every_case
def test_second_derivatives_are_pytorchs(shapes: Any, call: Callable[..., Any]) -> None:
    arrays, directions = draw(shapes, 0), draw(shapes, 2)

    def phi(F: Any, xs: Any) -> Any:
        return F.sum(F.sin(call(F, *xs)))

    inputs = tensors(arrays)
    first = torch.autograd.grad(phi(Torch(), inputs), inputs, create_graph=True)
    along = sum(
        (g * torch.tensor(v)).sum()
        for g, v in zip(first, directions, strict=True)
        if g.requires_grad
    )
    second = torch.autograd.grad(along, inputs, allow_unused=True, materialize_grads=True)
    ours = hvp(lambda xs: phi(Numpy(), xs), arrays, directions)
    for mine, other in zip(ours, second, strict=True):
        assert_close(mine, other, 1e-9)


@every_case
def test_single_precision_is_pytorchs(shapes: Any, call: Callable[..., Any]) -> None:
    arrays = [x.astype(np.float32) for x in draw(shapes, 0)]
    out, pull_back = vjp(lambda *xs: call(Numpy(), *xs), *arrays)
    inputs = tensors(arrays)
    expected = call(Torch(), *inputs)
    assert out.dtype == np.float32
    assert_close(out, expected, 1e-4)
    dout = np.float32(np.random.default_rng(1).standard_normal(np.shape(out)))
    grads = torch.autograd.grad(expected, inputs, torch.tensor(dout))
    for mine, other in zip(pull_back(dout), grads, strict=True):
        assert mine.dtype == np.float32
        assert_close(mine, other, 2e-3)


# Ties: where PyTorch splits, where it takes one, and where it gives nothing.
TIED = np.array([1.0, 2.0, 2.0, 0.0, 2.0])
KINKS: list[tuple[str, str, Callable[[Any, Any], Any]]] = [
    ("maximum", "split", lambda F, x: F.maximum(x, x[1] * F.ones_like(x))),
    ("minimum", "split", lambda F, x: F.minimum(x, x[1] * F.ones_like(x))),
    ("amax", "split", lambda F, x: F.amax(x)),
    ("amin", "split", lambda F, x: F.amin(x - F.abs(x - 1))),
    ("relu", "split", lambda F, x: F.relu(x)),
    ("abs", "split", lambda F, x: F.abs(x)),
    ("sign", "split", lambda F, x: F.sign(x) * x),
    ("clip", "first", lambda F, x: F.clip(x, 0.0, 2.0)),
    ("prod with a zero", "split", lambda F, x: F.prod(x)),
    ("norm of zeros", "split", lambda F, x: F.linalg.norm(0 * x)),
    ("power of zero", "split", lambda F, x: x**2 + x**1 + x**0),
]


@pytest.mark.parametrize(
    ("convention", "call"), [kink[1:] for kink in KINKS], ids=[kink[0] for kink in KINKS]
)
def test_kinks_are_pytorchs(convention: Any, call: Callable[[Any, Any], Any]) -> None:
    with ties(convention):
        out, pull_back = vjp(lambda x: call(Numpy(), x), TIED)
    (x,) = tensors([TIED])
    expected = call(Torch(), x)
    dout = np.random.default_rng(1).standard_normal(np.shape(out))
    (bar,) = torch.autograd.grad(expected, x, torch.tensor(dout))
    assert_close(out, expected)
    assert_close(pull_back(dout)[0], bar)


@pytest.mark.parametrize(
    "call",
    [
        lambda F, x: F.reshape(x, (5, 7)),
        lambda F, x: F.matmul(x, x),
        lambda F, x: x + F.ones(3),
        lambda F, x: F.index(x, 9),
        lambda F, x: F.linalg.cholesky(-(x @ F.transpose(x))),
        lambda F, x: F.linalg.inv(0 * x @ F.transpose(x)),
        lambda F, x: F.sum(x, axis=5),
        lambda F, x: F.concatenate([x, x[0]], axis=0),
    ],
)
def test_what_pytorch_refuses_is_refused(call: Callable[[Any, Any], Any]) -> None:
    """By the library behind: NumPy's own errors come through."""
    (array,) = draw([MATRIX], 0)
    kinds = (ValueError, IndexError, np.linalg.LinAlgError)
    with pytest.raises((RuntimeError, IndexError), match=r"\w+"):
        call(Torch(), *tensors([array]))
    for run in (
        grad(lambda x: np.sum(call(Numpy(), x))),
        lambda x: jvp(lambda x: call(Numpy(), x), (x,), (x,)),
    ):
        with pytest.raises(kinds, match=r"\w+"):
            run(array)
