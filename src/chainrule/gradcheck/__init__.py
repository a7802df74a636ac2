"""Checking derivatives of any function by numerical differentiation.

This room knows functions and arrays only, nothing of chainrule's layers.
"""

from chainrule.gradcheck.checking import check_gradients, check_layer
from chainrule.gradcheck.diagnosis import Cause, Diagnosis
from chainrule.gradcheck.doctor import diagnose
from chainrule.gradcheck.numeric import numeric_gradient, relative_error
from chainrule.gradcheck.reports import Element, Entry, GradientReport, Problem

__all__ = [
    "Cause",
    "Diagnosis",
    "Element",
    "Entry",
    "GradientReport",
    "Problem",
    "check_gradients",
    "check_layer",
    "diagnose",
    "numeric_gradient",
    "relative_error",
]
