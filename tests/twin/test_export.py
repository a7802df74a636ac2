"""Networks for other programs: what is written is read back and gives NumPy's scores."""

import json
import zipfile

import numpy as np
import pytest

from chainrule import data
from chainrule.errors import ConfigError, DataMissingError, GradientMismatchError, RunError
from chainrule.models import Sequential, layers_from_tables
from chainrule.records import load_tensors
from chainrule.training import load_config, load_run, train_run
from chainrule.twin import BACKENDS

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
export = pytest.importorskip("chainrule.twin.export")

KINDS = list(export.FORMATS)
VGG = ("model.name=vgg_small", "channels=[[4],[5]]", "dropout=0.3", "label_smoothing=0.1")


def trained(folder, *settings):
    config = load_config(overrides=["fast_dev_run=true", "batch_size=40", "lr=0.05", *settings])
    return train_run(config, folder, backends=BACKENDS).run


def needs_onnx(kind="onnx"):
    if kind == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)


def scores_of(kind, file, x):
    """Scores by a program that knows the file only."""
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return session.run(None, {"images": x.astype(np.float32)})[0]
    if kind == "torch":
        return torch.export.load(file).module()(torch.tensor(x)).detach().numpy()
    tensors, metadata = load_tensors(file)
    layers = layers_from_tables(metadata["layers"], len(metadata["classes"]))
    model = Sequential(layers, loss=metadata["loss"])
    shape = tuple(metadata["input_shape"])
    model.init(np.random.default_rng(0), shape, dtype=x.dtype)
    for group in (model.params, model.buffers):
        group.update({key: tensors[key] for key in group})
    return model.forward(x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_what_is_written(tmp_path, kind, dtype):
    needs_onnx(kind)
    run = trained(tmp_path, *VGG, f"dtype={dtype}")
    made = export.export_run(run.path, kind)
    assert made.path == run.path / "export" / export.FORMATS[kind]
    assert made.checked_by == {"onnx": "onnxruntime"}.get(kind, "PyTorch")
    model = load_run(run.path)[2]
    tolerance = 1e-12 if dtype == "float64" and kind != "onnx" else 1e-5
    for count in (1, 13):
        x = np.random.default_rng(1).normal(size=(count, 1, 8, 8)).astype(dtype)
        scores = scores_of(kind, made.path, x)
        np.testing.assert_allclose(scores, model.forward(x), rtol=0, atol=tolerance)
    assert made.difference <= tolerance
    tensors, options = load_tensors(made.preprocessing)
    preprocessor = data.preprocessor_from_state(tensors, options)
    images = data.load("digits").test.x
    own = load_run(run.path)[3].transform(images, np.dtype(dtype))
    np.testing.assert_array_equal(preprocessor.transform(images, np.dtype(dtype)), own)


@pytest.mark.parametrize("kind", KINDS)
def test_metadata(tmp_path, kind):
    needs_onnx(kind)
    run = trained(tmp_path, *VGG, "backend.name=torch", "backend.device=cpu")
    file = export.export_run(run.path, kind, tmp_path / "mine.bin").path
    assert file == tmp_path / "mine.bin"
    if kind == "onnx":
        import onnx

        props = {each.key: each.value for each in onnx.load(file).metadata_props}
        found = {
            k: props[k] if k in ("model", "loss") else json.loads(props[k])
            for k in ("model", "loss", "classes", "input_shape", "preprocessing", "layers")
        }
    elif kind == "torch":
        with zipfile.ZipFile(file) as archive:
            (name,) = [n for n in archive.namelist() if n.endswith("chainrule.json")]
            found = json.loads(archive.read(name))
    else:
        found = load_tensors(file)[1]
    assert found["model"] == "vgg_small"
    assert found["loss"] == "cross_entropy"
    assert found["classes"] == list("0123456789")
    assert found["input_shape"] == [1, 8, 8]
    assert found["preprocessing"]["name"] == "standardize"
    assert found["layers"][0] == {
        "type": "conv2d",
        "name": "conv1",
        "out_channels": 4,
        "kernel_size": 3,
        "padding": 1,
        "bias": False,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_scores_otherwise_is_not_left(tmp_path, kind, monkeypatch):
    needs_onnx(kind)
    run = trained(tmp_path, "model.name=softmax")
    right = Sequential.forward
    monkeypatch.setattr(Sequential, "forward", lambda self, x, **k: right(self, x, **k) + 0.01)
    with pytest.raises(
        GradientMismatchError, match=r"must agree with NumPy's to .*; got a difference of 0\.0"
    ):
        export.export_run(run.path, kind)
    assert list((run.path / "export").iterdir()) == []


class TestRefusals:
    def test_formats(self, tmp_path):
        with pytest.raises(ConfigError, match=r"format 'onx' is not known\. Did you mean 'onnx'"):
            export.export_run(tmp_path, "onx")

    def test_no_run(self, tmp_path):
        with pytest.raises(RunError, match="is not a run directory"):
            export.export_run(tmp_path, "safetensors")

    def test_a_missing_package(self, tmp_path, monkeypatch):
        monkeypatch.setattr(export, "find_spec", lambda name: None)
        with pytest.raises(DataMissingError, match=r"onnx is not installed\. .*\[export\]"):
            export.export_run(tmp_path, "onnx")

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_folder_that_cannot_be_written(self, tmp_path, kind):
        needs_onnx(kind)
        run = trained(tmp_path, "model.name=softmax")
        (tmp_path / "file").write_text("")
        with pytest.raises(RunError, match="could not be written"):
            export.export_run(run.path, kind, tmp_path / "file" / "model")
