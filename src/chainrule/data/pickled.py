"""Read the pickled batches of CIFAR-10 without Python's pickle machinery.

Unpickling runs code: a pickle is a program for a small stack machine that may import and call
anything. This module is that machine with nearly everything left out. It knows the instructions
that the official files (and files written the same way by later Pythons) are made of, it builds
lists, tuples, numbers, byte strings and dictionaries with text keys, and of all importable names
it knows the three from which NumPy rebuilds an array. Even those are not imported: the machine
recognises the pattern

    _reconstruct(ndarray, (0,), b"b")  then  BUILD (1, shape, dtype, is_fortran, raw bytes)

and makes a read-only uint8 array over the raw bytes. Anything else, and anything of excessive
size, is a `DataFormatError`; nothing of the file is ever called.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from chainrule.errors import DataFormatError, explain

__all__ = ["read_pickled_batch"]

# A batch of 10,000 images takes about 45,000 instructions and 31 MB.
_MAX_INSTRUCTIONS = 200_000
_MAX_BYTES = 64 * 2**20


class _Symbol:
    """Something on the stack that is no value: an admitted name, a dtype, a mark."""

    __slots__ = ()


class _Array:
    """An array under reconstruction; `value` is None until its BUILD instruction."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: np.ndarray | None = None


_MARK, _RECONSTRUCT, _NDARRAY, _DTYPE, _UINT8 = (_Symbol() for _ in range(5))
_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
}


def read_pickled_batch(where: str, data: bytes) -> dict[str, Any]:
    """Read a CIFAR-10 batch, or its ``batches.meta``, from the bytes of its pickle.

    Parameters
    ----------
    where : str
        The file, for messages.
    data : bytes
        The pickle, of any protocol from 2.

    Returns
    -------
    dict
        Text keys; values are int, bool, None, bytes, str, and lists, tuples and dictionaries of
        those; arrays are read-only `numpy.ndarray` of uint8.

    Raises
    ------
    DataFormatError
        When the file is damaged or truncated, or asks for anything but the reconstruction of
        uint8 arrays.

    Notes
    -----
    Linear in time and memory. There is no recursion, nothing is hashed but short text, and the
    numbers of instructions and of bytes are bounded, so that a hostile file can neither run code
    nor exhaust the machine.

    Examples
    --------
    >>> import pickle
    >>> read_pickled_batch("example", pickle.dumps({"labels": [3, 1]}, protocol=2))
    {'labels': [3, 1]}
    >>> read_pickled_batch("evil", b"cos\\nsystem\\n(S'echo hello'\\ntR.")
    Traceback (most recent call last):
        ...
    chainrule.errors.DataFormatError: evil: pickle must hold NumPy arrays, lists, numbers and \
text only; got a reference to os.system. The file is no CIFAR-10 batch; do not trust its source.
    """
    if len(data) > _MAX_BYTES:
        rule = f"be at most {_MAX_BYTES} bytes long"
        raise DataFormatError(explain(where, "pickle", rule, f"{len(data)} bytes"))
    return _Machine(where, data).run()


class _Machine:
    """The stack machine: `run` reads instruction after instruction until STOP."""

    def __init__(self, where: str, data: bytes) -> None:
        self.where = where
        self.data = data
        self.position = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> dict[str, Any]:
        try:
            for _ in range(_MAX_INSTRUCTIONS):
                opcode = self.take(1)
                if opcode == b".":
                    return self.finish()
                if opcode not in _INSTRUCTIONS:
                    raise self.refused(f"pickle instruction {opcode!r} at byte {self.position - 1}")
                _INSTRUCTIONS[opcode](self)
        except (IndexError, KeyError, UnicodeDecodeError) as error:
            # An empty stack, a memo entry that was never made, a name that is no text.
            raise self.broken(f"nonsense before byte {self.position}") from error
        raise self.refused(f"more than {_MAX_INSTRUCTIONS} instructions")

    def refused(self, got: str) -> DataFormatError:
        rule = "hold NumPy arrays, lists, numbers and text only"
        remedy = "The file is no CIFAR-10 batch; do not trust its source."
        return DataFormatError(explain(self.where, "pickle", rule, got, remedy))

    def broken(self, got: str) -> DataFormatError:
        remedy = "The file is damaged or truncated; get it again."
        return DataFormatError(explain(self.where, "pickle", "be complete", got, remedy))

    def finish(self) -> dict[str, Any]:
        top = self.stack.pop()
        if not isinstance(top, dict) or self.stack:
            raise self.refused(f"a {type(top).__name__} where one dictionary belongs")
        return {key: v.value if isinstance(v, _Array) else v for key, v in top.items()}

    # -- arguments --------------------------------------------------------------------------

    def take(self, count: int) -> bytes:
        start, self.position = self.position, self.position + count
        if not start <= self.position <= len(self.data):
            raise self.broken(f"the end of the file at byte {len(self.data)}")
        return self.data[start : self.position]

    def number(self, layout: str) -> int:
        (value,) = struct.unpack(layout, self.take(struct.calcsize(layout)))
        return int(value)

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 256)
        text = self.take(max(end, self.position) - self.position)
        self.take(1)
        return text.decode()

    def pop_to_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    # -- instructions that do more than push ------------------------------------------------

    def pop_tuple(self, count: int) -> tuple[Any, ...]:
        return tuple(self.stack.pop() for _ in range(count))[::-1]

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def append(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise self.refused("an item for something that is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise self.refused("an item for something that is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, bytes | str) or len(key) > 256:
                raise self.refused(f"a {type(key).__name__} as a key")
            self.stack[-1][key.decode() if isinstance(key, bytes) else key] = value

    def name(self, module: object, name: object) -> _Symbol:
        if not isinstance(module, str) or not isinstance(name, str):
            raise self.refused("a reference without a name")
        if (module, name) not in _GLOBALS:
            raise self.refused(f"a reference to {module}.{name}"[:160])
        return _GLOBALS[module, name]

    def call(self, arguments: object, function: object) -> object:
        """REDUCE: the two calls of array reconstruction, each recognised, neither made."""
        match arguments:
            case (made, (0,), _) if function is _RECONSTRUCT and made is _NDARRAY:
                return _Array()
            case (b"u1" | "u1", *_) if function is _DTYPE:
                return _UINT8
        raise self.refused("a call, or an array of something other than bytes")

    def build(self, state: object) -> None:
        """BUILD: give an array its content. The dtype needs nothing more."""
        target = self.stack[-1]
        if target is _UINT8:
            return
        if not isinstance(target, _Array):
            raise self.refused("a state for something that is no array")
        match state:
            case (int(), (int(rows), int(columns)), dtype, bool(is_fortran), bytes(raw)) if (
                dtype is _UINT8 and rows >= 0 and columns >= 0 and rows * columns == len(raw)
            ):
                order: Literal["C", "F"] = "F" if is_fortran else "C"
                flat = np.frombuffer(raw, np.uint8)
                target.value = flat.reshape(rows, columns, order=order)
            case _:
                raise self.broken("an array whose shape and bytes do not agree")


def _pushing(make: Callable[[_Machine], object]) -> Callable[[_Machine], None]:
    def instruction(machine: _Machine) -> None:
        machine.stack.append(make(machine))

    return instruction


_INSTRUCTIONS: dict[bytes, Callable[[_Machine], object]] = {
    # Frames: the protocol number and, from protocol 4, the length of what follows.
    b"\x80": lambda m: m.take(1),
    b"\x95": lambda m: m.take(8),
    # Values
    b"N": _pushing(lambda m: None),
    b"\x88": _pushing(lambda m: True),
    b"\x89": _pushing(lambda m: False),
    b"K": _pushing(lambda m: m.number("<B")),
    b"M": _pushing(lambda m: m.number("<H")),
    b"J": _pushing(lambda m: m.number("<i")),
    b"U": _pushing(lambda m: m.take(m.number("<B"))),
    b"T": _pushing(lambda m: m.take(m.number("<i"))),
    b"C": _pushing(lambda m: m.take(m.number("<B"))),
    b"B": _pushing(lambda m: m.take(m.number("<I"))),
    b"\x8e": _pushing(lambda m: m.take(m.number("<Q"))),
    b"\x8c": _pushing(lambda m: m.take(m.number("<B")).decode()),
    b"X": _pushing(lambda m: m.take(m.number("<I")).decode()),
    # Containers
    b"(": _pushing(lambda m: _MARK),
    b"]": _pushing(lambda m: []),
    b"}": _pushing(lambda m: {}),
    b")": _pushing(lambda m: ()),
    b"t": _pushing(lambda m: tuple(m.pop_to_mark())),
    b"\x85": _pushing(lambda m: m.pop_tuple(1)),
    b"\x86": _pushing(lambda m: m.pop_tuple(2)),
    b"\x87": _pushing(lambda m: m.pop_tuple(3)),
    b"a": lambda m: m.append([m.stack.pop()]),
    b"e": lambda m: m.append(m.pop_to_mark()),
    b"s": lambda m: m.set_items(list(m.pop_tuple(2))),
    b"u": lambda m: m.set_items(m.pop_to_mark()),
    # Memo
    b"q": lambda m: m.remember(m.number("<B")),
    b"r": lambda m: m.remember(m.number("<I")),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"h": _pushing(lambda m: m.memo[m.number("<B")]),
    b"j": _pushing(lambda m: m.memo[m.number("<I")]),
    # Reconstruction of arrays
    b"c": _pushing(lambda m: m.name(m.line(), m.line())),
    b"\x93": _pushing(lambda m: m.name(*m.pop_tuple(2))),
    b"R": _pushing(lambda m: m.call(m.stack.pop(), m.stack.pop())),
    b"b": lambda m: m.build(m.stack.pop()),
}
