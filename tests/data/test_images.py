"""Folders of image files, and files to predict."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import chainrule.data.images as images
from chainrule.data.images import load_image_folder, read_images
from chainrule.errors import DataFormatError, DataMissingError, InputError, ShapeError


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def colour(seed, height=6, width=5):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for label, name in enumerate(["cat", "dog"]):
        for i in range(10):
            save(tmp_path / "pets" / name / f"{i}.png", colour(10 * label + i))
    return tmp_path / "pets"


def test_class_folders(folder):
    splits = load_image_folder(folder)
    assert (splits.name, splits.classes, splits.input_shape) == ("pets", ("cat", "dog"), (3, 6, 5))
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [14, 2, 4]
    seen = set()
    for split in (splits.train, splits.val, splits.test):
        for x, y in zip(split.x, split.y, strict=True):
            (seed,) = [s for s in range(20) if np.array_equal(colour(s), x.transpose(1, 2, 0))]
            assert y == seed // 10
            seen.add(seed)
    assert len(seen) == 20


def test_split_folders(tmp_path):
    for part, count in (("train", 4), ("valid", 2), ("test", 3)):
        for label, name in enumerate("ab"):
            for i in range(count):
                save(tmp_path / part / name / f"{i}.png", colour(100 * label + i + count))
    splits = load_image_folder(tmp_path)
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [8, 4, 6]
    np.testing.assert_array_equal(splits.val.x[3], colour(103).transpose(2, 0, 1))
    np.testing.assert_array_equal(splits.val.y, [0, 0, 1, 1])


def test_grey_files_make_one_channel(tmp_path):
    for name in "ab":
        for i in range(5):
            save(tmp_path / name / f"{i}.png", colour(i)[:, :, 0])
    assert load_image_folder(tmp_path).input_shape == (1, 6, 5)
    save(tmp_path / "b" / "9.png", colour(9))
    assert load_image_folder(tmp_path).input_shape == (3, 6, 5)


def test_other_files_are_passed_over(folder):
    (folder / "readme.txt").write_text("hello")
    (folder / "cat" / "Thumbs.db").write_bytes(b"x")
    (folder / "cat" / "._3.png").write_bytes(b"x")
    (folder / ".cache").mkdir()
    assert load_image_folder(folder).num_classes == 2


def test_another_size_is_named(folder):
    save(folder / "dog" / "3.png", colour(1, 7, 5))
    with pytest.raises(
        DataFormatError, match=r"3\.png: image must be 6 x 5.*0\.png.*got 7 x 5.*res"
    ):
        load_image_folder(folder)
    assert load_image_folder(folder, resize=4).input_shape == (3, 4, 4)
    assert load_image_folder(folder, resize=(8, 9)).input_shape == (3, 8, 9)


@pytest.mark.parametrize("resize", [0, -3, (5, 0), (1, 2, 3), 5000])
def test_resize_out_of_range(folder, resize):
    with pytest.raises(InputError, match=r"resize must be a side.*in 1\.\.4096"):
        load_image_folder(folder, resize=resize)


@pytest.mark.parametrize("damage", [b"", b"text", "cut"])
def test_damaged_file_is_named(folder, damage):
    path = folder / "dog" / "7.png"
    path.write_bytes(path.read_bytes()[:-30] if damage == "cut" else damage)
    with pytest.raises(DataFormatError, match=r"7\.png: file must be a readable image"):
        load_image_folder(folder)


def test_nothing_there(tmp_path, folder):
    with pytest.raises(DataMissingError, match="contain a sub-folder of image files for each"):
        load_image_folder(folder / "cat")
    (folder / "emu").mkdir()
    with pytest.raises(DataMissingError, match="emu: folder must contain image files"):
        load_image_folder(folder)


def test_test_folder_without_class_folders(folder):
    folder.rename(folder.with_name("train"))
    (folder.parent / "test").mkdir()
    with pytest.raises(DataMissingError, match="test: folder must contain class folders"):
        load_image_folder(folder.parent)


@pytest.mark.parametrize("name", ["holdout", "validation"])
def test_folders_beside_train(folder, name):
    folder.rename(folder.with_name("train"))
    save(folder.parent / "val" / "cat" / "0.png", colour(0))
    save(folder.parent / name / "cat" / "0.png", colour(0))
    with pytest.raises(DataFormatError, match=f"be train, val and test.*'{name}'"):
        load_image_folder(folder.parent)


def test_class_unknown_in_training(folder):
    folder.rename(folder.with_name("train"))
    save(folder.parent / "test" / "emu" / "0.png", colour(0))
    with pytest.raises(DataFormatError, match="one of the training classes, cat, dog; got 'emu'"):
        load_image_folder(folder.parent)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_decompression_bomb(folder):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(10**6)))
    (folder / "cat" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data)
    with pytest.raises(
        DataFormatError, match=r"0\.png: (image must have at most|file must be a rea)"
    ):
        load_image_folder(folder)


def test_too_many_pixels(folder, monkeypatch):
    monkeypatch.setattr(images, "_MAX_PIXELS", 29)
    with pytest.raises(DataFormatError, match="have at most 29 pixels; got 6 x 5"):
        load_image_folder(folder)


def test_too_much_memory(folder, monkeypatch):
    monkeypatch.setattr(images, "_MAX_BYTES", 1000)
    with pytest.raises(DataFormatError, match=r"at most 1000 bytes.*got 20 of 3 x 6 x 5.*resize"):
        load_image_folder(folder)


def test_sixteen_bits_are_refused(tmp_path):
    path = save(tmp_path / "deep.png", np.full((4, 4), 40_000, np.uint16))
    with pytest.raises(DataFormatError, match="have 8 bits a channel; got Pillow's mode I;16"):
        read_images([path], (1, 4, 4))


def test_a_program_for_ghostscript_is_no_image(tmp_path):
    path = tmp_path / "evil.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n")
    with pytest.raises(DataFormatError, match="be a readable image"):
        read_images([path], (1, 4, 4))


def test_formats_not_listed_are_refused(tmp_path):
    Image.fromarray(colour(0)).save(tmp_path / "x.pcx")
    (tmp_path / "x.pcx").rename(tmp_path / "x.png")
    with pytest.raises(DataFormatError, match="be a readable image"):
        read_images([tmp_path / "x.png"], (3, 6, 5))


def test_read_images_keeps_the_pixels_and_the_order(tmp_path):
    paths = [save(tmp_path / f"{i}.png", colour(i)) for i in range(3)]
    out = read_images(reversed(paths), (3, 6, 5))
    assert out.dtype == np.uint8
    for row, seed in zip(out, (2, 1, 0), strict=True):
        np.testing.assert_array_equal(row, colour(seed).transpose(2, 0, 1))
    assert read_images([], (3, 6, 5)).shape == (0, 3, 6, 5)


def test_colour_to_grey_and_back(tmp_path):
    path = save(tmp_path / "colour.png", colour(0))
    grey = read_images([path], (1, 6, 5))[0, 0]
    np.testing.assert_allclose(grey, colour(0) @ [0.299, 0.587, 0.114], atol=1)
    path = save(tmp_path / "grey.png", colour(0)[:, :, 0])
    np.testing.assert_array_equal(read_images([path], (3, 6, 5))[0], [colour(0)[:, :, 0]] * 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_modes(tmp_path, mode):
    path = tmp_path / ("x.tiff" if mode == "CMYK" else "x.png")
    Image.fromarray(colour(0)).convert(mode).save(path)
    assert read_images([path], (3, 6, 5)).shape == (1, 3, 6, 5)


def test_palette_with_transparency_does_not_warn(tmp_path):
    image = Image.fromarray(colour(0)).convert("P")
    image.info["transparency"] = bytes(range(256))
    image.save(tmp_path / "x.png")
    assert read_images([tmp_path / "x.png"], (1, 6, 5)).shape == (1, 1, 6, 5)


def test_rotation_mark_is_obeyed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path = save(tmp_path / "turned.png", colour(0), exif=exif)
    turned = np.rot90(colour(0), -1).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_images([path], (3, 5, 6))[0], turned)


def test_size_mismatch(tmp_path):
    path = save(tmp_path / "x.png", colour(0))
    with pytest.raises(
        ShapeError, match=r"image must be 8 pixels high and 9 wide; got 6 x 5. Or ask"
    ):
        read_images([path], (3, 8, 9))
    assert read_images([path], (3, 8, 9), resize=True).shape == (1, 3, 8, 9)


@pytest.mark.parametrize("shape", [(10,), (2, 8, 8), (8, 8)])
def test_networks_that_take_no_images(shape):
    with pytest.raises(ShapeError, match="trained on features cannot read image files"):
        read_images([], shape)


def test_no_file(tmp_path):
    with pytest.raises(DataMissingError, match=r"none\.png must be a file; got nothing there"):
        read_images([tmp_path / "none.png"], (3, 6, 5))
