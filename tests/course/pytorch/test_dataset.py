"""The data set: the course's arithmetic and split, batches, augmentation, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chainrule.course import pytorch as course
from chainrule.data.cifar10 import load_cifar10
from chainrule.errors import ConfigError, DataFormatError, DataMissingError, InputError

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

CIFAR10, Images = course.CIFAR10, course.Images


def bytes_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def test_the_arithmetic_is_the_course_s():
    # ToTensor and Normalize of the course, in float64.
    mean = np.array([0.49131522, 0.48209435, 0.44646862])[:, None, None]
    std = np.array([0.01897398, 0.03039277, 0.03872553])[:, None, None]
    images = bytes_of(5)
    images[0, :, 0, 0], images[0, :, 0, 1] = 0, 255
    found = course.normalize(images)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, (images / 255 - mean) / std, rtol=1e-5, atol=1e-5)


def test_the_split_is_the_course_s(cifar: Path):
    files = load_cifar10(cifar, num_validation=1)
    whole = np.concatenate([files.train.x, files.val.x])  # in the order of the five files
    sets = {split: CIFAR10(cifar, split) for split in ("train", "val", "test")}
    assert {split: len(each) for split, each in sets.items()} == {
        "train": 90,
        "val": 10,
        "test": 20,
    }
    np.testing.assert_array_equal(sets["train"].images, whole[:90])
    np.testing.assert_array_equal(sets["val"].images, whole[90:])
    image, label = sets["val"][2]
    np.testing.assert_array_equal(image, course.normalize(whole[92:93])[0])
    assert label == files.train.y[92]
    assert isinstance(label, int)
    assert CIFAR10.classes[8] == "ship"


def test_the_folder_or_the_one_above(cifar: Path):
    above, unpacked = CIFAR10(cifar.parent, "test"), CIFAR10(str(cifar), "test")
    np.testing.assert_array_equal(above.images, unpacked.images)


def test_a_loader_gives_batches(cifar: Path):
    data = CIFAR10(cifar)
    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)
    batches = list(loader)
    assert [tuple(x.shape) for x, _ in batches] == [(32, 3, 32, 32)] * 2 + [(26, 3, 32, 32)]
    assert {y.dtype for _, y in batches} == {torch.int64}
    sums = torch.cat([x.sum((1, 2, 3)) for x, _ in batches]).sort().values
    torch.testing.assert_close(sums, course.normalize(data.images).sum((1, 2, 3)).sort().values)
    assert (
        torch.cat([y for _, y in batches]).bincount().tolist() == np.bincount(data.labels).tolist()
    )


def test_flips_and_shifts(cifar: Path):
    images, labels = bytes_of(40), np.arange(40) % 10
    plain = course.normalize(images)

    def batch(seed: int) -> torch.Tensor:
        data = Images(images, labels, flip=True, shift=3, rng=np.random.default_rng(seed))
        loaded = torch.utils.data.DataLoader(data, batch_size=40)
        return next(iter(loaded))[0]

    first = batch(0)
    assert torch.equal(first, batch(0))
    assert not torch.equal(first, batch(1))
    padded = torch.nn.functional.pad(plain, (3, 3, 3, 3))  # by the mean colour, which is zero
    for image, around in zip(first, padded, strict=True):
        windows = [
            w[:, d : d + 32, r : r + 32]
            for w in (around, around.flip(2))
            for d in range(7)
            for r in range(7)
        ]
        assert any(torch.equal(image, window) for window in windows)
    with pytest.raises(InputError, match="Images: rng must be given with flip or shift"):
        Images(images, labels, flip=True)


def test_what_is_refused(cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path / "kept"))
    with pytest.raises(ConfigError, match=r"no split 'valid'\. Did you mean 'val'\?"):
        CIFAR10(cifar, "valid")
    with pytest.raises(DataMissingError, match=r"CIFAR10: CIFAR-10 must be in .*fetch cifar10"):
        CIFAR10(tmp_path)
    damaged = tmp_path / "cifar-10-batches-py"
    damaged.mkdir()
    for path in cifar.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataFormatError, match=r"test_batch|data_batch|batches\.meta"):
        CIFAR10(tmp_path)
