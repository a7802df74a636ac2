"""MNIST's idx files, whole and damaged."""

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule.data.idx as idx
from chainrule.data.idx import MNIST_FILES, find_mnist, load_mnist, read_idx
from chainrule.errors import DataFormatError


@pytest.fixture(params=[True, False], ids=["gz", "plain"])
def folder(request, tmp_path, official):
    official.write_mnist(tmp_path, packed=request.param)
    return tmp_path


def test_content(folder):
    splits = load_mnist(find_mnist(folder), num_validation=10)
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [50, 10, 20]
    whole = np.random.default_rng(1).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    np.testing.assert_array_equal(splits.train.x[:, 0], whole[:50])
    np.testing.assert_array_equal(splits.val.x[:, 0], whole[50:])
    np.testing.assert_array_equal(splits.val.y, np.arange(50, 60) % 10)


@pytest.mark.parametrize("place", ["mnist", "MNIST/raw"])
def test_usual_places_and_names(tmp_path, official, place):
    official.write_mnist(tmp_path / place, packed=False)
    for path in (tmp_path / place).iterdir():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert None not in find_mnist(tmp_path)
    assert find_mnist(tmp_path / "elsewhere") == [None] * 4


def test_gzip_is_recognised_by_content(folder):
    for path in find_mnist(folder):
        name = path.name.removesuffix(".gz") if path.suffix == ".gz" else f"{path.name}.gz"
        path.rename(path.with_name(name))
    assert len(load_mnist(find_mnist(folder)).test) == 20


def rewrite(folder, which, change):
    path = find_mnist(folder)[which]
    data = path.read_bytes()
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(change(gzip.decompress(data))))
    else:
        path.write_bytes(change(data))
    return find_mnist(folder)


DAMAGES = {
    "empty": (0, lambda d: b"", "begin with 00 00 08 03.*got an empty file"),
    "labels as images": (0, lambda d: b"\0\0\x08\x01" + d[4:], "begin with 00 00 08 03"),
    "floats": (0, lambda d: b"\0\0\x0d\x03" + d[4:], "got 00 00 0d 03"),
    "short header": (0, lambda d: d[:9], "header must be complete; got 9 bytes"),
    "missing rows": (0, lambda d: d[:-784], "must hold the 47040 bytes.*got 46256"),
    "bytes left over": (1, lambda d: d + b"\0", "must hold the 60 bytes.*got more"),
    "huge dimensions": (
        0,
        lambda d: d[:4] + struct.pack(">III", 2**32 - 1, 2**32 - 1, 2**32 - 1) + d[16:],
        "announce at most",
    ),
    "another size": (
        0,
        lambda d: d[:4] + struct.pack(">III", 60, 14, 56) + d[16:],
        r"images must have 28 x 28 pixels; got \(14, 56\)",
    ),
    "fewer labels": (
        1,
        lambda d: d[:4] + struct.pack(">I", 59) + d[8:-1],
        "labels must be as many as the images in train-images-idx3-ubyte.*, 60; got 59",
    ),
    "label 10": (3, lambda d: d[:-1] + b"\x0a", r"labels must lie in 0\.\.9; got 10 at index 19"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(folder, name):
    which, change, message = DAMAGES[name]
    paths = rewrite(folder, which, change)
    with pytest.raises(DataFormatError, match=message) as caught:
        load_mnist(paths)
    assert str(paths[which]) in str(caught.value)


def test_swapped_files_are_noticed(folder):
    paths = find_mnist(folder)
    with pytest.raises(DataFormatError, match="two files have swapped names"):
        load_mnist([paths[1], paths[0], paths[2], paths[3]])


@pytest.mark.parametrize("damage", [lambda d: d[:-9], lambda d: d[:60] + b"?????" + d[65:]])
def test_damaged_gzip(tmp_path, official, damage):
    official.write_mnist(tmp_path)
    path = tmp_path / f"{MNIST_FILES[0]}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataFormatError, match="gzip stream must be complete"):
        read_idx(path, 3)


def test_bomb_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 10) + bytes(10**7)))
    taken = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda f, n=-1: taken.append(n) or read(f, n))
    with pytest.raises(DataFormatError, match="must hold the 10 bytes"):
        read_idx(path, 1)
    assert sum(taken) < 100
    assert min(taken) > 0


def test_limit_is_above_the_real_data():
    assert idx._MAX_BYTES > 60_000 * 784


@given(st.binary(max_size=40), st.integers(1, 3))
@settings(deadline=None)
def test_noise_gives_one_kind_of_error(tmp_path_factory, noise, ndim):
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(noise)
    if noise[:4] != bytes([0, 0, 8, ndim]):
        with pytest.raises(DataFormatError, match=r"must begin with|gzip stream"):
            read_idx(path, ndim)
