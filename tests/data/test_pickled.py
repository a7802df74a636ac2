"""Pickles: what the official files hold is read, everything else refused, nothing ever run."""

import os
import pickle
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule.data.pickled as pickled
from chainrule.data.pickled import read_pickled_batch
from chainrule.errors import DataFormatError

CONTENT = {
    b"data": np.arange(24, dtype=np.uint8).reshape(2, 12),
    b"labels": [3, 300, -1],
    b"batch_label": b"x" * 300,
    b"filenames": [b"a.png", b"b.png"],
}


def outcome(where: str, data: bytes) -> dict[str, object] | str:
    """What was read, or the text of the one error allowed."""
    try:
        return read_pickled_batch(where, data)
    except DataFormatError as error:
        return str(error)


def same_as_pickle(data: bytes) -> dict[str, object]:
    ours = read_pickled_batch("here", data)
    theirs = {k.decode(): v for k, v in pickle.loads(data, encoding="bytes").items()}
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value)
    return ours


def test_official_format_is_read_as_pickle_reads_it(official):
    ours = same_as_pickle(official.python2_pickle(CONTENT))
    assert ours["data"].dtype == np.uint8
    assert not ours["data"].flags.writeable


def test_column_major_array(official):
    content = {b"data": np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(2, 12))}
    same_as_pickle(official.python2_pickle(content))


@pytest.mark.parametrize("protocol", [3, 4])
def test_files_rewritten_by_python3(protocol):
    same_as_pickle(pickle.dumps(CONTENT, protocol=protocol))


class Call:
    """Pickles to the call of a function."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def protocols(value):
    return [pickle.dumps(value, protocol=p) for p in range(6)]


MARKER = "pickle-was-here"
HOSTILE = {
    "os.system": protocols({"labels": Call(os.system, f"touch {MARKER}")}),
    "eval": protocols(Call(eval, f"open({MARKER!r}, 'w')")),
    "getattr chain": protocols(Call(getattr, Call(__import__, "os"), "system")),
    "numpy.load": protocols(Call(np.load, "/etc/passwd")),
    "the true frombuffer": protocols(Call(np.frombuffer, b"abc", "u1")),
    "instance": [b"(S'touch x'\nios\nsystem\n."],
    "object": [b"(cos\nsystem\nS'touch x'\no."],
    "reference by stack": [b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R."],
    "dotted reference": [b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__new__\x93."],
    "reference without text": [b"\x80\x04K\x01K\x02\x93."],
    "extension registry": [b"\x80\x02\x82\x01."],
    "persistent id": [b"\x80\x02K\x01Q."],
    "new object": [b"\x80\x02cnumpy\nndarray\n)\x81."],
    "ndarray called": [b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7ft\x85R."],
    "huge array": [
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"J\xff\xff\xff\x7f\x85U\x01b\x87R."
    ],
    "object dtype": protocols({"data": np.array([[Call(os.system, f"touch {MARKER}")]])}),
    "float array": protocols({"data": np.ones((2, 3))}),
    "array without a dtype": [
        b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        b"U\x01b\x87R(K\x01K\x01K\x02\x86N\x89U\x02xytbs."
    ],
    "state for a name": [b"\x80\x02cnumpy\nndarray\n}(U\x01aK\x01ub."],
    "state for a list": [b"\x80\x02]}(U\x01aK\x01ub."],
    "list in place of a dictionary": protocols([1, 2]),
    "keys that are tuples": protocols({(1, 2): 3}),
    "append to a dictionary": [b"\x80\x02}K\x01a."],
    "item of a list": [b"\x80\x02]U\x01aK\x01s."],
    "odd number of items": [b"\x80\x02}(U\x01au."],
    "two values": [b"\x80\x02}}."],
}


@pytest.mark.parametrize("data", [d for ds in HOSTILE.values() for d in ds])
def test_hostile_pickles_are_refused_and_run_nothing(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataFormatError, match=r"^evil: pickle must (hold NumPy|be complete)"):
        read_pickled_batch("evil", data)
    assert list(tmp_path.iterdir()) == []


def test_message_names_what_was_asked_for():
    with pytest.raises(
        DataFormatError, match=r"reference to posix.system.*do not trust its source"
    ):
        read_pickled_batch("evil", pickle.dumps(Call(os.system, "true"), protocol=2))


def laughs(levels: int) -> bytes:
    """Tuples of tuples: hashing the innermost would take 2**levels steps."""
    twice = b"".join(
        b"h" + bytes([i]) * 1 + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(levels)
    )
    return b"\x80\x02}K\x01q\x00" + twice + b"K\x01s."


BOMBS = {
    "memo index": b"\x80\x02}r\xff\xff\xff\x7f.",
    "announced bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "announced text": b"\x80\x02X\xff\xff\xff\xffx.",
    "negative length": b"\x80\x02T\xff\xff\xff\xffx.",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "long": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b".",
    "nested tuples as a key": laughs(200),
    "deep": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 50_000 + b".",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_cost_neither_time_nor_memory(name):
    tracemalloc.start()
    try:
        start = time.process_time()
        outcome("bomb", BOMBS[name])
        assert time.process_time() - start < 5
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_too_many_instructions_are_refused(monkeypatch):
    monkeypatch.setattr(pickled, "_MAX_INSTRUCTIONS", 100)
    with pytest.raises(DataFormatError, match="more than 100 instructions"):
        read_pickled_batch("bomb", b"\x80\x02" + b"N" * 200 + b".")


def test_too_many_bytes_are_refused(monkeypatch):
    monkeypatch.setattr(pickled, "_MAX_BYTES", 100)
    with pytest.raises(DataFormatError, match="at most 100 bytes long; got 101 bytes"):
        read_pickled_batch("bomb", b"N" * 101)


def test_every_truncation_is_refused(official):
    data = official.python2_pickle(CONTENT)
    for length in range(len(data)):
        with pytest.raises(DataFormatError, match=r"^here: pickle must"):
            read_pickled_batch("here", data[:length])


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_damage_gives_one_kind_of_error(official, data):
    good = bytearray(official.python2_pickle(CONTENT))
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(good) - 1))
        good[position] = data.draw(st.integers(0, 255))
    result = outcome("here", bytes(good))
    assert isinstance(result, dict) or result.startswith("here: pickle must")


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_noise_gives_one_kind_of_error(noise):
    result = outcome("here", b"\x80\x02}" + noise)
    assert isinstance(result, dict) or result.startswith("here: pickle must")
