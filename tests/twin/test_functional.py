"""PyTorch's functions behind the names of chainrule's layers."""

import numpy as np
import pytest

from chainrule import twin
from chainrule.errors import ConfigError, DataMissingError
from chainrule.layers import PAIRS
from chainrule.twin import FUNCTIONS, differentiate


def test_every_layer_has_a_twin() -> None:
    assert set(FUNCTIONS) == set(PAIRS)


def test_values_gradients_and_missing_arguments() -> None:
    pytest.importorskip("torch")
    x, weight = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
    out, gradients = differentiate(
        "linear", {"x": x, "weight": weight, "bias": None}, {}, np.array([[2.0]])
    )
    assert out.tolist() == [[11.0]]
    assert set(gradients) == {"x", "weight"}
    assert gradients["x"].tolist() == [[6.0, 8.0]]
    assert gradients["weight"].tolist() == [[2.0, 4.0]]
    assert out.dtype == np.float64


def test_labels_become_tensors() -> None:
    pytest.importorskip("torch")
    scores = np.zeros((2, 4))
    loss, gradients = differentiate(
        "cross_entropy", {"scores": scores}, {"y": np.array([0, 3])}, np.array(1.0)
    )
    assert loss == pytest.approx(np.log(4))
    assert gradients["scores"][0].tolist() == pytest.approx([-0.375, 0.125, 0.125, 0.125])


def test_unknown_layers_and_a_missing_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"differentiate: name must be a layer; got 'lineer'"):
        differentiate("lineer", {}, {}, np.ones(1))
    monkeypatch.setattr(twin.functional, "find_spec", lambda name: None)
    with pytest.raises(DataMissingError, match=r"pip install 'chainrule\[torch\]'"):
        differentiate("relu", {"x": np.ones(1)}, {}, np.ones(1))
