"""Names, paths and folders."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from PIL import Image

from chainrule.data import data_folder, dataset_names, list_datasets, load
from chainrule.errors import ConfigError, DataMissingError, InputError


def test_data_folder_rules(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path))
    assert data_folder("here") == Path("here")
    assert data_folder() == tmp_path
    monkeypatch.setenv("CHAINRULE_DATA", "")
    assert data_folder() == Path(platformdirs.user_cache_dir("chainrule", appauthor=False))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder("~/data") == tmp_path / "data"


def test_listing(tmp_path, official):
    infos = {info.name: info for info in list_datasets(tmp_path)}
    assert tuple(infos) == dataset_names()
    assert [info.available for info in infos.values()] == [True, False, False]
    assert infos["mnist"].where == str(tmp_path)
    official.write_mnist(tmp_path)
    (mnist,) = [info for info in list_datasets(tmp_path) if info.name == "mnist"]
    assert mnist.available
    assert mnist.where == str(tmp_path / "train-images-idx3-ubyte.gz")
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    assert not list_datasets(tmp_path)[1].available


def test_digits():
    splits = load("digits")
    x = np.concatenate([splits.train.x, splits.val.x, splits.test.x])
    levels = np.unique(x)
    np.testing.assert_array_equal(levels, np.rint(np.arange(17) * 255 / 16))
    assert np.bincount(splits.test.y, minlength=10).tolist() == [
        30, 30, 30, 31, 30, 30, 30, 30, 29, 30,
    ]  # fmt: skip
    # The split is fixed for ever: results of years are to be comparable.
    assert splits.test.y[:12].tolist() == [0, 2, 0, 6, 2, 1, 3, 6, 0, 1, 1, 8]
    assert len(load("digits", num_validation=100).val) == 100


def test_paths(tmp_path, monkeypatch):
    np.savez(tmp_path / "mine.npz", x=np.eye(20), y=np.arange(20) % 2)
    for name in "ab":
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (4, 4)).save(tmp_path / "pets" / name / f"{i}.png")
    assert load(tmp_path / "mine.npz").name == "mine"
    assert load("mine.npz", tmp_path).name == "mine"
    assert load("pets", tmp_path, resize=3).input_shape == (3, 3, 3)
    monkeypatch.chdir(tmp_path)
    assert load("pets", "elsewhere").name == "pets"
    assert load("mine.npz", "elsewhere", num_validation=3).val.x.shape == (3, 20)


def test_what_is_no_data_set(tmp_path):
    with pytest.raises(
        ConfigError, match=r"name must be one of .*got 'cifar'. Did you mean 'cifar10'"
    ):
        load("cifar", tmp_path)
    with pytest.raises(
        DataMissingError, match=r"none\.npz must be .*nothing at none\.npz and /.*none"
    ):
        load("none.npz", tmp_path)
    with pytest.raises(
        DataMissingError, match=r"no/where must be a .npz file or a folder of image"
    ):
        load("no/where", tmp_path)
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(ConfigError, match=r"path must be a folder or end in \.npz; got .*x\.csv"):
        load(tmp_path / "x.csv")


def test_resize_is_for_folders(tmp_path):
    np.savez(tmp_path / "mine.npz", x=np.eye(20), y=np.arange(20) % 2)
    for name in ("digits", "mine.npz"):
        with pytest.raises(InputError, match="resize must be absent but for folders"):
            load(name, tmp_path, resize=3)


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "mine.npz"
    np.savez(path, x=np.eye(20), y=np.arange(20) % 2)

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("chainrule.data.catalog.load_npz", refuse)
    with pytest.raises(DataMissingError, match=r"file must be readable; got .*Permission denied"):
        load(path)


def test_import_is_light():
    heavy = ("sklearn", "scipy", "PIL", "pooch", "requests", "rich", "skimage", "matplotlib")
    code = f"import sys, chainrule.data; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
