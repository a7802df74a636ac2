"""Plain data as bytes: what passes between the grader and the process of a student's code.

A message is a length, a JSON text of that length and the bytes of the arrays that the text
refers to. Nothing in it can be executed, and reading checks every length, type and depth before
it believes one, for whoever sends it may have been taken over.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np

__all__ = ["Other", "decode", "encode"]

# Kinds of numbers that a result may hold; objects, strings and records are not among them.
DTYPES = {"<i2", "<i4", "<i8", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16"}
DTYPES |= {"|b1", "|i1", "|u1"}
DEEPEST = 24


class Other:
    """Stands for a value that is no plain data: only the name of its type is sent.

    Parameters
    ----------
    name : str
        Of the type.
    """

    def __init__(self, name: str) -> None:
        self.name = name[:80]

    def __repr__(self) -> str:
        return f"a value of type {self.name}"


def encode(value: Any) -> bytes:
    """Return numbers, strings, arrays, and lists and dicts of them, as bytes.

    Anything else is sent as the name of its type, see `Other`.
    """
    arrays: list[bytes] = []
    text = json.dumps(_plain(value, arrays, 0), allow_nan=True).encode()
    return struct.pack("<I", len(text)) + text + b"".join(arrays)


def _plain(value: Any, arrays: list[bytes], depth: int) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Other) or depth > DEEPEST:
        return {"o": value.name if isinstance(value, Other) else "deeply nested data"}
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        if array.dtype.str not in DTYPES:
            return {"o": f"array of {array.dtype}"}
        offset = sum(map(len, arrays))
        arrays.append(array.tobytes())
        return {"a": [array.dtype.str, list(array.shape), offset]}
    if isinstance(value, list | tuple):
        return {"l": [_plain(item, arrays, depth + 1) for item in value]}
    if isinstance(value, dict):
        items = [(key, item) for key, item in value.items() if isinstance(key, str)]
        return {"d": {key: _plain(item, arrays, depth + 1) for key, item in items}}
    if isinstance(value, int | float | str):  # of a class of its own
        return _plain(next(t for t in (int, float, str) if isinstance(value, t))(value), arrays, 0)
    return {"o": type(value).__name__}


def decode(content: bytes) -> Any:
    """Return what `encode` was given; tuples come back as lists.

    Parameters
    ----------
    content : bytes
        Of any origin.

    Returns
    -------
    object
        Plain data; arrays are writable and of the machine's own byte order.

    Raises
    ------
    ValueError
        If it is no such message.
    """
    if len(content) < 4:
        raise ValueError("a message has at least four bytes")
    (length,) = struct.unpack_from("<I", content)
    if length > len(content) - 4:
        raise ValueError("the message is cut short")
    try:
        tree = json.loads(content[4 : 4 + length])
        return _value(tree, memoryview(content)[4 + length :], 0)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"the message is malformed ({error})") from error


def _value(tree: Any, data: memoryview, depth: int) -> Any:
    if depth > DEEPEST + 1:
        raise ValueError("the message is nested too deeply")
    if not isinstance(tree, dict | list):
        return tree
    if not isinstance(tree, dict) or len(tree) != 1:
        raise ValueError("the message is malformed")
    (kind, body), = tree.items()  # fmt: skip
    if kind == "l" and isinstance(body, list):
        return [_value(item, data, depth + 1) for item in body]
    if kind == "d" and isinstance(body, dict):
        return {key: _value(item, data, depth + 1) for key, item in body.items()}
    if kind == "o" and isinstance(body, str):
        return Other(body)
    if kind == "a" and isinstance(body, list):
        return _array(body, data)
    raise ValueError("the message is malformed")


def _array(body: list[Any], data: memoryview) -> np.ndarray:
    dtype, shape, offset = body
    if dtype not in DTYPES or not isinstance(offset, int) or len(shape) > 16:
        raise ValueError("an array of the message is malformed")
    if not all(type(size) is int and 0 <= size < 2**40 for size in shape):
        raise ValueError("an array of the message has no valid shape")
    length = math.prod(shape) * np.dtype(dtype).itemsize
    if offset < 0 or offset + length > len(data):
        raise ValueError("an array of the message is cut short")
    return np.frombuffer(data[offset : offset + length], dtype).reshape(shape).copy()
