"""``chainrule parity``."""

import pytest

from chainrule import twin

WORDS = ("parity", "mlp", "hidden=[5]", "norm=batch", "batch_size=20", "--steps", "3")


@pytest.fixture(autouse=True)
def _pytorch():
    pytest.importorskip("torch", reason="PyTorch is not installed")


def test_table(chainrule):
    done = chainrule(*WORDS)
    assert (done.code, done.err) == (0, "")
    assert "mlp on digits, adam, batches of 20, float64" in done.out
    for row in ("activation  relu1", "gradient    linear2.bias", "update      bn1.weight"):
        assert row in done.out
    assert "statistic   bn1.running_var" in done.out
    assert "the backends agree (tolerance 1e-09)" in done.out
    assert "PARTED" not in done.out
    assert "batch-norm variance: " in done.out
    assert "hinge loss: nothing here" in done.out
    assert "[optimizer.eps_inside_root=false]" in done.out


def test_json(chainrule):
    record = chainrule(*WORDS, "--json").json
    assert record["agree"] is True
    assert record["diverged"] is None
    assert [step["step"] for step in record["steps"]] == [1, 2, 3]
    assert record["steps"][0]["differences"]["gradient"].keys() >= {"linear1.weight"}
    assert record["largest"] < 1e-11
    assert {row["name"] for row in record["conventions"]} >= {"initialisation", "rmsprop eps"}


def test_backends_that_part(chainrule, monkeypatch):
    from chainrule.twin import networks

    right = networks.TwinNetwork.loss
    monkeypatch.setattr(networks.TwinNetwork, "loss", lambda *a: 2 * right(*a))
    done = chainrule(*WORDS)
    assert done.code == 5
    assert done.err == (
        "chainrule: parity: the loss of NumPy and PyTorch must agree to 1e-09; got a "
        "difference of 0.5 at step 1.\n"
    )
    assert "THE BACKENDS PART" in done.out
    assert "PARTED" in done.out
    done = chainrule(*WORDS, "--json")
    assert done.code == 5
    assert done.json["diverged"]["kind"] == "loss"


def test_refusals(refused, monkeypatch):
    assert "--steps must be at least 1; got 0" in refused(2, "parity", "mlp", "--steps", "0")
    assert "parity: MODEL must be given" in refused(2, "parity")
    assert "'convnt' is not known. Did you mean 'convnet'?" in refused(2, "parity", "convnt")
    monkeypatch.setattr(twin.functional, "find_spec", lambda name: None)
    line = refused(3, "parity", "mlp")
    assert "PyTorch is not installed. Install it with: pip install 'chainrule[torch]'" in line
