"""Everything runs, in small; what comes out is complete and can be written as JSON."""

import json
import math

import pytest

from chainrule import kernels
from chainrule.bench import list_cases, run_benchmarks
from chainrule.bench import suite as suite_module
from chainrule.bench.allocator import can_be_tuned
from chainrule.bench.steps import BATCHES
from chainrule.errors import ConfigError, InputError

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def test_everything():
    said = []
    record = run_benchmarks(threads=1, quick=True, message=said.append)
    check_cases(record, said)
    check_times(record["cases"], record["machine"]["matmul_gflops"])
    check_steps([case for case in record["cases"] if case["group"] == "step"])
    check_surroundings(record)
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def check_cases(record, said):
    ran = [(case["name"], case["dtype"]) for case in record["cases"]]
    assert ran == [(case.name, case.dtype) for case in list_cases()]
    assert [line.partition(":")[0] for line in said] == [" ".join(each) for each in ran]
    for case in record["cases"]:
        exact = case["group"] in ("conv", "conv_no_dx", "conv_relu_pool", "max_pool2d")
        assert case["error"] <= (0 if exact else 1e-3), case["name"]


def check_times(cases, peaks):
    tuned = ["tuned_allocator"] if can_be_tuned() else []
    for case in cases:
        forms = case["forms"]
        images = case["group"] not in ("update", "softmax_regression")
        assert list(forms) == [
            "chainrule",
            "eager",
            *(["channels_last"] if images else []),
            *tuned,
        ]
        assert all(form["rounds"] == 3 for form in forms.values())
        ratios = {
            name: form["median"] / forms["chainrule"]["median"] for name, form in forms.items()
        }
        del ratios["chainrule"]
        assert case["ratios"] == pytest.approx(ratios)
        assert case["ratio_to_eager"] == case["ratios"]["eager"]
        assert case["ratio_to_best"] == min(case["ratios"].values())
        assert case["ratios"][case["best_opponent"]] == case["ratio_to_best"]
        if "flops" in case:
            rate = case["flops"] / forms["chainrule"]["median"] * 1e-9
            assert case["gflops"] == pytest.approx(rate)
            assert case["of_peak"] == pytest.approx(rate / peaks[case["dtype"]])


def check_steps(steps):
    assert [case["name"] for case in steps] == [f"step/{name}" for name in BATCHES]
    for case in steps:
        for form, rate in case["images_per_second"].items():
            assert rate == pytest.approx(case["images"] / case["forms"][form]["median"])
        assert set(case["memory_bytes"]) <= {"chainrule", "eager", "channels_last"}
        ours = case["forms"]["chainrule"]["median"]
        course = case["name"] == "step/convnet"
        assert case["epoch_seconds"] == (pytest.approx(980 * ours) if course else None)


def check_surroundings(record):
    assert record["kernels"] == kernels.active()
    assert record["environment"]["packages"]["torch"] == torch.__version__
    assert set(record["machine"]["matmul_gflops"]) == {"float32", "float64"}
    assert record["settings"] == {
        "what": [],
        "dtype": "both",
        "rounds": 3,
        "threads": 1,
        "quick": True,
    }
    assert record["notes"][0] == "A quick run of small sizes: its times mean nothing."
    assert math.isfinite(record["seconds"])
    rows = {row["what"]: row for row in record["course"]}
    assert rows["conv forward"]["naive"] == 10.19
    assert rows["pool backward"]["fast"] == pytest.approx(0.02435, abs=1e-5)
    assert all(row["chainrule"] > 0 for row in rows.values())


def test_what_is_chosen():
    record = run_benchmarks(["conv/S1", "max_pool2d"], dtype="float64", threads=1, quick=True)
    assert [(case["name"], case["dtype"]) for case in record["cases"]] == [
        ("conv/S1", "float64"),
        ("max_pool2d", "float64"),
    ]
    assert record["course"] == []
    record = run_benchmarks(["course"], threads=1, quick=True)
    assert (record["cases"], len(record["course"])) == ([], 4)


def test_everybody_has_the_same_threads(monkeypatch):
    before = torch.get_num_threads(), kernels.threads()
    seen = []

    def look(*_):
        seen.append((torch.get_num_threads(), kernels.threads()))
        return []

    monkeypatch.setattr(suite_module, "course_speeds", look)
    run_benchmarks(["course"], threads=3, quick=True)
    assert seen == [(3, 3)]
    assert (torch.get_num_threads(), kernels.threads()) == before


def test_rounds_are_as_many_as_asked():
    record = run_benchmarks(["max_pool2d"], dtype="float32", rounds=2, threads=1, quick=True)
    assert record["cases"][0]["forms"]["eager"]["rounds"] == 2


def test_without_glibc_the_tuned_form_is_left_out(monkeypatch):
    monkeypatch.setattr(suite_module.allocator, "can_be_tuned", lambda: False)
    record = run_benchmarks(["max_pool2d"], dtype="float32", threads=1, quick=True)
    assert list(record["cases"][0]["forms"]) == ["chainrule", "eager", "channels_last"]
    assert "Without glibc there is no tuned_allocator, so that form is left out." in record["notes"]


def test_the_floor(monkeypatch):
    monkeypatch.setattr(suite_module, "read_rate", lambda array, threads: 1e10)
    by_reading = suite_module._floor(bytes_read=10**6, flops=1e6, peak=100.0, threads=2)
    assert by_reading["seconds"] == by_reading["reading_seconds"] == pytest.approx(1e-4)
    by_computing = suite_module._floor(bytes_read=10**6, flops=1e8, peak=100.0, threads=2)
    assert by_computing["seconds"] == by_computing["computing_seconds"] == pytest.approx(1e-3)
    assert by_computing["read_gb_per_second"] == pytest.approx(10)


def test_refusals():
    with pytest.raises(ConfigError, match=r"bench: 'conf' is not known\. Did you mean 'conv'\?"):
        run_benchmarks(["conf"])
    with pytest.raises(ConfigError, match=r"dtype 'float16' is not known\. Did you mean 'float"):
        run_benchmarks(dtype="float16")
    for name in ("rounds", "threads"):
        with pytest.raises(InputError, match=f"bench: {name} must be at least 1; got 0"):
            run_benchmarks(**{name: 0})
