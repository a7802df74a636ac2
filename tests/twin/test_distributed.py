"""Several processes that train one network: the same run as one process, and what ends it.

Each process is started as ``torchrun`` starts it, most tests share what two of them did at one
start, and those of whole jobs call ``torchrun`` itself.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from chainrule.data import Augment
from chainrule.errors import ConfigError, InputError
from chainrule.models import mlp
from chainrule.records import RunDirectory, write_atomically
from chainrule.training import Arrays, Trainer, load_config, resume_run, train_run
from chainrule.training.runs import numpy_backend
from chainrule.training.world import ALONE, World
from chainrule.twin import BACKENDS, TwinNetwork, joined

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
distributed = pytest.importorskip("chainrule.twin.distributed")

SCRIPT = Path(__file__).with_name("together.py")
spec = spec_from_file_location("together", SCRIPT)
together = module_from_spec(spec)
spec.loader.exec_module(together)

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
PATIENCE = 240  # seconds, for a machine that has a lot to do


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def variables(rank, port, size=2):
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def side_by_side(folder, *words):
    """Start two processes as torchrun would; return their messages and their exit codes."""
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=folder,
            env=ENVIRONMENT | variables(rank, port),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(together.PROCESSES)
    ]
    try:
        messages = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return messages, [process.returncode for process in processes]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """What two processes did: the folder, their messages and their exit codes."""
    folder, answer = tmp_path_factory.getbasetemp() / "together", "answer.json"
    if "PYTEST_XDIST_WORKER" in os.environ:  # once for all workers: the first makes the folder
        folder = folder.parents[1] / folder.name
    try:
        folder.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + PATIENCE
        while not (folder / answer).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        return folder, *json.loads((folder / answer).read_text())
    messages, codes = side_by_side(folder, SCRIPT, folder)
    write_atomically(folder / answer, json.dumps([messages, codes]).encode())
    return folder, messages, codes


@pytest.fixture(scope="module")
def seen(done):
    """By run, what each process saw."""
    folder, messages, _ = done
    names = [path.name.removesuffix(".0.json") for path in folder.glob("*.0.json")]
    assert "signalled" in names, messages  # the last but one that was done
    return {
        name: [json.loads((folder / f"{name}.{rank}.json").read_text()) for rank in (0, 1)]
        for name in names
    }


def run_of(folder):
    (config,) = folder.glob("*/config.toml")
    return RunDirectory(config.parent)


def alone(folder, settings):
    """The same run in one process, with the batch of all processes together."""
    size = together.PROCESSES * together.BATCH
    config = load_config(overrides=[*together.TORCH, f"batch_size={size}", *settings])
    return train_run(config, folder, backends=BACKENDS)


def assert_close(run, other, tolerance):
    """All that two runs leave must agree, but for times and what one process has of its own."""
    for kind in ("step", "evaluation", "layers"):
        pairs = list(zip(run.metrics(kind), other.metrics(kind), strict=True))
        assert pairs
        for ours, theirs in pairs:
            for volatile in ("seconds", "images_per_second"):
                ours.pop(volatile, None), theirs.pop(volatile, None)
            assert flat(ours) == pytest.approx(flat(theirs), abs=tolerance, nan_ok=True)
    for which in ("last", "best"):
        ours, theirs = (each.checkpoints.load(which).tensors for each in (run, other))
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            if not key.startswith("random/"):
                np.testing.assert_allclose(value, theirs[key], rtol=0, atol=tolerance, err_msg=key)


def flat(record, prefix=""):
    found = {}
    for key, value in record.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            found[prefix + key] = value
    return found


def assert_same_bits(run, other):
    for which in ("last", "best"):
        ours, theirs = (each.checkpoints.load(which) for each in (run, other))
        assert {k: v.tobytes() for k, v in ours.tensors.items()} == {
            k: v.tobytes() for k, v in theirs.tensors.items()
        }
        assert ours.state["step"] == theirs.state["step"]
    losses = [[r["loss"] for r in each.metrics("step")] for each in (run, other)]
    assert losses[0] == losses[1]


class TestTheSameRun:
    @pytest.mark.parametrize("name", together.SAME)
    def test_as_in_one_process(self, tmp_path, done, seen, name):
        expected = alone(tmp_path, together.SAME[name])
        double = "dtype=float64" in together.SAME[name]
        assert_close(run_of(done[0] / name), expected.run, 1e-11 if double else 1e-4)
        assert seen[name][0]["stopped"] == "completed"

    def test_all_processes_see_the_same_numbers(self, seen):
        for name in (*together.SAME, "noisy", "many_steps"):
            for key in ("loss", "accuracy", "train_loss", "val_loss", "val_accuracy", "layers"):
                ours, theirs = ([r.get(key) for r in one["records"]] for one in seen[name])
                assert ours == theirs, (name, key)

    @pytest.mark.parametrize("name", ["noisy", "many_steps"])
    def test_evaluated_with_the_statistics_that_are_kept(self, done, seen, name):
        """At the end the first process evaluates what it saved, alone and with NumPy."""
        kept = run_of(done[0] / name).evaluation("val")
        assert seen[name][0]["best"]["val_loss"] == pytest.approx(kept["loss"], abs=1e-5)

    def test_parts_change_as_the_whole_does(self):
        x = np.random.default_rng(0).normal(size=(7, 2, 6, 6))
        change = Augment(flip=True, shift=2, cutout=3)
        whole = change(x, np.random.default_rng(1))
        for size in (1, 2, 3, 9):
            parts = []
            for rank in range(size):
                part = member(rank, size).part(len(x))
                parts.append(change(x[part], np.random.default_rng(1), part.start, len(x)))
            np.testing.assert_array_equal(np.concatenate(parts), whole)


class TestResume:
    def test_to_the_same_bits(self, done, seen):
        """With batch normalisation and dropout, of which each process has its own."""
        assert seen["noisy_in_two"][0]["stopped"] == "completed"
        assert_same_bits(run_of(done[0] / "noisy_in_two"), run_of(done[0] / "noisy"))

    def test_in_one_process(self, tmp_path, done, seen):
        """Two processes began; one goes on, with batches of the same examples."""
        assert seen["begun"][0]["stopped"] == "interrupted"
        messages = []
        path = run_of(done[0] / "begun").path
        trained = resume_run(path, backends=BACKENDS, message=messages.append)
        assert trained.history.stopped == "completed"
        assert_close(trained.run, alone(tmp_path, together.SAME["images"]).run, 1e-11)
        (text,) = messages
        assert text.startswith("1 process on batches of 64 examples in all, as the 2 that the run")
        sessions = trained.run.environment()["sessions"]
        assert [session["processes"] for session in sessions] == [2, 1]
        assert ", 2 processes by gloo" in sessions[0]["backend"]


class TestStopping:
    """Whatever one process decides, all do."""

    @pytest.mark.parametrize(
        ("name", "reason"),
        [("short", "max_time"), ("impatient", "patience"), ("signalled", "interrupted")],
    )
    def test_all_at_the_same_step(self, seen, name, reason):
        first, second = seen[name]
        assert first["stopped"] == second["stopped"] == reason
        assert [r["step"] for r in first["records"]] == [r["step"] for r in second["records"]]

    def test_signal_of_one_process(self, seen):
        """It came in the third step of the second process."""
        assert seen["signalled"][0]["records"][-1]["step"] == 3

    def test_divergence(self, tmp_path, seen):
        errors = [one["error"] for one in seen["diverging"]]
        assert errors[0] == errors[1]
        assert "the output of layer linear3 must stay finite" in errors[0]

    def test_an_error_of_one_process(self, done):
        """It speaks; the other, which leads, ends without a word and with the same exit code."""
        _, messages, codes = done
        assert codes == [3, 3]
        assert messages[0].splitlines() == []
        assert messages[1].splitlines() == ["chainrule: no data here"]


def torchrun(folder, *words, options=None):
    """Start a job; its messages go to ``stderr.txt`` in the folder."""
    count, port = str(together.PROCESSES), str(free_port())
    options = options or ["--nproc-per-node", count, "--master-port", port]
    launcher = ["-m", "torch.distributed.run", *options]
    with open(folder / "stderr.txt", "wb") as stderr:
        return subprocess.Popen(
            [sys.executable, *launcher, "-m", "chainrule", "train", *map(str, words)],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )


def finish(job, folder):
    """Wait for the end; return the exit code and what chainrule said."""
    try:
        code = job.wait(timeout=PATIENCE)
    finally:
        job.kill()
    lines = (folder / "stderr.txt").read_text().splitlines()
    return code, [line for line in lines if line.startswith("chainrule: ")]


def reached(job, folder, step):
    """Wait until a job has logged a step."""
    deadline = time.monotonic() + PATIENCE
    while job.poll() is None and time.monotonic() < deadline:
        for path in (folder / "runs").glob("*/checkpoints/last.json"):
            if RunDirectory(path.parents[1]).checkpoints.state("last")["step"] >= step:
                return True
        time.sleep(0.01)
    return False


def process_of(job, rank):
    """The process id of one process of a job."""
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children")
    if not children.exists():
        pytest.skip("this system does not list the children of a process")
    for child in children.read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise AssertionError(f"no process {rank}")


class TestJobs:
    def test_killed_interrupted_and_finished(self, tmp_path, done):
        """A job that loses a process by SIGKILL, is resumed, interrupted, and resumed again."""
        words = [*together.TORCH, f"batch_size={together.BATCH}", *together.MANY_STEPS]
        job = torchrun(tmp_path, *words)
        assert reached(job, tmp_path, 100), (tmp_path / "stderr.txt").read_text()
        os.kill(process_of(job, 1), signal.SIGKILL)
        code, said = finish(job, tmp_path)
        assert code != 0
        run = run_of(tmp_path / "runs")
        path = run.path.relative_to(tmp_path)
        advice = f"Continue with: torchrun --nproc-per-node 2 -m chainrule train --resume {path}"
        assert [line for line in said if "killed or lost" in line] == said[2:]
        assert said[2].endswith(advice)

        job = torchrun(tmp_path, "--resume", path)
        assert reached(job, tmp_path, 200), (tmp_path / "stderr.txt").read_text()
        job.send_signal(signal.SIGTERM)
        code, said = finish(job, tmp_path)
        assert code != 0
        assert said[2:] == [f"chainrule: interrupted. {advice}"]
        assert run.checkpoints.state("last")["stopped"] == "interrupted"

        messages, codes = side_by_side(tmp_path, "-m", "chainrule", "train", "--resume", path)
        assert codes == [0, 0], messages
        assert messages[1] == ""
        assert_same_bits(run, run_of(done[0] / "many_steps"))

    def test_two_machines(self, tmp_path):
        """A launcher and a folder for each; only that of the process that leads gets the run."""
        words = [*together.TORCH, f"batch_size={together.BATCH}", *together.SAME["images"]]
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
        options = ["--nnodes", "2", "--nproc-per-node", "1", *meeting]
        folders = [tmp_path / name for name in ("one", "other")]
        for folder in folders:
            folder.mkdir()
        jobs = [torchrun(folder, *words, options=options) for folder in folders]
        ends = [finish(job, folder) for job, folder in zip(jobs, folders, strict=True)]
        assert [code for code, _ in ends] == [0, 0], ends
        (led,) = [folder for folder in folders if (folder / "runs").exists()]
        (silent,) = [said for folder, (_, said) in zip(folders, ends, strict=True) if folder != led]
        assert silent == []
        run = run_of(led / "runs")
        assert_close(run, alone(tmp_path, together.SAME["images"]).run, 1e-11)
        (session,) = run.environment()["sessions"]
        assert session["processes"] == 2

    def test_divergence_has_one_message(self, tmp_path):
        words = ["mlp", *together.TORCH, "optimizer.name=sgd", "lr=1e18"]
        messages, codes = side_by_side(tmp_path, "-m", "chainrule", "train", *words)
        assert codes == [4, 4]
        assert "must stay finite" in messages[0].splitlines()[-1]
        assert messages[1] == ""
        (session,) = run_of(tmp_path / "runs").environment()["sessions"]
        assert session["ended"] == "diverged"


def member(rank, size):
    world = World()
    world.rank = world.local_rank = rank
    world.size = world.local_size = size
    return world


class TestWorld:
    @pytest.mark.parametrize(("count", "size"), [(65, 2), (3, 4), (128, 3), (0, 2)])
    def test_parts_are_even_and_all(self, count, size):
        parts = [range(count)[member(rank, size).part(count)] for rank in range(size)]
        assert [i for part in parts for i in part] == list(range(count))
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1

    def test_command_to_resume(self):
        world = member(0, 8)
        world.local_size = 4
        command = world.resume_command("runs/x")
        nodes = "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint HOST:PORT"
        assert command == f"torchrun {nodes} --nproc-per-node 4 -m chainrule train --resume runs/x"

    @pytest.mark.parametrize("size", ["", "1"])
    def test_one_process_is_alone(self, size):
        with joined(variables(0, 1) | {"WORLD_SIZE": size}) as world:
            assert world is ALONE

    @pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
    def test_a_variable_that_is_missing(self, name):
        environment = variables(0, 29500)
        del environment[name]
        rule = rf"{name} must be set where WORLD_SIZE is 2; got nothing\. Start .* torchrun"
        with pytest.raises(ConfigError, match=rule), joined(environment):
            pass

    def test_a_variable_that_is_no_number(self):
        with (
            pytest.raises(ConfigError, match="WORLD_SIZE must be a number; got 'two'"),
            joined(variables(0, 1, size="two")),
        ):
            pass

    def test_numpy_is_for_one_process(self):
        with pytest.raises(ConfigError, match=r"must be 'torch' for 2 processes; .*--backend tor"):
            numpy_backend(load_config(), member(0, 2))

    def test_gpus_and_processes(self, monkeypatch):
        config = load_config(overrides=["backend.name=torch", "backend.device=cuda"])
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        BACKENDS["torch"](config, member(0, 2))
        with pytest.raises(ConfigError, match=r"must be at most 1 on this machine.*; got 2"):
            BACKENDS["torch"](config, member(1, 2))

    def test_batches_too_small_for_batch_normalisation(self):
        """Of 11 examples in batches of 8, three are left for the second batch."""
        arrays = Arrays(np.zeros((11, 4)), np.zeros(11, np.int64))

        def trainer(world, processes):
            model = mlp(2, norm="batch")
            model.init(np.random.default_rng(0), (4,))
            config = load_config(overrides=["batch_size=4"])
            rng = np.random.default_rng(0)
            return Trainer(model, arrays, arrays, config, rng, world=world, processes=processes)

        assert trainer(member(0, 2), 2).steps_per_epoch == 1  # without the three
        assert trainer(ALONE, 1).steps_per_epoch == 3
        with pytest.raises(InputError, match=r"leave two examples .* of 3 processes; got 3"):
            trainer(member(0, 3), 1)


def test_synchronised_batch_normalisation_keeps_names_and_state(monkeypatch):
    """It computes on GPUs only; what it must not change can be seen anywhere."""
    monkeypatch.setattr(distributed, "DistributedDataParallel", lambda network, devices: network)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    model = mlp(2, hidden=[3], norm="batch")
    model.init(np.random.default_rng(0), (4,))
    network = TwinNetwork(model)
    before = dict(network.state_dict())
    wrapped = distributed.parallel(network, member(0, 2), torch.device("cuda"))
    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in network)
    assert list(network.state_dict()) == list(before)
    x = torch.ones(5, 4)
    assert wrapped(x).shape == (5, 2)  # without a process group it computes as any other
    assert set(network.to_numpy()[1]) == set(model.buffers)
