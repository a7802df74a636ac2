"""Measure the gradient doctor on its corpus and write what came out.

    python benchmarks/measure_doctor.py --json benchmarks/doctor/results.json --table

The corpus is in the folder `doctor`. Half of the mutants, chosen by a hash of their names, were
kept apart while the doctor's rules were written; --details lists what went wrong in the other half
only, so that the two stay apart. About six minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from doctor.correct import checks
from doctor.handwritten import STYLES, edited, style
from doctor.measure import Result, judge, rates
from doctor.mutation import Mutant, mutants

from chainrule.gradcheck import diagnose
from chainrule.layers import reference


def corpus() -> Iterator[tuple[Mutant, Callable[..., Any]]]:
    """Every mutant with the right backward it was made from."""
    for mutant in edited():
        yield mutant, style(mutant.layer)[1]
    for mutant in mutants():
        yield mutant, getattr(reference, f"{mutant.layer}_backward")


def measure_mutants() -> list[Result]:
    """Let the doctor look at all mutants."""
    found = [judge(mutant, right) for mutant, right in corpus()]
    return [result for result in found if result is not None]


def measure_correct(seeds: int, kink_seeds: int) -> dict[str, Any]:
    """Let the doctor look at right backwards."""
    total, float32, kinks = 0, 0, 0
    alarms: Counter[str] = Counter()
    for name, forward, backward, case in checks(seeds, kink_seeds):
        diagnosis = diagnose(
            forward, backward, case.inputs, wrt=case.wrt, forward_kwargs=case.kwargs
        )
        total += 1
        float32 += case.inputs[0].dtype == "float32"
        kinks += "kinks" in name
        if not diagnosis.ok or diagnosis.causes:
            alarms[name] += 1
    return {
        "checks": total,
        "float32": float32,
        "at_or_near_kinks": kinks,
        "false_alarms": sum(alarms.values()),
        "alarms": dict(alarms),
    }


def table(summary: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    halves = {name: summary[name] for name in ("development", "held out", "all")}
    rows = [
        ("mutants that change a gradient", "mutants", None),
        ("detected", "detected", "mutants"),
        ("with a cause that has a name", "with_a_name", None),
        ("named rightly", "right", "with_a_name"),
        ("of these as `wrong_derivative`", "right_but_only_where", "with_a_name"),
        ("named wrongly", "wrong", "with_a_name"),
        ("said to be not recognised", "not_recognised", "with_a_name"),
        ("without a name for the cause", "without_a_name", None),
        ("said to be not recognised", "honest", "without_a_name"),
        ("named nevertheless", "guessed", "without_a_name"),
    ]
    lines = [f"| | {' | '.join(halves)} |", "|---|---:|---:|---:|"]
    for words, key, of in rows:
        cells = []
        for half in halves.values():
            share = f" ({100 * half[key] / half[of]:.1f} %)" if of and half[of] else ""
            cells.append(f"{half[key]}{share}")
        lines.append(f"| {'' if of is None else '... '}{words} | {' | '.join(cells)} |")
    means = [f"{100 * half['right_cause_mean_of_layers']:.1f} %" for half in halves.values()]
    lines.append(f"| named rightly, mean over layers and styles | {' | '.join(means)} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--table", action="store_true", help="print a Markdown table")
    parser.add_argument("--details", action="store_true", help="list failures, development half")
    parser.add_argument("--seeds", type=int, default=3, help="inputs for right backwards")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    results = measure_mutants()
    parts = {name: [r for r in results if r.half == name] for name in ("development", "held out")}
    summary: dict[str, Any] = {name: rates(part) for name, part in parts.items()}
    summary["all"] = rates(results)
    summary["correct"] = measure_correct(arguments.seeds, arguments.seeds)
    summary["sources"] = {
        "edits by hand": sum(r.layer in STYLES for r in results),
        "syntax tree": sum(r.layer not in STYLES for r in results),
    }
    if arguments.details:
        for result in parts["development"]:
            if result.verdict not in ("right", "honest"):
                print(result.verdict, result.labels, result.codes, result.name, sep=" | ")
    if arguments.table:
        print(table(summary))
    print(json.dumps({"correct": summary["correct"], "sources": summary["sources"]}))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
