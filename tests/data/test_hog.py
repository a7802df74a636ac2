"""HOG and hue against scikit-image and the standard library."""

import colorsys

import numpy as np
import pytest
from skimage.feature import hog

from chainrule.data.hog import hog_color_features, hog_color_size, hog_features, hue_histogram
from chainrule.errors import ShapeError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 24), dtype=np.uint8)


@pytest.mark.parametrize(("bins", "cell", "block"), [(9, 8, 2), (9, 8, 1), (4, 8, 3), (12, 5, 2)])
def test_against_scikit_image(bins, cell, block):
    ours = hog_features(IMAGES, bins, cell, block)
    for image, row in zip(IMAGES, ours, strict=True):
        theirs = hog(image.transpose(1, 2, 0), bins, (cell, cell), (block, block), channel_axis=-1)
        # scikit-image adds up the magnitudes in float32.
        np.testing.assert_allclose(row, theirs, atol=2e-7)


def test_faint_images_against_scikit_image():
    faint = IMAGES[:1] * 1e-7  # so faint that the constant in the normalisation counts
    theirs = hog(faint[0].transpose(1, 2, 0), 9, (8, 8), (2, 2), channel_axis=-1)
    np.testing.assert_allclose(hog_features(faint)[0], theirs, rtol=1e-5, atol=1e-9)


def test_grey_against_scikit_image():
    ours = hog_features(IMAGES[:, :1])
    for image, row in zip(IMAGES, ours, strict=True):
        np.testing.assert_allclose(row, hog(image[0], 9, (8, 8), (2, 2)), atol=2e-7)


@pytest.mark.parametrize("turns", range(4))
def test_edges_in_the_directions_of_the_axes(turns):
    image = np.rot90(np.tile(np.arange(16, dtype=np.uint8) * 10, (16, 1)), turns)
    ours = hog_features(image[None, None])[0]
    np.testing.assert_allclose(ours, hog(image, 9, (8, 8), (2, 2)), atol=2e-7)


def test_flat_images_have_no_edges():
    assert not hog_features(np.full((2, 3, 16, 16), 200, np.uint8)).any()


def test_hue_against_the_standard_library():
    ours = hue_histogram(IMAGES, 7)
    for image, row in zip(IMAGES, ours, strict=True):
        pixels = image.reshape(3, -1).T / 255
        hues = np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels])
        on_border = np.abs(hues * 7 - np.rint(hues * 7)) < 1e-9
        theirs = np.bincount((hues * 7 % 7).astype(int), minlength=7) / len(hues)
        np.testing.assert_allclose(row, theirs, atol=on_border.mean() + 1e-12)
    np.testing.assert_allclose(ours.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [((255, 0, 0), 0), ((255, 255, 0), 1), ((0, 255, 0), 2), ((0, 255, 255), 3), ((0, 0, 255), 4),
     ((255, 0, 255), 5), ((0, 0, 0), 0), ((9, 9, 9), 0), ((255, 0, 1), 5)],
)  # fmt: skip
def test_hue_of_pure_colours(colour, expected):
    image = np.array(colour, np.uint8).reshape(1, 3, 1, 1)
    assert hue_histogram(image, 6).argmax() == expected


def test_both_side_by_side_and_in_chunks():
    many = np.concatenate([IMAGES] * 50)
    features = hog_color_features(many)
    assert features.shape == (300, hog_color_size((3, 32, 24)))
    np.testing.assert_array_equal(features[:6, :-10], hog_features(IMAGES))
    np.testing.assert_array_equal(features[-6:, -10:], hue_histogram(IMAGES))
    assert hog_color_features(IMAGES[:, :1]).shape == (6, hog_color_size((3, 32, 24)) - 10)
    assert hog_color_features(IMAGES[:0]).shape == (0, hog_color_size((3, 32, 24)))


def test_sizes():
    assert hog_color_size((3, 32, 32)) == 3 * 3 * 4 * 9 + 10
    assert hog_color_size((3, 32, 32), cells_per_block=1, hue_bins=0) == 4 * 4 * 9
    with pytest.raises(ShapeError, match=r"with 1 or 3 channels; got \(10,\)"):
        hog_color_size((10,))
    with pytest.raises(ShapeError, match=r"at least 16 pixels.*got \(8, 8\). Take a smaller"):
        hog_color_size((1, 8, 8))
