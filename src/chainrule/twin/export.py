"""A run's network for other programs: safetensors, ONNX, or a PyTorch program.

What is exported takes preprocessed examples and gives scores. How the examples are preprocessed
stands in the file's metadata, or in a safetensors file beside it where it needs arrays.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule import __version__, data
from chainrule.errors import ConfigError, DataMissingError, GradientMismatchError, explain, nearest
from chainrule.models import Sequential, layers_to_tables
from chainrule.records import RunDirectory, save_tensors, write_atomically
from chainrule.training import Config, load_run
from chainrule.twin.networks import TwinNetwork

__all__ = ["FORMATS", "Exported", "export_run"]

FORMATS = {"safetensors": "model.safetensors", "onnx": "model.onnx", "torch": "model.pt2"}
EXAMPLES = 8  # that the exported network is checked with
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    path : Path
        The network.
    preprocessing : Path
        The fitted preprocessing of its examples, as safetensors.
    difference : float
        Largest difference of its scores from NumPy's, relative where scores exceed 1.
    checked_by : str
        What computed them from the written file.
    """

    path: Path
    preprocessing: Path
    difference: float
    checked_by: str


def export_run(path: str | Path, kind: str, target: str | Path | None = None) -> Exported:
    """Write the best network of a run, of either backend, for other programs.

    Parameters
    ----------
    path : path
        The run directory.
    kind : {"safetensors", "onnx", "torch"}
        Weights under PyTorch's names with the network's description as metadata; an ONNX graph
        with a free batch size; a program of ``torch.export``.
    target : path, optional
        The file to write; default: in the run's folder ``export``.

    Returns
    -------
    Exported
        The files, and how far the scores of what was written are from NumPy's.

    Raises
    ------
    ConfigError
        If there is no such format.
    DataMissingError
        If a package is not installed.
    RunError
        If it is not a run, or a file cannot be written.
    GradientMismatchError
        If what was written does not give NumPy's scores.

    Notes
    -----
    The written file is read back and computes the scores of random examples: an ONNX graph by
    onnxruntime, a PyTorch program by PyTorch, weights by a fresh twin. An ONNX graph is float32
    whatever the run was: onnxruntime lacks some operations in float64.

    Examples
    --------
    >>> import tempfile
    >>> from chainrule.training import load_config, train_run
    >>> run = train_run(load_config(overrides=["fast_dev_run=true"]), tempfile.mkdtemp()).run
    >>> exported = export_run(run.path, "safetensors")
    >>> exported.path.relative_to(run.path).as_posix(), exported.difference < 1e-5
    ('export/model.safetensors', True)
    """
    if kind not in FORMATS:
        raise ConfigError(f"export: format {kind!r} is not known. {nearest(str(kind), FORMATS)}")
    if kind == "onnx":
        _require("onnx", "onnxscript", "onnxruntime")
    run, config, model, preprocessor = load_run(path)
    file = run.path / "export" / FORMATS[kind] if target is None else Path(target)
    network = TwinNetwork(model)
    network.eval()
    metadata = _metadata(run, config, model, preprocessor)
    shape = (EXAMPLES, *model.input_shape)
    x = np.random.default_rng(0).standard_normal(shape).astype(model.dtype)
    expected = model.forward(x)
    if kind == "safetensors":
        found, by = _safetensors(file, network, metadata, model, x), "PyTorch"
    elif kind == "onnx":
        found, by = _onnx(file, network, metadata, x), "onnxruntime"
    else:
        found, by = _program(file, network, metadata, x), "PyTorch"
    scale = max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(found - expected).max()) / scale
    tolerance = TOLERANCE[str(found.dtype)]
    if not difference <= tolerance:
        file.unlink()  # before anyone takes it for the network
        must, got = f"agree with NumPy's to {tolerance:g}", f"a difference of {difference:.2g}"
        raise GradientMismatchError(explain("export", f"the scores of {file}", must, got))
    beside = file.with_name(f"{file.stem}.preprocessing.safetensors")
    tensors, options = preprocessor.state()
    save_tensors(beside, tensors, options)
    return Exported(file, beside, difference, by)


def _metadata(
    run: RunDirectory, config: Config, model: Sequential, preprocessor: data.Preprocessor
) -> dict[str, Any]:
    """Describe a network so that it can be built anew, and its examples prepared."""
    about = run.data()
    return {
        "chainrule": __version__,
        "model": config.model.name,
        "layers": [{**t, "name": m.name} for t, m in _tables(model)],
        "loss": model.loss_name,
        "input_shape": list(model.input_shape),
        "image_shape": about["input_shape"],
        "classes": about["classes"],
        "data": about["name"],
        "preprocessing": preprocessor.state()[1],
    }


def _tables(model: Sequential) -> Iterator[tuple[dict[str, Any], Any]]:
    yield from zip(layers_to_tables(model.layers), model.layers, strict=True)


def _safetensors(
    file: Path, network: TwinNetwork, metadata: dict[str, Any], model: Sequential, x: np.ndarray
) -> np.ndarray:
    params, buffers = network.to_numpy()
    save_tensors(file, params | buffers, metadata)
    fresh = TwinNetwork(model)
    fresh.load(file)
    fresh.eval()
    return _scores(fresh, x)


def _onnx(file: Path, network: TwinNetwork, metadata: dict[str, Any], x: np.ndarray) -> np.ndarray:
    import onnx
    from onnxruntime import InferenceSession

    batch = torch.export.Dim("batch", min=1)
    network, x = network.float(), x.astype(np.float32)
    with _quiet():
        program = torch.onnx.export(
            network,
            (torch.from_numpy(x),),
            dynamo=True,
            input_names=["images"],
            output_names=["scores"],
            dynamic_shapes=({0: batch},),
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    onnx.helper.set_model_props(graph, _texts(metadata))
    onnx.checker.check_model(graph, full_check=True)
    write_atomically(file, graph.SerializeToString())
    session = InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    # One example alone shows that the batch size was not frozen.
    parts = [session.run(["scores"], {"images": part})[0] for part in (x[:1], x[1:])]
    return np.concatenate(parts)


def _program(
    file: Path, network: TwinNetwork, metadata: dict[str, Any], x: np.ndarray
) -> np.ndarray:
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program = torch.export.export(network, (torch.from_numpy(x),), dynamic_shapes=({0: batch},))
        content = io.BytesIO()
        torch.export.save(program, content, extra_files={"chainrule.json": json.dumps(metadata)})
        write_atomically(file, content.getvalue())
        # Its own bytes, just written: no untrusted file is ever read this way.
        loaded = torch.export.load(io.BytesIO(content.getvalue())).module()
        return np.concatenate([_scores(loaded, part) for part in (x[:1], x[1:])])


def _scores(network: Any, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        scores: np.ndarray = network(torch.from_numpy(x)).numpy()
    return scores


def _texts(metadata: dict[str, Any]) -> dict[str, str]:
    """Write each value as JSON, except what is text already."""
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}


def _require(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise DataMissingError(
                f"export: {package} is not installed. Install it with: "
                "pip install 'chainrule[export]'"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' progress, deprecations and notes to themselves; errors stay."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
