"""Configurations: files, overrides, what is not understood."""

import tomllib

import pytest

from chainrule.errors import ConfigError, DataMissingError
from chainrule.models import BUILTIN
from chainrule.optim import OPTIMIZERS, SCHEDULES
from chainrule.training import Config, load_config

FULL = """
seed = 3
threads = 1

[model]
name = "mlp"
hidden = [32, 16]
norm = "batch"
init = 0.01
label_smoothing = 0.1

[data]
name = "digits"
preprocess = "pca_whiten"
n_components = 20
shift = 1

[optimizer]
name = "adamw"
lr = 2e-3
betas = [0.8, 0.99]
clip_norm = 1.0

[schedule]
name = "step"
milestones = [2, 4]
warmup_epochs = 0.5

[training]
epochs = 7
eval_every = 25
"""


@pytest.fixture
def full(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(FULL)
    return path


class TestFile:
    def test_everything_arrives(self, full):
        config = load_config(full)
        assert (config.seed, config.threads) == (3, 1)
        assert config.model.name == "mlp"
        assert config.model.options == {"hidden": [32, 16], "norm": "batch"}
        assert config.model.init == 0.01
        assert config.data.options == {"n_components": 20}
        assert config.optimizer.options == {"betas": [0.8, 0.99]}
        assert config.schedule.options == {"milestones": [2, 4]}
        assert config.training.eval_every == 25

    def test_what_is_written_is_read_back(self, full, tmp_path):
        for config in (Config(), load_config(full)):
            path = tmp_path / "config.toml"
            path.write_text(config.to_toml())
            assert load_config(path) == config

    def test_what_is_written_is_complete(self):
        table = tomllib.loads(Config().to_toml())
        assert table["model"]["name"] == "two_layer"
        assert table["training"]["batch_size"] == 128
        assert table["data"]["preprocess"] == "standardize"

    def test_network_of_ones_own_is_written_with_its_layers(self, tmp_path):
        layers = [{"type": "conv2d", "out_channels": 2, "kernel_size": [3, 3], "bias": False}]
        config = load_config({"model": {"name": "mine", "layers": layers}})
        path = tmp_path / "config.toml"
        path.write_text(config.to_toml())
        assert load_config(path).model.layers == layers

    def test_a_mapping_is_left_as_it_was(self):
        source = {"optimizer": {"lr": 0.1}}
        assert load_config(source, ["lr=0.2"]).optimizer.lr == 0.2
        assert source == {"optimizer": {"lr": 0.1}}

    def test_missing(self, tmp_path):
        with pytest.raises(DataMissingError, match="there is no such configuration file"):
            load_config(tmp_path / "gone.toml")

    @pytest.mark.parametrize("content", [b"[model\n", b"\xff\xfe", b"a = 1\na = 2"])
    def test_not_toml(self, tmp_path, content):
        path = tmp_path / "settings.toml"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"settings\.toml: is not a TOML file"):
            load_config(path)


class TestOverrides:
    def test_go_before_the_file(self, full):
        config = load_config(full, ["lr=0.5", "training.epochs=2", "seed=9", "data.name=mnist"])
        assert config.optimizer.lr == 0.5
        assert config.training.epochs == 2
        assert config.seed == 9
        assert config.optimizer.name == "adamw"

    def test_a_later_one_goes_before(self):
        assert load_config(overrides=["lr=0.5", "optimizer.lr=0.25"]).optimizer.lr == 0.25

    @pytest.mark.parametrize(
        ("word", "section", "key", "value"),
        [
            ("lr=1e-2", "optimizer", "lr", 0.01),
            ("lr=.5", "optimizer", "lr", 0.5),  # no TOML, but plainly a number
            ("optimizer.name=momentum", "optimizer", "name", "momentum"),
            ('optimizer.name="momentum"', "optimizer", "name", "momentum"),
            ("flip=true", "data", "flip", True),
            ("flip=yes", "data", "flip", True),
            ("eval_every=epoch", "training", "eval_every", "epoch"),
            ("eval_every=20", "training", "eval_every", 20),
            ("init=glorot", "model", "init", "glorot"),
            ("init=0.5", "model", "init", 0.5),
            ("data.name=a=b/c.npz", "data", "name", "a=b/c.npz"),
            (" epochs = 3", "training", "epochs", 3),
        ],
    )
    def test_types(self, word, section, key, value):
        config = load_config(overrides=[word])
        assert getattr(getattr(config, section), key) == value

    def test_lists(self):
        assert load_config(overrides=["hidden=[64, 32]"]).model.options == {"hidden": [64, 32]}
        channels = load_config(overrides=["channels=[[4],[8, 8]]"]).model.options["channels"]
        assert channels == [[4], [8, 8]]

    def test_options_of_every_rule_are_known_without_their_section(self):
        assert load_config(overrides=["momentum=0.5"]).optimizer.options == {"momentum": 0.5}
        assert load_config(overrides=["gamma=0.5"]).schedule.options == {"gamma": 0.5}
        assert load_config(overrides=["n_components=5"]).data.options == {"n_components": 5}
        assert load_config(overrides=["dropout=0.5"]).model.options == {"dropout": 0.5}

    def test_settings_are_the_same_as_values(self):
        config = load_config(settings={"optimizer": "momentum", "lr": 0.5, "epochs": 3})
        expected = load_config(overrides=["optimizer.name=momentum", "lr=0.5", "epochs=3"])
        assert config == expected

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("lr", r"'lr' is not of the form key=value, such as lr=0\.01"),
            ("=3", "'=3' is not of the form key=value"),
            ("learning_rate=1", r"key 'learning_rate' is not known\. Known: "),
            ("batchsize=1", r"key 'batchsize' is not known\. Did you mean 'batch_size'\?"),
            ("momentun=1", r"key 'momentun' is not known\. Did you mean 'momentum'\?"),
            ("hiden=1", r"key 'hiden' is not known\. Did you mean 'hidden'\?"),
            ("eps=1", r"'eps' is ambiguous\. Write data\.eps or optimizer\.eps"),
            ("model=mlp", r"'model' is a section\. Set model\.name=\.\.\. instead"),
            ("name=mlp", "key 'name' is not known"),
            ("total_steps=3", "key 'total_steps' is not known"),
            ("trainig.epochs=1", r"section 'trainig' is not known\. Did you mean 'training'\?"),
            ("a.b.c=1", r"section 'a\.b' is not known"),
            ("seed.x=1", "section 'seed' is not known"),
        ],
    )
    def test_not_understood(self, word, message):
        with pytest.raises(ConfigError, match=message):
            load_config(overrides=[word])


class TestValues:
    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ({"sed": 1}, r"configuration: key 'sed' is not known\. Did you mean 'seed'\?"),
            ({"trainig": {}}, r"key 'trainig' is not known\. Did you mean 'training'\?"),
            (
                {"training": {"epoch": 1}},
                r"key 'epoch' in \[training\] is not known\. Did you mean 'epochs'\?",
            ),
            (
                {"optimizer": {"clipnorm": 1}},
                r"key 'clipnorm' in \[optimizer\] is not known\. Did you mean 'clip_norm'\?",
            ),
            (
                {"model": {"name": "two_layer", "hiden": 1}},
                r"key 'hiden' in \[model\] is not known\. Did you mean 'hidden'\?",
            ),
            (
                {"data": {"preproces": "none"}},
                r"key 'preproces' in \[data\] is not known\. Did you mean 'preprocess'\?",
            ),
            (
                {"schedule": {"warmup": 1}},
                r"key 'warmup' in \[schedule\] is not known\. Did you mean 'warmup_epochs'\?",
            ),
            ({"model": "mlp"}, r"model must be a table; got model = 'mlp'\. Write \[model\] on"),
            ({"seed": -1}, "seed = -1 is not valid: input should be greater than or equal to 0"),
            ({"seed": "x"}, "seed = 'x' is not valid: input should be a valid integer"),
            ({"training": {"epochs": 0}}, "training.epochs = 0 is not valid"),
            ({"training": {"epochs": 1.5}}, "training.epochs = 1.5 is not valid"),
            ({"training": {"batch_size": 0}}, "training.batch_size = 0 is not valid"),
            (
                {"training": {"eval_every": 0}},
                "training.eval_every = 0 is not valid: input should be 'epoch', or input should be "
                "greater than or equal to 1",
            ),
            ({"training": {"eval_every": "week"}}, "eval_every = 'week' is not valid"),
            ({"training": {"max_time": 0}}, "training.max_time = 0 is not valid"),
            ({"training": {"l2": -1}}, "training.l2 = -1 is not valid"),
            ({"optimizer": {"lr": 0}}, "optimizer.lr = 0 is not valid"),
            ({"optimizer": {"lr": float("nan")}}, "optimizer.lr = nan is not valid"),
            ({"optimizer": {"ema_decay": 1}}, "optimizer.ema_decay = 1 is not valid"),
            ({"optimizer": {"name": ["sgd"]}}, r"optimizer.name = \['sgd'\] is not valid"),
            ({"model": {"name": ["mlp"]}}, r"model.name = \['mlp'\] is not valid"),
            ({"model": {"loss": "hinge"}}, "model.loss = 'hinge' is not valid: .*cross_entropy"),
            (
                {"model": {"init": "xavier"}},
                "model.init = 'xavier' is not valid: .*'he' or 'glorot'",
            ),
            ({"model": {"init": float("inf")}}, "model.init = inf is not valid"),
            ({"model": {"dtype": "float16"}}, "model.dtype = 'float16' is not valid"),
            ({"model": {"layers": [1]}}, "model.layers = 1 is not valid"),
            ({"data": {"shift": -1}}, "data.shift = -1 is not valid"),
        ],
    )
    def test_not_understood(self, table, message):
        with pytest.raises(ConfigError, match=message):
            load_config(table)

    def test_file_is_named(self, tmp_path):
        path = tmp_path / "settings.toml"
        path.write_text("[training]\nepoch = 3")
        with pytest.raises(ConfigError, match=r"settings\.toml: key 'epoch' in \[training\]"):
            load_config(path)


def test_every_section_knows_the_options_of_what_it_names():
    """No option of a built-in network, optimizer or schedule is refused as unknown."""
    import inspect

    computed = {"num_classes", "network", "total_steps", "steps_per_epoch", "warmup_steps"}
    tables = {"model": BUILTIN, "optimizer": OPTIMIZERS, "schedule": SCHEDULES}
    for section, table in tables.items():
        for name, thing in table.items():
            keys = set(inspect.signature(thing).parameters) - computed - {"lr"}
            config = load_config({section: {"name": name} | dict.fromkeys(keys, 1)})
            assert set(getattr(config, section).options) == keys
