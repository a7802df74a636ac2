"""Augmentation: what it may change and what not, against one image at a time in plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.data import Augment, views
from chainrule.errors import InputError, ShapeError

SHAPES = st.tuples(st.integers(0, 6), st.integers(1, 3), st.integers(4, 8), st.integers(4, 8))
DTYPES = st.sampled_from([np.uint8, np.float32, np.float64])
SETTINGS = st.builds(Augment, st.booleans(), st.integers(0, 3), st.integers(0, 5))


@st.composite
def batches(draw):
    shape, dtype = draw(SHAPES), draw(DTYPES)
    return draw(hnp.arrays(dtype, shape, elements=st.integers(1, 255).map(dtype)))


def plain(x, augment, seed):
    """The definition: flip, then shift, then cut out, drawing in this order."""
    rng = np.random.default_rng(seed)
    n, _, h, w = x.shape
    flips = rng.random(n) < 0.5 if augment.flip else [False] * n
    s = augment.shift
    down, right = rng.integers(0, 2 * s + 1, size=(2, n)) if s else np.full((2, n), 0)
    k = augment.cutout
    top = rng.integers(0, h, size=(n, 1))[:, 0] - k // 2 if k else np.zeros(n, int)
    left = rng.integers(0, w, size=(n, 1))[:, 0] - k // 2 if k else np.zeros(n, int)
    out = np.zeros_like(x)
    for i in range(n):
        image = x[i, :, :, ::-1] if flips[i] else x[i]
        for row in range(h):
            for column in range(w):
                r, q = row + down[i] - s, column + right[i] - s
                inside = 0 <= r < h and 0 <= q < w
                cut = 0 <= row - top[i] < k and 0 <= column - left[i] < k
                if inside and not cut:
                    out[i, :, row, column] = image[:, r, q]
    return out


@given(batches(), SETTINGS, st.integers(0, 2**32))
@settings(deadline=None)
def test_against_the_definition(x, augment, seed):
    before = x.copy()
    out = augment(x, np.random.default_rng(seed))
    np.testing.assert_array_equal(x, before)
    assert out.dtype == x.dtype
    assert not np.shares_memory(out, x)
    np.testing.assert_array_equal(out, plain(x, augment, seed))


def test_draws_depend_on_the_number_of_images_only():
    augment = Augment(flip=True, shift=2, cutout=3)
    one, other = np.random.default_rng(0), np.random.default_rng(0)
    augment(np.zeros((5, 1, 8, 8), np.uint8), one)
    augment(np.ones((5, 3, 8, 8), np.float32), other)
    assert one.bit_generator.state == other.bit_generator.state


def test_every_place_is_reached():
    x = np.zeros((2000, 1, 5, 5), np.float32)
    x[:, :, 2, 1] = 1
    out = Augment(flip=True, shift=1)(x, np.random.default_rng(0))
    places = out.sum(axis=(0, 1))
    # Column 1 or, flipped, column 3; each moved by -1, 0 or 1 in both directions.
    expected = np.zeros((5, 5))
    expected[1:4, 0:3] += 1
    expected[1:4, 2:5] += 1
    np.testing.assert_array_equal(places > 0, expected > 0)
    np.testing.assert_allclose(places, expected * 2000 / 18, rtol=0.35)


def test_cutout_reaches_over_the_border():
    out = Augment(cutout=4)(np.ones((500, 1, 8, 8), np.float32), np.random.default_rng(0))
    cut = (out == 0).sum(axis=(1, 2, 3))
    assert cut.max() == 16
    assert cut.min() == 2 * 2


def test_nothing_switched_on_takes_features_too():
    x = np.ones((3, 4), np.float32)
    assert not Augment()
    np.testing.assert_array_equal(Augment()(x, np.random.default_rng(0)), x)


def test_not_contiguous():
    x = np.random.default_rng(1).random((4, 6, 6, 3)).transpose(0, 3, 1, 2)
    augment = Augment(flip=True, shift=2)
    ours = augment(x, np.random.default_rng(0))
    np.testing.assert_array_equal(ours, augment(x.copy(), np.random.default_rng(0)))


def test_errors():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="shift must be at least 0; got -1"):
        Augment(shift=-1)
    with pytest.raises(InputError, match="cutout must be at least 0; got -1"):
        Augment(cutout=-1)
    with pytest.raises(ShapeError, match=r"x must have shape \(N, C, H, W\); got \(3, 4\)"):
        Augment(flip=True)(np.ones((3, 4)), rng)
    with pytest.raises(InputError, match=r"shift must be smaller than the images, \(4, 9\); got 4"):
        Augment(shift=4)(np.ones((3, 1, 4, 9)), rng)


class TestViews:
    @pytest.mark.parametrize(("kind", "count"), [("none", 1), ("flip", 2), ("flip_shift", 6)])
    def test_the_first_is_the_images_themselves(self, kind, count):
        x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
        found = list(views(x, kind))
        assert len(found) == count
        np.testing.assert_array_equal(found[0], x)
        assert all(view.shape == x.shape and view.dtype == x.dtype for view in found)

    def test_moves_and_mirrors_one_image_at_a_time(self):
        x = np.arange(1, 10).reshape(1, 1, 3, 3)
        expected = [
            [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
            [[3, 2, 1], [6, 5, 4], [9, 8, 7]],
            [[5, 6, 0], [8, 9, 0], [0, 0, 0]],
            [[0, 6, 5], [0, 9, 8], [0, 0, 0]],
            [[0, 0, 0], [0, 1, 2], [0, 4, 5]],
            [[0, 0, 0], [2, 1, 0], [5, 4, 0]],
        ]
        found = [view[0, 0].tolist() for view in views(x, "flip_shift")]
        assert found == expected

    def test_single_pixels_and_empty_batches(self):
        assert [v.ravel().tolist() for v in views(np.ones((1, 1, 1, 1)), "flip_shift")] == [
            [1], [1], [0], [0], [0], [0]
        ]  # fmt: skip
        assert [len(v) for v in views(np.ones((0, 3, 4, 4)), "flip")] == [0, 0]

    def test_none_takes_features(self):
        x = np.ones((3, 7))
        assert next(views(x, "none")) is x

    def test_what_is_refused(self):
        with pytest.raises(ShapeError, match=r"views: x must have shape \(N, C, H, W\).*tta=none"):
            list(views(np.ones((3, 7)), "flip"))
        with pytest.raises(InputError, match="kind must be one of none, flip, flip_shift"):
            list(views(np.ones((1, 1, 2, 2)), "mirror"))
