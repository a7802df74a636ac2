"""Hostile submissions cost one test, and nothing outside the test's own folder changes.

Each attack stands in ``relu_forward``, or at the import of a module of its own. It is tried with
all protections that the machine has, with the audit hook alone, as where there are no namespaces,
and, where it matters, with the namespaces alone.
"""

import os
import socket
import tempfile
import textwrap
from pathlib import Path

import pytest

import chainrule
from chainrule.course.grading import Protections

LIMITS = {"seconds": 3.0, "memory_mb": 400, "disk_mb": 16, "output_kb": 256, "processes": 16}

# Attack, and words of which one is in what the student is told; {outside} is a folder that must
# not change, {port} one that must not be reached.
ATTACKS = {
    "endless loop": ("while True: pass", "more than 3 s"),
    "sleep": ("import time; time.sleep(1000)", "more than 3 s"),
    "segmentation fault": ("import ctypes; ctypes.string_at(0)", "SIGSEGV|ctypes"),
    "abort": ("import os; os.abort()", "SIGABRT"),
    "os._exit": ("import os; os._exit(0)", "exit code 0"),
    "sys.exit": ("import sys; sys.exit(0)", "SystemExit"),
    "kills itself": ("import os; os.kill(os.getpid(), 9)", "SIGKILL|signal processes"),
    "kills its group": ("import os; os.killpg(0, 9)", "SIGKILL|signal processes"),
    "kills its parent": (
        """
        import os
        for pid in (os.getppid(), 1, -1):
            try:
                os.kill(pid, 9)
            except OSError:
                pass
        raise ValueError('tried')
        """,
        "tried|SIGKILL",
    ),
    "fork bomb": (
        """
        import os
        while True:
            try:
                os.fork()
            except OSError:
                pass
        """,
        "more than 3 s|memory",
    ),
    "prints gigabytes": ("while True: print('x' * 100_000)", "printed more than 256 kB"),
    "writes gigabytes to stderr": (
        "import os\nwhile True: os.write(2, b'x' * 100_000)", "printed more than 256 kB",
    ),
    "allocates 100 GB": ("np.ones(100 * 2**30 // 8)", "MemoryError"),
    "allocates slowly": ("rows = []\nwhile True: rows.append(np.empty(2**20))", "emory"),
    "allocates in children": (
        """
        import os, time
        for _ in range(6):
            if os.fork() == 0:
                break
        held = np.ones(120 * 2**20 // 8)
        time.sleep(100)
        """,
        "more than 400 MB|processes",
    ),
    "result of gigabytes": ("return np.zeros(300 * 2**20 // 8), x", "MemoryError|not what the"),
    "fills the disk": (
        "file = open('big', 'wb')\nwhile True: file.write(b'x' * 10**6)", "No space|too large",
    ),
    "fills the disk with files": (
        """
        for i in range(10**9):
            open(f'file{i}', 'wb').write(b'x' * 10**6)
        """,
        "No space|files|more than 3 s",
    ),
    "writes outside": ("open('{outside}/new', 'w').write('x')", "may not write|Read-only|No such"),
    "overwrites": ("open('{outside}/canary', 'w').write('x')", "may not write|Read-only|No such"),
    "deletes": ("import os; os.remove('{outside}/canary')", "may not change|Read-only|No such"),
    "deletes everything": (
        "import shutil; shutil.rmtree('{outside}')", "may not|Read-only|No such",
    ),
    "links and renames": (
        """
        import os
        os.symlink('{outside}', 'there')
        os.rename('there/canary', 'there/gone')
        """,
        "may not change|Read-only|No such|Refused",
    ),
    "reads the answers": ("raise ValueError(open('{answers}').read())", "may not read|No such"),
    "imports the answers": ("import chainrule.layers", "may not import chainrule|No module"),
    "imports the answers by force": (
        """
        import sys
        sys.meta_path[:] = [f for f in sys.meta_path if 'Forbid' not in type(f).__name__]
        sys.path.insert(0, '{source}')
        import chainrule.layers
        return chainrule.layers.relu_forward(x)
        """,
        "No module|may not",
    ),
    "reads secrets": ("import os; raise ValueError(dict(os.environ))", "ValueError"),
    "network": (
        "import socket; socket.create_connection(('127.0.0.1', {port}), 1)",
        "no network|refused|unreachable",
    ),
    "other programs": (
        "import subprocess; raise ValueError(subprocess.run(['id'], capture_output=True))",
        "start or signal",
    ),
    "forges results": (
        """
        import os, struct
        for descriptor in range(3, 30):
            try:
                os.write(descriptor, b'F' + struct.pack('<I', 6) + struct.pack('<I', 2) + b'{}')
            except OSError:
                pass
        os._exit(0)
        """,
        "results",
    ),
    "forges garbage": (
        """
        import os
        for descriptor in range(3, 30):
            try:
                os.write(descriptor, b'F' + b'\\xff' * 1000)
            except OSError:
                pass
        os._exit(0)
        """,
        "results are not what",
    ),
    "replaces NumPy's comparisons": (
        """
        np.allclose = np.array_equal = lambda *a, **k: True
        np.abs = np.asarray = np.array = lambda x, *a, **k: x
        return None, None
        """,
        "None",
    ),
    "results that compare equal to all": (
        """
        class Liar(np.ndarray):
            def __eq__(self, other): return True
            def __sub__(self, other): return 0 * other
            def __array__(self, *a, **k): raise SystemExit
        return np.zeros(x.shape).view(Liar), x
        """,
        "wrong|SystemExit",
    ),
    "results that execute when read": (
        """
        class Trap:
            def __reduce__(self): return (exec, ("open('{outside}/new', 'w')",))
        return Trap(), Trap()
        """,
        "type Trap",
    ),
    "objects in an array": ("return np.array([lambda: 0]), x", "array of object"),
    "recursion": ("def f(): return f()\nreturn f()", "RecursionError"),
    "data that contain themselves": ("rows = []\nrows.append(rows)\nreturn rows, x", "array of"),
    "overflows the stack": (
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return f()\nf()",
        "SIGSEGV|more than 3 s|memory|Memory|Recursion",
    ),
    "closes all files": ("import os; os.closerange(0, 100)\nreturn x, x", "exit code|Bad file"),
    "exceptions that fail": (
        """
        class Broken(Exception):
            def __str__(self): raise self
        raise Broken
        """,
        "Broken",
    ),
    "control characters": ("raise ValueError('\\x1b[2J\\ud800')", "ValueError: \ufffd"),
    "numbers too large to compare": ("return 10**4000, x", "numbers"),
    "starts threads": (
        "import threading\n"
        "for _ in range(10**4): threading.Thread(target=threading.Event().wait).start()",
        "new thread",
    ),
}  # fmt: skip

# What the operating system has to stop by itself: code that is past the audit hook.
WITHOUT_HOOK = [
    "segmentation fault", "kills itself", "kills its group", "kills its parent", "fork bomb",
    "allocates in children", "fills the disk with files", "writes outside", "overwrites", "deletes",
    "deletes everything", "links and renames", "reads the answers", "imports the answers by force",
    "network",
]  # fmt: skip


def everything_in(folder):
    """Names, contents and times of all files."""
    return {
        str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


def processes_of(mark):
    """Processes whose environment holds a mark, wherever they went."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in entry.read_bytes() and entry.parent.name != str(os.getpid()):
                found.append(entry.parent.name)
        except OSError:
            continue
    return found


@pytest.fixture
def attack(tmp_path, student_a, change, grade_tests, monkeypatch):
    """Put code into the submission, grade it, and see what else became of it."""
    scratch, outside = tmp_path / "scratch", tmp_path / "outside"
    scratch.mkdir()
    outside.mkdir()
    outside.chmod(0o777)
    (outside / "canary").write_text("alive", encoding="utf-8")
    (outside / "canary").chmod(0o666)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("GRADES_PASSWORD", "hunter2")

    def run(code, protections, *tests, at_import=False, jobs=None):
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0)
            package = Path(chainrule.__file__).parent
            values = {
                "outside": outside,
                "port": server.getsockname()[1],
                "answers": package / "course" / "grading" / "exercises" / "layers.py",
                "source": package.parent,
            }
            code = textwrap.dedent(code)
            for key, value in values.items():
                code = code.replace(f"{{{key}}}", str(value))
            if at_import:
                change(
                    student_a,
                    "classifiers/convnet.py",
                    "import numpy as np\n",
                    f"import numpy as np\n{code}\n",
                )
            else:
                head = "def relu_forward(x):\n"
                change(student_a, "layers.py", head, head + textwrap.indent(code, "    ") + "\n")
            before = everything_in(outside), everything_in(student_a)
            chosen = tests or ("layers/relu_forward", "layers/affine_forward")
            results = grade_tests(
                student_a, *chosen, protections=protections, limits=LIMITS, jobs=jobs
            )
            with pytest.raises(BlockingIOError, match="unavailable"):
                server.accept()
        assert (everything_in(outside), everything_in(student_a)) == before
        assert list(scratch.iterdir()) == []
        assert processes_of(str(scratch)) == []
        assert "hunter2" not in repr(results)
        return results

    return run


def check(results, words):
    lost, other = results["layers/relu_forward"], results["layers/affine_forward"]
    assert (other.status, other.score) == ("passed", other.points)
    assert lost.score == 0
    said = " ".join([lost.message, *(finding.message for finding in lost.findings)])
    assert any(word in said for word in words.split("|")), said
    assert "\x1b" not in said


@pytest.mark.parametrize("name", ATTACKS)
def test_with_all_protections(attack, namespaces, name):
    code, words = ATTACKS[name]
    check(attack(code, namespaces), words)


@pytest.mark.parametrize("name", WITHOUT_HOOK)
def test_namespaces_alone(attack, namespaces, name):
    code, words = ATTACKS[name]
    check(attack(code, Protections(namespaces.mode, audit=False)), words)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_audit_hook_alone(attack, name):
    code, words = ATTACKS[name]
    check(attack(code, Protections("plain")), words)


@pytest.mark.parametrize(
    "name", ["kills its parent", "writes outside", "reads the answers", "network"]
)
def test_namespaces_that_anybody_may_make(attack, namespaces, name):
    if namespaces.mode != "root":
        pytest.skip("these are the ones that all other tests use")
    code, words = ATTACKS[name]
    check(attack(code, Protections("user", audit=False)), words)


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for descriptor in range(100):
            try:
                os.close(descriptor)
            except OSError:
                pass
        time.sleep(1000)
    os._exit(0)
"""


def test_daemons_end_with_the_test(attack, namespaces):
    results = attack(DAEMON, Protections(namespaces.mode, audit=False))
    assert results["layers/relu_forward"].status == "passed"  # its result was right, after all


def test_threads_that_never_end_are_not_waited_for(attack, namespaces):
    code = "import threading\nthreading.Thread(target=threading.Event().wait).start()"
    assert attack(code, namespaces)["layers/relu_forward"].status == "passed"


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("import sys; sys.exit(0)", "failed", "SystemExit"),
        ("import os; os._exit(0)", "stopped", "while cs231n.classifiers.convnet was imported"),
        ("while True: pass", "stopped", "while cs231n.classifiers.convnet was imported"),
    ],
)
def test_at_import_it_costs_what_needs_the_module(attack, namespaces, code, status, words):
    needing = ("convnet/init", "convnet/two_layer_convnet")
    results = attack(code, namespaces, *needing, "layers/affine_forward", at_import=True)
    assert results["layers/affine_forward"].status == "passed"
    for test in needing:
        assert results[test].status == status
        assert (
            words in results[test].message + results[test].findings[0].message
            if results[test].findings
            else words in results[test].message
        )


def test_an_import_that_never_ends_is_not_tried_for_every_test(attack, namespaces):
    needing = ("convnet/init", "convnet/two_layer_convnet")
    results = attack(
        "print('once', flush=True)\nwhile True: pass", namespaces, *needing, at_import=True
    )
    assert sorted(results[test].status for test in needing) == ["stopped", "stopped"]


def test_a_process_cannot_have_other_tests_passed_over(attack, namespaces):
    code = """
    import os, struct
    words = b'import cs231n.classifiers.convnet'
    for descriptor in range(3, 30):
        try:
            os.write(descriptor, b'P' + struct.pack('<I', len(words)) + words)
        except OSError:
            pass
    os._exit(0)
    """
    results = attack(code, namespaces, "layers/relu_forward", "convnet/init", jobs=1)
    assert results["layers/relu_forward"].status == "stopped"
    assert results["convnet/init"].status == "passed"


def test_escaping_by_new_namespaces(attack, namespaces):
    code = """
    import subprocess
    tried = "mount -o remount,rw /usr; mount -o remount,rw /; touch /usr/new /new; ls /old /proc/1"
    done = subprocess.run(["unshare", "-Urm", "sh", "-c", tried], capture_output=True, text=True)
    assert "new" not in subprocess.run(["ls", "/", "/usr"], capture_output=True, text=True).stdout
    raise ValueError("contained " + done.stderr)
    """
    check(attack(code, Protections(namespaces.mode, audit=False)), "contained")
    assert not Path("/usr/new").exists()


def test_what_is_visible_inside(attack, namespaces):
    code = """
    import os
    names = ("{source}/chainrule/errors.py", "{outside}", "/proc/1", "/sys/kernel")
    seen = [os.path.exists(name) for name in names]
    raise ValueError(f"{seen} {os.getcwd()} end")
    """
    results = attack(code, Protections(namespaces.mode, audit=False))
    assert (
        "[False, False, False, False] /student end"
        in results["layers/relu_forward"].findings[0].message
    )
