"""CIFAR-10 from its folder and its archive, whole and damaged."""

import io
import tarfile

import numpy as np
import pytest

import chainrule.data.cifar10 as cifar10
from chainrule.data.cifar10 import find_cifar10, load_cifar10
from chainrule.errors import DataFormatError, InputError


@pytest.fixture
def files(official):
    return official.cifar10_content()


def test_order_of_images_and_splits(tmp_path, official, files):
    splits = load_cifar10(official.write_cifar10(tmp_path, files), num_validation=30)
    train = np.concatenate([files[f"data_batch_{i}"][b"data"] for i in range(1, 6)])
    labels = np.concatenate([files[f"data_batch_{i}"][b"labels"] for i in range(1, 6)])
    np.testing.assert_array_equal(splits.train.x, train[:70].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(splits.val.x, train[70:].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(splits.train.y, labels[:70])
    np.testing.assert_array_equal(splits.val.y, labels[70:])
    test = files["test_batch"]
    np.testing.assert_array_equal(splits.test.x, test[b"data"].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(splits.test.y, test[b"labels"])
    assert splits.classes[9] == "truck"


def test_archive_gives_what_the_folder_gives(tmp_path, official, files):
    unpacked = official.write_cifar10(tmp_path / "a", files)
    packed = official.pack_cifar10(tmp_path, unpacked)
    before = sorted(tmp_path.rglob("*"))
    one, other = load_cifar10(unpacked), load_cifar10(packed)
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(one, part).x, getattr(other, part).x)
        np.testing.assert_array_equal(getattr(one, part).y, getattr(other, part).y)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked to disk"


def test_where_it_is_found(tmp_path, official, files):
    assert find_cifar10(tmp_path) is None
    unpacked = official.write_cifar10(tmp_path, files)
    assert find_cifar10(tmp_path) == unpacked
    assert find_cifar10(unpacked) == unpacked
    archive = official.pack_cifar10(tmp_path, unpacked)
    (unpacked / "data_batch_3").unlink()
    assert find_cifar10(tmp_path) == archive, "an incomplete folder is passed over"


@pytest.mark.parametrize("count", [0, 100, -1])
def test_validation_must_leave_something(tmp_path, official, files, count):
    with pytest.raises(InputError, match=r"num_validation must lie in 1\.\.99"):
        load_cifar10(official.write_cifar10(tmp_path, files), count)


def label(files, value):
    files["data_batch_2"][b"labels"][5] = value


def fewer_rows(files):
    files["data_batch_2"][b"data"] = files["data_batch_2"][b"data"][:-1]


def fewer_of_both(files):
    fewer_rows(files)
    files["data_batch_2"][b"labels"].pop()


DAMAGES = {
    "label 10": (
        lambda f: label(f, 10),
        r"data_batch_2: labels must lie in 0\.\.9; got 10 at index 5",
    ),
    "label -1": (lambda f: label(f, -1), r"data_batch_2: labels must lie in 0\.\.9; got -1"),
    "label is text": (
        lambda f: label(f, b"cat"),
        "data_batch_2: labels must be a list of integers",
    ),
    "missing rows": (fewer_rows, "data_batch_2: labels must be as many as the images, 19; got 20"),
    "missing examples": (fewer_of_both, "data_batch_2: batch must hold 20 images.*got 19"),
    "another size": (
        lambda f: f["data_batch_2"].update({b"data": np.zeros((20, 784), np.uint8)}),
        r"data_batch_2: data must be an array of shape \(N, 3072\).*got .*\(20, 784\)",
    ),
    "no images": (lambda f: f["data_batch_2"].pop(b"data"), "data_batch_2: data must .* got none"),
    "no labels": (lambda f: f["data_batch_2"].pop(b"labels"), "labels must .* got none"),
    "CIFAR-100": (
        lambda f: f["data_batch_2"].update({b"fine_labels": f["data_batch_2"].pop(b"labels")}),
        "CIFAR-100",
    ),
    "other classes": (
        lambda f: f["batches.meta"][b"label_names"].reverse(),
        "batches.meta: label_names must be the ten classes",
    ),
    "no batch size": (
        lambda f: f["batches.meta"].pop(b"num_cases_per_batch"),
        "batches.meta: num_cases_per_batch must be a number from 1 to 20000; got none",
    ),
    "no meta, small batches": (lambda f: f.pop("batches.meta"), "must hold 10000 images"),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_named(tmp_path, official, files, name, packed):
    damage, message = DAMAGES[name]
    damage(files)
    path = official.write_cifar10(tmp_path, files)
    if packed:
        path = official.pack_cifar10(tmp_path, path)
    with pytest.raises(DataFormatError, match=message) as caught:
        load_cifar10(path)
    assert str(path) in str(caught.value)


def test_batches_that_agree_with_each_other_but_not_with_the_meta(tmp_path, official, files):
    files["batches.meta"][b"num_cases_per_batch"] = 21
    with pytest.raises(DataFormatError, match="data_batch_1: batch must hold 21 images"):
        load_cifar10(official.write_cifar10(tmp_path, files))


def test_truncated_archive(tmp_path, official, files):
    path = official.pack_cifar10(tmp_path, official.write_cifar10(tmp_path, files))
    whole = path.read_bytes()
    for share in (0.0, 0.3, 0.9, 0.9999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(
            DataFormatError, match=r"archive must be a complete .tar.gz|must contain"
        ):
            load_cifar10(path)


def test_archive_of_something_else(tmp_path):
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("readme.txt"))
    with pytest.raises(DataFormatError, match="data must contain data_batch_1; got none"):
        load_cifar10(path)


def test_links_and_paths_in_the_archive_lead_nowhere(tmp_path, official, files):
    unpacked = official.write_cifar10(tmp_path / "in", files)
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for file in unpacked.iterdir():
            member = tarfile.TarInfo(f"../../{file.name}")
            member.size = file.stat().st_size
            tar.addfile(member, io.BytesIO(file.read_bytes()))
    before = sorted(tmp_path.parent.rglob("*"))
    assert len(load_cifar10(path).test) == 20
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_decompression_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "_MAX_UNPACKED", 3 * 2**20)
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("zeros")
        member.size = 2**23
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    assert path.stat().st_size < 10_000
    with pytest.raises(DataFormatError, match="archive must unpack to at most 3145728 bytes"):
        load_cifar10(path)


@pytest.mark.parametrize("packed", [False, True])
def test_oversized_batch(tmp_path, official, files, packed, monkeypatch):
    monkeypatch.setattr(cifar10, "_MAX_MEMBER", 10_000)
    path = official.write_cifar10(tmp_path, files)
    if packed:
        path = official.pack_cifar10(tmp_path, path)
    with pytest.raises(DataFormatError, match="must have at most 10000 bytes"):
        load_cifar10(path)
