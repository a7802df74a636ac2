"""A data set of one's own in a ``.npz`` file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from chainrule.data.splits import DataSplits, Split, check_labels, fill_splits
from chainrule.errors import DataFormatError, explain, nearest

__all__ = ["load_npz"]

_KEYS = ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test", "x", "y", "classes")
# Deflate packs zeros a thousandfold; sizes are checked before anything is unpacked.
_MAX_BYTES = 4 * 2**30


def load_npz(path: Path, num_validation: int | None = None) -> DataSplits:
    """Load a ``.npz`` file of examples and labels.

    Parameters
    ----------
    path : pathlib.Path
        Written by `numpy.savez` or `numpy.savez_compressed`, with ``x_train`` and ``y_train``
        and perhaps ``x_val``, ``y_val``, ``x_test``, ``y_test``; or with ``x`` and ``y``; and
        perhaps ``classes``, the names.
    num_validation : int, optional
        Size of the validation split where the file has none, by default a tenth.

    Returns
    -------
    DataSplits
        Images (N, C, H, W) or features (N, D).

    Raises
    ------
    DataFormatError
        When the file is damaged, holds Python objects, or its arrays break the rules below.
    InputError
        When `num_validation` is given for a file that has a validation split, or is out of
        range.

    Notes
    -----
    Examples. Two dimensions are features: floats keep their dtype, whole numbers become
    float32. Three are grey images (N, H, W). Four are images: (N, C, H, W) if the second
    dimension is 1 or 3, else (N, H, W, C) if the last is. Images are uint8, whole numbers in
    0..255, or floats, which are taken as they are.

    Labels. Whole numbers, (N,) or (N, 1), from 0; without ``classes`` each number up to the
    largest must occur in the training split.

    Splits. What is missing is cut from the training examples (or from ``x``), stratified, in a
    fixed order that depends on the labels only: a fifth for test, a tenth for validation, at
    least one each. See `chainrule.data.stratified_order`.

    Objects are never unpickled, and a file that would unpack to more than 4 GiB is refused
    before it does.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "two_moons.npz"
    >>> np.savez(path, x=np.eye(10), y=np.arange(10) % 2)
    >>> splits = load_npz(path)
    >>> splits.name, len(splits.train), len(splits.val), len(splits.test)
    ('two_moons', 7, 1, 2)
    """
    where = str(path)
    arrays = _read(path)
    if ("x" in arrays) == ("x_train" in arrays):
        rule = "contain either x and y or x_train and y_train"
        raise DataFormatError(explain(where, "file", rule, ", ".join(sorted(arrays)) or "nothing"))
    classes = arrays.pop("classes", None)
    parts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for key in [key for key in arrays if key[0] == "x"]:
        label_key = "y" + key[1:]
        if label_key not in arrays:
            raise DataFormatError(explain(where, "file", f"contain {label_key}", f"only {key}"))
        x = _examples(where, key, arrays.pop(key))
        parts[key[2:] or "train"] = x, _labels(where, label_key, arrays.pop(label_key), len(x))
    if arrays:
        lonely = next(iter(arrays))
        rule = "come with examples of the same suffix"
        raise DataFormatError(explain(where, lonely, rule, "labels alone"))
    names = _class_names(where, classes, parts["train"][1])
    for key, (x, y) in parts.items():
        check_labels(f"{where}: y_{key}", y, len(names))
        if x.shape[1:] != parts["train"][0].shape[1:] or x.dtype != parts["train"][0].dtype:
            rule = "have the shape and dtype of the training examples"
            got = f"{x.shape} {x.dtype}"
            raise DataFormatError(explain(where, f"x_{key}", rule, got))
    given = {key: Split(x, y) for key, (x, y) in parts.items()}
    train, val, test = fill_splits(where, given, num_validation)
    return DataSplits(path.stem, train, val, test, names)


def _read(path: Path) -> dict[str, np.ndarray]:
    where = str(path)
    get_again = "The file is damaged; write it again with numpy.savez."
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > _MAX_BYTES:
                rule = f"unpack to at most {_MAX_BYTES} bytes"
                raise DataFormatError(explain(where, "file", rule, total))
            arrays: dict[str, np.ndarray] = {}
            for member in members:
                key = member.filename.removesuffix(".npy")
                if key not in _KEYS or key in arrays:
                    remedy = nearest(key, _KEYS) if key not in arrays else "It is there twice."
                    rule = f"be one of {', '.join(_KEYS)}"
                    raise DataFormatError(explain(where, "array name", rule, repr(key), remedy))
                with archive.open(member) as stream:
                    arrays[key] = _read_array(where, key, stream, member.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # RuntimeError is what zipfile raises for an encrypted member.
        rule = "be a complete .npz file"
        raise DataFormatError(explain(where, "file", rule, error, get_again)) from error
    return arrays


def _read_array(where: str, key: str, stream: IO[bytes], size: int) -> np.ndarray:
    """Read one .npy member after comparing what its header announces with its true size."""
    formats = np.lib.format
    try:
        version = formats.read_magic(stream)
        if version == (1, 0):
            shape, is_fortran, dtype = formats.read_array_header_1_0(stream)
        else:
            shape, is_fortran, dtype = formats.read_array_header_2_0(stream)
    except ValueError as error:
        raise DataFormatError(explain(where, key, "be a NumPy array", error)) from error
    if dtype.hasobject:
        remedy = "Write plain numbers, for instance with numpy.array(list, dtype=...)."
        rule = "hold numbers, not Python objects"
        raise DataFormatError(explain(where, key, rule, f"dtype {dtype}", remedy))
    count = 1
    for length in shape:
        count *= length
    left = size - stream.tell()
    if dtype.itemsize == 0 or min(shape, default=0) < 0 or count * dtype.itemsize != left:
        rule = f"hold the {left} bytes that the file has for it"
        raise DataFormatError(explain(where, key, rule, f"shape {shape} of {dtype}"))
    flat = np.frombuffer(stream.read(), dtype) if count else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _examples(where: str, key: str, x: np.ndarray) -> np.ndarray:
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        rule = "be features (N, D) or images (N, H, W), (N, C, H, W) or (N, H, W, C), not empty"
        raise DataFormatError(explain(where, key, rule, x.shape))
    if x.dtype.kind not in "uifb":
        raise DataFormatError(explain(where, key, "hold real numbers", f"dtype {x.dtype}"))
    if x.dtype.kind == "f":
        if not np.isfinite(x).all():
            raise DataFormatError(explain(where, key, "be finite", "nan or infinity"))
        x = x.astype(np.float64 if x.dtype.itemsize > 4 else np.float32)
    elif x.ndim == 2:
        x = x.astype(np.float32)
    else:
        if x.min() < 0 or x.max() > 255:
            rule = "hold whole numbers in 0..255, or floats"
            raise DataFormatError(explain(where, key, rule, f"{x.min()}..{x.max()}"))
        x = x.astype(np.uint8)
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[1] not in (1, 3):
        if x.shape[3] not in (1, 3):
            rule = "have 1 or 3 channels, second or last"
            raise DataFormatError(explain(where, key, rule, x.shape))
        x = x.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x)


def _labels(where: str, key: str, y: np.ndarray, count: int) -> np.ndarray:
    if y.dtype.kind not in "ui":
        remedy = "Number the classes from 0 and store their names as 'classes'."
        raise DataFormatError(explain(where, key, "hold whole numbers", f"dtype {y.dtype}", remedy))
    if y.shape not in ((count,), (count, 1)):
        rule = f"have shape ({count},), a label for each example"
        raise DataFormatError(explain(where, key, rule, y.shape))
    if y.max() > 2**31:
        raise DataFormatError(explain(where, key, "be class numbers", y.max()))
    return y.reshape(count).astype(np.int64)


def _class_names(where: str, classes: np.ndarray | None, y_train: np.ndarray) -> tuple[str, ...]:
    present = np.unique(y_train)
    if classes is None:
        if not np.array_equal(present, np.arange(len(present))):
            rule = f"be 0..{len(present) - 1}, each at least once in training"
            got = f"{len(present)} different labels in {present[0]}..{present[-1]}"
            remedy = "Number the classes from 0, or store their names as 'classes'."
            raise DataFormatError(explain(where, "labels", rule, got, remedy))
        return tuple(str(label) for label in present)
    if classes.ndim != 1 or classes.dtype.kind != "U" or len(set(classes.tolist())) < len(classes):
        rule = "be a list of different texts"
        got = f"shape {classes.shape} of {classes.dtype}"
        raise DataFormatError(explain(where, "classes", rule, got))
    return tuple(classes.tolist())
