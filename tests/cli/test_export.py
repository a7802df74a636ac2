"""``chainrule export``."""

from pathlib import Path

import pytest

from chainrule import twin

SMALL = ("two_layer", "hidden=6", "fast_dev_run=true")


@pytest.fixture(autouse=True)
def _pytorch():
    pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture
def run(chainrule):
    return chainrule("train", *SMALL, "--json").json["run"]


@pytest.mark.parametrize("kind", ["safetensors", "onnx", "torch"])
def test_formats(chainrule, run, kind):
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    done = chainrule("export", run, "--format", kind)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith(f"network        {run}")
    assert lines[2].startswith("checked        by ")
    assert Path(lines[0].split()[1]).is_file()
    assert Path(lines[1].split()[1]).is_file()


def test_json(chainrule, run):
    record = chainrule("export", run, "--output", "here.safetensors", "--json").json
    assert record["file"] == "here.safetensors"
    assert record["preprocessing"] == "here.preprocessing.safetensors"
    assert record["difference"] < 1e-5
    assert Path("here.safetensors").is_file()


def test_refusals(refused, run, monkeypatch):
    assert "'onx' is not known. Did you mean 'onnx'?" in refused(
        2, "export", run, "--format", "onx"
    )
    assert "is not a run directory" in refused(1, "export", "nowhere")
    monkeypatch.setattr(twin.functional, "find_spec", lambda name: None)
    assert "export: PyTorch is not installed" in refused(3, "export", run)
