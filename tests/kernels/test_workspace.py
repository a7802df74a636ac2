"""Arrays that borrow their memory, and when it is used again."""

from __future__ import annotations

import gc
import random
import threading
from typing import Any

import numpy as np
import pytest

from chainrule import kernels, layers
from chainrule.errors import DTypeError, InputError

pytestmark = pytest.mark.skipif(
    not kernels.instruction_sets(), reason="no compiled kernels are installed"
)
SHAPE = (100, 100)
BYTES = 4 * 100 * 100


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def make(shape: tuple[int, ...] = SHAPE, dtype: type = np.float32) -> np.ndarray:
    return kernels.empty(shape, dtype)


# --- arrays ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_arrays_are_ordinary(dtype: type) -> None:
    with kernels.Workspace() as workspace:
        array = make((3, 50, 200), dtype)
    assert workspace.bytes_in_use >= array.nbytes
    assert type(array) is np.ndarray
    assert (array.shape, array.dtype) == ((3, 50, 200), np.dtype(dtype))
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert address(array) % 64 == 0
    array[...] = 3
    assert array.sum(dtype=np.float64) == 3 * array.size


@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, 3), np.float32), ((0, 100_000), np.float64), (SHAPE, np.int64)]
)
def test_small_arrays_and_other_dtypes_are_numpys(shape: tuple[int, ...], dtype: type) -> None:
    with kernels.Workspace() as workspace:
        array = make(shape, dtype)
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert workspace.bytes_in_use == 0


def test_outside_a_workspace_arrays_are_numpys() -> None:
    assert make().flags.owndata
    workspace = kernels.Workspace()
    with workspace:
        pass
    assert make().flags.owndata


# --- used again -----------------------------------------------------------------------------


def test_memory_is_used_again_once_the_array_is_gone() -> None:
    with kernels.Workspace() as workspace:
        array = make()
        first = address(array)
        held = workspace.bytes_in_use
        del array
        assert (workspace.bytes_in_use, workspace.bytes_free) == (0, held)
        again = make((2, 5000))
    assert address(again) == first
    assert workspace.bytes_free == 0


def test_memory_of_a_living_array_or_view_is_not_used_again() -> None:
    with kernels.Workspace():
        array = make()
        array[...] = 7
        view = array[3:5].T[1:]
        memory = memoryview(array)
        others = [make() for _ in range(5)]
        del array
        others += [make() for _ in range(5)]
        for other in others:
            other[...] = 0
            assert not np.shares_memory(other, view)
        assert (view == 7).all()
        del view
        others.append(make())
        assert not np.shares_memory(others[-1], np.asarray(memory))
        where = address(np.asarray(memory))
        del memory
        assert address(make()) == where


def test_memory_outlives_the_workspace() -> None:
    with kernels.Workspace() as workspace:
        array = make()
    array[...] = 5
    del workspace
    gc.collect()
    assert array.sum() == 5 * array.size


def test_each_thread_has_its_own_block() -> None:
    sizes = {}

    def work() -> None:
        sizes["owned by numpy"] = make().flags.owndata

    with kernels.Workspace():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert not make().flags.owndata
    assert sizes == {"owned by numpy": True}


def test_the_innermost_workspace_serves() -> None:
    outer, inner = kernels.Workspace(), kernels.Workspace()
    with outer:
        with inner, inner:
            kept = [make()]
        kept.append(make())
    assert inner.bytes_in_use == outer.bytes_in_use >= BYTES
    with pytest.raises(ZeroDivisionError, match="division"), outer:
        kept.append(make((1 // 0,)))
    assert make().flags.owndata


def test_arrays_of_many_threads_never_overlap() -> None:
    """Each thread fills arrays with its number, holds some, and lets others free some."""
    workspace = kernels.Workspace()
    wrong: list[int] = []
    shared: list[np.ndarray] = []

    def work(number: int) -> None:
        choose = random.Random(number)
        mine: list[np.ndarray] = []
        with workspace:
            for _ in range(400):
                array = make((choose.choice([5_000, 5_100, 20_000, 60_000]),))
                array[...] = number
                mine.append(array)
                if len(mine) > 6:
                    old = mine.pop(choose.randrange(len(mine)))
                    if not (old == number).all():
                        wrong.append(number)
                    shared.append(old)
                    del shared[: max(0, len(shared) - 10)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    shared.clear()
    assert workspace.bytes_in_use == 0
    assert workspace.bytes_free <= 2 * workspace.peak_bytes


# --- bounds ---------------------------------------------------------------------------------


def test_it_keeps_at_most_twice_what_was_in_use() -> None:
    with kernels.Workspace() as workspace:
        for rows in range(100, 400, 20):
            make((rows, 1000))
            assert workspace.bytes_free <= 2 * workspace.peak_bytes
        assert workspace.peak_bytes < 1.1 * 4 * 380 * 1000
        workspace.clear()
        assert workspace.bytes_free == 0


def test_the_least_recently_used_memory_goes_first() -> None:
    page = 4096
    with kernels.Workspace(max_bytes=30 * page) as workspace:
        first, second = make((9 * page,), np.uint8), make((10 * page,), np.uint8)
        del first, second
        assert workspace.bytes_free == 19 * page
        make((16 * page,), np.uint8)
        assert workspace.bytes_free == (10 + 16) * page


def test_arrays_in_use_may_exceed_the_bound() -> None:
    with kernels.Workspace(max_bytes=4096) as workspace:
        arrays = [make() for _ in range(4)]
        assert workspace.bytes_in_use >= 4 * BYTES
        del arrays
    assert workspace.bytes_free == 0


@pytest.mark.parametrize("wrong", [True, 1.5, "1"])
def test_the_bound_is_an_int(wrong: Any) -> None:
    with pytest.raises(DTypeError, match=r"Workspace: max_bytes must be an int; got"):
        kernels.Workspace(max_bytes=wrong)


def test_the_bound_is_positive() -> None:
    with pytest.raises(InputError, match=r"Workspace: max_bytes must be at least 1; got 0"):
        kernels.Workspace(max_bytes=0)


# --- page faults ----------------------------------------------------------------------------


def test_training_steps_touch_no_new_pages() -> None:
    resource = pytest.importorskip("resource")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32, 8, 32, 32)).astype(np.float32)
    weight = rng.standard_normal((16, 8, 3, 3)).astype(np.float32)
    second = rng.standard_normal((32, 16, 3, 3)).astype(np.float32)

    def step() -> None:
        hidden, cache = layers.conv_relu_forward(x, weight, None, 1, 1)
        out, second_cache = layers.conv_relu_pool_forward(hidden, second, None, 1, 1)
        dhidden = layers.conv_relu_pool_backward(out, second_cache)[0]
        assert dhidden is not None
        layers.conv_relu_backward(dhidden, cache)

    faults = []
    with kernels.Workspace(), kernels.limited_threads(2):
        for _ in range(15):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            step()
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert np.median(faults[5:]) <= 2
