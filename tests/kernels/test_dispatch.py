"""Which kernels are active and why, on how many threads; beside other threads and after a fork."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule import kernels, layers
from chainrule.errors import ConfigError, DTypeError, InputError

ROOT = Path(__file__).parent.parent.parent
SETS = kernels.instruction_sets()

compiled = pytest.mark.skipif(not SETS, reason="no compiled kernels are installed")
on_each_set = pytest.mark.parametrize("name", SETS)


def run_python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def images(*shape: int, dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def unaligned(array: np.ndarray) -> np.ndarray:
    """The same values one byte off their alignment."""
    memory = np.zeros(array.nbytes + 1, dtype=np.uint8)
    off = memory[1:].view(array.dtype).reshape(array.shape)
    off[...] = array
    return off


# --- what is installed ----------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no compiler")
def test_kernels_are_there_where_a_compiler_is() -> None:
    assert SETS, kernels.reason()
    assert SETS[-1] == "portable"


@compiled
def test_the_sets_are_those_of_the_processor() -> None:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        pytest.skip("the system does not say what its processor can do")
    flags = set(info.read_text(encoding="utf-8", errors="replace").split())
    assert ("avx2" in SETS) == ({"avx2", "fma"} <= flags)
    needed = {"avx512f", "avx512dq", "avx512bw", "avx512vl", "fma"}
    assert ("avx512" in SETS) == (needed <= flags)


def test_the_best_is_active() -> None:
    assert kernels.active() == (SETS[0] if SETS else "none")
    assert tuple(name for name in ("avx512", "avx2", "portable") if name in SETS) == SETS
    if SETS:
        assert kernels.reason() == "the best that this processor can run"


@pytest.mark.skipif(shutil.which("nm") is None, reason="there is no nm")
@on_each_set
def test_an_instruction_set_shares_no_code_with_another(name: str) -> None:
    """A function that the linker may merge could bring AVX-512 to a processor without."""
    objects = list(ROOT.glob(f"build/*/CMakeFiles/kernels_{name}.dir/**/*.o"))
    if not objects:
        pytest.skip("the kernels were not built here")
    for each in objects:
        command = ["nm", "--defined-only", "--extern-only", "--format=posix", str(each)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        symbols = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
        assert len(symbols) == 1, symbols
        assert f"kernels_{name}" in symbols[0]


@pytest.mark.parametrize(
    ("breaking", "reason"),
    [
        (
            "sys.modules['chainrule.kernels._kernels'] = None",
            "installed without compiled kernels, because no C++17 compiler built them",
        ),
        (
            "class Broken:\n"
            "    def find_spec(self, name, path, target=None):\n"
            "        if name.endswith('._kernels'): raise ImportError('wrong libstdc++')\n"
            "sys.meta_path.insert(0, Broken())",
            "the compiled kernels could not be loaded (wrong libstdc++)",
        ),
    ],
)
def test_without_the_compiled_module_numpy_does_the_work(breaking: str, reason: str) -> None:
    code = (
        f"import sys\n{breaking}\n"
        "import numpy as np\n"
        "from chainrule import kernels, layers\n"
        "with kernels.Workspace() as workspace:\n"
        "    x = kernels.empty((2, 1, 40, 40), np.float32)\n"
        "    x[...] = 1\n"
        "    out, cache = layers.conv_relu_pool_forward(x, x[:1, :, :3, :3])\n"
        "    layers.conv_relu_pool_backward(out, cache)\n"
        "    workspace.clear()\n"
        "assert workspace.bytes_in_use == workspace.bytes_free == workspace.peak_bytes == 0\n"
        "assert out.max() == 9\n"
        "print(kernels.instruction_sets(), kernels.active(), kernels.reason(), sep='; ')"
    )
    assert run_python(code) == f"(); none; {reason}"


# --- choosing -------------------------------------------------------------------------------


@on_each_set
def test_use_chooses_and_restores(name: str) -> None:
    before = kernels.active(), kernels.reason()
    with kernels.use("none"):
        assert kernels.current() is None
        with kernels.use(name):
            assert kernels.active() == name
            assert kernels.reason() == "chosen by kernels.use"
            chosen = kernels.current()
            assert chosen is not None
            assert chosen.name == name
        assert kernels.active() == "none"
    assert (kernels.active(), kernels.reason()) == before


@compiled
def test_vectors_have_the_width_of_the_set() -> None:
    widths = {}
    for name in SETS:
        with kernels.use(name):
            chosen = kernels.current()
            assert chosen is not None
            widths[name] = chosen.vector_bytes
    assert widths == {
        n: w for n, w in (("avx512", 64), ("avx2", 32), ("portable", 16)) if n in SETS
    }


def test_use_refuses_what_the_processor_cannot_run() -> None:
    with (
        pytest.raises(ConfigError, match=r"kernels.use: name must be one of .*; got 'avx3'"),
        kernels.use("avx3"),
    ):
        pass


@compiled
def test_without_kernels_numpy_does_the_work() -> None:
    x, weight = images(2, 3, 6, 6), images(4, 3, 3, 3, seed=1)
    with kernels.use("none"):
        _, cache = layers.conv2d_forward(x, weight)
    _, plain = layers.pair("conv2d", "numpy")[0](x, weight)
    _, fast = layers.conv2d_forward(x, weight)
    assert type(cache) is type(plain)
    assert type(cache) is not type(fast)


@compiled
def test_backward_runs_on_what_forward_ran_on() -> None:
    x, weight = images(3, 3, 9, 9), images(5, 3, 3, 3, seed=1)
    for name in SETS:
        with kernels.use(name):
            out, cache = layers.conv2d_forward(x, weight)
            expected = layers.conv2d_backward(out, cache)
        for other in (*SETS, "none"):
            with kernels.use(other):
                grads = layers.conv2d_backward(out, cache)
            for grad, same in zip(grads, expected, strict=True):
                np.testing.assert_array_equal(grad, same)


# --- threads --------------------------------------------------------------------------------


def test_threads_can_be_set() -> None:
    before = kernels.threads()
    with kernels.limited_threads(3):
        assert kernels.threads() == 3
        kernels.set_threads(5)
        assert kernels.threads() == 5
    assert kernels.threads() == before


@pytest.mark.parametrize("wrong", [True, 2.0, "2"])
def test_threads_are_an_int(wrong: Any) -> None:
    with pytest.raises(DTypeError, match=r"kernels.set_threads: count must be an int; got"):
        kernels.set_threads(wrong)


def test_there_is_at_least_one_thread() -> None:
    with pytest.raises(InputError, match=r"count must be at least 1; got 0"):
        kernels.set_threads(0)


@pytest.mark.parametrize(
    ("value", "threads"), [("3", 3), ("5,2", 5), ("0", None), ("many", None), ("", None)]
)
def test_the_first_number_of_threads(value: str, threads: int | None) -> None:
    code = "from chainrule import kernels; print(kernels.threads())"
    if threads is None:
        usable = hasattr(os, "sched_getaffinity")
        threads = len(os.sched_getaffinity(0)) if usable else os.cpu_count()
    assert int(run_python(code, OMP_NUM_THREADS=value)) == threads


@on_each_set
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pair", ["conv2d", "conv_relu", "conv_relu_pool"])
@pytest.mark.parametrize("num_images", [1, 2, 17, 50])
def test_threads_change_no_bit(name: str, dtype: type, pair: str, num_images: int) -> None:
    x, weight = images(num_images, 5, 13, 11, dtype=dtype), images(19, 5, 3, 3, dtype=dtype)
    forward, backward = layers.pair(pair)
    results = []
    with kernels.use(name):
        for threads in (1, 2, 3, 8, 1):
            with kernels.limited_threads(threads):
                out, cache = forward(x, weight, weight[:, 0, 0, 0].copy(), 2, 1)
                results.append([out, *backward(out, cache)])
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            np.testing.assert_array_equal(one, other)


@compiled
def test_kernels_run_from_several_threads_at_once() -> None:
    weight = images(8, 4, 3, 3, seed=1)
    inputs = [images(6, 4, 20, 20, seed=seed) for seed in range(4)]
    expected = [layers.conv2d_forward(x, weight)[0] for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(60):
            out, cache = layers.conv2d_forward(inputs[i], weight)
            layers.conv2d_backward(out, cache)
            if not np.array_equal(out, expected[i]):
                wrong.append(i)

    with kernels.limited_threads(3):
        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@compiled
def test_other_threads_run_meanwhile() -> None:
    x, weight = images(64, 32, 48, 48), images(64, 32, 3, 3, seed=1)
    stamps: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.001):
            stamps.append(time.perf_counter())

    chosen = kernels.current()
    assert chosen is not None
    out = np.empty((64, 64, 48, 48), np.float32)
    thread = threading.Thread(target=tick)
    thread.start()
    start = time.perf_counter()
    chosen.conv_forward(x, weight, None, out, None, 1, 1, 1, 1, False, False, 1)
    end = time.perf_counter()
    done.set()
    thread.join()
    margin = (end - start) / 10
    assert any(start + margin < stamp < end - margin for stamp in stamps)


FORK = """
import os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks
import numpy as np
from chainrule import kernels, layers

kernels.set_threads(3)
rng = np.random.default_rng(0)
x, weight = rng.standard_normal((9, 3, 16, 16)), rng.standard_normal((6, 3, 3, 3))

def step():
    with workspace:
        out, cache = layers.conv2d_forward(x, weight)
        return [out, *layers.conv2d_backward(out, cache)[:2]]

workspace = kernels.Workspace()
expected = step()
stop = threading.Event()

def num_threads():
    tasks = "/proc/self/task"
    return len(os.listdir(tasks)) if os.path.isdir(tasks) else 0

def busy():
    while not stop.is_set():
        step()

thread = threading.Thread(target=busy)  # so that the pool may be in use when the process forks
thread.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        alone = num_threads()
        same = all(np.array_equal(a, b) for a, b in zip(step(), expected))
        os._exit(0 if same and num_threads() == alone + 2 * (alone > 0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
thread.join()
assert all(np.array_equal(a, b) for a, b in zip(step(), expected))
print("done")
"""


@compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_computes_the_same_with_threads_of_its_own() -> None:
    assert run_python(FORK) == "done"


# --- the boundary of the compiled module ----------------------------------------------------


@on_each_set
def test_the_module_refuses_what_would_leave_its_arrays(name: str) -> None:
    x, weight, out = images(2, 3, 6, 6), images(4, 3, 3, 3), images(2, 4, 4, 4)
    geometry = (1, 1, 0, 0)
    with kernels.use(name):
        chosen = kernels.current()
        assert chosen is not None
        chosen.conv_forward(x, weight, None, out, None, *geometry, False, False, 1)
        for arguments, message in [
            ((x, weight[:, :2].copy(), None, out, None, *geometry), "weight has the wrong shape"),
            ((x, weight, None, out[:1], None, *geometry), "y has the wrong shape"),
            ((x, weight, x[0, 0, 0], out, None, *geometry), "bias has the wrong shape"),
            ((x, weight, None, out, None, 0, 1, 0, 0), "stride or padding out of range"),
            ((x[:, :, :2].copy(), weight, None, out, None, *geometry), "smaller than the filters"),
            ((x[:, :0], weight[:, :0], None, out, None, *geometry), "no extent may be 0"),
            ((unaligned(x), weight, None, out, None, *geometry), "x is not aligned"),
            ((x, weight, unaligned(x[0, 0, 0, :4]), out, None, *geometry), "bias is not aligned"),
        ]:
            with pytest.raises(ValueError, match=message):
                chosen.conv_forward(*arguments, False, False, 1)
        for wrong in (x[:, ::-1], x.astype(np.float64), x.astype(np.int32), x[0]):
            with pytest.raises(TypeError, match="incompatible function arguments"):
                chosen.conv_forward(wrong, weight, None, out, None, *geometry, False, False, 1)
        read_only = out.copy()
        read_only.flags.writeable = False
        with pytest.raises(TypeError, match="incompatible function arguments"):
            chosen.conv_forward(x, weight, None, read_only, None, *geometry, False, False, 1)
        dx, dweight = np.empty_like(x), np.empty_like(weight)
        assert chosen.conv_backward(
            out, x, weight, None, None, dx, dweight, None, *geometry, False, 1
        )
        for arguments, message in [
            ((out[:1], x, weight, None, None, dx, dweight, None), "dy has the wrong shape"),
            ((out, x, weight, out[:1], None, dx, dweight, None), "y has the wrong shape"),
            ((out, x, weight, None, None, dx[:1], dweight, None), "dx has the wrong shape"),
            ((out, x, weight, None, None, dx, dweight[:1], None), "dweight has the wrong"),
            ((out, x, weight, None, None, dx, dweight, dx[0, 0, 0]), "dbias has the wrong shape"),
        ]:
            with pytest.raises(ValueError, match=message):
                chosen.conv_backward(*arguments, *geometry, False, 1)
