"""Arrays as pictures."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from chainrule.errors import InputError, ShapeError
from chainrule.report import image_grid
from chainrule.report.grid import png_data_uri, stretch, to_channels_last


def course_grid(images: np.ndarray, ubound: float = 255.0, padding: int = 1) -> np.ndarray:
    """The definition in loops, as CS231n's ``visualize_grid`` has it."""
    count, height, width, channels = images.shape
    size = int(np.ceil(np.sqrt(count)))
    rows = height * size + padding * (size - 1)
    columns = width * size + padding * (size - 1)
    grid = np.zeros((rows, columns, channels))
    for index in range(count):
        top = (index // size) * (height + padding)
        left = (index % size) * (width + padding)
        low, high = images[index].min(), images[index].max()
        tile = ubound * (images[index] - low) / (high - low)
        grid[top : top + height, left : left + width] = tile
    return grid


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9])
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_grid_is_that_of_the_course(count: int, padding: int) -> None:
    images = np.random.default_rng(count).normal(size=(count, 4, 5, 3))
    expected = course_grid(images, padding=padding)
    np.testing.assert_allclose(image_grid(images, padding), expected, atol=1e-12)


def test_grid_with_columns_has_only_the_rows_it_needs() -> None:
    assert image_grid(np.ones((5, 2, 3)), padding=1, columns=3).shape == (5, 11)


def test_grid_can_keep_the_values() -> None:
    images = np.array([[[7.0]], [[9.0]]])
    grid = image_grid(images, padding=1, columns=2, fill=-1, normalize=False)
    np.testing.assert_array_equal(grid, [[7, -1, 9]])


@pytest.mark.parametrize("shape", [(2, 2), (0, 2, 2, 3), (1, 1, 1, 1, 1)])
def test_grid_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="images must have shape"):
        image_grid(np.zeros(shape))


def test_grid_refuses_bad_numbers() -> None:
    with pytest.raises(InputError, match="padding must be at least 0; got -1"):
        image_grid(np.zeros((1, 2, 2)), padding=-1)
    with pytest.raises(InputError, match="columns must be at least 1; got 0"):
        image_grid(np.zeros((1, 2, 2)), columns=0)


def test_stretch_handles_constant_and_not_finite_values() -> None:
    np.testing.assert_array_equal(stretch(np.full(3, 4.0)), [127.5] * 3)
    np.testing.assert_array_equal(stretch(np.array([np.nan, 1.0, 3.0]), 1.0), [0, 0, 1])
    np.testing.assert_array_equal(stretch(np.full(2, np.nan)), [127.5] * 2)


def test_stretch_survives_the_largest_floats() -> None:
    largest = np.finfo(np.float64).max
    np.testing.assert_array_equal(stretch(np.array([-largest, 0, largest]), 1.0), [0, 0.5, 1])


def test_channels_move_last() -> None:
    images = np.arange(24.0).reshape(1, 3, 2, 4)
    np.testing.assert_array_equal(to_channels_last(images)[0, 1, 2], images[0, :, 1, 2])
    np.testing.assert_array_equal(to_channels_last(images[:, :2])[0], images[0, :2].mean(axis=0))


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3), (3, 5, 4)])
def test_png_holds_the_pixels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape)
    head, _, body = png_data_uri(pixels).partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
