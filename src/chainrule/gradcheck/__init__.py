"""Checking derivatives of any function by numerical differentiation.

This room knows functions and arrays only, nothing of chainrule's layers.
"""

from chainrule.gradcheck.numeric import numeric_gradient, relative_error

__all__ = ["numeric_gradient", "relative_error"]
