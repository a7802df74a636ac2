"""``chainrule bench``."""

import json
import sys

import numpy as np
import pytest

from chainrule import layers

QUICK = ("--quick", "--threads", "1")


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.mark.usefixtures("torch")
def test_tables_json_and_figure(chainrule, tmp_path):
    record, figure = tmp_path / "made" / "results.json", tmp_path / "made" / "ratios.svg"
    words = ["conv/S1", "step/convnet", "update/adam", "course", "--dtype", "float32"]
    done = chainrule("bench", *words, *QUICK, "--json", record, "--figure", figure)
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert ["rounds", "3"] in lines
    ((_, dtype, ours, eager, best, gflops, share, *times),) = (
        line for line in lines if line and line[0] == "conv/S1"
    )
    assert dtype == "float32"
    (case, *_) = json.loads(record.read_text())["cases"]
    assert ours == f"{1e3 * case['forms']['chainrule']['median']:.3f}"
    assert (eager, best) == (f"{case['ratio_to_eager']:.2f}", f"{case['ratio_to_best']:.2f}")
    assert (gflops, share) == (f"{case['gflops']:.1f}", f"{case['of_peak']:.0%}")
    assert len(times) == 3
    adam = next(line for line in lines if line and line[0] == "update/adam")
    assert adam[5:7] == ["-", "-"]  # no arithmetic to speak of
    assert adam[8] == "-"  # no channels_last
    trained = [line for line in lines if line and line[0] == "step/convnet"]
    assert [line[1] for line in trained[1:4]] == ["chainrule", "eager", "channels_last"]
    (epoch,) = (line for line in lines if line and line[0] == "step/convnet:")
    assert epoch[2:] == ["s", "for", "980", "steps"]
    assert any(line[:4] == ["conv", "forward", "10190.000", "28.000"] for line in lines)
    assert "conv/S1 float32: chainrule " in done.err
    assert "its times mean nothing" in done.err
    assert f"figure written to {figure}" in done.err
    assert figure.read_bytes().startswith(b"<?xml")


@pytest.mark.usefixtures("torch")
def test_wrong_results_are_not_timed(refused, monkeypatch, tmp_path):
    def zeros(dout, cache):
        return np.zeros((2, 32, 32, 32), np.float32)

    monkeypatch.setattr(layers, "max_pool2d_backward", zeros)
    said = refused(5, "bench", "max_pool2d", *QUICK, "--json", tmp_path / "results.json")
    assert "bench max_pool2d float32: dx of chainrule must be within" in said
    assert list(tmp_path.iterdir()) == []


def test_without_pytorch(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    said = refused(3, "bench", "max_pool2d", *QUICK)
    assert "PyTorch is not installed" in said
    assert "pip install 'chainrule[torch]'" in said


def test_what_cannot_be_drawn_is_refused_first(refused):
    said = refused(2, "bench", "conv", "--figure", "ratios.bmp")
    assert said == ("figure: the file's name must end in .png or .svg or .pdf; got 'ratios.bmp'.")


def test_cases_in_the_help_are_those_there_are(chainrule):
    from chainrule.bench import list_cases

    said = " ".join(chainrule("bench", "--help").out.split())
    groups = list(dict.fromkeys(case.group for case in list_cases()))
    known = said.partition("CASE conv")[2].partition("; or one such as")[0]
    assert set(groups) <= set(f"conv{known}".split(", "))
