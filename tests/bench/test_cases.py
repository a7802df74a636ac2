"""The cases are what they say they are."""

import sys

import numpy as np
import pytest

from chainrule.bench.contest import CHAINRULE, CHANNELS_LAST, EAGER
from chainrule.bench.memory import step_memory
from chainrule.bench.operations import SHAPES
from chainrule.bench.steps import BATCHES, step_cases, step_of
from chainrule.bench.suite import list_cases
from chainrule.errors import RunError

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def by_name(quick=False):
    return {(case.name, case.dtype): case for case in list_cases(quick)}


def test_names_are_unique():
    assert len(by_name()) == len(list_cases())
    assert by_name().keys() == by_name(quick=True).keys()


def test_quick_cases_are_smaller():
    for name, case in by_name(quick=True).items():
        if case.flops is not None:
            assert case.flops < by_name()[name].flops


@pytest.mark.parametrize("name", SHAPES)
def test_extent_and_arithmetic_of_a_convolution(name):
    n, c, h, w, f, k, stride, padding = shape = SHAPES[name]
    out = torch.nn.functional.conv2d(
        torch.zeros(1, c, h, w), torch.zeros(f, c, k, k), stride=stride, padding=padding
    )
    assert shape.extent == tuple(out.shape[2:])
    assert shape.flops == 2 * n * out.numel() * c * k * k


def test_arithmetic_of_a_training_step():
    flops = {case.network: case.flops / case.images for case in step_cases()}
    conv, linear = 2 * 32 * 32 * 32 * 3 * 49, 2 * 8192 * 10
    assert flops["convnet"] == 2 * conv + 3 * linear
    assert flops["two_layer"] == 2 * 2 * 3072 * 100 + 3 * 2 * 100 * 10
    # (input channels, filters, side); nothing is differentiated by the input of the first
    convs = [(24, 48, 32), (48, 48, 16), (48, 96, 16), (96, 96, 8), (96, 192, 8), (192, 192, 4)]
    products = [2 * 9 * c * f * side**2 for c, f, side in convs]
    whitening, head = 2 * 27 * 24 * 32**2, 2 * 192 * 4**2 * 10
    assert flops["speednet"] == whitening + 3 * sum(products) - products[0] + 3 * head


@pytest.mark.parametrize("name", BATCHES)
def test_steps_train_the_same_network(name):
    losses = {}
    for form in (CHAINRULE, EAGER, CHANNELS_LAST):
        step, parameters = step_of(name, form, 3, lr=0.01, dtype="float64")
        losses[form] = [float(step()) for _ in range(3)]
        assert {str(value.dtype) for value in parameters().values()} == {"float64"}
    assert losses[EAGER][2] < losses[EAGER][0]
    np.testing.assert_allclose(losses[CHAINRULE], losses[EAGER], rtol=1e-9)
    np.testing.assert_allclose(losses[CHANNELS_LAST], losses[EAGER], rtol=1e-9)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_memory_of_a_step():
    # 64 images: the convolution's output alone, which PyTorch keeps, is 8 MiB.
    found = step_memory("convnet", 64, threads=1)
    assert list(found) == [CHAINRULE, EAGER, CHANNELS_LAST]
    assert found[EAGER] > 8 << 20
    assert found[CHAINRULE] > 2 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_measurement_that_fails_says_so():
    with pytest.raises(RunError, match="memory of no_net in chainrule failed: KeyError: 'no_net'"):
        step_memory("no_net", 1, threads=1)
