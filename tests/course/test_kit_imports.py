"""``import cs231n``: the names that notebooks import, and the vanished ones, in fresh processes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chainrule.course import vanished
from chainrule.errors import InputError, ShapeError

NAMES = {
    "cs231n.classifiers": "KNearestNeighbor LinearSVM Softmax",
    "cs231n.classifiers.softmax": "softmax_loss_naive softmax_loss_vectorized",
    "cs231n.classifiers.linear_svm": "svm_loss_naive svm_loss_vectorized",
    "cs231n.classifiers.linear_classifier": "LinearClassifier LinearSVM Softmax",
    "cs231n.classifiers.k_nearest_neighbor": "KNearestNeighbor",
    "cs231n.classifiers.neural_net": "init_two_layer_model two_layer_net TwoLayerNet",
    "cs231n.classifiers.convnet": "init_two_layer_convnet two_layer_convnet",
    "cs231n.classifiers.fc_net": "TwoLayerNet FullyConnectedNet affine_forward batchnorm_forward "
    "batchnorm_backward_alt dropout_forward svm_loss softmax_loss affine_relu_forward",
    "cs231n.classifiers.cnn": "ThreeLayerConvNet conv_forward_naive conv_forward_fast "
    "conv_relu_pool_forward spatial_batchnorm_forward spatial_groupnorm_backward",
    "cs231n.classifier_trainer": "ClassifierTrainer",
    "cs231n.solver": "Solver",
    "cs231n.optim": "sgd sgd_momentum rmsprop adam",
    "cs231n.layers": "affine_forward affine_backward relu_forward relu_backward batchnorm_forward "
    "batchnorm_backward batchnorm_backward_alt layernorm_forward layernorm_backward "
    "dropout_forward dropout_backward conv_forward_naive conv_backward_naive "
    "max_pool_forward_naive max_pool_backward_naive spatial_batchnorm_forward "
    "spatial_batchnorm_backward spatial_groupnorm_forward spatial_groupnorm_backward "
    "svm_loss softmax_loss",
    "cs231n.fast_layers": "conv_forward_fast conv_backward_fast max_pool_forward_fast "
    "max_pool_backward_fast conv_forward_im2col conv_backward_im2col conv_forward_strides "
    "conv_backward_strides max_pool_forward_reshape max_pool_backward_reshape",
    "cs231n.layer_utils": "affine_relu_forward affine_relu_backward conv_relu_forward "
    "conv_relu_backward conv_bn_relu_forward conv_bn_relu_backward conv_relu_pool_forward "
    "conv_relu_pool_backward",
    "cs231n.gradient_check": "eval_numerical_gradient eval_numerical_gradient_array "
    "eval_numerical_gradient_blobs eval_numerical_gradient_net grad_check_sparse rel_error",
    "cs231n.vis_utils": "visualize_grid vis_grid vis_nn",
    "cs231n.data_utils": "load_CIFAR10 load_CIFAR_batch get_CIFAR10_data",
    "cs231n.features": "hog_feature color_histogram_hsv extract_features rgb2gray",
    "cs231n.im2col": "im2col_indices col2im_indices",
    "cs231n.im2col_cython": "im2col_cython col2im_cython",
    "cs231n.load_cifar10_tvt": "load_cifar10_train_val",
    "load_cifar10_tvt": "load_cifar10_train_val",
}


def run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_name_is_there(tmp_path: Path) -> None:
    """By ``from module import *``, as the notebooks do, and by name."""
    code = f"""
import chainrule.course.cs231n, importlib, json
missing = []
for module, names in {NAMES!r}.items():
    space = {{}}
    exec(f"from {{module}} import *", space)
    found = importlib.import_module(module)
    missing += [f"{{module}}.{{n}}" for n in names.split() if n not in space]
    missing += [f"{{module}}.{{n}}" for n in names.split() if not hasattr(found, n)]
print(json.dumps(missing))
"""
    assert json.loads(run(code, tmp_path)) == []


def test_modules_are_the_same_objects(tmp_path: Path) -> None:
    code = """
import chainrule.course.cs231n
import cs231n.classifiers.fc_net as alias
import chainrule.course.cs231n.classifiers.fc_net as real
assert alias is real
assert real.__spec__.name == real.__name__ == "chainrule.course.cs231n.classifiers.fc_net"
import cs231n
assert cs231n is chainrule.course.cs231n
assert cs231n.classifiers is chainrule.course.cs231n.classifiers
from cs231n import layers, optim
import importlib
assert importlib.reload(cs231n) is cs231n
"""
    run(code, tmp_path)


def test_unknown_modules_say_which_exist(tmp_path: Path) -> None:
    code = """
import chainrule.course.cs231n
try:
    import cs231n.layer_util
except ModuleNotFoundError as error:
    assert error.name == "cs231n.layer_util"
    print(error)
"""
    expected = "import: cs231n.layer_util must be a module of the course kit; got an unknown one. "
    assert run(code, tmp_path) == expected + "Did you mean 'layer_utils'?\n"


def test_vanished_names_are_back(tmp_path: Path) -> None:
    code = """
import chainrule.course.cs231n
import cs231n
import numpy as np
assert (np.float, np.int, np.bool, np.object) == (float, int, np.bool_, object)
from scipy.misc import imread, imresize, imsave, toimage
from scipy import misc, ndimage
import scipy.misc
assert scipy.misc.imread is misc.imread is imread is ndimage.imread
from scipy.ndimage import imread, uniform_filter
from past.builtins import xrange as old
import cPickle as pickle
assert pickle.loads(pickle.dumps([1])) == [1] and old is xrange
"""
    run(code, tmp_path)


def test_they_are_back_also_where_scipy_was_there_before(tmp_path: Path) -> None:
    code = """
import warnings
import scipy.ndimage
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import scipy.misc
import chainrule.course.cs231n, cs231n
assert scipy.misc.imresize and scipy.ndimage.imread
"""
    run(code, tmp_path)


@pytest.mark.parametrize(
    "first", ["import chainrule", "import chainrule.course", "import chainrule.course.cs231n"]
)
def test_other_programs_do_not_have_them(tmp_path: Path, first: str) -> None:
    """Importing chainrule, its course room or the kit under its own name changes nothing."""
    code = f"""
import builtins, sys
before = list(sys.meta_path)
{first}
import numpy as np, scipy.ndimage
assert "float" not in vars(np) and not hasattr(builtins, "xrange")
assert not hasattr(scipy.ndimage, "imread") and "scipy.misc" not in sys.modules
for name in ("past", "cPickle"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise AssertionError(name)
added = [type(finder) for finder in sys.meta_path if finder not in before]
print([kind.__name__ for kind in added if "chainrule" in kind.__module__])
"""
    expected = "['CourseFinder']" if first.endswith("cs231n") else "[]"
    assert run(code, tmp_path).strip() == expected


def test_what_is_installed_wins(tmp_path: Path) -> None:
    (tmp_path / "past").mkdir()
    (tmp_path / "past" / "__init__.py").write_text("real = True\n")
    run("import chainrule.course.cs231n, cs231n, past; assert past.real", tmp_path)


def test_the_kit_imports_no_plotting(tmp_path: Path) -> None:
    modules = [name for name in NAMES if name.startswith("cs231n")]
    code = f"""
import sys, importlib, chainrule.course.cs231n
for name in {modules!r}:
    importlib.import_module(name)
heavy = {{"matplotlib", "sklearn", "PIL", "torch", "scipy"}}
print(sorted(heavy & {{name.partition(".")[0] for name in sys.modules}}))
"""
    assert run(code, tmp_path) == "[]\n"


# --- the pictures functions, called directly -------------------------------------------------


def test_imread_of_a_palette_and_of_grey(tmp_path: Path) -> None:
    image = importlib.import_module("PIL.Image")
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[..., 0] = 200
    image.fromarray(pixels).quantize(4).save(tmp_path / "a.png")
    assert vanished.imread(tmp_path / "a.png").shape == (4, 5, 3)
    grey = vanished.imread(tmp_path / "a.png", flatten=True)
    assert grey.dtype == np.float32
    assert grey[0, 0] == pytest.approx(0.299 * 200, abs=0.5)
    assert vanished.imread(tmp_path / "a.png", mode="L").shape == (4, 5)


@pytest.mark.parametrize(
    ("size", "shape"), [((4, 6), (4, 6, 3)), (50, (5, 4, 3)), (0.5, (5, 4, 3)), (2.0, (20, 16, 3))]
)
def test_imresize_sizes(size, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (10, 8, 3), dtype=np.uint8)
    assert vanished.imresize(image, size).shape == shape
    np.testing.assert_array_equal(vanished.imresize(image, (10, 8)), image)


def test_imresize_stretches_floats_as_scipy_did() -> None:
    out = vanished.imresize(np.array([[1.0, 2.0], [3.0, 5.0]]), (2, 2), interp="nearest")
    np.testing.assert_array_equal(out, [[0, 64], [128, 255]])
    assert vanished.toimage(np.ones((2, 2)) * 7).getpixel((0, 0)) == 0


def test_what_is_no_picture() -> None:
    with pytest.raises(ShapeError, match="toimage: arr must have shape"):
        vanished.toimage(np.zeros((2, 2, 7)))
    with pytest.raises(InputError, match="interp must be one of nearest"):
        vanished.imresize(np.zeros((2, 2)), 50, interp="best")


def test_imsave_round_trip(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (10, 8, 3), dtype=np.uint8)
    vanished.imsave(tmp_path / "a.png", image)
    np.testing.assert_array_equal(vanished.imread(tmp_path / "a.png"), image)
    floats = vanished.toimage(np.ones((2, 3)) * 7.5, mode="F")
    assert np.asarray(floats)[0, 0] == 7.5
