"""Derivatives to watch: the computation graph, every method's table, and a page that steps.

::

    from chainrule.explain import explain

    print(explain("f = x*sin(y)", x=2, y=0.5))
    explain("f = x*sin(y)", x=2, y=0.5).save("steps.html")
"""

from chainrule.explain.explanation import Explanation, explain
from chainrule.explain.graph import read_value

__all__ = ["Explanation", "explain", "read_value"]
