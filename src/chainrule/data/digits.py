"""The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from chainrule.data.splits import DataSplits, Split, check_labels, fill_splits
from chainrule.errors import DataFormatError, DataMissingError, explain

__all__ = ["find_digits", "load_digits"]

_NUM_TEST = 300
_NUM_VALIDATION = 200


def find_digits() -> Path:
    """Find the file of the digits inside the installed scikit-learn.

    Returns
    -------
    pathlib.Path
        ``sklearn/datasets/data/digits.csv.gz``.

    Raises
    ------
    DataMissingError
        When scikit-learn is not installed, or no longer brings the file.

    Notes
    -----
    Importing scikit-learn to read this one file would take longer than a second.
    """
    spec = find_spec("sklearn")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return path
    rule = "be installed with its data files"
    remedy = "Install it with: pip install scikit-learn"
    raise DataMissingError(explain("data set 'digits'", "scikit-learn", rule, "none", remedy))


def load_digits(num_validation: int | None = None) -> DataSplits:
    """Load the digits, cut by a fixed stratified rule.

    Parameters
    ----------
    num_validation : int, optional
        Size of the validation split, by default 200.

    Returns
    -------
    DataSplits
        Images (N, 1, 8, 8) uint8; 1,297, 200 and 300 of them. The file has 17 grey levels,
        0..16; they are spread over 0..255 as ``round(255 / 16 * level)``.

    Raises
    ------
    DataMissingError
        When scikit-learn's file is not there.
    DataFormatError
        When it is not what it was.

    See Also
    --------
    chainrule.data.stratified_order : the fixed order from which the splits are cut.
    """
    path = find_digits()
    table = np.loadtxt(path, delimiter=",", dtype=np.int64)
    if table.shape != (1797, 65) or table[:, :64].min() < 0 or table[:, :64].max() > 16:
        rule = "hold 1797 rows of 64 pixels in 0..16 and a label"
        raise DataFormatError(explain(str(path), "file", rule, f"shape {table.shape}"))
    y = np.ascontiguousarray(table[:, 64])
    check_labels(str(path), y, 10)
    x = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    count = _NUM_VALIDATION if num_validation is None else num_validation
    train, val, test = fill_splits("digits", {"train": Split(x, y)}, count, _NUM_TEST)
    return DataSplits("digits", train, val, test, tuple(str(digit) for digit in range(10)))
