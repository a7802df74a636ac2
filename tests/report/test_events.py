"""TensorBoard files, read back with TensorBoard's own reader."""

import io
import math
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chainrule.errors import DataMissingError, RunError
from chainrule.records import RunDirectory
from chainrule.report import write_tensorboard

accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
)


def read(folder: Any) -> Any:
    events = accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    return events.Reload()


def scalars(events: Any, tag: str) -> list[tuple[int, float]]:
    # TensorBoard turns simple values into tensors as it reads, for its newer dashboards.
    if tag in events.Tags()["scalars"]:
        return [(e.step, e.value) for e in events.Scalars(tag)]
    return [(e.step, float(e.tensor_proto.float_val[0])) for e in events.Tensors(tag)]


@pytest.fixture
def run(make_run: Any, full_metrics: list[dict[str, Any]]) -> RunDirectory:
    """A run with metrics only, whose few figures are drawn quickly."""
    directory = make_run(metrics=full_metrics)
    assert isinstance(directory, RunDirectory)
    return directory


def test_scalars_are_the_metrics(run: RunDirectory) -> None:
    folder = write_tensorboard(run.path)
    assert folder == run.path / "tensorboard"
    events = read(folder)
    assert scalars(events, "evaluation/val_loss") == [
        (40, pytest.approx(1.3)), (80, pytest.approx(0.9)), (120, pytest.approx(1.0)),
    ]  # fmt: skip
    written = scalars(events, "step/loss")
    expected = [(r["step"], r["loss"]) for r in run.metrics("step")]
    assert [step for step, _ in written] == [step for step, _ in expected]
    np.testing.assert_allclose([v for _, v in written], [v for _, v in expected], rtol=1e-6)
    assert scalars(events, "layers/relu1/activation_zeros")[0] == (40, 0.5)
    assert scalars(events, "parameters/conv1.weight/update_ratio")[2] == (
        120, pytest.approx(2e-3),
    )  # fmt: skip
    tags = events.Tags()
    assert not any("best" in tag or "seconds" in tag for tag in tags["scalars"] + tags["tensors"])


def test_times_count_back_from_the_end_of_the_run(run: RunDirectory) -> None:
    events = read(write_tensorboard(run.path))
    times = [e.wall_time for e in events.Scalars("step/loss")]
    end = run.metrics_path.stat().st_mtime
    assert times[-1] == pytest.approx(end, abs=1e-3)
    assert times[-1] - times[0] == pytest.approx(59.5, abs=1e-3)


def test_figures_are_images(full_run: RunDirectory) -> None:
    events = read(write_tensorboard(full_run.path))
    assert set(events.Tags()["images"]) == {
        f"figures/{name}"
        for name in (
            "learning_curves", "weights", "confusion_matrix", "class_accuracy", "mistakes",
            "update_ratios", "activations",
        )
    }  # fmt: skip
    (image,) = events.Images("figures/mistakes")
    with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
        assert (picture.format, picture.size) == ("PNG", (image.width, image.height))


def test_writing_again_replaces_only_its_own_file(run: RunDirectory, tmp_path: Any) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    foreign = folder / "events.out.tfevents.1.host"
    foreign.write_bytes(b"")
    assert write_tensorboard(run.path, folder) == folder
    write_tensorboard(run.path, folder)
    assert foreign.exists()
    assert len(list(folder.iterdir())) == 2


def test_values_that_were_not_finite(make_run: Any) -> None:
    run = make_run(metrics=[{"kind": "step", "step": 1, "loss": math.inf, "best": True}])
    ((step, value),) = scalars(read(write_tensorboard(run.path)), "step/loss")
    assert step == 1
    assert math.isnan(value)


def test_a_run_without_metrics(make_run: Any) -> None:
    events = read(write_tensorboard(make_run().path))
    assert events.Tags()["scalars"] == []


def test_a_folder_that_cannot_be_made(run: RunDirectory, tmp_path: Any) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file/logs: could not be written"):
        write_tensorboard(run.path, tmp_path / "file" / "logs")


def test_tensorboard_is_optional(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(DataMissingError, match=r'pip install "chainrule\[tensorboard\]"'):
        write_tensorboard(run.path)
