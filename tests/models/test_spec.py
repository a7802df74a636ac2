"""Networks by name and from TOML: what is understood, and what is said about the rest."""

import inspect
import re

import numpy as np
import pytest

from chainrule import models
from chainrule.errors import ConfigError, DataMissingError
from chainrule.layers import PAIRS
from chainrule.models import (
    BUILTIN,
    MODULES,
    BatchNorm,
    Conv2d,
    Flatten,
    Linear,
    build_model,
    layers_from_tables,
    layers_to_tables,
    mlp,
    read_network,
    vgg_small,
)

NETWORK = """
name = "mine"
loss = "multiclass_hinge"

[[layers]]
type = "conv2d"
name = "stem"
out_channels = 6
kernel_size = [3, 5]
padding = "same"

[[layers]]
type = "relu"

[[layers]]
type = "flatten"

[[layers]]
type = "linear"
out_features = "num_classes"
init_weight = 0.001
"""


@pytest.fixture
def written(tmp_path):
    def write(text, name="net.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


# Every option of every layer away from its default.
OPTIONS = {
    "linear": {"out_features": 3, "bias": False, "init_weight": "glorot"},
    "conv2d": {
        "out_channels": 4,
        "kernel_size": [3, 5],
        "stride": [2, 1],
        "padding": "same",
        "groups": 2,
        "bias": False,
        "init_weight": 0.1,
    },
    "max_pool2d": {"kernel_size": 3, "stride": 2, "padding": 1},
    "avg_pool2d": {"kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 0]},
    "global_avg_pool2d": {},
    "flatten": {},
    "relu": {},
    "leaky_relu": {"negative_slope": 0.2},
    "sigmoid": {},
    "tanh": {},
    "gelu": {"approximate": "tanh"},
    "silu": {},
    "batch_norm": {"momentum": 0.2, "eps": 1e-3},
    "layer_norm": {"eps": 1e-3},
    "group_norm": {"num_groups": 2, "eps": 1e-3},
    "dropout": {"p": 0.25},
    "whiten2d": {"components": 5, "kernel_size": [2, 3], "padding": [1, 0], "eps": 0.1},
}


class TestTables:
    def test_every_layer_and_option_is_covered(self):
        assert OPTIONS.keys() == MODULES.keys()
        for kind, options in OPTIONS.items():
            fields = inspect.signature(MODULES[kind]).parameters
            assert {*options, "name"} == set(fields), kind

    def test_every_layer_has_a_pair(self):
        assert all(cls.pair in PAIRS for cls in MODULES.values())
        assert all(cls.kind == kind for kind, cls in MODULES.items())

    @pytest.mark.parametrize("kind", OPTIONS)
    def test_round_trip(self, kind):
        table = {"type": kind, "name": "mine", **OPTIONS[kind]}
        layers = layers_from_tables([table], 10)
        (back,) = layers_to_tables(layers)
        assert back == table
        assert layers_from_tables([back], 10) == layers

    def test_defaults_are_left_out(self):
        assert layers_to_tables([Conv2d(8, 3), BatchNorm(), Flatten()]) == [
            {"type": "conv2d", "out_channels": 8, "kernel_size": 3},
            {"type": "batch_norm"},
            {"type": "flatten"},
        ]

    @pytest.mark.parametrize("name", BUILTIN)
    def test_builtin_networks_can_be_written_as_tables(self, name):
        model = build_model(name, 4)
        again = build_model("copy", 4, layers=layers_to_tables(model.layers))
        assert again.layers == model.layers

    def test_number_of_classes(self):
        (layer,) = layers_from_tables([{"type": "linear", "out_features": "num_classes"}], 7)
        assert layer == Linear(7)


class TestFile:
    def test_is_read(self, written):
        path = written(NETWORK)
        network = read_network(path)
        assert network["name"] == "mine"
        assert network["loss"] == "multiclass_hinge"
        model = build_model(path, 7)
        assert model.loss_name == "multiclass_hinge"
        assert [layer.name for layer in model.layers] == ["stem", "relu1", "flatten1", "linear1"]
        params = model.init(np.random.default_rng(0), (2, 4, 6))
        assert {key: value.shape for key, value in params.items()} == {
            "stem.weight": (6, 2, 3, 5),
            "stem.bias": (6,),
            "linear1.weight": (7, 144),
            "linear1.bias": (7,),
        }
        assert params["linear1.weight"].std() < 0.002

    def test_name_is_that_of_the_file_unless_given(self, written):
        path = written('[[layers]]\ntype = "relu"\n', "two_moons.toml")
        assert read_network(path)["name"] == "two_moons"
        assert read_network(path)["loss"] is None

    def test_loss_of_the_caller_goes_before(self, written):
        assert build_model(written(NETWORK), 3, loss="cross_entropy").loss_name == "cross_entropy"

    def test_layers_given_go_before_the_file(self, tmp_path):
        model = build_model(tmp_path / "gone.toml", 3, layers=[{"type": "flatten"}])
        assert [layer.name for layer in model.layers] == ["flatten1"]

    def test_missing(self, tmp_path):
        message = r"gone\.toml: there is no such network file\. Give a built-in name \(softmax, svm"
        with pytest.raises(DataMissingError, match=message):
            build_model(tmp_path / "gone.toml", 10)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[[layers]\n", r"net\.toml: is not a TOML file \("),
            ("layer = 1", r"net\.toml: key 'layer' is not known\. Did you mean 'layers'\?"),
            ("name = 'x'", r"net\.toml: layers must be a list of \[\[layers\]\] tables; got none"),
            ("layers = []", "layers must be a list"),
            ("layers = 3", "layers must be a list"),
            ("loss = 'hinge'\n[[layers]]\ntype='relu'", r"loss 'hinge' is not known"),
        ],
    )
    def test_not_understood(self, written, text, message):
        with pytest.raises(ConfigError, match=message):
            build_model(written(text), 10)

    def test_not_text(self, tmp_path):
        path = tmp_path / "net.toml"
        path.write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigError, match="is not a TOML file"):
            build_model(path, 10)

    @pytest.mark.parametrize(
        ("layer", "message"),
        [
            ("type = 'conv'", r"layer 2: type 'conv' is not known\. Did you mean 'conv2d'\?"),
            ("kind = 'relu'", "layer 2: type must be one of linear, conv2d,"),
            ("type = 3", "layer 2: type must be one of"),
            (
                "type = 'linear'\noutfeatures = 3",
                r"\(linear\): key 'outfeatures' is not known\. Did you mean 'out_features'\?",
            ),
            ("type = 'linear'", r"layer 2 \(linear\): out_features must be given; got nothing"),
            (
                "type = 'linear'\nout_features = 'ten'",
                r"layer 2 \(linear\): out_features = 'ten' is not valid \(.*integer",
            ),
            ("type = 'linear'\nout_features = 0", "out_features must be at least 1; got 0"),
            (
                "type = 'conv2d'\nout_channels = 2\nkernel_size = [3, 3, 3]",
                r"kernel_size = \[3, 3, 3\] is not valid",
            ),
            (
                "type = 'conv2d'\nout_channels = 2\nkernel_size = 3\npadding = 'valid'",
                "padding = 'valid' is not valid",
            ),
            ("type = 'gelu'\napproximate = 'sigmoid'", "approximate = 'sigmoid' is not valid"),
            ("type = 'dropout'\np = 1.5", r"p must lie in \[0, 1\); got 1.5"),
        ],
    )
    def test_layer_not_understood(self, written, layer, message):
        path = written(f"[[layers]]\ntype = 'flatten'\n\n[[layers]]\n{layer}\n")
        with pytest.raises(ConfigError, match=message):
            build_model(path, 10)

    def test_options_have_no_meaning_for_layers(self, written):
        message = r"option 'hidden' has no meaning for a network given by its layers"
        with pytest.raises(ConfigError, match=message):
            build_model(written(NETWORK), 10, hidden=3)


class TestBuiltin:
    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("two_layers", {}, r"model: 'two_layers' is not known\. Did you mean 'two_layer'\?"),
            ("resnet", {}, r"model: 'resnet' is not known\. Known: convnet, mlp, softmax, s"),
            ("two_layer", {"hiden": 3}, r"option 'hiden' is not known\. Did you mean 'hidden'\?"),
            ("softmax", {"hidden": 3}, r"option 'hidden' is not known\. It has no options"),
            ("two_layer", {"hidden": "many"}, r"model two_layer: hidden = 'many' is not valid"),
            ("mlp", {"hidden": 3}, r"model mlp: hidden = 3 is not valid"),
            ("mlp", {"norm": "group"}, r"model mlp: norm = 'group' is not valid"),
            ("two_layer", {"hidden": 0}, "out_features must be at least 1; got 0"),
            ("two_layer", {"dropout": 1.0}, r"p must lie in \[0, 1\); got 1.0"),
            ("convnet", {"kernel_size": 4}, "kernel_size must be odd with padding 'same'"),
        ],
    )
    def test_not_understood(self, name, options, message):
        with pytest.raises(ConfigError, match=message):
            build_model(name, 10, **options)

    def test_names_that_python_passes(self):
        with pytest.raises(ConfigError, match="activation must be one of relu, leaky_relu"):
            mlp(3, activation="sine")
        with pytest.raises(
            ConfigError, match="norm must be one of none, batch, layer; got 'group'"
        ):
            mlp(3, norm="group")
        with pytest.raises(ConfigError, match="norm must be one of none, batch; got 'layer'"):
            vgg_small(3, norm="layer")

    @pytest.mark.parametrize("name", BUILTIN)
    def test_options_are_documented(self, name):
        documented = re.findall(r"^    (\w+) : ", BUILTIN[name].__doc__, flags=re.MULTILINE)
        options = [
            key
            for key, parameter in inspect.signature(BUILTIN[name]).parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        assert documented == options

    def test_lists_of_a_configuration_become_layers(self):
        model = build_model("vgg_small", 10, channels=[[4, 4], [8]])
        kinds = [layer.pair for layer in model.layers]
        block = ["conv2d", "batch_norm", "relu"]
        pool = ["max_pool2d"]
        assert kinds == [*block, *block, *pool, *block, *pool, "flatten", "linear"]

    def test_reference_pairs(self):
        model = build_model("two_layer", 10, implementation="reference")
        modules = {step._forward.__module__ for step in model._steps}
        assert modules == {"chainrule.layers.reference"}


def test_everything_exported_exists():
    assert all(hasattr(models, name) for name in models.__all__)
    assert set(models.__all__) >= {cls.__name__ for cls in MODULES.values()} | set(BUILTIN)
