"""Every data set registers here once and keeps the same promises.

The files are small ones in the official formats; where ``CHAINRULE_DATA`` names a folder that has
the real ones, these are tried too.
"""

import os
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from chainrule.data import (
    PREPROCESSORS,
    Augment,
    BatchIterator,
    DataSplits,
    dataset_names,
    list_datasets,
    load,
    make_preprocessor,
    preprocessor_from_state,
)
from chainrule.errors import DataFormatError, DataMissingError

OFFICIAL = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "data" / "official_files.py"))
)
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Case:
    """How to make the files of a data set in a folder, and what `load` must make of them.

    `write` returns what `load` is called with, and the file to damage (None: nothing to damage).
    """

    write: Callable[[Path], tuple[str, Path | None]]
    sizes: tuple[int, int, int]
    shape: tuple[int, ...]
    dtype: type
    num_classes: int
    real: bool = False


def write_digits(folder: Path) -> tuple[str, None]:
    return "digits", None


def write_mnist(folder: Path) -> tuple[str, Path]:
    OFFICIAL.write_mnist(folder)
    return "mnist", folder / "train-images-idx3-ubyte.gz"


def write_cifar10_folder(folder: Path) -> tuple[str, Path]:
    return "cifar10", OFFICIAL.write_cifar10(folder, OFFICIAL.cifar10_content()) / "data_batch_4"


def write_cifar10_archive(folder: Path) -> tuple[str, Path]:
    unpacked = OFFICIAL.write_cifar10(folder / "unpacked", OFFICIAL.cifar10_content())
    return "cifar10", OFFICIAL.pack_cifar10(folder, unpacked)


def write_npz_images(folder: Path) -> tuple[str, Path]:
    x = np.random.default_rng(0).integers(0, 256, (60, 8, 6, 3), dtype=np.uint8)
    np.savez_compressed(folder / "images.npz", x=x, y=np.arange(60) % 3)
    return str(folder / "images.npz"), folder / "images.npz"


def write_npz_features(folder: Path) -> tuple[str, Path]:
    x = np.random.default_rng(0).standard_normal((60, 5))
    content = {"x_train": x[:40], "x_val": x[40:50], "x_test": x[50:]}
    labels = {f"y_{part}": np.arange(len(content[f"x_{part}"])) % 4 for part in PARTS}
    np.savez(folder / "features.npz", **content, **labels)
    return str(folder / "features.npz"), folder / "features.npz"


def write_image_folder(folder: Path) -> tuple[str, Path]:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "pets" / name).mkdir(parents=True)
        for i in range(15):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pets" / name / f"{i:02d}.png")
    return str(folder / "pets"), folder / "pets" / "dog" / "07.png"


def real(name: str) -> Callable[[Path], tuple[str, None]]:
    def write(folder: Path) -> tuple[str, None]:
        there = os.environ.get("CHAINRULE_DATA", "")
        available = [info.name for info in list_datasets(there) if info.available]
        if not there or name not in available:
            pytest.skip(f"CHAINRULE_DATA names no folder with {name}")
        for path in Path(there).iterdir():
            (folder / path.name).symlink_to(path.resolve())
        return name, None

    return write


CASES = {
    "digits": Case(write_digits, (1297, 200, 300), (1, 8, 8), np.uint8, 10),
    "mnist": Case(write_mnist, (54, 6, 20), (1, 28, 28), np.uint8, 10),
    "cifar10 folder": Case(write_cifar10_folder, (90, 10, 20), (3, 32, 32), np.uint8, 10),
    "cifar10 archive": Case(write_cifar10_archive, (90, 10, 20), (3, 32, 32), np.uint8, 10),
    "npz of images": Case(write_npz_images, (42, 6, 12), (3, 8, 6), np.uint8, 3),
    "npz of features": Case(write_npz_features, (40, 10, 10), (5,), np.float64, 4),
    "image folder": Case(write_image_folder, (21, 3, 6), (3, 16, 16), np.uint8, 2),
    "real mnist": Case(
        real("mnist"), (59_000, 1_000, 10_000), (1, 28, 28), np.uint8, 10, real=True
    ),
    "real cifar10": Case(
        real("cifar10"), (49_000, 1_000, 10_000), (3, 32, 32), np.uint8, 10, real=True
    ),
}
SMALL = [name for name, case in CASES.items() if not case.real]


@dataclass(frozen=True)
class Loaded:
    name: str
    folder: Path
    file: Path | None
    splits: DataSplits
    case: Case


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write and load each data set once."""
    known: dict[str, Loaded] = {}

    def get(key: str) -> Loaded:
        if key not in known:
            folder = tmp_path_factory.mktemp("data")
            name, file = CASES[key].write(folder)
            splits = load(name, folder, download=False)
            known[key] = Loaded(name, folder, file, splits, CASES[key])
        return known[key]

    return get


@pytest.fixture(params=CASES)
def loaded(request, written):
    return written(request.param)


def test_every_named_data_set_is_registered():
    assert {key.split()[0] for key in SMALL} >= set(dataset_names())


def test_shapes_dtypes_and_names(loaded):
    splits, case = loaded.splits, loaded.case
    assert tuple(len(getattr(splits, part)) for part in PARTS) == case.sizes
    assert splits.input_shape == case.shape
    assert splits.num_classes == case.num_classes
    assert len(set(splits.classes)) == case.num_classes
    assert all(isinstance(name, str) and name for name in splits.classes)
    for part in PARTS:
        split = getattr(splits, part)
        assert split.x.shape == (len(split), *case.shape)
        assert split.x.dtype == case.dtype
        assert split.x.flags.c_contiguous
        assert split.y.dtype == np.int64
        assert split.y.min() >= 0
        assert split.y.max() < case.num_classes
    assert np.unique(splits.train.y).tolist() == list(range(case.num_classes))


def test_arrays_are_read_only(loaded):
    for part in PARTS:
        split = getattr(loaded.splits, part)
        for array in (split.x, split.y, split.x[:2]):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0


@pytest.mark.parametrize("key", SMALL)
def test_splits_are_disjoint(written, key):
    # The real MNIST and CIFAR-10 hold a few images twice; the cut is the same for small ones.
    splits = written(key).splits
    rows = [x.tobytes() for part in PARTS for x in getattr(splits, part).x]
    assert len(set(rows)) == len(rows) == sum(CASES[key].sizes)


def test_loading_is_deterministic(loaded):
    again = load(loaded.name, loaded.folder, download=False)
    for part in PARTS:
        np.testing.assert_array_equal(getattr(again, part).x, getattr(loaded.splits, part).x)
        np.testing.assert_array_equal(getattr(again, part).y, getattr(loaded.splits, part).y)
    assert again.classes == loaded.splits.classes


@pytest.mark.parametrize("key", [key for key in SMALL if key != "npz of features"])
def test_size_of_the_validation_split(written, key):
    loaded = written(key)
    splits = load(loaded.name, loaded.folder, download=False, num_validation=5)
    train, val, test = loaded.case.sizes
    sizes = (len(splits.train), len(splits.val), len(splits.test))
    assert sizes == (train + val - 5, 5, test)


@pytest.mark.parametrize("key", [key for key in SMALL if key != "digits"])
@pytest.mark.parametrize("damage", ["empty", "half", "text", "pickle"])
def test_damaged_file_is_named_in_one_line(tmp_path, key, damage):
    name, file = CASES[key].write(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(
        {
            "empty": b"",
            "half": whole[: len(whole) // 2],
            "text": b"<html>no such file</html>",
            "pickle": b"cbuiltins\nexec\n(S'raise SystemExit'\ntR.",
        }[damage]
    )
    with pytest.raises(DataFormatError, match=r"^[^\n]+ must [^\n]+; got [^\n]+$") as caught:
        load(name, tmp_path, download=False)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("key", [key for key in SMALL if key != "digits"])
def test_missing_file_says_what_to_put_where(tmp_path, key):
    name, _ = CASES[key].write(tmp_path)
    name = str(tmp_path / "elsewhere.npz") if name not in dataset_names() else name
    with pytest.raises(DataMissingError, match=r" must .*; got nothing ") as caught:
        load(name, tmp_path / "empty", download=False)
    assert caught.value.exit_code == 3
    if name in dataset_names():
        assert str(tmp_path / "empty") in str(caught.value)
        assert "https://" in str(caught.value)


@pytest.mark.parametrize("kind", PREPROCESSORS)
@pytest.mark.parametrize("key", SMALL)
def test_preprocessing_fits_and_restores(written, key, kind):
    splits = written(key).splits
    if kind == "hog_color" and not splits.is_image:
        pytest.skip("features have no edges")
    options = {"pixels_per_cell": 4, "cells_per_block": 1} if kind == "hog_color" else {}
    corner = np.s_[:100, :, :10, :10] if splits.is_image else np.s_[:100]
    train, test = splits.train.x[corner], splits.test.x[corner]
    preprocessor = make_preprocessor(kind, **options).fit(train)
    out = preprocessor.transform(test)
    assert out.shape == (len(test), *preprocessor.output_shape(test.shape[1:]))
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    again = preprocessor_from_state(*preprocessor.state()).transform(test)
    assert out.tobytes() == again.tobytes()


@pytest.mark.parametrize("key", SMALL)
def test_a_step_of_training_data(written, key):
    train = written(key).splits.train
    augment = Augment(flip=True, shift=2, cutout=3) if train.x.ndim == 4 else Augment()
    preprocessor = make_preprocessor("standardize").fit(train.x)

    def step() -> np.ndarray:
        _, indices = BatchIterator(len(train), 16, np.random.default_rng(1)).next_batch()
        x = preprocessor.transform(train.x[indices])
        return augment(x, np.random.default_rng(2))

    assert step().shape == (16, *train.x.shape[1:])
    assert step().tobytes() == step().tobytes()
