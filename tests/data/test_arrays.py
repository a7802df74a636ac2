"""A person's own .npz file: what is taken, how it is cut, what is refused."""

import struct
import zipfile

import numpy as np
import pytest

import chainrule.data.arrays as arrays
from chainrule.data.arrays import load_npz
from chainrule.errors import DataFormatError, InputError

Y = np.arange(40) % 4


def saved(tmp_path, packed=False, **content):
    path = tmp_path / "mine.npz"
    (np.savez_compressed if packed else np.savez)(path, **content)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_given_splits_are_kept(tmp_path, packed):
    rng = np.random.default_rng(0)
    content = {}
    for part, count in (("train", 20), ("val", 8), ("test", 12)):
        content[f"x_{part}"] = rng.random((count, 5))
        content[f"y_{part}"] = Y[:count]
    splits = load_npz(saved(tmp_path, packed, classes=np.array(["a", "b", "c", "d"]), **content))
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(splits, part).x, content[f"x_{part}"])
        np.testing.assert_array_equal(getattr(splits, part).y, content[f"y_{part}"])
    assert splits.name == "mine"
    assert splits.classes == ("a", "b", "c", "d")
    assert not splits.is_image


def test_one_array_is_cut_into_three(tmp_path):
    x = np.arange(80.0).reshape(40, 2)
    splits = load_npz(saved(tmp_path, x=x, y=Y))
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [28, 4, 8]
    rows = np.concatenate([splits.train.x, splits.val.x, splits.test.x])
    np.testing.assert_array_equal(np.sort(rows[:, 0]), x[:, 0])
    for split in (splits.train, splits.val, splits.test):
        np.testing.assert_array_equal(split.y, Y[(split.x[:, 0] / 2).astype(int)])
    np.testing.assert_array_equal(np.bincount(splits.test.y), [2, 2, 2, 2])


def test_only_what_is_missing_is_cut(tmp_path):
    x = np.arange(80.0).reshape(40, 2)
    path = saved(tmp_path, x_train=x, y_train=Y, x_test=x[:7], y_test=Y[:7])
    splits = load_npz(path, num_validation=6)
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [34, 6, 7]
    np.testing.assert_array_equal(splits.test.x, x[:7])


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((40, 7), np.float32, ("f4", (7,))),
        ((40, 7), np.float64, ("f8", (7,))),
        ((40, 7), np.float16, ("f4", (7,))),
        ((40, 7), ">f8", ("f8", (7,))),
        ((40, 7), np.uint8, ("f4", (7,))),
        ((40, 7), bool, ("f4", (7,))),
        ((40, 6, 5), np.uint8, ("u1", (1, 6, 5))),
        ((40, 3, 6, 5), np.uint8, ("u1", (3, 6, 5))),
        ((40, 6, 5, 3), np.uint8, ("u1", (3, 6, 5))),
        ((40, 6, 5, 1), np.int64, ("u1", (1, 6, 5))),
        ((40, 3, 6, 3), np.uint8, ("u1", (3, 6, 3))),
        ((40, 1, 6, 5), np.float64, ("f8", (1, 6, 5))),
    ],
)
def test_shapes_and_dtypes(tmp_path, shape, dtype, expected):
    x = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    splits = load_npz(saved(tmp_path, x=x, y=Y))
    assert (splits.train.x.dtype, splits.input_shape) == (np.dtype(expected[0]), expected[1])
    assert splits.train.x.flags.c_contiguous


def test_channels_last_are_moved_not_mixed(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
    splits = load_npz(saved(tmp_path, x_train=x, y_train=Y, x_val=x, y_val=Y, x_test=x, y_test=Y))
    np.testing.assert_array_equal(splits.train.x[7, 2], x[7, :, :, 2])


def test_labels_in_a_column_and_arrays_in_column_order(tmp_path):
    x = np.asfortranarray(np.random.default_rng(0).random((40, 3)))
    content = {"x_train": x, "y_train": Y[:, None], "x_test": x, "y_test": Y, "x_val": x}
    splits = load_npz(saved(tmp_path, y_val=Y.astype(np.uint8), **content))
    np.testing.assert_array_equal(splits.train.x, x)
    np.testing.assert_array_equal(splits.train.y, Y)


X = np.ones((40, 3))
WRONG = {
    "nothing": ({}, "contain either x and y or x_train and y_train; got nothing"),
    "both": ({"x": X, "y": Y, "x_train": X, "y_train": Y}, "contain either"),
    "no labels": ({"x": X}, "contain y; got only x"),
    "labels alone": ({"x": X, "y": Y, "y_test": Y}, "y_test must come with examples"),
    "unknown": ({"x": X, "y": Y, "x_tset": X}, "'x_tset'.* Did you mean 'x_test'"),
    "objects": (
        {"x": X, "y": Y.astype(object)},
        "y must hold numbers, not Python objects; got dtype object",
    ),
    "complex": ({"x": X * 1j, "y": Y}, "x must hold real numbers"),
    "not finite": ({"x": np.full((40, 3), np.nan), "y": Y}, "x must be finite"),
    "one dimension": ({"x": X[:, 0], "y": Y}, r"x must be features .* got \(40,\)"),
    "empty": ({"x": X[:0], "y": Y[:0]}, r"not empty; got \(0, 3\)"),
    "channels": ({"x": np.ones((40, 5, 5, 4), np.uint8), "y": Y}, "1 or 3 channels"),
    "range": ({"x": np.full((40, 5, 5), 256), "y": Y}, r"in 0..255, or floats; got 256..256"),
    "too few labels": ({"x": X, "y": Y[:-1]}, r"y must have shape \(40,\).*got \(39,\)"),
    "float labels": ({"x": X, "y": Y * 1.0}, "y must hold whole numbers"),
    "huge labels": ({"x": X, "y": Y.astype(np.uint64) + 2**40}, "y must be class numbers"),
    "negative": ({"x": X, "y": Y - 1}, r"labels must be 0..3.*got 4 different labels in -1..2"),
    "gap": ({"x": X, "y": Y * 2}, r"each at least once in training; got 4 different labels"),
    "beyond": (
        {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1},
        r"y_test: labels must lie in 0\.\.3; got 4 at index 3",
    ),
    "beyond the names": ({"x": X, "y": Y, "classes": np.array(["a", "b"])}, r"lie in 0\.\.1"),
    "double names": ({"x": X, "y": Y, "classes": np.array(list("abba"))}, "different texts"),
    "numbers as names": ({"x": X, "y": Y, "classes": np.arange(4)}, "different texts"),
    "empty names": ({"x": X, "y": Y, "classes": np.array([""])[:0]}, r"lie in 0\.\.-1"),
    "sizes differ": (
        {"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y},
        "x_test must have the shape and dtype of the training examples",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_content_is_named(tmp_path, name):
    content, message = WRONG[name]
    path = saved(tmp_path, **content)
    with pytest.raises(DataFormatError, match=message) as caught:
        load_npz(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "count", "message"),
    [
        ({"x": X, "y": Y}, 0, "num_validation must be at least 1; got 0"),
        ({"x": X, "y": Y}, 32, "leave some of the 40 examples for training; got 32"),
        ({"x": X[:2], "y": Y[:2]}, None, "leave some of the 2 examples"),
        (
            {"x_train": X, "y_train": Y, "x_val": X, "y_val": Y},
            5,
            "num_validation must be absent where there is a validation split",
        ),
    ],
)
def test_validation_size_out_of_range(tmp_path, content, count, message):
    with pytest.raises(InputError, match=message):
        load_npz(saved(tmp_path, **content), num_validation=count)


@pytest.mark.parametrize("packed", [False, True])
def test_damaged_files(tmp_path, packed):
    path = saved(tmp_path, packed, x=np.random.default_rng(0).random((40, 30)), y=Y)
    whole = path.read_bytes()
    for data in (b"", whole[:100], whole[:-50], whole[:300] + b"????" + whole[304:], b"no zip"):
        path.write_bytes(data)
        with pytest.raises(DataFormatError, match=r"must be a complete \.npz file|must be a NumPy"):
            load_npz(path)


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy("{'descr':'<f8','fortran_order':False,'shape':(999999999999,9)}"), "hold the 0 bytes"),
        (npy("{'descr':'<f8','fortran_order':False,'shape':(-1,9)}"), "hold the 0 bytes"),
        (npy("{'descr':'<U0','fortran_order':False,'shape':(9,)}"), "hold the 0 bytes"),
        (npy("{'descr':'|O','fortran_order':False,'shape':(1,)}", b"cos\nsystem\n"), "not Python"),
        (npy("__import__('os').system('true')"), "x must be a NumPy array"),
        (b"not an array", "x must be a NumPy array"),
    ],
)
def test_hostile_members(tmp_path, member, message):
    path = tmp_path / "evil.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member)
    with pytest.raises(DataFormatError, match=message):
        load_npz(path)


def test_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch):
    path = saved(tmp_path, packed=True, x=np.zeros((40, 100_000)), y=Y)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(arrays, "_MAX_BYTES", 10**6)
    with pytest.raises(DataFormatError, match="must unpack to at most 1000000 bytes; got 32000"):
        load_npz(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice(tmp_path):
    path = saved(tmp_path, x=X, y=Y)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x.npy", b"")
    with pytest.raises(DataFormatError, match=r"got 'x'\. It is there twice"):
        load_npz(path)
