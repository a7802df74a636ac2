"""The ``cs231n`` package that the notebooks import; importing it makes ``import cs231n`` work."""

from chainrule.course.generations import use
from chainrule.course.hook import install

__all__ = ["use"]

install()
