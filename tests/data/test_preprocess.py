"""Preprocessing: what each kind promises, and the state that restores it bit by bit."""

import json

import numpy as np
import pytest

from chainrule.data import PREPROCESSORS, make_preprocessor, preprocessor_from_state
from chainrule.data.hog import hog_color_features
from chainrule.errors import ConfigError, DTypeError, InputError, RunError, ShapeError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (50, 3, 16, 16), dtype=np.uint8)
BYTES[:, 1] //= 3
FLOATS = BYTES / 100.0
FEATURES = RNG.standard_normal((50, 7)) @ RNG.standard_normal((7, 7)) + 3

DATA = {"bytes": BYTES, "floats": FLOATS, "float32": FLOATS.astype(np.float32), "flat": FEATURES}
KINDS = [
    (name, data) for name in PREPROCESSORS for data in DATA if (name, data) != ("hog_color", "flat")
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "data"), KINDS)
def test_what_all_promise(name, data, dtype):
    x = DATA[data]
    before = x.copy()
    x.setflags(write=False)
    preprocessor = make_preprocessor(name)
    assert preprocessor.fit(x) is preprocessor
    out = preprocessor.transform(x, dtype)
    np.testing.assert_array_equal(x, before)
    assert out.dtype == dtype
    assert out.shape == (50, *preprocessor.output_shape(x.shape[1:]))
    assert np.isfinite(out).all()
    assert out.flags.writeable
    assert not np.shares_memory(out, x)
    rtol = {np.float32: 2e-4, np.float64: 1e-9}[dtype]
    np.testing.assert_allclose(preprocessor.transform(x[7:9], dtype), out[7:9], rtol, rtol)
    assert preprocessor.transform(x[:0], dtype).shape == (0, *out.shape[1:])
    strided = np.repeat(x, 2, axis=0)[::2]
    np.testing.assert_array_equal(preprocessor.transform(strided, dtype), out)


@pytest.mark.parametrize(("name", "data"), KINDS)
def test_restored_to_the_same_bits(name, data):
    x = DATA[data]
    preprocessor = make_preprocessor(name).fit(x)
    tensors, options = preprocessor.state()
    assert all(tensor.dtype == np.float64 for tensor in tensors.values())
    assert options["name"] == name
    again = preprocessor_from_state(
        {key: tensor.copy() for key, tensor in tensors.items()}, json.loads(json.dumps(options))
    )
    for dtype in (np.float32, np.float64):
        one, other = preprocessor.transform(x, dtype), again.transform(x, dtype)
        assert one.tobytes() == other.tobytes()
    assert again.state()[1] == options


@pytest.mark.parametrize("name", PREPROCESSORS)
def test_state_before_fitting(name):
    again = preprocessor_from_state(*make_preprocessor(name).state())
    with pytest.raises(InputError, match=f"{name}.transform: preprocessor must be fitted"):
        again.transform(BYTES)


def test_none():
    out = make_preprocessor("none").fit(BYTES).transform(BYTES, np.float64)
    np.testing.assert_array_equal(out, BYTES / 255)
    np.testing.assert_array_equal(
        make_preprocessor("none").fit(FLOATS).transform(FLOATS), DATA["float32"]
    )
    raw = make_preprocessor("none", scale=1).fit(BYTES).transform(BYTES)
    np.testing.assert_array_equal(raw, BYTES)


def test_mean_image():
    preprocessor = make_preprocessor("mean_image", scale=1).fit(BYTES[:40])
    out = preprocessor.transform(BYTES, np.float64)
    np.testing.assert_allclose(out, BYTES - BYTES[:40].mean(axis=0), atol=1e-12)
    scaled = make_preprocessor("mean_image").fit(BYTES[:40]).transform(BYTES, np.float64)
    np.testing.assert_allclose(scaled, out / 255, atol=1e-14)
    flat = make_preprocessor("mean_image").fit(FEATURES).transform(FEATURES, np.float64)
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=1e-14)


@pytest.mark.parametrize(
    ("data", "axes"), [("bytes", (0, 2, 3)), ("floats", (0, 2, 3)), ("flat", 0)]
)
def test_standardize(data, axes):
    x = DATA[data]
    out = make_preprocessor("standardize").fit(x).transform(x, np.float64)
    np.testing.assert_allclose(out.mean(axis=axes), 0, atol=1e-12)
    np.testing.assert_allclose(out.std(axis=axes), 1, rtol=1e-12)
    once_more = make_preprocessor("standardize").fit(x[:20]).transform(x, np.float64)
    mean, std = x[:20].mean(axis=axes, keepdims=True), x[:20].std(axis=axes, keepdims=True)
    np.testing.assert_allclose(once_more, (x - mean) / std, rtol=1e-9, atol=1e-12)


def test_standardize_adds_up_chunks():
    x = RNG.standard_normal((3000, 4)) * [1, 1e3, 1e-3, 1] + [0, 1e6, 0, 5]
    state = make_preprocessor("standardize").fit(x).state()[0]
    np.testing.assert_allclose(state["mean"], x.mean(axis=0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(state["std"], x.std(axis=0), rtol=1e-9)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e9, 1e-200])
def test_constant_features_become_zero(constant):
    x = np.column_stack([FEATURES[:, 0], np.full(50, constant)])
    out = make_preprocessor("standardize").fit(x).transform(x, np.float64)
    assert np.abs(out[:, 1]).max() <= 1e-6
    black = np.zeros((9, 3, 4, 4), np.uint8)
    assert not make_preprocessor("standardize").fit(black).transform(black).any()


def test_pca_whitens():
    x = RNG.standard_normal((500, 6)) @ RNG.standard_normal((6, 6)) + 5
    out = make_preprocessor("pca_whiten", eps=0).fit(x).transform(x, np.float64)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(out.T @ out / 500, np.eye(6), atol=1e-10)


def test_pca_against_singular_values():
    flat = BYTES.reshape(50, -1) / 255
    centred = flat - flat.mean(axis=0)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    out = make_preprocessor("pca_whiten", n_components=8).fit(BYTES).transform(BYTES, np.float64)
    expected = centred @ vt[:8].T / np.sqrt(s[:8] ** 2 / 50 + 1e-5)
    np.testing.assert_allclose(np.abs(out), np.abs(expected), rtol=1e-6, atol=1e-9)
    projection = make_preprocessor("pca_whiten", n_components=8).fit(BYTES).state()[0]["projection"]
    largest = np.abs(projection).argmax(axis=0)
    assert (projection[largest, range(8)] > 0).all(), "the signs are fixed"


def test_pca_without_variance():
    x = np.ones((10, 4))
    assert not make_preprocessor("pca_whiten", eps=0).fit(x).transform(x).any()
    flat = FEATURES[:, :3] @ RNG.standard_normal((3, 7))  # three dimensions of seven
    out = make_preprocessor("pca_whiten", eps=0).fit(flat).transform(flat, np.float64)
    np.testing.assert_allclose(out.std(axis=0), [1, 1, 1, 0, 0, 0, 0], atol=1e-10)
    with pytest.raises(InputError, match=r"n_components must be at most 4, the size.*got 5"):
        make_preprocessor("pca_whiten", n_components=5).fit(x)


def test_hog_color_standardises_features():
    out = make_preprocessor("hog_color").fit(BYTES[:30]).transform(BYTES, np.float64)
    features = hog_color_features(BYTES)
    mean, std = features[:30].mean(axis=0), features[:30].std(axis=0)
    std[std < 1e-12] = 1
    np.testing.assert_allclose(out, (features - mean) / std, atol=1e-12)


def test_hog_color_on_small_images_says_what_to_do():
    small = BYTES[:, :, :8, :8]
    with pytest.raises(ShapeError, match="Take a smaller pixels_per_cell"):
        make_preprocessor("hog_color").fit(small)
    assert make_preprocessor("hog_color", pixels_per_cell=4).fit(small).transform(small).ndim == 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("standardise", {}, "Did you mean 'standardize'"),
        ("standardize", {"scal": 1}, "scal must be an option of 'standardize'.*mean 'scale'"),
        ("pca_whiten", {"n_components": 0}, "n_components must be at least 1"),
        ("pca_whiten", {"n_components": 2.5}, "n_components must be at least 1"),
        ("pca_whiten", {"eps": -1}, "eps must be at least 0"),
        ("none", {"scale": 0}, "scale must be a positive number; got 0"),
        ("mean_image", {"scale": "a"}, "scale must be a positive number; got a"),
        ("hog_color", {"orientations": 0}, "orientations must be at least 1"),
        ("hog_color", {"hue_bins": -1}, "hue_bins must be at least 0"),
    ],
)
def test_unknown_names_and_options(name, options, message):
    with pytest.raises(ConfigError, match=message):
        make_preprocessor(name, **options)


@pytest.mark.parametrize("name", PREPROCESSORS)
def test_wrong_arrays(name):
    preprocessor = make_preprocessor(name).fit(BYTES)
    with pytest.raises(ShapeError, match=rf"{name}.transform: x must have shape \(N, 3, 16, 16\)"):
        preprocessor.transform(BYTES[:, :, :8])
    with pytest.raises(
        DTypeError, match="x must be uint8, as the data it was fitted on; got float"
    ):
        preprocessor.transform(FLOATS)
    with pytest.raises(DTypeError, match="x must be uint8, float32 or float64; got int64"):
        preprocessor.transform(BYTES.astype(np.int64))
    with pytest.raises(DTypeError, match="dtype must be float32 or float64; got float16"):
        preprocessor.transform(BYTES, np.float16)
    with pytest.raises(ShapeError, match=r"x_train must have shape .* with N at least 1"):
        preprocessor.fit(BYTES[:0])
    with pytest.raises(ShapeError, match=r"x_train must have shape"):
        preprocessor.fit(BYTES[0])
    with pytest.raises(DTypeError, match="x_train must be uint8"):
        preprocessor.fit(BYTES.astype(np.int32))
    with pytest.raises(InputError, match="x_train must be finite"):
        preprocessor.fit(np.full((3, 3, 16, 16), np.inf))


def test_states_that_are_not_whole():
    tensors, options = make_preprocessor("standardize").fit(BYTES).state()
    with pytest.raises(RunError, match="state must contain 'std'; got"):
        preprocessor_from_state({"mean": tensors["mean"]}, options)
    with pytest.raises(RunError, match="options must contain 'bytes'"):
        preprocessor_from_state(tensors, {k: v for k, v in options.items() if k != "bytes"})
    with pytest.raises(ConfigError, match=r"Known: |Did you mean"):
        preprocessor_from_state(tensors, {**options, "name": "x"})
