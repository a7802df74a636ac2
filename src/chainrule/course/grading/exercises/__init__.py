"""The tests of every exercise of both generations of the course.

Importing this builds the list `TESTS`; nothing is computed before a test is built.
"""

from chainrule.course.grading.exercises import layers, linear, networks, normalization, training
from chainrule.course.grading.exercises.catalog import EXERCISES, TESTS, Exercise, Test

__all__ = ["EXERCISES", "TESTS", "Exercise", "Test", "layers", "linear", "networks",
           "normalization", "training"]  # fmt: skip
