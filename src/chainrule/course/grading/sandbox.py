"""One process for each test, with limits on time, memory, output, disk and processes.

The process gets a copy of the submission and the arguments of the calls to make, and sends back
what they returned, as plain data. What was expected stays here, with the grader, where it is
compared: a process that is taken over entirely can lie about its own results and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from chainrule.course.grading.inside.codec import decode, encode
from chainrule.course.grading.namespaces import HOME, Interpreter, enter, find_interpreter
from chainrule.course.grading.processes import descendants, end_tree, memory_of

__all__ = ["Limits", "Outcome", "Sandbox"]

_BOOT = (
    "import os, sys; sys.path.insert(0, os.environ['GRADER']); "
    "sys.path += os.environ['PACKAGES'].split(os.pathsep); "
    "from inside.runner import main; main(int(sys.argv[1]))"
)
_START_SECONDS = 60.0  # for a loaded machine to start Python and import NumPy
_LOOK_EVERY = 0.1  # seconds between looks at the memory and disk that a test uses
_ANSWER_MB = 64
_WORKERS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")


@dataclass(frozen=True)
class Limits:
    """What one test may use.

    Attributes
    ----------
    seconds : float
        Of wall time, from when the student's code is loaded.
    memory_mb : int
        Of all processes of the test together.
    disk_mb : int
        Of files in its own folder, the submission included.
    output_kb : int
        Of what it prints.
    processes : int
        Processes and threads at a time.
    """

    seconds: float = 20.0
    memory_mb: int = 2048
    disk_mb: int = 64
    output_kb: int = 1024
    processes: int = 32


@dataclass
class Outcome:
    """What became of one process.

    Attributes
    ----------
    ended : str
        ``"answered"``, or why there is no answer: ``"time"``, ``"memory"``, ``"disk"``,
        ``"output"``, ``"signal"``, ``"exit"``, ``"garbage"``, ``"start"``.
    answer : object
        Plain data, or None.
    message : str
        Why there is no answer, for people.
    output : str
        The first of what it printed.
    progress : list of str
        How far it came, in its own words.
    seconds : float
        From when the student's code was loaded.
    """

    ended: str = "exit"
    answer: Any = None
    message: str = ""
    output: str = ""
    progress: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Sandbox:
    """Runs jobs on the code of one submission.

    Parameters
    ----------
    submission : Path
        A folder that holds the package ``cs231n``; it is copied and never written to.
    mode : {"root", "user", "plain"}
        How tests are shut in: namespaces made by root, by anybody, or none.
    forbid : iterable of str
        Packages that a submission may not import.
    audit : bool, default True
        Whether the audit hook is set as well; tests of the grader switch it off.
    stop : threading.Event, optional
        Ends what runs when it is set.
    """

    def __init__(
        self,
        submission: Path,
        mode: str,
        forbid: Iterable[str] = (),
        *,
        audit: bool = True,
        stop: threading.Event | None = None,
    ) -> None:
        self.mode = mode
        self.forbid = list(forbid)
        self.audit = audit
        self.interpreter: Interpreter = find_interpreter()
        self._base = Path(tempfile.mkdtemp(prefix="chainrule-grade-"))
        self._base.chmod(0o755)
        self._submission = self._base / "submission"
        shutil.copytree(submission, self._submission)
        self._grader = self._base / "grader"
        self._doctor = self._grader / "doctor"
        (self._base / "root").mkdir()
        self._stop = stop or threading.Event()
        self._copy_grader()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove all temporary files."""
        shutil.rmtree(self._base, ignore_errors=True)

    def run(self, job: dict[str, Any], limits: Limits) -> Outcome:
        """Run one job and end every process that came of it.

        Parameters
        ----------
        job : dict
            ``kind`` is ``"script"`` or ``"diagnose"``; see `inside.runner`.
        limits : Limits
            What it may use.

        Returns
        -------
        Outcome
            Whatever the code does; this raises for faults of the machine only.
        """
        work = None
        if self.mode == "plain":
            work = Path(tempfile.mkdtemp(prefix="work-", dir=self._base))
            shutil.copytree(self._submission, work, dirs_exist_ok=True)
            (work / "tmp").mkdir(exist_ok=True)
        try:
            return self._run(self._complete(job, limits, work), limits, work)
        finally:
            if work is not None:
                shutil.rmtree(work, ignore_errors=True)

    def _copy_grader(self) -> None:
        """Copy what runs inside, and the doctor without the rooms that hold answers."""
        package = Path(__file__).parents[2]
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(__file__).parent / "inside", self._grader / "inside", ignore=ignore)
        doctor = self._doctor / "chainrule"
        doctor.mkdir(parents=True)
        (doctor / "__init__.py").write_text("", encoding="utf-8")
        shutil.copy(package / "errors.py", doctor)
        for room in ("gradcheck", "autodiff"):
            shutil.copytree(package / room, doctor / room, ignore=ignore)

    def _complete(self, job: dict[str, Any], limits: Limits, work: Path | None) -> bytes:
        home = HOME if work is None else os.path.realpath(work)
        readable = [*self.interpreter.folders, str(self._grader), "/usr/lib", "/usr/share"]
        return encode(
            {
                **job,
                "home": home,
                "paths": list(self.interpreter.packages),
                "doctor": str(self._doctor),
                "readable": readable,
                "writable": [home],
                "forbid": self.forbid,
                "audit": self.audit,
                "limits": {
                    "memory": limits.memory_mb * 2**20,
                    # Below what all files may come to, so that who fills the disk by one file
                    # hears of it from the system before the watch over the folder ends the test.
                    "file": limits.disk_mb * 2**20 * 15 // 16,
                    "cpu": int(limits.seconds * 2 + 10),
                    "processes": limits.processes,
                    "files": 256,
                },
            }
        )

    def _run(self, job: bytes, limits: Limits, work: Path | None) -> Outcome:
        results, results_in = os.pipe()
        outputs, outputs_in = os.pipe()
        home = HOME if work is None else str(work)
        process = None
        try:
            process = subprocess.Popen(
                self._command(results_in, limits),
                stdin=subprocess.PIPE,
                stdout=outputs_in,
                stderr=outputs_in,
                pass_fds=(results_in,),
                start_new_session=True,
                cwd=work or self._base,
                env=self._environment(home),
            )
        finally:
            os.close(results_in)
            os.close(outputs_in)
            if process is None:
                os.close(results)
                os.close(outputs)
        watch = _Watch(process, job, results, outputs, limits, work, self._stop.is_set)
        try:
            return watch.follow()
        finally:
            watch.close()  # first, so that nothing waits for us to read
            end_tree(process, f"CHAINRULE_TEST={home}" if self.mode == "plain" else None)

    def _command(self, descriptor: int, limits: Limits) -> list[str]:
        command = [self.interpreter.executable, "-I", "-S", "-u", "-c", _BOOT, str(descriptor)]
        if self.mode == "plain":
            return command
        return enter(
            self.interpreter,
            command,
            base=self._base / "root",
            submission=self._submission,
            grader=self._grader,
            hidden=[Path(__file__).parents[2]],
            disk_mb=limits.disk_mb,
            as_root=self.mode == "root",
        )

    def _environment(self, home: str) -> dict[str, str]:
        """The whole environment of a test: nothing of the grader's own is in it."""
        own = {
            "PATH": "/usr/bin:/bin",
            "HOME": home,
            "TMPDIR": f"{home}/tmp",
            "LANG": "C.UTF-8",
            "MPLBACKEND": "Agg",
            "MPLCONFIGDIR": f"{home}/tmp",
            "PYTHONHASHSEED": "0",
            "CHAINRULE_TEST": home,
            "GRADER": str(self._grader),
            "PACKAGES": os.pathsep.join(self.interpreter.packages),
        }
        return own | {f"{name}_NUM_THREADS": "1" for name in _WORKERS}


class _Watch:
    """Feeds a process, listens to it and ends it when it has had enough."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        job: bytes,
        results: int,
        outputs: int,
        limits: Limits,
        work: Path | None,
        stopped: Callable[[], bool],
    ) -> None:
        self.stopped = stopped
        self.process = process
        self.limits = limits
        self.work = work
        self.outcome = Outcome()
        self._job = memoryview(job)
        self._descriptors = [results, outputs]
        self._results, self._outputs = results, outputs
        self._received = bytearray()
        self._printed = bytearray()
        self._count = 0
        self._ready: float | None = None
        self._start = time.monotonic()
        self._looked = self._start
        self._final: bytes | None = None

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        stdin: IO[bytes] | None = self.process.stdin
        if stdin is not None and not stdin.closed:
            with contextlib.suppress(OSError):  # what it has not read
                stdin.close()

    def follow(self) -> Outcome:
        """Return once there is an answer or there will be none."""
        selector = selectors.DefaultSelector()
        stdin = self.process.stdin
        assert stdin is not None
        for descriptor in (*self._descriptors, stdin.fileno()):
            os.set_blocking(descriptor, False)
        selector.register(self._results, selectors.EVENT_READ)
        selector.register(self._outputs, selectors.EVENT_READ)
        selector.register(stdin, selectors.EVENT_WRITE)
        with selector:
            while not self._over():
                for key, _ in selector.select(0.05):
                    if key.fileobj is stdin:
                        self._feed(selector, stdin)
                    elif not self._listen(key.fd):
                        selector.unregister(key.fd)
                if self._final is None and self.process.poll() is not None:
                    while self._listen(self._results):  # what it had sent before it ended
                        pass
                    self._listen(self._outputs)
                    break
        return self._conclude()

    def _feed(self, selector: selectors.BaseSelector, stdin: IO[bytes]) -> None:
        try:
            self._job = self._job[os.write(stdin.fileno(), self._job) :]
        except BlockingIOError:
            return
        except OSError:  # it has ended, or closed its input
            self._job = self._job[:0]
        if not self._job:
            selector.unregister(stdin)
            stdin.close()

    def _listen(self, descriptor: int) -> bool:
        """Read what there is; False at the end of the stream."""
        try:
            chunk = os.read(descriptor, 2**18)
        except BlockingIOError:
            return self.process.returncode is None
        if not chunk:
            return False
        if descriptor == self._outputs:
            self._count += len(chunk)
            self._printed += chunk[: max(0, 16_384 - len(self._printed))]
            if self._count > self.limits.output_kb * 1024:
                self._stop("output", f"it printed more than {self.limits.output_kb} kB")
        elif self._final is None:
            self._received += chunk
            self._take_frames()
        return True

    def _take_frames(self) -> None:
        while len(self._received) >= 5 and self._final is None:
            kind, (length,) = bytes(self._received[:1]), struct.unpack_from("<I", self._received, 1)
            if kind not in b"RPF" or length > _ANSWER_MB * 2**20:
                self._stop("garbage", "its results are not what the grader's own code sends")
                return
            if len(self._received) < 5 + length:
                return
            content = bytes(self._received[5 : 5 + length])
            del self._received[: 5 + length]
            if kind == b"R" and self._ready is None:
                self._ready = time.monotonic()
            elif kind == b"P" and len(self.outcome.progress) < 1000:
                self.outcome.progress.append(content[:200].decode(errors="replace"))
            elif kind == b"F":
                self._final = content

    def _stop(self, why: str, message: str) -> None:
        if not self.outcome.message:
            self.outcome.ended, self.outcome.message = why, message

    def _over(self) -> bool:
        if self._final is not None or self.outcome.message:
            return True
        if self.stopped():
            self._stop("time", "grading was interrupted")
        now = time.monotonic()
        if self._ready is None:
            if now - self._start > _START_SECONDS:
                self._stop("start", "the machine took too long to start Python")
        elif now - self._ready > self.limits.seconds:
            self._stop("time", f"it ran for more than {self.limits.seconds:g} s")
        if now - self._looked > _LOOK_EVERY:
            self._looked = now
            self._look()
        return bool(self.outcome.message)

    def _look(self) -> None:
        tree = descendants(self.process.pid)
        if memory_of(tree) > self.limits.memory_mb * 2**20:
            self._stop("memory", f"it used more than {self.limits.memory_mb} MB of memory")
        if self.work is not None and _size_of(self.work) > self.limits.disk_mb * 2**20:
            self._stop("disk", f"it wrote more than {self.limits.disk_mb} MB of files")

    def _conclude(self) -> Outcome:
        outcome = self.outcome
        outcome.seconds = time.monotonic() - (self._ready or self._start)
        outcome.output = self._printed.decode(errors="replace")
        if self._final is not None:
            try:
                outcome.answer = decode(self._final)
                outcome.ended, outcome.message = "answered", ""
            except ValueError as error:
                outcome.ended, outcome.message = "garbage", f"its results are damaged: {error}"
        elif not outcome.message:
            self._explain_end()
        return outcome

    def _explain_end(self) -> None:
        code = self.process.wait()
        number = -code if code < 0 else code - 128
        if self._ready is None:
            lines = self.outcome.output.strip().splitlines() or ["no reason given"]
            self._stop("start", f"the test could not be started: {lines[-1][:300]}")
        elif 0 < number < 65:
            try:
                name = signal.Signals(number).name
            except ValueError:
                name = f"signal {number}"
            words = {"SIGSEGV": "it crashed (segmentation fault)", "SIGXCPU": "it used up its time",
                     "SIGKILL": "it was killed", "SIGABRT": "it crashed (abort)"}  # fmt: skip
            self._stop("signal", f"{words.get(name, 'it was ended')}, {name}")
        else:
            self._stop("exit", f"its process ended with exit code {code} before it had a result")


def _size_of(folder: Path) -> int:
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += _size_of(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    except OSError:  # it may vanish while we look
        pass
    return total
