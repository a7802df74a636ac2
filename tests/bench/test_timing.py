"""Who has a turn when, and what a turn is. Times themselves are never judged."""

import gc
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from chainrule.bench import allocator, timing
from chainrule.bench.contest import EAGER, TUNED
from chainrule.bench.machine import matmul_gflops, read_rate


@pytest.fixture
def turns(monkeypatch):
    """Names and numbers of calls of the turns that were taken, and what was asked of malloc."""
    taken = []
    inside = []

    def turn(run, name, calls):
        run()
        first = all(entry[0] != name for entry in taken)
        taken.append((name, calls, bool(inside)))
        return 0.05 if first else 0.002

    @contextmanager
    def tuned():
        inside.append(True)
        yield
        inside.clear()

    monkeypatch.setattr(timing, "_turn", turn)
    monkeypatch.setattr(timing, "sleep", lambda seconds: None)
    monkeypatch.setattr(allocator, "tuned", tuned)
    monkeypatch.setattr(allocator, "settle", lambda: taken.append("settled"))
    return taken


def test_each_round_begins_with_another(turns):
    runs = {name: lambda: None for name in "abc"}
    times = timing.take_turns(runs, rounds=4, tune=False)
    names = [name for name, _, _ in turns]
    assert names[:9] == [*"aaabbbccc"]  # how many calls fill a turn
    assert names[9:] == [*"abc", *"bca", *"cab", *"abc"]
    assert {calls for _, calls, _ in turns[9:]} == {10}  # of 2 ms in 20 ms, the first one apart
    assert times["a"] == {
        "median": 0.002,
        "lower_quartile": 0.002,
        "upper_quartile": 0.002,
        "fastest": 0.002,
        "calls": 10,
        "rounds": 4,
    }


def test_the_tuned_form_runs_what_eager_runs(turns):
    ran = []
    runs = {"ours": lambda: ran.append("ours"), EAGER: lambda: ran.append("theirs")}
    times = timing.take_turns(runs, rounds=1, tune=True)
    assert list(times) == ["ours", EAGER, TUNED]
    assert turns[0] == "settled"
    estimates = ["ours"] * 3 + ["theirs"] * 6
    assert ran == [*estimates, "ours", "theirs", "theirs"]


def test_only_the_tuned_form_has_the_tuned_allocator(monkeypatch):
    inside = []

    @contextmanager
    def tuned():
        inside.append(True)
        yield
        inside.clear()

    seen = {EAGER: [], TUNED: []}
    monkeypatch.setattr(allocator, "tuned", tuned)
    for name, kept in seen.items():
        timing._turn(lambda kept=kept: kept.append(bool(inside)), name, 2)
    assert seen == {EAGER: [False] * 3, TUNED: [True] * 3}


def test_quartiles():
    samples = [4.0, 1.0, 2.0, 3.0, 5.0]
    summary = timing._summary(samples, 7)
    assert summary["lower_quartile"] == 2
    assert summary["median"] == 3
    assert summary["upper_quartile"] == 4
    assert summary["fastest"] == 1
    assert (summary["calls"], summary["rounds"]) == (7, 5)


def test_the_collector_is_off_meanwhile_and_on_afterwards():
    seen = []
    timing.take_turns({"a": lambda: seen.append(gc.isenabled())}, rounds=1, tune=False)
    assert seen[-1] is False
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError, match="division"):
        timing.take_turns({"a": lambda: 1 / 0}, rounds=1, tune=False)
    assert gc.isenabled()


@pytest.mark.skipif(not allocator.can_be_tuned(), reason="the C library is not glibc")
def test_the_tuned_allocator_keeps_memory():
    # In a process of its own, whose memory nothing else touches. Of two equal arrays, one after
    # the other, the second needs new pages unless the allocator has kept those of the first.
    code = """
import resource
import numpy as np
from chainrule.bench import allocator

def faults_of_the_second():
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(5 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

allocator.settle()
print(faults_of_the_second())
with allocator.tuned():
    print(faults_of_the_second())
print(faults_of_the_second())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    settled, tuned, again = map(int, done.stdout.split())
    assert tuned < 20 < min(settled, again)


def test_rates_of_the_machine():
    for dtype in ("float32", "float64"):
        assert 0 < matmul_gflops(dtype, 16, runs=1) < 1e6
    assert 0 < read_rate(np.ones(1000), threads=3, runs=1) < np.inf
