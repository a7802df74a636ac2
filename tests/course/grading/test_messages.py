"""What passes between grader and sandbox, and how values are compared."""

import json
import struct

import numpy as np
import pytest

from chainrule.course.grading.inside.codec import Other, decode, encode
from chainrule.course.grading.script import Tolerance, fault_of


def test_plain_data_come_back():
    value = {"a": [1, 2.5, "x", None, True], "b": {"c": np.arange(6.0).reshape(2, 3)}}
    back = decode(encode(value))
    np.testing.assert_array_equal(back["b"].pop("c"), value["b"].pop("c"))
    assert back == value


@pytest.mark.parametrize("dtype", ["bool", "i1", "u8", "<i4", ">f8", "f2", "f4", "c16"])
def test_arrays_come_back(dtype):
    for array in (np.ones((2, 3), dtype)[:, ::2], np.zeros((0, 4), dtype), np.array(1, dtype)):
        back = decode(encode(array))
        np.testing.assert_array_equal(back, array)
        assert back.dtype == array.dtype.newbyteorder("=")
        assert back.flags.writeable


def test_what_is_no_plain_data_is_named_only():
    class Own(float):
        pass

    value = decode(encode([object(), np.array([None]), {1}, Own(2.0), {3: 4}]))
    assert [each.name for each in value[:3]] == ["object", "array of object", "set"]
    assert value[3:] == [2.0, {}]
    nested = []
    nested.append(nested)
    assert "deeply nested data" in repr(decode(encode(nested)))


def message(tree, data=b""):
    text = json.dumps(tree).encode()
    return struct.pack("<I", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xff\xff\xff",
        struct.pack("<I", 3) + b"{{{",
        struct.pack("<I", 100_000) + b"[" * 100_000,
        message([1]),
        message({"l": 3}),
        message({"l": [], "d": {}}),
        message({"z": 1}),
        message({"a": ["|O", [1], 0]}, b"12345678"),
        message({"a": ["<f8", [2], 0]}, b"12345678"),
        message({"a": ["<f8", [-1], 0]}, b"12345678"),
        message({"a": ["<f8", [2**60, 2**60], 0]}, b"12345678"),
        message({"a": ["<f8", [1], -8]}, b"12345678"),
        message({"a": ["<f8", [True], 0]}, b"12345678"),
        message({"a": ["<f8"]}),
        message({"a": [["<f8"], [1], 0]}, b"12345678"),
        message({"a": ["<f8", [1] * 20, 0]}, b"12345678"),
    ],
)
def test_damaged_messages_are_refused(content):
    with pytest.raises(ValueError, match="message"):
        decode(content)


EXACT = Tolerance(1e-6, 1e-9)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([1.0, 2.0 + 1e-7]), [1.0, 2.0]),
        (3, 3.0),
        (np.array([3.0]), 3.0),
        ([1, 2], np.array([1.0, 2.0])),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        ("a", "a"),
        (None, None),
        (True, True),
    ],
)
def test_what_is_right(value, expected):
    assert fault_of(value, expected, EXACT) == ""


@pytest.mark.parametrize(
    ("value", "expected", "words"),
    [
        (np.array([1.0, 2.1]), [1.0, 2.0], "1 of its 2 numbers is wrong, by up to 0.05 times"),
        (2.1, 2.0, "it is wrong, by up to 0.05 times the largest"),
        (np.ones((2, 3)), np.ones((3, 2)), "its shape should be (3, 2); yours is (2, 3)"),
        (np.ones(2), 1.0, "its shape should be that of a single number; yours is (2,)"),
        (np.array([[1.0, 2], [3, 4]]), [[1.0, 3], [2, 4]], "it is transposed"),
        (np.zeros(3), [1.0, 2, 3], "all of it is 0"),
        (np.array([np.inf, 1]), [1.0, 1], "1 of its 2 numbers is infinite"),
        (None, 1.0, "it is None"),
        (1, True, "it should be True; yours is 1"),
        ("1", 1.0, "should be an array of numbers; yours is '1'"),
        ([[1, 2], [3]], np.ones(2), "should be an array of numbers"),
        (Other("Foo"), np.ones(2), "a value of type Foo"),
        ({"a": 1}, np.ones(2), "should be an array of numbers"),
        (np.array([1j]), np.ones(1), "should be an array of numbers"),
    ],
)
def test_what_is_wrong(value, expected, words):
    assert words in fault_of(value, expected, EXACT)
