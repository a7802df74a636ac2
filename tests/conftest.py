"""What tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chainrule import kernels


@pytest.fixture
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """What to ask `chainrule.layers.pair` for; an instruction set is active in the test.

    Parametrised indirectly, with ``reference``, ``numpy`` or the name of an instruction set.
    """
    if request.param in kernels.instruction_sets():
        with kernels.use(request.param):
            yield "fast"
    else:
        yield request.param
