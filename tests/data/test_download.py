"""Downloads from real servers on this machine: mirrors, continuation, checksums."""

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import chainrule.data.catalog as catalog
from chainrule.data import fetch, list_datasets, load
from chainrule.data.download import DownloadError, RemoteFile, fetch_file
from chainrule.errors import ConfigError, DataMissingError

CONTENT = np.random.default_rng(0).bytes(700_000)
CUT = 2**19  # received in whole blocks of a quarter of a megabyte
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Mirror(ThreadingHTTPServer):
    """A server whose behaviour depends on the first part of the path.

    ``/good`` knows ranges; ``/plain`` does not; ``/missing`` answers 404; ``/cut`` hangs up after
    `CUT` bytes; ``/silent`` the same without announcing a length; ``/other`` has a file of the
    same length, ``/page`` a short page, ``/endless`` one that does not end; ``/shorter`` refuses
    ranges beyond 1,000 bytes.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"file.bin": CONTENT}
        self.sent = 0
        self.seen: list[tuple[str, str | None]] = []

    def url(self, behaviour: str, name: str = "file.bin") -> str:
        return f"http://127.0.0.1:{self.server_port}/{behaviour}/{name}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        _, behaviour, name = self.path.split("/")
        asked = self.headers["Range"]
        self.server.seen.append((behaviour, asked))
        data = self.server.files[name]
        match behaviour:
            case "missing":
                return self.send_error(404)
            case "page":
                return self.answer(200, b"<html>Log in to the network</html>")
            case "other":
                return self.answer(200, bytes(len(data)))
            case "shorter" if asked:
                return self.send_error(416)
            case "cut":
                return self.answer(200, data[:CUT], announced=len(data))
            case "silent":
                return self.answer(200, data[:CUT], announced=None)
            case "endless":
                return self.answer(200, data * 100, announced=None)
            case "good" if asked:
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                span = f"bytes {start}-{len(data) - 1}/{len(data)}"
                return self.answer(206, data[start:], span=span)
        return self.answer(200, data)

    def answer(self, code: int, body: bytes, announced: int | None = -1, span: str = "") -> None:
        self.send_response(code)
        if announced is not None:
            self.send_header("Content-Length", str(len(body) if announced == -1 else announced))
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        try:
            for start in range(0, len(body), CUT):
                self.wfile.write(body[start : start + CUT])
                self.server.sent += len(body[start : start + CUT])
        except ConnectionError:  # the client has heard enough
            self.close_connection = True


@pytest.fixture
def mirror(monkeypatch) -> Iterator[Mirror]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Mirror() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def remote(mirror, *behaviours, sha256=SHA256):
    urls = tuple(mirror.url(behaviour) for behaviour in behaviours)
    return RemoteFile("file.bin", urls, sha256, len(CONTENT))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_plain_download_makes_the_folder_and_leaves_nothing_else(mirror, tmp_path, capfd):
    path = fetch_file(remote(mirror, "good"), tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["file.bin"]
    assert capfd.readouterr() == ("", ""), "no progress where standard error is no terminal"


@pytest.mark.parametrize("bad", ["missing", "page", "other", "endless", "cut", "silent"])
@pytest.mark.parametrize("good", ["good", "plain"])
def test_next_mirror_helps(mirror, tmp_path, bad, good):
    path = fetch_file(remote(mirror, bad, good), tmp_path)
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]
    asked = "bytes=524288-" if bad in ("cut", "silent") else None
    assert mirror.seen == [(bad, None), (good, asked)]


def test_next_run_continues(mirror, tmp_path):
    with pytest.raises(DownloadError, match=r"^127\.0\.0\.1:\d+: connection broken$"):
        fetch_file(remote(mirror, "cut"), tmp_path)
    assert names(tmp_path) == ["file.bin.part"]
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:CUT]
    fetch_file(remote(mirror, "good"), tmp_path)
    assert mirror.seen == [("cut", None), ("good", "bytes=524288-")]
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("length", [10, 700_000, 700_001])
@pytest.mark.parametrize("behaviour", ["good", "plain", "shorter"])
def test_part_of_another_file_is_thrown_away(mirror, tmp_path, length, behaviour):
    (tmp_path / "file.bin.part").write_bytes(bytes(length))
    assert fetch_file(remote(mirror, behaviour), tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]


def test_part_begins_anew_where_ranges_are_unknown(mirror, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(bytes(CUT + 1000))
    with pytest.raises(DownloadError, match="connection broken"):
        fetch_file(remote(mirror, "cut"), tmp_path)
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:CUT]


def test_what_does_not_end_is_not_received(mirror, tmp_path):
    with pytest.raises(DownloadError, match="wrong checksum"):
        fetch_file(remote(mirror, "endless"), tmp_path)
    assert mirror.sent < 50 * len(CONTENT)


def test_complete_part_needs_no_server(mirror, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert fetch_file(remote(mirror, "missing"), tmp_path).read_bytes() == CONTENT
    assert mirror.seen == []


def test_wrong_checksum_leaves_nothing(mirror, tmp_path):
    with pytest.raises(DownloadError, match=r"^127\.0\.0\.1:\d+: wrong checksum$"):
        fetch_file(remote(mirror, "other"), tmp_path)
    assert names(tmp_path) == []


def test_every_failure_is_told(mirror, tmp_path):
    urls = (mirror.url("missing"), mirror.url("page"), "http://127.0.0.1:9/file.bin")
    file = RemoteFile("file.bin", urls, SHA256, len(CONTENT))
    with pytest.raises(DownloadError, match=r"HTTP 404; .*offers 34 bytes instead of 700000; .*no"):
        fetch_file(file, tmp_path)
    assert names(tmp_path) == []


def test_progress_goes_to_standard_error(mirror, tmp_path, capfd):
    fetch_file(remote(mirror, "good"), tmp_path, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "file.bin" in err


@pytest.fixture
def served(mirror, tmp_path, official, monkeypatch):
    """CIFAR-10 and MNIST, small, from one bad mirror and one good one."""
    source = tmp_path / "source"
    unpacked = official.write_cifar10(source, official.cifar10_content())
    official.write_mnist(source)
    official.pack_cifar10(source, unpacked)
    for path in source.glob("*.gz"):
        mirror.files[path.name] = path.read_bytes()
    datasets = {}
    for name, dataset in catalog._DATASETS.items():
        files = tuple(
            RemoteFile(
                file.name,
                tuple(mirror.url(behaviour, file.name) for behaviour in ("missing", "good")),
                hashlib.sha256(mirror.files[file.name]).hexdigest(),
                len(mirror.files[file.name]),
            )
            for file in dataset.remote
        )
        datasets[name] = type(dataset)(**{**vars(dataset), "remote": files})
    monkeypatch.setattr(catalog, "_DATASETS", datasets)
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_load_fetches_what_is_missing_once(mirror, served, name):
    assert not {info.name: info for info in list_datasets(served)}[name].available
    splits = load(name, served)
    assert splits.num_classes == 10
    requests = len(mirror.seen)
    assert requests == 2 * len(catalog._DATASETS[name].remote)
    assert {info.name: info for info in list_datasets(served)}[name].available
    load(name, served)
    assert len(mirror.seen) == requests


def test_fetch_leaves_a_persons_own_file_alone(mirror, served, official):
    official.write_mnist(served, num_train=30)
    own = (served / "train-images-idx3-ubyte.gz").read_bytes()
    (served / "t10k-labels-idx1-ubyte.gz").unlink()
    paths = fetch("mnist", served)
    assert [path.name for path in paths] == [file.name for file in catalog._MNIST_REMOTE]
    assert (served / "train-images-idx3-ubyte.gz").read_bytes() == own
    assert len(mirror.seen) == 2


def test_offline_message_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    dataset = catalog._DATASETS["cifar10"]
    file = dataset.remote[0]
    away = RemoteFile(file.name, ("http://127.0.0.1:9/x",), file.sha256, file.size)
    offline = type(dataset)(**{**vars(dataset), "remote": (away,)})
    monkeypatch.setitem(catalog._DATASETS, "cifar10", offline)
    with pytest.raises(DataMissingError) as caught:
        load("cifar10", tmp_path)
    assert str(caught.value) == (
        f"data set 'cifar10': cifar-10-python.tar.gz must be in {tmp_path}; got nothing there and "
        "no download (127.0.0.1:9: no connection). Download by hand from http://127.0.0.1:9/x and "
        f"put into {tmp_path}; or name a folder that has it with --data-dir or CHAINRULE_DATA."
    )
    assert caught.value.exit_code == 3


def test_without_download_nothing_is_asked(mirror, served):
    with pytest.raises(
        DataMissingError, match=r"t10k-labels-idx1-ubyte\.gz must be in .*nothing dow"
    ):
        load("mnist", served, download=False)
    assert mirror.seen == []


def test_fetch_of_an_unknown_name(tmp_path):
    with pytest.raises(ConfigError, match=r"got 'mnits'\. Did you mean 'mnist'"):
        fetch("mnits", tmp_path)


def test_digits_need_no_download(tmp_path):
    (path,) = fetch("digits", tmp_path)
    assert path.name == "digits.csv.gz"


def test_official_sources():
    for name in ("mnist", "cifar10"):
        for file in catalog._DATASETS[name].remote:
            assert len(file.urls) >= 3
            assert all(url.startswith("https://") and url.endswith(file.name) for url in file.urls)
            assert re.fullmatch("[0-9a-f]{64}", file.sha256)
