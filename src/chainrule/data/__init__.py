"""Data sets, preprocessing, augmentation and the order of the examples.

`load` turns a name or a path into three splits of arrays. A `Preprocessor` is fitted on the
training split; an `Augment` changes training batches; a `BatchIterator` says which examples make
up the next batch.
"""

from chainrule.data.augment import Augment
from chainrule.data.batches import BatchIterator
from chainrule.data.preprocess import (
    PREPROCESSORS,
    Preprocessor,
    make_preprocessor,
    preprocessor_from_state,
)
from chainrule.data.splits import DataSplits, Split, stratified_order

__all__ = [
    "PREPROCESSORS",
    "Augment",
    "BatchIterator",
    "DataSplits",
    "Preprocessor",
    "Split",
    "make_preprocessor",
    "preprocessor_from_state",
    "stratified_order",
]
