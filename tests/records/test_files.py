"""Files of a run: written whole or not at all, read back exactly, refused when damaged."""

import json
import os
from contextlib import contextmanager

import numpy as np
import pytest

from chainrule.errors import RunError
from chainrule.records import (
    MetricsLog,
    RunDirectory,
    load_tensors,
    new_run_directory,
    save_tensors,
    write_atomically,
    write_json,
)


def full_disk(*_):
    raise OSError(28, "No space left on device")


@contextmanager
def size_limit(size):
    """Let writing beyond this size of a file fail, really, for a while."""
    resource = pytest.importorskip("resource", reason="no resource limits on this system")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestWriteAtomically:
    def test_replaces_the_content_and_leaves_nothing_else(self, tmp_path):
        target = tmp_path / "deep" / "a.json"
        write_atomically(target, b"old")
        write_atomically(target, b"new")
        assert target.read_bytes() == b"new"
        assert os.listdir(target.parent) == ["a.json"]

    def test_content_is_on_the_disk_before_the_name(self, tmp_path, monkeypatch):
        events = []
        fsync, replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", lambda fd: (events.append("fsync"), fsync(fd))[1])
        monkeypatch.setattr(os, "replace", lambda a, b: (events.append("rename"), replace(a, b))[1])
        write_atomically(tmp_path / "a", b"content")
        assert events == ["fsync", "rename", "fsync"]  # the last one is the folder's

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_full_disk_leaves_the_old_content(self, tmp_path, monkeypatch, call):
        target = tmp_path / "a.json"
        write_atomically(target, b"old")
        monkeypatch.setattr(os, call, full_disk)
        with pytest.raises(RunError, match=r"a\.json: could not be written \(No space left"):
            write_atomically(target, b"new")
        assert target.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["a.json"]

    def test_folder_that_is_a_file(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(RunError, match="could not be written"):
            write_atomically(tmp_path / "file" / "a.json", b"new")


class TestTensors:
    def test_come_back_with_every_bit(self, tmp_path):
        rng = np.random.default_rng(0)
        tensors = {
            "params/conv1.weight": rng.standard_normal((3, 2, 5, 5)).astype(np.float32),
            "transposed": rng.standard_normal((4, 6)).T,
            "special": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
            "labels": np.arange(5),
            "images": rng.integers(0, 255, (2, 1, 3, 3), dtype=np.uint8),
            "none": np.zeros((0, 3)),
            "scalar": np.array(2.5),
        }
        save_tensors(tmp_path / "t.safetensors", tensors, {"step": 3, "names": ["a", "b"]})
        loaded, metadata = load_tensors(tmp_path / "t.safetensors")
        assert metadata == {"step": 3, "names": ["a", "b"]}
        assert loaded.keys() == tensors.keys()
        for key, value in tensors.items():
            assert loaded[key].dtype == value.dtype
            assert loaded[key].shape == value.shape
            assert loaded[key].tobytes() == np.ascontiguousarray(value).tobytes()
            assert loaded[key].flags.writeable

    def test_official_library_reads_them(self, tmp_path):
        from safetensors import safe_open

        save_tensors(tmp_path / "t.safetensors", {"w": np.arange(3.0)}, {"step": 3})
        with safe_open(tmp_path / "t.safetensors", framework="numpy") as file:
            assert file.metadata() == {"step": "3"}
            np.testing.assert_array_equal(file.get_tensor("w"), np.arange(3.0))

    def test_metadata_of_other_programs_may_be_plain_text(self, tmp_path):
        from safetensors.numpy import save_file

        save_file({"w": np.zeros(1)}, tmp_path / "t.safetensors", metadata={"format": "pt"})
        assert load_tensors(tmp_path / "t.safetensors")[1] == {"format": "pt"}

    def test_returns_the_checksum_of_the_file(self, tmp_path):
        import hashlib

        digest = save_tensors(tmp_path / "t.safetensors", {"w": np.zeros(2)})
        content = (tmp_path / "t.safetensors").read_bytes()
        assert digest == hashlib.sha256(content).hexdigest()

    @pytest.mark.parametrize("keep", [0, 4, 20, -1])
    def test_truncated_file(self, tmp_path, keep):
        path = tmp_path / "t.safetensors"
        save_tensors(path, {"w": np.zeros(100)})
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(RunError, match=r"t\.safetensors: is damaged or not a safetensors file"):
            load_tensors(path)


class TestMetricsLog:
    def test_one_object_a_line(self, tmp_path):
        with MetricsLog(tmp_path / "metrics.jsonl") as log:
            log.append({"step": 1, "loss": 0.1})
            log.append({"step": 2, "layers": {"conv1": {"mean": np.float32(0.5)}}})
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [
            {"step": 1, "loss": 0.1},
            {"step": 2, "layers": {"conv1": {"mean": 0.5}}},
        ]

    def test_what_is_not_finite_becomes_null(self, tmp_path):
        record = {"a": float("nan"), "b": {"c": [np.inf, 1.0]}, "d": np.float32("-inf")}
        with MetricsLog(tmp_path / "metrics.jsonl") as log:
            log.append(record)
        assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
            "a": None,
            "b": {"c": [None, 1.0]},
            "d": None,
        }

    def test_a_record_can_be_read_as_soon_as_it_is_appended(self, tmp_path):
        with MetricsLog(tmp_path / "metrics.jsonl") as log:
            log.append({"step": 1})
            assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'

    def test_continues_where_the_checkpoint_was(self, tmp_path):
        path = tmp_path / "metrics.jsonl"
        with MetricsLog(path) as log:
            log.append({"step": 1})
            kept = log.sync()
            log.append({"step": 2, "note": "logged after the checkpoint, so it is run again"})
        with MetricsLog(path, kept) as log:
            log.append({"step": 2})
        assert path.read_text() == '{"step": 1}\n{"step": 2}\n'

    def test_cuts_off_half_a_line(self, tmp_path):
        path = tmp_path / "metrics.jsonl"
        path.write_text('{"step": 1}\n{"st')
        with MetricsLog(path, 12) as log:
            log.append({"step": 2})
        assert path.read_text() == '{"step": 1}\n{"step": 2}\n'

    def test_lost_history_is_refused(self, tmp_path):
        path = tmp_path / "metrics.jsonl"
        path.write_text("{}\n")
        with pytest.raises(RunError, match=r"shorter than its checkpoint recorded \(100 bytes\)"):
            MetricsLog(path, 100)
        assert path.read_text() == "{}\n"

    def test_disk_that_fills_up(self, tmp_path):
        path = tmp_path / "metrics.jsonl"
        message = r"metrics\.jsonl: could not be written \(.*\)\. Free some space, then"
        with MetricsLog(path) as log:
            log.append({"step": 1})
            kept = log.sync()
            with size_limit(20), pytest.raises(RunError, match=message):
                log.append({"step": 2})
        with MetricsLog(path, kept) as log:
            log.append({"step": 2})
        assert path.read_text() == '{"step": 1}\n{"step": 2}\n'

    def test_disk_that_cannot_be_flushed(self, tmp_path, monkeypatch):
        with MetricsLog(tmp_path / "metrics.jsonl") as log:
            monkeypatch.setattr(os, "fsync", full_disk)
            with pytest.raises(RunError, match=r"could not be written \(No space left"):
                log.sync()

    def test_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(RunError, match="could not be opened"):
            MetricsLog(tmp_path / "nowhere" / "metrics.jsonl")


@pytest.fixture
def run(tmp_path):
    return new_run_directory(tmp_path / "runs", ["mlp", "digits"], b"seed = 3\n")


class TestRunDirectory:
    def test_is_known_by_its_configuration(self, run, tmp_path):
        assert run.config() == {"seed": 3}
        with pytest.raises(RunError, match="is not a run directory"):
            RunDirectory(tmp_path)

    def test_names_are_unique_and_fit_for_a_file_system(self, tmp_path):
        made = [new_run_directory(tmp_path, ["a/b c", "../x"], b"") for _ in range(3)]
        assert len({run.name for run in made}) == 3
        assert {run.path.parent for run in made} == {tmp_path}
        assert made[0].name.endswith("_a-b-c_..-x")

    def test_root_that_is_a_file(self, tmp_path):
        (tmp_path / "runs").write_text("")
        with pytest.raises(RunError, match="could not be created"):
            new_run_directory(tmp_path / "runs", ["a"], b"")

    def test_what_is_not_there_yet(self, run):
        assert run.environment() == {}
        assert run.metrics() == []
        assert run.evaluation("test") is None
        assert run.evaluation_tensors("test") is None
        with pytest.raises(RunError, match=r"training has not begun\. Continue it with: "):
            run.data()
        with pytest.raises(RunError, match=r"last\.json: could not be read"):
            run.best_parameters()

    def test_metrics_by_kind_without_a_torn_last_line(self, run):
        run.metrics_path.write_text('{"kind": "step"}\n{"kind": "evaluation"}\n{"kind": "st')
        assert run.metrics() == [{"kind": "step"}, {"kind": "evaluation"}]
        assert run.metrics("evaluation") == [{"kind": "evaluation"}]

    def test_damaged_files_name_themselves(self, run):
        run.metrics_path.write_text('{"kind": \n{"kind": "step"}\n')
        with pytest.raises(RunError, match=r"metrics\.jsonl: is damaged"):
            run.metrics()
        (run.path / "environment.json").write_text("{")
        with pytest.raises(RunError, match=r"environment\.json: could not be read"):
            run.environment()
        (run.path / "config.toml").write_text("= 3")
        with pytest.raises(RunError, match=r"config\.toml: could not be read"):
            run.config()

    def test_evaluations(self, run):
        images = np.zeros((2, 1, 8, 8), np.uint8)
        run.write_evaluation("val", {"accuracy": 0.5, "loss": np.nan}, {"mistake_images": images})
        run.write_evaluation("test", {"accuracy": 0.25}, {})
        assert run.evaluation("val") == {"accuracy": 0.5, "loss": None}
        np.testing.assert_array_equal(run.evaluation_tensors("val")["mistake_images"], images)
        assert run.evaluation("test") == {"accuracy": 0.25}
        assert run.evaluation_tensors("test") is None

    def test_json_is_readable_by_anyone(self, run):
        write_json(run.data_path, {"classes": ["ä"], "n": 3})
        assert run.data() == {"classes": ["ä"], "n": 3}
