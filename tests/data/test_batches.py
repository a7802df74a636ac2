"""Batches: every example once, and exact continuation."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.data import BatchIterator
from chainrule.errors import InputError, RunError

GENERATORS = [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox,
              np.random.SFC64]  # fmt: skip
SIZES = {"num_examples": st.integers(1, 40), "batch_size": st.integers(1, 50)}


def iterator(num_examples=10, batch_size=3, seed=0, kind=np.random.PCG64, drop_last=False):
    return BatchIterator(num_examples, batch_size, np.random.Generator(kind(seed)), drop_last)


@given(**SIZES, drop_last=st.booleans())
@settings(deadline=None)
def test_every_index_once_an_epoch(num_examples, batch_size, drop_last):
    batches = iterator(num_examples, batch_size, drop_last=drop_last)
    for epoch in range(3):
        drawn = [batches.next_batch() for _ in range(batches.batches_per_epoch)]
        assert {e for e, _ in drawn} == {epoch}
        sizes = [len(indices) for _, indices in drawn]
        assert set(sizes[:-1]) <= {min(batch_size, num_examples)}
        indices = np.concatenate([indices for _, indices in drawn])
        assert len(set(indices.tolist())) == len(indices)
        assert indices.dtype == np.int64
        if drop_last:
            assert sizes[-1] == min(batch_size, num_examples)
            assert num_examples - len(indices) < batch_size
        else:
            np.testing.assert_array_equal(np.sort(indices), np.arange(num_examples))


@given(**SIZES, drop_last=st.booleans(), done=st.integers(0, 60), kind=st.sampled_from(GENERATORS))
@settings(deadline=None)
def test_continued_equals_uninterrupted(num_examples, batch_size, drop_last, done, kind):
    make = {"num_examples": num_examples, "batch_size": batch_size, "drop_last": drop_last}
    whole = iterator(**make, kind=kind)
    for _ in range(done):
        whole.next_batch()
    saved = json.loads(json.dumps(whole.state_dict()))
    resumed = iterator(**make, kind=kind, seed=99)
    resumed.load_state_dict(saved)
    assert resumed.state_dict() == whole.state_dict()
    for _ in range(30):
        (epoch, indices), (other_epoch, other) = whole.next_batch(), resumed.next_batch()
        assert epoch == other_epoch
        np.testing.assert_array_equal(indices, other)


def test_orders_differ_between_epochs():
    batches = iterator(100, 100)
    assert not np.array_equal(batches.next_batch()[1], batches.next_batch()[1])


@pytest.mark.parametrize("name", ["num_examples", "batch_size"])
def test_sizes_below_one(name):
    with pytest.raises(InputError, match=f"{name} must be at least 1; got 0"):
        iterator(**{name: 0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_examples": 11}, "num_examples must be 10; got 11. Resume with the data"),
        ({"batch_size": 4}, "batch_size must be 3; got 4"),
        ({"drop_last": True}, "drop_last must be False; got True"),
        ({"position": 11}, r"position must lie in 0\.\.10; got 11"),
        ({"position": "1"}, r"position must lie in 0\.\.10; got 1"),
        ({"epoch": -1}, "epoch must be a count; got -1"),
        ({"rng": {}}, "rng must be a state of PCG64"),
        ({"rng": {"bit_generator": "MT19937"}}, "rng must be a state of PCG64"),
    ],
)
def test_states_that_do_not_fit(change, message):
    batches = iterator()
    batches.next_batch()
    before = batches.state_dict()
    with pytest.raises(RunError, match=message):
        batches.load_state_dict({**before, **change})
    assert batches.state_dict() == before
    assert batches.next_batch()[0] == 0


def test_state_without_an_entry():
    state = iterator().state_dict()
    del state["position"]
    with pytest.raises(RunError, match="state must contain 'position'; got none"):
        iterator().load_state_dict(state)
