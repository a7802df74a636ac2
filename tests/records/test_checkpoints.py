"""Checkpoints: the last two and the best, whole at every instant, refused when damaged."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from chainrule.errors import RunError
from chainrule.records import Checkpoint, CheckpointStore


class Killed(BaseException):
    """What a SIGKILL does: nothing after it runs, no handler of OSError sees it."""


def state_at(step, best_step=None):
    """A checkpoint whose every part tells its step."""
    tensors = {"params/w": np.full((3, 2), step, np.float32), "optimizer/m/w": np.full(1, step / 2)}
    return Checkpoint(tensors, {"step": step, "best": step if best_step is None else best_step})


def assert_is(checkpoint, step):
    assert checkpoint.state["step"] == step
    assert (checkpoint.tensors["params/w"] == step).all()
    assert (checkpoint.tensors["optimizer/m/w"] == step / 2).all()


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints")


def reopened(store):
    return CheckpointStore(store.folder)


def files(store):
    return sorted(os.listdir(store.folder))


class TestSave:
    def test_keeps_the_last_two_and_the_best(self, store):
        for step in range(1, 8):
            store.save(state_at(step), best=step in (1, 3))
        assert_is(store.load("last"), 7)
        assert_is(store.load("previous"), 6)
        assert_is(store.load("best"), 3)
        assert files(store) == [
            "best.json",
            "last.json",
            "previous.json",
            "step-00000003.safetensors",
            "step-00000006.safetensors",
            "step-00000007.safetensors",
        ]

    def test_goes_on_after_a_restart(self, store):
        store.save(state_at(1), best=True)
        store.save(state_at(2))
        again = reopened(store)
        again.recover()
        again.save(state_at(3))
        assert_is(again.load("last"), 3)
        assert_is(again.load("previous"), 2)

    def test_saving_one_state_twice_keeps_the_one_before(self, store):
        store.save(state_at(1))
        store.save(state_at(2))
        store.save(state_at(2))
        assert_is(store.load("previous"), 1)

    def test_state_can_be_read_without_the_arrays(self, store):
        store.save(state_at(5))
        for path in store.folder.glob("*.safetensors"):
            path.unlink()
        assert store.state("last")["step"] == 5

    def test_groups_of_arrays(self):
        assert state_at(1).named("optimizer").keys() == {"m/w"}
        assert state_at(1).named("opt") == {}


class TestKilledInTheMiddle:
    """Kill a save before each of its system calls in turn."""

    @pytest.mark.parametrize("best", [False, True], ids=["not the best", "the best"])
    def test_the_state_before_or_the_new_one(self, tmp_path, monkeypatch, best):
        seen, calls = set(), 0
        while "finished" not in seen:
            store = CheckpointStore(tmp_path / str(calls))
            for step in (1, 2):
                store.save(state_at(step), best=True)
            try:
                with monkeypatch.context() as patch:
                    kill_before_call(calls, patch)
                    store.save(state_at(3, best_step=3 if best else 2), best=best)
                seen.add("finished")
            except Killed:
                pass
            after = reopened(store)
            recovered, problems = after.recover()
            assert problems == []
            assert_is(recovered, recovered.state["step"])
            assert recovered.state["step"] in (2, 3)
            seen.add(recovered.state["step"])
            # The best checkpoint is the one of which the recovered state says so; or the new
            # one, if the kill came between the two: then step 3 is run again and best again.
            best_step = after.load("best").state["step"]
            assert best_step == recovered.state["best"] or (best and best_step == 3)

            after.save(state_at(3, best_step=3 if best else 2), best=best)
            after.save(state_at(4, best_step=3 if best else 2))
            assert_is(after.load("last"), 4)
            assert_is(after.load("previous"), 3)
            assert_is(after.load("best"), 3 if best else 2)
            assert not [name for name in files(after) if name.endswith(".tmp")]
            calls += 1
        assert seen == {2, 3, "finished"}
        assert calls > 10

    def test_leftovers_are_cleared_away(self, store):
        store.save(state_at(1))
        (store.folder / ".last.json.tmp").write_bytes(b"half")
        (store.folder / ".step-00000009.safetensors.tmp").write_bytes(b"half")
        (store.folder / "step-00000002.safetensors").write_bytes(b"no manifest names it")
        again = reopened(store)
        assert_is(again.recover()[0], 1)
        again.save(state_at(2))
        again.save(state_at(3))
        assert files(store) == [
            "last.json",
            "previous.json",
            "step-00000002.safetensors",
            "step-00000003.safetensors",
        ]


def kill_before_call(number, patch):
    count = iter(range(10**6))
    for owner, name in ((os, "fsync"), (os, "replace"), (Path, "unlink")):
        patch.setattr(owner, name, killing(getattr(owner, name), number, count))


def killing(call, number, count):
    def wrapped(*args, **options):
        if next(count) == number:
            raise Killed
        return call(*args, **options)

    return wrapped


def test_full_disk_leaves_the_checkpoints_as_they_were(store, monkeypatch):
    store.save(state_at(1), best=True)
    store.save(state_at(2))
    before = files(store)

    def full_disk(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(RunError, match=r"step-00000003\.safetensors: could not be written"):
            store.save(state_at(3))
    assert files(store) == before
    assert_is(reopened(store).recover()[0], 2)
    store.save(state_at(3))
    assert_is(store.load("last"), 3)


def flip_a_byte(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x40
    path.write_bytes(bytes(content))


def tensors_of(store, which):
    return (
        store.folder / json.loads((store.folder / f"{which}.json").read_text())["body"]["tensors"]
    )


DAMAGES = {
    "a flipped byte in the arrays": (
        lambda store, which: flip_a_byte(tensors_of(store, which), -3),
        r"safetensors: is damaged \(its SHA-256",
    ),
    "truncated arrays": (
        lambda store, which: os.truncate(tensors_of(store, which), 50),
        r"safetensors: is damaged \(its SHA-256",
    ),
    "no arrays": (
        lambda store, which: tensors_of(store, which).unlink(),
        r"safetensors: could not be read \(No such file",
    ),
    "truncated manifest": (
        lambda store, which: os.truncate(store.folder / f"{which}.json", 100),
        r"json: is damaged \(not a checkpoint manifest\)",
    ),
    "empty manifest": (
        lambda store, which: os.truncate(store.folder / f"{which}.json", 0),
        r"json: is damaged \(not a checkpoint manifest\)",
    ),
    "a changed number in the manifest": (
        lambda store, which: (store.folder / f"{which}.json").write_text(
            (store.folder / f"{which}.json").read_text().replace('"step": ', '"step": 1')
        ),
        r"json: is damaged \(its checksum does not match",
    ),
    "bytes that are no text": (
        lambda store, which: (store.folder / f"{which}.json").write_bytes(b"\xff\xfe\x00"),
        r"json: is damaged \(not a checkpoint manifest\)",
    ),
    "no manifest": (
        lambda store, which: (store.folder / f"{which}.json").unlink(),
        r"json: could not be read \(No such file",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
class TestDamage:
    def test_falls_back_to_the_one_before_and_says_so(self, store, damage):
        do, message = DAMAGES[damage]
        store.save(state_at(1), best=True)
        store.save(state_at(2))
        do(store, "last")
        with pytest.raises(RunError, match=message):
            store.load("last")
        again = reopened(store)
        checkpoint, problems = again.recover()
        assert_is(checkpoint, 1)
        assert len(problems) == 1
        with pytest.raises(RunError, match=message):
            raise RunError(problems[0])
        again.save(state_at(2))
        assert_is(again.load("last"), 2)
        assert_is(again.load("previous"), 1)

    def test_both_damaged(self, store, damage):
        do, message = DAMAGES[damage]
        store.save(state_at(1))
        store.save(state_at(2))
        do(store, "last")
        do(store, "previous")
        rule = f"{message}.*{message}.*There is no checkpoint to continue from"
        with pytest.raises(RunError, match=rule):
            reopened(store).recover()


def test_format_of_another_version(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("chainrule.records._FORMAT", "chainrule-checkpoint-9")
        store.save(state_at(1))
    message = r"last\.json: format must be 'chainrule-checkpoint-1'; got chainrule-checkpoint-9"
    with pytest.raises(RunError, match=message):
        store.load("last")


def test_manifest_cannot_lead_out_of_the_folder(store, tmp_path, monkeypatch):
    store.save(state_at(1))
    body = json.loads((store.folder / "last.json").read_text())["body"]
    (tmp_path / "outside.safetensors").write_bytes(tensors_of(store, "last").read_bytes())
    from chainrule.records import _seal

    manifest = _seal(body | {"tensors": "../outside.safetensors"})
    (store.folder / "last.json").write_bytes(manifest)
    with pytest.raises(RunError, match=r"checkpoints/outside\.safetensors: could not be read"):
        store.load("last")
