"""Grading of CS231n and CS7643 submissions, each test in a process that is shut in.

The process of a test gets the arguments of calls, and returns plain data; what is expected is
computed and compared by the grader. See ``docs/grading.md`` for what is protected on which system.
"""

from chainrule.course.grading.marking import grade
from chainrule.course.grading.protections import Protections, find_protections
from chainrule.course.grading.results import Finding, Report, TestResult
from chainrule.course.grading.rubric import Rubric, default_rubric, read_rubric, rubric_text

__all__ = [
    "Finding",
    "Protections",
    "Report",
    "Rubric",
    "TestResult",
    "default_rubric",
    "find_protections",
    "grade",
    "read_rubric",
    "rubric_text",
]
