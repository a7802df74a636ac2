"""Splits: read-only, fixed, stratified."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.data import DataSplits, Split, stratified_order
from chainrule.data.splits import take_splits
from chainrule.errors import DTypeError, InputError, ShapeError

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(np.array)


@given(LABELS)
def test_order_is_a_permutation_with_stratified_prefixes(y):
    order = stratified_order(y)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(y)))
    for length in range(len(y) + 1):
        for label in np.unique(y):
            expected = (y == label).sum() * length / len(y)
            # Each class deviates by less than one for itself, and by the rounding of the others.
            assert abs((y[order[:length]] == label).sum() - expected) < len(np.unique(y))


def test_order_is_fixed_for_ever():
    y = np.arange(12) % 3
    assert stratified_order(y).tolist() == [0, 2, 10, 9, 5, 1, 6, 7, 11, 3, 4, 8]


def test_order_is_not_that_of_data_drawn_with_a_small_seed():
    """A generator of seed 0 draws first the numbers that sort its own order."""
    drawn = np.random.default_rng(0).random(400)
    order = stratified_order(np.zeros(400, np.int64))
    assert abs(np.corrcoef(drawn[order], np.arange(400))[0, 1]) < 0.2


@given(LABELS, st.data())
def test_parts_are_disjoint_and_complete(y, data):
    num_val = data.draw(st.integers(0, len(y)))
    num_test = data.draw(st.integers(0, len(y) - num_val))
    x = np.arange(len(y), dtype=np.float64)[:, None]
    train, val, test = take_splits(x, y.astype(np.int64), num_val, num_test)
    assert (len(val), len(test)) == (num_val, num_test)
    np.testing.assert_array_equal(np.sort(np.concatenate([train.x, val.x, test.x]), axis=0), x)
    for split in (train, val, test):
        np.testing.assert_array_equal(split.y, y[split.x[:, 0].astype(int)])
        assert (np.diff(split.x[:, 0]) > 0).all()


def images(count=4, shape=(1, 2, 2), dtype=np.uint8):
    return Split(np.zeros((count, *shape), dtype), np.zeros(count, np.int64))


def test_arrays_cannot_be_written():
    split = images()
    with pytest.raises(ValueError, match="read-only"):
        split.x[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        split.y[0] = 1
    with pytest.raises(AttributeError, match="cannot assign"):
        split.x = split.x


def test_head():
    split = images()
    assert len(split.head(3)) == 3
    assert len(split.head(9)) == 4
    assert np.shares_memory(split.head(2).x, split.x)
    with pytest.raises(InputError, match="count must be at least 1; got 0"):
        split.head(0)


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (np.zeros((3, 4, 5)), np.zeros(3, int), ShapeError, r"x must have shape \(N, C, H, W\)"),
        (np.zeros((3, 4)), np.zeros(2, int), ShapeError, r"y must have shape \(3,\)"),
        (np.zeros((3, 4), int), np.zeros(3, int), DTypeError, "x must be uint8, float32"),
        (np.zeros((3, 4)), np.zeros(3, np.int32), DTypeError, "y must be int64; got int32"),
    ],
)
def test_wrong_arrays(x, y, error, message):
    with pytest.raises(error, match=message):
        Split(x, y)


def test_splits_must_fit_each_other():
    splits = DataSplits("x", images(), images(2), images(3), ("a", "b"))
    assert (splits.input_shape, splits.num_classes, splits.is_image) == ((1, 2, 2), 2, True)
    with pytest.raises(ShapeError, match=r"test must have examples of shape \(1, 2, 2\)"):
        DataSplits("x", images(), images(), images(shape=(1, 2, 3)), ("a",))
