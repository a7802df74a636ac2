"""What several processes do together for ``test_distributed.py``, in one start for many runs.

Each process writes what it saw to ``FOLDER/<run>.<rank>.json``; the run directories, written by the
first process alone, are in ``FOLDER/<run>``.
"""

import json
import signal
import sys
from pathlib import Path

from chainrule.errors import ChainruleError, DataMissingError, DivergedError
from chainrule.training import Callback, follow_run, load_config, resume_run, runs, train_run
from chainrule.twin import BACKENDS, joined
from chainrule.twin.learner import TorchLearner

SMALL = ["data.name=digits", "data.num_test=60", "epochs=3", "log_every=1", "eval_every=3"]
TORCH = [*SMALL, "backend.name=torch", "backend.device=cpu"]
RULES = ["l2=0.01", "clip_norm=0.5", "ema_decay=0.8", "schedule.name=one_cycle", "lr=0.01"]
IMAGES = ["model.name=convnet", "filters=3", "hidden=8", "flip=true", "shift=1", "cutout=2"]
NOISY = ["model.name=vgg_small", "channels=[[4],[5]]", "dropout=0.4", "data.num_train=150"]

# What must be the same run in one process with the batch of all. The last batch of an epoch is odd
# or, in the first of these, a single example, so that there is none for one of two processes.
SAME = {
    "images": [*IMAGES, *RULES, "data.num_train=129", "dtype=float64"],
    "wide": [
        *["model.name=mlp", "optimizer.name=rmsprop", "label_smoothing=0.1", "dtype=float64"],
        "data.num_train=300",
    ],
    "margin": ["model.name=svm", "optimizer.name=momentum", "l2=0.1", "data.num_train=151"],
    "laid_out": [*IMAGES, *RULES, "data.num_train=131", "backend.channels_last=true"],
}
PROCESSES, BATCH = 2, 32
MANY_STEPS = [
    *["model.name=mlp", "hidden=[20]", "norm=batch", "dropout=0.3", "shift=1", "ema_decay=0.95"],
    *["schedule.name=cosine", "lr=0.005", "epochs=20", "eval_every=50", "checkpoint_every=10"],
]


class StopAt(Callback):
    """Asks the process that leads to stop."""

    def __init__(self, step):
        self.step = step

    def on_start(self, trainer):
        self.trainer = trainer

    def on_step(self, record):
        if record["step"] == self.step:
            self.trainer.stop_requested = "interrupted"


class Together:
    def __init__(self, world, folder):
        self.world, self.folder = world, folder

    def run(self, name, settings, callbacks=()):
        """Train; keep what this process saw."""
        config = load_config(overrides=[*TORCH, f"batch_size={BATCH}", *settings])
        return self._done(
            name, lambda: train_run(config, self.folder / name, **self._by(callbacks))
        )

    def resume(self, name):
        return self._done(name, lambda: resume_run(self.path(name), **self._by()))

    def path(self, name):
        (config,) = (self.folder / name).glob("*/config.toml")
        return config.parent

    def _by(self, callbacks=()):
        return {"backends": BACKENDS, "world": self.world, "callbacks": callbacks}

    def _done(self, name, lead):
        try:
            if self.world.leads:
                history = lead().history
            else:
                history = follow_run(self.world, backends=BACKENDS)
            seen = {"stopped": history.stopped, "records": history.records, "best": history.best}
        except DivergedError as error:
            seen = {"error": str(error)}
        (self.folder / f"{name}.{self.world.rank}.json").write_text(json.dumps(seen))


def main(folder):
    with joined() as world:
        together = Together(world, folder)
        for name, settings in SAME.items():
            together.run(name, settings)
        together.run("noisy", NOISY)
        together.run("noisy_in_two", NOISY, [StopAt(4)])
        together.resume("noisy_in_two")
        together.run("begun", SAME["images"], [StopAt(3)])
        together.run("many_steps", MANY_STEPS)
        together.run("short", [*NOISY, "max_time=0.001", "eval_every=100"])
        together.run("impatient", ["model.name=softmax", "lr=1e-9", "patience=1", "eval_every=1"])
        together.run("diverging", ["model.name=mlp", "optimizer.name=sgd", "lr=1e18"])

        step = TorchLearner.step

        def signalled(learner, x, y, number, *rest):
            if world.rank == 1 and number == 2:
                signal.raise_signal(signal.SIGTERM)
            return step(learner, x, y, number, *rest)

        TorchLearner.step = signalled
        together.run("signalled", ["model.name=softmax"])
        TorchLearner.step = step

        if world.rank == 1:  # the last: it ends all

            def missing(config, preprocessor):
                raise DataMissingError("no data here")

            runs.prepare = missing
        together.run("missing", ["model.name=softmax"])


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except ChainruleError as error:
        sys.stderr.write(f"chainrule: {error}\n")
        sys.exit(error.exit_code)
