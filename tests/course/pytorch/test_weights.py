"""Weights on disk: plain for PyTorch, complete for us, harmless whatever the file holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainrule.course import pytorch as course
from chainrule.errors import ConfigError, DataFormatError, DataMissingError

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def saved(path: Path, name: str = "convnet", hidden: int = 4, kernel: int = 3) -> torch.nn.Module:
    module = course.make_model(name, hidden, kernel).to(memory_format=torch.channels_last)
    course.save_model(path, module, {"model": name, "hidden_dim": hidden, "kernel_size": kernel})
    return module


@pytest.mark.parametrize("name", ["softmax", "twolayernn", "convnet", "mymodel"])
def test_there_and_back(tmp_path: Path, name: str):
    path = tmp_path / f"{name}.pt"
    module = saved(path, name).eval()
    for param in module.parameters():
        torch.nn.init.normal_(param, std=0.1)
    about = {"model": name, "hidden_dim": 4, "kernel_size": 3}
    course.save_model(path, module, about)
    x = torch.randn(2, 3, 32, 32)
    back = course.load_model(path)
    assert not back.training
    torch.testing.assert_close(back(x), module(x), rtol=1e-4, atol=1e-4)


def test_pytorch_reads_it_as_a_state_dict(tmp_path: Path):
    module = saved(tmp_path / "convnet.pt")
    state = torch.load(tmp_path / "convnet.pt")  # weights only, by PyTorch's own default
    assert list(state) == ["conv1.weight", "conv1.bias", "linear1.weight", "linear1.bias"]
    assert all(tensor.is_contiguous() for tensor in state.values())
    module.load_state_dict(state)


def test_other_people_s_weights(tmp_path: Path):
    path = tmp_path / "mine.pt"
    torch.save(course.make_model("twolayernn", 5).state_dict(), path)
    with pytest.raises(ConfigError, match=r"names no network of the course. Say which it is"):
        course.load_model(path)
    assert course.load_model(path, "twolayernn", 5).linear1.out_features == 5
    with pytest.raises(DataFormatError, match=r"weights must fit TwoLayerNN; got size mismatch"):
        course.load_model(path, "twolayernn", 6)
    with pytest.raises(DataFormatError, match=r"must fit Softmax; got Unexpected key"):
        course.load_model(path, "softmax")


def test_a_file_cannot_name_code_to_run(tmp_path: Path):
    code, path = tmp_path / "code.py", tmp_path / "code.pt"
    mark = tmp_path / "was run"
    code.write_text(f"open({str(mark)!r}, 'w').close()")
    about = {"model": f"{code}:MyModel"}
    course.save_model(path, course.make_model("softmax"), about)
    with pytest.raises(ConfigError, match=r"It was trained as .*code.py:MyModel. Say which"):
        course.load_model(path)
    assert not mark.exists()


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.mark), "w")


def test_pickles_are_refused(tmp_path: Path):
    mark = tmp_path / "was run"
    for name, content in {"module": course.make_model("softmax"), "bomb": Bomb(mark)}.items():
        path = tmp_path / f"{name}.pt"
        torch.save(content, path)
        with pytest.raises(DataFormatError, match=r"a pickled object. Save it with torch.save"):
            course.load_weights(path)
    assert not mark.exists()


def test_files_that_hold_no_weights(tmp_path: Path):
    path = tmp_path / "convnet.pt"
    with pytest.raises(DataMissingError, match=r"convnet.pt: file must exist; got none"):
        course.load_weights(path)
    saved(path)
    whole = path.read_bytes()
    for content in (b"", b"nonsense", whole[: len(whole) // 2], whole[:-3000]):
        path.write_bytes(content)
        with pytest.raises(DataFormatError, match="without running code; got a damaged file"):
            course.load_weights(path)
    for content in ([torch.zeros(2)], {"epoch": 3}, {1: torch.zeros(2)}):
        torch.save(content, path)
        with pytest.raises(DataFormatError, match="must hold a state dictionary: tensors by name"):
            course.load_weights(path)
