"""Watch the derivatives of a course's exercise being computed, forward and in reverse.

    python examples/explain_course_graph.py --out out

The exercise of Georgia Tech's course CS7643: draw the graph of two functions, and find their
Jacobian by numerical differentiation, by forward mode and by reverse mode, with all intermediate
values. The page that this writes goes through every sweep step by step; the other file holds the
tables as a marking key.
"""

import argparse
from pathlib import Path

import numpy as np

from chainrule.explain import explain

COURSE = """
f1 = exp(exp(w1) + exp(2*w2)) + sigmoid(exp(w1) + exp(2*w2))
f2 = w1*w2 + max(w1, w2)
"""
X = np.array([[0.5, 1.0], [-1.0, 2.0], [1.5, -0.5]])
LABELS = np.array([1.0, -1.0, 1.0])


def logistic_loss(w, b):
    """Ordinary NumPy; the rows of X that are on the wrong side cost most."""
    return np.mean(np.log1p(np.exp(-LABELS * (X @ w + b))))


def main(out: Path) -> None:
    course = explain(COURSE, w1=1, w2=-1, step=0.01)
    print("each operation once:")
    for node in course.graph.nodes:
        print(f"  {node.name:3}{'= ' + node.text if node.text else '':14} {node.value:9.5g}")

    print("Jacobian, row by row:")
    for method in course.methods:
        numbers = " ".join(f"{number:9.5g}" for number in method.jacobian.ravel())
        print(f"  {method.name:20}{numbers}   error {method.error:.1e}")

    # What reverse mode hands to i4 from its two uses, and their sum.
    names = [node.name for node in course.graph.nodes]
    for one in course.reverse[0].passes:
        if names[one.edge.parent] == "i4":
            print(f"{names[one.edge.child]} adds {one.adds:.5g} to i4: {one.total:.5g}")

    # The same for a function of one's own, with arrays inside.
    loss = explain(logistic_loss, [0.1, -0.2], 0.0)
    print(repr(loss), "gradient", loss.jacobian()[0].round(4))

    for name in ("course.html", "course.md"):
        print(course.save(out / name))
    print(loss.save(out / "loss.html"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the pages")
    main(parser.parse_args().out)
