"""The helper for tests of one's own backward passes."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.errors import GradientMismatchError
from chainrule.testing import assert_gradients

X = np.linspace(-2, 2, 6).reshape(2, 3)


def test_right_gradients_pass() -> None:
    assert_gradients(lambda x: (x**2, x), lambda dout, x: 2 * x * dout, [X])


def test_wrong_ones_fail_with_the_doctors_words() -> None:
    with pytest.raises(GradientMismatchError, match="half what it should be  \\[factor\\]"):
        assert_gradients(lambda x: (x**2, x), lambda dout, x: x * dout, [X])


def test_it_is_an_assertion_error() -> None:
    with pytest.raises(AssertionError, match="WRONG"):
        assert_gradients(lambda x: (np.sin(x), x), lambda dout, x: dout, {"x": X})
