"""Write small data sets byte for byte in the official file formats."""

import gzip
import struct
import tarfile
from pathlib import Path

import numpy as np

CLASSES = [
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
]  # fmt: skip


def python2_pickle(value: object) -> bytes:
    """Pickle as Python 2 did with protocol 2, in which CIFAR-10 was published."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value: object) -> bytes:
    if isinstance(value, dict):
        items = b"".join(_python2(k) + _python2(v) for k, v in value.items())
        return b"}q\x01(" + items + b"u"
    if isinstance(value, list):
        return b"]r\x02\x00\x00\x00(" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, bytes) and len(value) < 256:
        return b"U" + bytes([len(value)]) + value
    if isinstance(value, bytes):
        return b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)
    assert isinstance(value, np.ndarray)
    rows, columns = value.shape
    is_fortran = value.flags.f_contiguous and not value.flags.c_contiguous
    return (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nK\x00\x85"
        + _python2(b"b")
        + b"\x87R(K\x01"
        + _python2(rows)
        + _python2(columns)
        + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + (b"\x88" if is_fortran else b"\x89")
        + _python2(value.tobytes(order="A"))
        + b"tb"
    )


def cifar10_content(rows: int = 20, seed: int = 0) -> dict[str, dict[bytes, object]]:
    """Contents of the seven files, with `rows` images in each batch."""
    rng = np.random.default_rng(seed)
    files: dict[str, dict[bytes, object]] = {
        "batches.meta": {
            b"num_cases_per_batch": rows,
            b"label_names": [name.encode() for name in CLASSES],
            b"num_vis": 3072,
        }
    }
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        labels = [(i * 7 + len(files)) % 10 for i in range(rows)]
        files[name] = {
            b"batch_label": name.encode(),
            b"labels": labels,
            b"data": rng.integers(0, 256, (rows, 3072), dtype=np.uint8),
            b"filenames": [f"{CLASSES[v]}_{i:06d}.png".encode() for i, v in enumerate(labels)],
        }
    return files


def write_cifar10(folder: Path, files: dict[str, dict[bytes, object]]) -> Path:
    """Write ``cifar-10-batches-py`` into a data folder."""
    target = folder / "cifar-10-batches-py"
    target.mkdir(parents=True)
    for name, content in files.items():
        (target / name).write_bytes(python2_pickle(content))
    return target


def pack_cifar10(folder: Path, unpacked: Path) -> Path:
    """Write ``cifar-10-python.tar.gz``, members in the official, unsorted order."""
    archive = folder / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(unpacked, unpacked.name, recursive=False)
        for path in sorted(unpacked.iterdir(), key=lambda p: p.name[::-1], reverse=True):
            tar.add(path, f"{unpacked.name}/{path.name}")
    return archive


def idx_bytes(values: np.ndarray) -> bytes:
    """An idx file of unsigned bytes."""
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def write_mnist(folder: Path, num_train: int = 60, num_test: int = 20, packed: bool = True) -> None:
    """Write the four files of MNIST."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for part, count in (("train", num_train), ("t10k", num_test)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for kind, values in (("images-idx3", images), ("labels-idx1", np.arange(count) % 10)):
            data = idx_bytes(values)
            name = f"{part}-{kind}-ubyte" + (".gz" if packed else "")
            (folder / name).write_bytes(gzip.compress(data, 1) if packed else data)
