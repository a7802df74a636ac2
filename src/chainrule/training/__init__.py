"""Training: the loop, its configuration, run directories and the scikit-learn estimator."""

from typing import TYPE_CHECKING, Any

from chainrule.training.config import Config, load_config
from chainrule.training.finished import evaluate_run, list_runs, load_run, predict_run
from chainrule.training.fitting import fit
from chainrule.training.learner import Arrays
from chainrule.training.loop import Callback, History, Trainer
from chainrule.training.preparation import prepare
from chainrule.training.progress import ProgressBar
from chainrule.training.runs import BACKENDS, TrainedRun, follow_run, resume_run, train_run
from chainrule.training.sanity import SanityCheck, sanity_checks

if TYPE_CHECKING:
    from chainrule.training.estimator import ChainruleClassifier

__all__ = [
    "BACKENDS",
    "Arrays",
    "Callback",
    "ChainruleClassifier",
    "Config",
    "History",
    "ProgressBar",
    "SanityCheck",
    "TrainedRun",
    "Trainer",
    "evaluate_run",
    "fit",
    "follow_run",
    "list_runs",
    "load_config",
    "load_run",
    "predict_run",
    "prepare",
    "resume_run",
    "sanity_checks",
    "train_run",
]


def __getattr__(name: str) -> Any:
    """Import the estimator when it is asked for: scikit-learn takes a second to load."""
    if name == "ChainruleClassifier":
        from chainrule.training.estimator import ChainruleClassifier

        return ChainruleClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
