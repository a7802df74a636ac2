"""Train the network of own_network.toml into a run directory, check it, evaluate it, report it.

    python examples/own_network.py --out out

does from Python what these commands do:

    chainrule sanity examples/own_network.toml --data digits
    chainrule train examples/own_network.toml --data digits \\
        epochs=20 lr=0.02 schedule.name=one_cycle --report
"""

import argparse
from pathlib import Path

from chainrule.report import make_report
from chainrule.training import (
    evaluate_run,
    load_config,
    prepare,
    sanity_checks,
    train_run,
)

NETWORK = Path(__file__).with_suffix(".toml")


def main(out: Path) -> None:
    # A configuration says everything about a run. What is not given here has a default.
    config = load_config(
        settings={
            "model": str(NETWORK),
            "data": "digits",
            "epochs": 20,
            "lr": 0.02,
            "schedule": "one_cycle",
        }
    )
    print(prepare(config).model.summary(), "\n")

    # Before an hour of training: is the network wired as it should be?
    for check in sanity_checks(config):
        print(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {check.measured}")

    trained = train_run(config, out)
    best = trained.history.best
    print(f"\nbest validation accuracy {best['val_accuracy']:.1%} in epoch {best['epoch']:.0f}")

    result = evaluate_run(trained.run.path, "test")
    print(f"test accuracy {result['accuracy']:.1%} of {result['num_examples']} images")

    # Settings, metrics, checkpoints, figures and the page: everything is in this one folder.
    print(make_report(trained.run.path, formats=("png",)).page)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the run")
    main(parser.parse_args().out)
