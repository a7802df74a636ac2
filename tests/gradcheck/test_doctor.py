"""The doctor names bugs in layers as people write them, and says when it does not know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chainrule.gradcheck import Diagnosis, diagnose

RNG = np.random.default_rng(0)
X, W, B = RNG.standard_normal((5, 4)), RNG.standard_normal((4, 3)), RNG.standard_normal(3)


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> Any:
    return x @ w + b, (x, w)


def right(dout: np.ndarray, cache: Any) -> Any:
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(axis=0)


def only(diagnosis: Diagnosis) -> str:
    assert not diagnosis.ok
    (cause,) = diagnosis.causes
    return cause.code


def test_right_gradients_have_no_cause() -> None:
    diagnosis = diagnose(linear, right, [X, W, B])
    assert diagnosis.ok
    assert diagnosis.causes == diagnosis.remarks == ()
    assert diagnosis.recognised == "linear"
    assert str(diagnosis) == "linear: the gradients are right (35 elements compared)."


@pytest.mark.parametrize(
    ("back", "code"),
    [
        (lambda d, c: (-(d @ c[1].T), c[0].T @ d, d.sum(0)), "sign"),
        (lambda d, c: (d @ c[1].T, (d.T @ c[0]).reshape(c[1].shape), d.sum(0)), "transposed"),
        (lambda d, c: (d @ c[1].T, d.T @ c[0], d.sum(0)), "transposed"),
        (lambda d, c: (d @ c[1].T, c[0].T @ d, d.sum(1)), "wrong_axis"),
        (lambda d, c: (d @ c[1].T, c[0].T @ d, d), "missing_sum"),
        (lambda d, c: (d @ c[1].T, c[0].T @ d, d.mean(0)), "double_mean"),
        (lambda d, c: (d @ c[1].T, c[0].T @ d * len(d), d.sum(0)), "missing_mean"),
        (lambda d, c: (d @ c[1].T, 2 * c[0].T @ d, d.sum(0)), "factor"),
        (lambda d, c: right(np.ones_like(d), c), "upstream_ignored"),
        (lambda d, c: (d @ c[1].T, (c[0].T @ d).astype(int), d.sum(0)), "integer_truncation"),
        (lambda d, c: (d @ c[1].T, c[0].T @ d, d[-1]), "overwritten"),
        (lambda d, c: (d @ c[1].T, c[0].T @ d, 0 * d.sum(0)), "zero"),
        (lambda d, c: (d @ c[1].T, c[0] @ d, d.sum(0)), "transposed"),
        (lambda d, c: (d @ c[1].T, c[0].T @ d, d.sum(0) + d.max()), "unrecognised"),
        (lambda d, c: (d @ c[1].T, c[0].T @ d), "count"),
    ],
)
def test_bugs_of_a_linear_layer(back: Any, code: str) -> None:
    assert only(diagnose(linear, back, [X, W, B])) == code


def test_the_evidence_shows_numbers_and_fresh_inputs() -> None:
    def back(dout: np.ndarray, cache: Any) -> Any:
        dx, dw, db = right(dout, cache)
        return dx, -dw, db

    diagnosis = diagnose(linear, back, [X, W, B])
    (cause,) = diagnosis.causes
    assert cause.code == "sign"
    assert any(line.startswith("dw[") and "right is" in line for line in cause.evidence)
    assert any("2 other inputs" in line for line in cause.evidence)
    assert "[sign]" in str(diagnosis)
    assert "<code>sign</code>" in diagnosis._repr_html_()


def test_what_is_not_recognised_lists_elements() -> None:
    def back(dout: np.ndarray, cache: Any) -> Any:
        dx, dw, db = right(dout, cache)
        dw[1, 2] += np.sin(db[0])
        return dx, dw, db

    (cause,) = diagnose(linear, back, [X, W, B]).causes
    assert cause.code == "unrecognised"
    assert cause.sentence == "wrong, cause not recognised"
    assert any("w[1, 2]: " in line for line in cause.evidence)
    assert "They have index [1] along axis 0." in cause.evidence


def test_two_bugs_in_two_gradients() -> None:
    diagnosis = diagnose(linear, lambda d, c: (d @ c[1].T, -c[0].T @ d, d.sum(axis=1)), [X, W, B])
    assert {cause.code for cause in diagnosis.causes} == {"sign", "wrong_axis"}


def test_a_factor_is_told_from_a_batch_of_that_size() -> None:
    two = X[:2]
    half = diagnose(linear, lambda d, c: (d @ c[1].T, c[0].T @ d / 2, d.sum(0)), [two, W, B])
    assert only(half) == "factor"
    mean = diagnose(linear, lambda d, c: (d @ c[1].T, c[0].T @ d / len(d), d.sum(0)), [two, W, B])
    assert only(mean) == "double_mean"


def test_functions_it_does_not_know_are_diagnosed_blind() -> None:
    def forward(x: np.ndarray) -> Any:
        return np.sin(x) * np.cumsum(x, axis=1), x

    def back(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
        reverse = np.cumsum((dout * np.sin(x))[:, ::-1], axis=1)[:, ::-1]
        return dout * np.cos(x) * np.cumsum(x, axis=1) + reverse

    assert diagnose(forward, back, [X]).ok
    assert only(diagnose(forward, lambda d, x: -back(d, x), [X])) == "sign"
    assert only(diagnose(forward, lambda d, x: back(np.ones_like(d), x), [X])) == "upstream_ignored"
    assert only(diagnose(forward, lambda d, x: back(d, x).T, [X])) == "transposed"
    assert only(diagnose(forward, lambda d, x: back(d, x) + x**2, [X])) == "unrecognised"


@pytest.mark.parametrize(
    ("share", "code"),
    [(0, "regulariser_missing"), (0.5, "regulariser_factor"), (2, "regulariser_factor"),
     (-1, "regulariser_sign")],
)  # fmt: skip
def test_regularisers_of_losses_it_does_not_know(share: float, code: str) -> None:
    def forward(w: np.ndarray) -> Any:
        return np.sum(np.sqrt(1 + (X @ w) ** 2)) + 0.3 * np.sum(w**2), w

    def back(w: np.ndarray) -> np.ndarray:
        z = X @ w
        return X.T @ (z / np.sqrt(1 + z**2)) + share * 0.6 * w

    assert only(diagnose(forward, back, [W])) == code


def test_a_mask_at_exactly_the_kink_is_a_remark() -> None:
    def forward(x: np.ndarray) -> Any:
        return np.maximum(x, 0), x

    strict = diagnose(forward, lambda d, x: d * (x > 0), [X])
    loose = diagnose(forward, lambda d, x: d * (x >= 0), [X])
    assert strict.ok
    assert strict.remarks == ()
    assert loose.ok
    assert [remark.code for remark in loose.remarks] == ["mask_boundary"]
    assert "Remark: " in str(loose)


def test_all_maxima_of_a_window_get_the_gradient() -> None:
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 0.0]])

    def forward(x: np.ndarray) -> Any:
        return x.max(axis=1), x

    def back(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
        return dout[:, None] * (x == x.max(axis=1, keepdims=True))

    assert only(diagnose(forward, back, [x])) == "mask_boundary"


def test_integer_arrays_that_gradients_are_added_to() -> None:
    def back(dout: np.ndarray, cache: Any) -> Any:
        db = np.zeros(dout.shape[1], dtype=int)
        for row in dout:
            db += row
        return *right(dout, cache)[:2], db

    assert only(diagnose(linear, back, [X, W, B])) == "integer_truncation"


def test_a_single_number() -> None:
    diagnosis = diagnose(lambda x: (x**2, x), lambda d, x: d * x, [np.array(3.0)])
    assert only(diagnosis) == "factor"
    unknown = diagnose(lambda x: (x**3, x), lambda d, x: d * np.sin(x), [np.array(3.0)])
    assert only(unknown) == "unrecognised"
    assert unknown.causes[0].evidence[0].startswith("x value: ")


def test_velocity_with_the_wrong_sign() -> None:
    def step(w: np.ndarray, dw: np.ndarray, v: np.ndarray) -> Any:
        return w + 0.9 * v - 0.1 * dw, None

    arrays = list(RNG.standard_normal((3, 4, 2)))
    diagnosis = diagnose(step, lambda d, _: (d, -0.1 * d, -0.9 * d), arrays)
    assert only(diagnosis) == "velocity_sign"


def test_a_network_of_two_layers_with_loss() -> None:
    w2, y = RNG.standard_normal((3, 4)), np.array([0, 3, 1, 1, 2])

    def forward(x: np.ndarray, w1: np.ndarray, w2: np.ndarray, y: np.ndarray) -> Any:
        z = x @ w1
        h = np.maximum(z, 0)
        s = h @ w2
        p = np.exp(s) / np.exp(s).sum(axis=1, keepdims=True)
        return -np.log(p[np.arange(len(y)), y]).mean(), (x, w1, w2, z, h, p, y)

    def back(cache: Any, lost: bool) -> Any:
        x, w1, w2, z, h, p, y = cache
        ds = (p - np.eye(4)[y]) / len(y)
        dz = ds @ w2.T if lost else ds @ w2.T * (z > 0)
        return dz @ w1.T, x.T @ dz, h.T @ ds

    arrays = [X, W, w2, y]
    assert diagnose(forward, lambda c: back(c, False), arrays).ok
    wrong = diagnose(forward, lambda c: back(c, True), arrays)
    assert only(wrong) == "local_missing"
    assert wrong.recognised == "linear -> ReLU -> linear -> softmax cross-entropy"
    assert "ReLU" in wrong.causes[0].sentence


def test_shapes_of_functions_it_does_not_know() -> None:
    def forward(x: np.ndarray, b: np.ndarray) -> Any:
        return np.sin(x) * np.cos(b), (x, b)

    def back(dout: np.ndarray, cache: Any) -> Any:
        x, b = cache
        return dout * np.cos(x) * np.cos(b), -dout * np.sin(x) * np.sin(b)

    def code(change: Any) -> str:
        return only(diagnose(forward, lambda d, c: (back(d, c)[0], change(back(d, c)[1])), [X, b]))

    b = RNG.standard_normal(4)
    assert diagnose(forward, lambda d, c: (back(d, c)[0], back(d, c)[1].sum(0)), [X, b]).ok
    assert code(lambda db: db) == "missing_sum"
    assert code(lambda db: db.sum(axis=0, keepdims=True)) == "reshaped"
    assert code(lambda db: db.sum(axis=0).sum()) == "wrong_axis"


def test_a_derivative_that_is_no_known_mistake() -> None:
    def forward(x: np.ndarray) -> Any:
        return np.tanh(x), x

    diagnosis = diagnose(forward, lambda d, x: d * np.cos(x), [X])
    assert only(diagnosis) == "wrong_derivative"
    assert "derivative of tanh" in diagnosis.causes[0].sentence
    assert only(diagnose(forward, lambda d, x: d * np.cos(x) + x[:1], [X])) == "unrecognised"


def conv(x: np.ndarray, w: np.ndarray, stride: int, padding: int) -> Any:
    """A convolution in loops, with what its backward needs."""
    xp = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    kh, kw = w.shape[2:]
    rows = range(0, xp.shape[2] - kh + 1, stride)
    columns = range(0, xp.shape[3] - kw + 1, stride)
    pixels = [
        [np.einsum("ncij,fcij->nf", xp[:, :, i : i + kh, j : j + kw], w) for j in columns]
        for i in rows
    ]
    return np.array(pixels).transpose(2, 3, 0, 1), (x, xp, w, rows, columns, padding)


@pytest.mark.parametrize(
    ("bug", "code"),
    [
        ("overwritten", "overwritten"),
        ("padding", "padding"),
        ("stride", "window_offset"),
        ("flipped", "flipped"),
    ],
)
def test_bugs_of_a_convolution(bug: str, code: str) -> None:
    def back(dout: np.ndarray, cache: Any) -> Any:
        x, xp, w, rows, columns, padding = cache
        dxp, dw = np.zeros_like(xp), np.zeros_like(w)
        kh, kw = w.shape[2:]
        kernel = w[:, :, ::-1, ::-1] if bug == "flipped" else w
        for u, i in enumerate(rows):
            for v, j in enumerate(columns):
                a, b = (u, v) if bug == "stride" else (i, j)
                window = (slice(None), slice(None), slice(a, a + kh), slice(b, b + kw))
                part = np.einsum("nf,fcij->ncij", dout[:, :, u, v], kernel)
                dxp[window] = part if bug == "overwritten" else dxp[window] + part
                dw += np.einsum("nf,ncij->fcij", dout[:, :, u, v], xp[:, :, i : i + kh, j : j + kw])
        inner = slice(0, x.shape[2]), slice(0, x.shape[3])
        if bug != "padding":
            inner = tuple(slice(padding, padding + n) for n in x.shape[2:])
        return dxp[:, :, inner[0], inner[1]], dw

    arrays = [RNG.standard_normal((2, 2, 6, 7)), RNG.standard_normal((3, 2, 3, 3))]
    kwargs = {"stride": 2, "padding": 1}
    assert only(diagnose(conv, back, arrays, forward_kwargs=kwargs)) == code


def normalise(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> Any:
    std = np.sqrt(x.var(axis=0) + 1e-5)
    hat = (x - x.mean(axis=0)) / std
    return gamma * hat + beta, (hat, std, gamma)


@pytest.mark.parametrize(
    ("mean", "var", "code"),
    [(0, 1, "norm_mean_path"), (1, 0, "norm_var_path"), (-1, 1, "norm_mean_path"),
     (1, 0.37, "norm_var_path"), (0, 0, "norm_mean_path")],
)  # fmt: skip
def test_paths_of_batch_norm(mean: float, var: float, code: str) -> None:
    def back(dout: np.ndarray, cache: Any) -> Any:
        hat, std, gamma = cache
        d = dout * gamma
        dx = (d - mean * d.mean(0) - var * hat * (d * hat).mean(0)) / std
        return dx, (dout * hat).sum(0), dout.sum(0)

    assert only(diagnose(normalise, back, [X, np.arange(1.0, 5), np.arange(4.0)])) == code


@pytest.mark.parametrize(
    ("back", "code"),
    [
        (lambda d, m: d * (m > 0), "dropout_scale"),
        (lambda d, m: d * m.max(), "dropout_mask"),
        (lambda d, m: d, "local_missing"),
    ],
)
def test_bugs_of_dropout(back: Any, code: str) -> None:
    def forward(x: np.ndarray, p: float, rng: np.random.Generator) -> Any:
        mask = (rng.random(x.shape) >= p) / (1 - p)
        return x * mask, mask

    kwargs = {"p": 0.4, "rng": np.random.default_rng(1)}
    assert only(diagnose(forward, back, [X], forward_kwargs=kwargs)) == code


@pytest.mark.parametrize(
    ("back", "code"),
    [
        (lambda d, p: p * d, "softmax_correction"),
        (lambda d, p: p * (1 - p) * d, "softmax_correction"),
        (lambda d, p: p * (d - (p * d).sum(0)), "wrong_axis"),
    ],
)
def test_bugs_of_a_softmax(back: Any, code: str) -> None:
    def forward(x: np.ndarray) -> Any:
        p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        return p, p

    assert only(diagnose(forward, back, [X])) == code


STRANGE = {
    "text": lambda g: "x",
    "list": lambda g: g.tolist(),
    "number": lambda g: float(g.sum()),
    "complex": lambda g: g.astype(complex),
    "objects": lambda g: g.astype(object),
    "half": lambda g: (g * 1.5).astype(np.float16),
    "booleans": lambda g: g > 0,
    "dict": lambda g: {},
    "nothing": lambda g: g.ravel()[:0],
    "nan": lambda g: g * np.nan,
    "infinite": lambda g: g / 0.0,
    "another axis": lambda g: g[..., None],
    "a part": lambda g: g[:1],
}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("count", [5, 0])
def test_whatever_backward_returns_is_put_into_words(strange: str, count: int) -> None:
    def back(dout: np.ndarray, cache: Any) -> Any:
        dx, dw, db = right(dout, cache)
        with np.errstate(all="ignore"):
            return dx, dw, STRANGE[strange](db)

    def relu_back(dout: np.ndarray, x: np.ndarray) -> Any:
        with np.errstate(all="ignore"):
            return STRANGE[strange](dout * (x > 0))

    for diagnosis in (
        diagnose(linear, back, [X[:count], W, B]),
        diagnose(lambda x: (np.maximum(x, 0), x), relu_back, [X[:count]]),
    ):
        assert diagnosis.ok == (not diagnosis.causes)
        assert str(diagnosis)
        assert diagnosis._repr_html_()


def test_arguments_named_like_sizes_do_not_mislead() -> None:
    def forward(x: np.ndarray, w: np.ndarray, stride: Any, margin: Any, pool_height: Any) -> Any:
        return np.einsum("ncij,fc->nfij", x, w[:, :, 0, 0]), (x, w)

    arrays = [RNG.standard_normal((2, 3, 4, 5)), RNG.standard_normal((2, 3, 1, 1)), 0, "wide", None]

    def back(dout: np.ndarray, cache: Any) -> Any:
        x, w = cache
        dw = np.einsum("nfij,ncij->fc", dout, x)[:, :, None, None]
        return np.einsum("nfij,fc->ncij", dout, w[:, :, 0, 0]), -dw

    diagnosis = diagnose(forward, back, arrays)
    assert only(diagnosis) == "sign"
    assert diagnosis.recognised == "conv2d"
