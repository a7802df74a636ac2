"""Runs that are killed, interrupted, damaged or out of space, and what becomes of them.

Each is a process of its own, started as a person would start it. Whatever happens to it, the run
must end with the bits of a run that was left in peace: every array of the last and of the best
checkpoint, the state beside them, and the log but for its times.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from chainrule.records import RunDirectory
from chainrule.training.runs import _stop_on_signal

# Everything that has a state of its own: batch norm, dropout, augmentation, averages, Adam. The
# network is wide enough for a checkpoint of a megabyte, so that a kill can come in between.
NETWORK = ["mlp", "--data", "digits", "hidden=[300,150]", "norm=batch", "dropout=0.3"]
TRAINING = [
    *["shift=1", "cutout=2", "ema_decay=0.95", "optimizer.name=adam", "lr=0.005"],
    *["schedule.name=cosine", "clip_norm=1.0", "batch_size=32", "log_every=1"],
    *["checkpoint_every=4", "eval_every=10", "eval_train_examples=50", "threads=1", "seed=3"],
]
VOLATILE = {"seconds", "images_per_second"}
KILLS = 20


def start(folder, *words, **options):
    """Start ``chainrule train`` in a folder; its messages go to ``stderr.txt`` there."""
    folder.mkdir(exist_ok=True)
    with open(folder / "stderr.txt", "wb") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "chainrule", "train", *map(str, words)],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            **options,
        )


def finish(process, folder, code=0):
    """Wait for the end of a process and return its messages."""
    returned = process.wait(timeout=120)
    messages = (folder / "stderr.txt").read_text()
    assert returned == code, messages
    assert "Traceback" not in messages
    return messages


def run_of(folder):
    (config,) = (folder / "runs").glob("*/config.toml")
    return RunDirectory(config.parent)


def last_step(folder):
    """The last step in the log of the one run in a folder; 0 before there is one."""
    for path in (folder / "runs").glob("*/metrics.jsonl"):
        for line in reversed(path.read_bytes().splitlines(keepends=True)):
            if line.startswith(b'{"kind": "step"') and line.endswith(b"\n"):
                return int(json.loads(line)["step"])
    return 0


def wait_for(condition, process, pause=0.0005, timeout=60.0):
    """Poll until a condition holds; False if the process ends before it, or in time-out."""
    deadline = time.monotonic() + timeout
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def outcome(run):
    """Everything that two runs of one configuration must have in common, to the last bit."""

    def stable(record):
        return {
            key: stable(value) if isinstance(value, dict) else value
            for key, value in record.items()
            if key not in VOLATILE | {"metrics_bytes"}
        }

    checkpoints = {}
    for which in ("last", "best"):
        checkpoint = run.checkpoints.load(which)
        arrays = {
            key: (value.dtype.str, value.shape, value.tobytes())
            for key, value in checkpoint.tensors.items()
        }
        groups = {key.split("/")[0] for key in arrays}
        assert groups == {"params", "buffers", "optimizer", "average"}
        checkpoints[which] = arrays, stable(checkpoint.state)
    return {
        "checkpoints": checkpoints,
        "metrics": [stable(record) for record in run.metrics()],
        "evaluation": run.evaluation("val"),
        "mistakes": {k: v.tobytes() for k, v in run.evaluation_tensors("val").items()},
    }


def assert_same(run, undisturbed):
    actual = outcome(run)
    for key, expected in undisturbed.items():
        assert actual[key] == expected, f"{key} differ"
    assert not list(run.path.rglob("*.tmp"))


def trained_in_peace(folder, epochs):
    finish(start(folder, *NETWORK, *TRAINING, f"epochs={epochs}"), folder)
    return outcome(run_of(folder))


class TestKilled:
    """One run, killed 20 times by SIGKILL at moments drawn at random, half of them aimed."""

    EPOCHS = 30  # 1230 steps, of which a session does some 30 before it is killed
    FILES = (".step-", ".last", ".previous", ".best")

    def test_killed_twenty_times(self, tmp_path):
        undisturbed = trained_in_peace(tmp_path / "peace", self.EPOCHS)
        folder, rng = tmp_path / "war", np.random.default_rng(20)
        words = [*NETWORK, *TRAINING, f"epochs={self.EPOCHS}"]
        torn, unsaved, before = [], 0, 0
        for number in range(KILLS):
            resumed = bool(list((folder / "runs").glob("*/config.toml")))
            process = start(folder, *(("--resume", run_of(folder).path) if resumed else words))
            alive = self.wait_for_the_moment(process, folder, number, before, rng)
            process.send_signal(signal.SIGKILL)
            assert alive, (folder / "stderr.txt").read_text()
            assert process.wait() == -signal.SIGKILL
            messages = (folder / "stderr.txt").read_text()
            assert "damaged" not in messages
            torn += [path.name for path in folder.rglob("checkpoints/.*.tmp")]
            unsaved += not list(folder.rglob("last.json"))
            before = last_step(folder)
        finish(start(folder, "--resume", run_of(folder).path), folder)
        assert_same(run_of(folder), undisturbed)

        sessions = run_of(folder).environment()["sessions"]
        assert len(sessions) > KILLS // 2  # the others were killed before they had begun
        assert sessions[-1]["step"] > 100
        # Kills did come in the middle of writing, of arrays as well as of manifests, and before
        # there was a checkpoint at all: else this test would prove less than it says.
        assert len(torn) >= 5, torn
        assert any(name.startswith(".step-") for name in torn)
        assert any(not name.startswith(".step-") for name in torn)
        assert unsaved >= 1

    def wait_for_the_moment(self, process, folder, number, before, rng):
        if number < 2:  # at some time before or soon after the first step
            return wait_for(lambda: list(folder.glob("runs/*/config.toml")), process) and (
                not wait_for(lambda: False, process, timeout=rng.uniform(0, 0.03))
                and process.poll() is None
            )
        steps = before + int(rng.integers(1, 50))
        reached = wait_for(lambda: last_step(folder) >= steps, process)
        if number % 2:  # at any time at all
            time.sleep(rng.uniform(0, 0.02))
            return reached
        # Aimed: at the instant when a temporary file of a certain kind is there.
        aim = self.FILES[number // 2 % len(self.FILES)]
        checkpoints = run_of(folder).path / "checkpoints"

        def being_written():
            return any(name.startswith(aim) for name in os.listdir(checkpoints) if "tmp" in name)

        wait_for(being_written, process, pause=0, timeout=0.3)
        return reached and process.poll() is None


EPOCHS = 8  # 328 steps


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return trained_in_peace(tmp_path_factory.mktemp("peace"), EPOCHS)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A folder with a run that was interrupted after some 40 steps."""
    folder = tmp_path_factory.mktemp("interrupted")
    stop_after(folder, 40, signal.SIGINT)
    return folder


def stop_after(folder, steps, number):
    process = start(folder, *NETWORK, *TRAINING, f"epochs={EPOCHS}")
    assert wait_for(lambda: last_step(folder) >= steps, process)
    process.send_signal(number)
    return finish(process, folder, 130)


@pytest.fixture
def begun(interrupted, tmp_path):
    """A copy of that folder, to be damaged."""
    shutil.copytree(interrupted, tmp_path / "begun")
    return tmp_path / "begun"


def resume(folder, code=0, **options):
    process = start(folder, "--resume", run_of(folder).path, **options)
    return finish(process, folder, code)


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_saves_says_how_to_continue_and_does(self, tmp_path, undisturbed, number):
        messages = stop_after(tmp_path, 30, number)
        run = run_of(tmp_path)
        advice = f"Continue with: chainrule train --resume {run.path.relative_to(tmp_path)}"
        assert messages.strip().endswith(advice)
        state = run.checkpoints.state("last")
        assert state["stopped"] == "interrupted"
        assert state["step"] == last_step(tmp_path) < 328
        resume(tmp_path)
        assert_same(run_of(tmp_path), undisturbed)

    def test_a_second_one_ends_at_once(self):
        class Trainer:
            stop_requested = ""

        trainer, before = Trainer(), signal.getsignal(signal.SIGINT)
        with _stop_on_signal(trainer):
            signal.raise_signal(signal.SIGINT)
            assert trainer.stop_requested == "interrupted"
            with pytest.raises(KeyboardInterrupt, match=r"^$"):
                signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is before
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def damage_last(run):
    manifest = json.loads((run.path / "checkpoints" / "last.json").read_text())
    path = run.path / "checkpoints" / manifest["body"]["tensors"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


class TestDamage:
    def test_last_checkpoint(self, begun, undisturbed):
        damage_last(run_of(begun))
        messages = resume(begun)
        (line,) = [line for line in messages.splitlines() if line.startswith("chainrule: ")][:1]
        assert "is damaged (its SHA-256 is not the recorded one)" in line
        assert line.endswith("Continuing from the checkpoint before it.")
        assert_same(run_of(begun), undisturbed)

    def test_both_checkpoints(self, begun):
        damage_last(run_of(begun))
        os.truncate(run_of(begun).path / "checkpoints" / "previous.json", 200)
        before = sorted(path.name for path in run_of(begun).path.rglob("*"))
        messages = resume(begun, code=1)
        (line,) = messages.splitlines()
        assert line.startswith("chainrule: ")
        assert "is damaged (its SHA-256" in line
        assert "previous.json: is damaged (not a checkpoint manifest)" in line
        assert line.endswith("There is no checkpoint to continue from.")
        assert sorted(path.name for path in run_of(begun).path.rglob("*")) == before

    def test_half_a_line_in_the_log(self, begun, undisturbed):
        with open(run_of(begun).metrics_path, "ab") as log:
            log.write(b'{"kind": "step", "step": 99, "lo')
        assert run_of(begun).metrics("step")[-1]["step"] < 99
        resume(begun)
        assert_same(run_of(begun), undisturbed)

    def test_log_cut_too_short(self, begun):
        log = run_of(begun).metrics_path
        os.truncate(log, log.stat().st_size // 2)
        (line,) = resume(begun, code=1).splitlines()
        assert line.startswith(f"chainrule: {log}: is shorter than its checkpoint recorded")


def limit(size):
    """Make writing beyond this size of any file fail in a process that is started with it."""
    resource = pytest.importorskip("resource", reason="no resource limits on this system")

    def apply():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return apply


class TestFullDisk:
    def test_no_room_for_a_checkpoint(self, begun, undisturbed):
        run = run_of(begun)
        saved = run.checkpoints.state("last")["step"]
        messages = resume(begun, code=1, preexec_fn=limit(200_000))
        line = messages.splitlines()[-1]
        assert line.startswith(f"chainrule: {run.path}/checkpoints/step-")
        assert "could not be written (File too large)" in line
        assert line.endswith("free some space or choose another folder.")
        assert run.checkpoints.recover()[1] == []
        assert run.checkpoints.state("last")["step"] == saved
        assert not list(run.path.rglob("*.tmp"))
        resume(begun)
        assert_same(run, undisturbed)

    def test_no_room_for_the_log(self, begun, undisturbed):
        run = run_of(begun)
        size = run.metrics_path.stat().st_size + 300
        line = resume(begun, code=1, preexec_fn=limit(size)).splitlines()[-1]
        assert line.startswith(f"chainrule: {run.metrics_path}: could not be written (File too")
        assert line.endswith(f"continue with: chainrule train --resume {run.path}")
        resume(begun)
        assert_same(run, undisturbed)

    def test_small_file_system(self, tmp_path, undisturbed):
        """A disk of 3.5 MB has room for three checkpoints and not for the fourth."""
        disk, results = tmp_path / "disk", tmp_path / "results"
        disk.mkdir()
        words = shlex.join([*NETWORK, *TRAINING, f"epochs={EPOCHS}"])
        script = f"""
            mount -t tmpfs -o size=3500k none {disk} || exit 99
            train="{sys.executable} -m chainrule train"
            $train {words} --runs {disk}
            echo "code $?" >&2
            ls -A {disk}/*/checkpoints >&2
            mount -o remount,size=100m {disk} || exit 99
            $train --resume {disk}/* || exit 98
            cp -r {disk} {results}
        """
        unshare = shutil.which("unshare")
        if unshare is None:
            pytest.skip("a file system of one's own needs unshare")
        done = subprocess.run(
            [unshare, "--user", "--map-root-user", "--mount", "sh", "-c", script],
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode in (1, 99) and "code" not in done.stderr:
            pytest.skip(f"no file system of one's own may be mounted: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        failure, _, rest = done.stderr.partition("code 1\n")
        line = failure.splitlines()[-1]
        assert line.startswith(f"chainrule: {disk}/")
        assert "could not be written (No space left on device)" in line
        assert "Traceback" not in done.stderr
        files = rest.split("epoch", 1)[0].split()
        assert not [name for name in files if name.endswith(".tmp")]
        assert {"last.json", "previous.json"} <= set(files)
        assert_same(RunDirectory(next(results.iterdir())), undisturbed)
