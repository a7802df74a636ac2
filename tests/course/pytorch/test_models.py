"""The networks: shapes; scores and gradients against chainrule's own and against differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chainrule import models
from chainrule.course import pytorch as course
from chainrule.errors import ConfigError
from chainrule.layers import cross_entropy_forward

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

SAME = {
    "softmax": lambda: models.softmax(10),
    "twolayernn": lambda: models.two_layer(10, hidden=6),
    "convnet": lambda: models.convnet(10, filters=6, kernel_size=5),
}


@pytest.mark.parametrize("name", SAME)
def test_scores_and_gradients_are_chainrule_s(name: str):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 3, 32, 32)), rng.integers(0, 10, 4)
    theirs = SAME[name]()
    theirs.init(rng, (3, 32, 32), dtype=np.float64)
    for param in theirs.params.values():
        param[...] = rng.normal(size=param.shape) * 0.05
    ours = course.make_model(name, hidden_dim=6, kernel_size=5).double()
    ours.load_state_dict({key: torch.tensor(value) for key, value in theirs.params.items()})

    scores = ours(torch.tensor(x))
    torch.nn.functional.cross_entropy(scores, torch.tensor(y)).backward()
    expected, grads = theirs.loss_and_grads(x, y)
    np.testing.assert_allclose(scores.detach(), theirs.forward(x), rtol=1e-9, atol=1e-12)
    loss, _ = cross_entropy_forward(scores.detach().numpy(), y)
    assert loss == pytest.approx(expected, rel=1e-12)
    for key, param in ours.named_parameters():
        np.testing.assert_allclose(param.grad, grads[key], rtol=1e-8, atol=1e-12, err_msg=key)


def test_mymodel_against_differences():
    torch.manual_seed(0)
    module = course.make_model("mymodel", hidden_dim=4).double().eval()
    torch.nn.init.normal_(module.classifier.weight)
    x, y = torch.randn(3, 3, 32, 32, dtype=torch.float64), torch.tensor([1, 5, 9])

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(module(x), y)

    loss().backward()
    step = 1e-6
    for name, param in module.named_parameters():
        direction = torch.randn_like(param)
        direction /= direction.norm()
        with torch.no_grad():
            param.add_(direction, alpha=step)
            above = loss()
            param.sub_(direction, alpha=2 * step)
            below = loss()
            param.add_(direction, alpha=step)
        numeric = float((above - below) / (2 * step))
        analytic = float((param.grad * direction).sum())
        assert numeric == pytest.approx(analytic, rel=1e-4, abs=1e-8), name


@pytest.mark.parametrize(
    ("name", "hidden", "kernel", "size"),
    [
        ("softmax", None, None, 30_730),
        ("twolayernn", 20, None, 61_670),
        ("convnet", 4, 3, 4 * 28 + 4 * 256 * 10 + 10),
        ("convnet", 4, 6, 4 * 109 + 4 * 256 * 10 + 10),
        ("mymodel", None, None, 1_166_506),
        ("mymodel", 8, 4, None),
    ],
)
def test_shapes(name: str, hidden: int | None, kernel: int | None, size: int | None):
    module = course.make_model(name, hidden, kernel)
    scores = module(torch.randn(2, 3, 32, 32))
    assert scores.shape == (2, 10)
    if size is not None:
        assert sum(param.numel() for param in module.parameters()) == size


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_filters_of_any_side_on_images_of_any_size(kernel: int):
    assert course.CNN((2, 7, 10), 3, kernel, 5)(torch.zeros(4, 2, 7, 10)).shape == (4, 5)


@pytest.mark.parametrize("name", ["softmax", "twolayernn", "convnet", "mymodel"])
def test_the_first_loss_is_near_that_of_guessing(name: str):
    torch.manual_seed(0)
    module = course.make_model(name, 16, 3)
    x = course.normalize(np.random.default_rng(0).integers(0, 256, (64, 3, 32, 32), np.uint8))
    loss = torch.nn.functional.cross_entropy(module(x), torch.arange(64) % 10)
    assert loss.item() == pytest.approx(np.log(10), abs=0.05)


STUDENT = """
from torch import nn
from torch.autograd import Variable
import torch.nn.functional as F

class Helper(nn.Module):
    pass

class MyModel(nn.Module):
    def __init__(self, {signature}):
        super(MyModel, self).__init__()
        self.given = [{names}]
        self.fc = nn.Linear(3072, 10)

    def forward(self, images):
        return self.fc(images.view(images.shape[0], -1))
"""


@pytest.mark.parametrize(
    ("signature", "given"),
    [
        ("im_size, hidden_dim, kernel_size, n_classes", [(3, 32, 32), 7, 3, 10]),
        ("im_size, hidden_dim, n_classes", [(3, 32, 32), 7, 10]),
        ("im_size, n_classes", [(3, 32, 32), 10]),
        ("n_classes, im_size, dropout=0.5", [10, (3, 32, 32), 0.5]),
        ("size, width, classes", [(3, 32, 32), 7, 10]),
        ("size, classes", [(3, 32, 32), 10]),
        ("a, b, c, d, e=2", [(3, 32, 32), 7, 3, 10, 2]),
    ],
)
def test_a_student_s_constructor(tmp_path: Path, signature: str, given: list[object]):
    names = ", ".join(part.partition("=")[0] for part in signature.split(","))
    path = tmp_path / "mymodel.py"
    path.write_text(STUDENT.format(signature=signature, names=names))
    assert course.make_model(f"{path}:MyModel", 7, 3).given == given


def test_a_student_s_file_that_will_not_do(tmp_path: Path):
    path = tmp_path / "mymodel.py"
    path.write_text(STUDENT.format(signature="im_size, n_classes", names=""))
    with pytest.raises(ConfigError, match=r"several modules: Helper, MyModel\. Name one"):
        course.make_model(str(path))
    with pytest.raises(ConfigError, match=r"no module 'MyModle'\. Did you mean 'MyModel'\?"):
        course.make_model(f"{path}:MyModle")
    with pytest.raises(ConfigError, match=r"there is no file .*other.py\."):
        course.make_model(str(tmp_path / "other.py"))
    path.write_text(STUDENT.format(signature="only", names=""))
    with pytest.raises(ConfigError, match=r"MyModel must take \(im_size, .*got \(only\)"):
        course.make_model(f"{path}:MyModel")
    path.write_text("width = 3\n")
    with pytest.raises(ConfigError, match=r"must define a subclass of nn.Module; got none"):
        course.make_model(str(path))
    with pytest.raises(ConfigError, match=r"'convnett' is not known\. Did you mean 'convnet'\?"):
        course.make_model("convnett")
