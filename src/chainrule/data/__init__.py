"""Data sets, preprocessing, augmentation and the order of the examples.

`load` turns a name or a path into three splits of arrays. A `Preprocessor` is fitted on the
training split; an `Augment` changes training batches; a `BatchIterator` says which examples make
up the next batch.
"""

from chainrule.data.augment import VIEWS, Augment, views
from chainrule.data.batches import BatchIterator
from chainrule.data.catalog import DatasetInfo, dataset_names, fetch, list_datasets, load
from chainrule.data.folders import data_folder
from chainrule.data.images import read_images
from chainrule.data.preprocess import (
    PREPROCESSORS,
    Preprocessor,
    make_preprocessor,
    preprocessor_from_state,
)
from chainrule.data.splits import DataSplits, Split, stratified_order

__all__ = [
    "PREPROCESSORS",
    "VIEWS",
    "Augment",
    "BatchIterator",
    "DataSplits",
    "DatasetInfo",
    "Preprocessor",
    "Split",
    "data_folder",
    "dataset_names",
    "fetch",
    "list_datasets",
    "load",
    "make_preprocessor",
    "preprocessor_from_state",
    "read_images",
    "stratified_order",
    "views",
]
