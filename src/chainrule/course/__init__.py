"""The course kit: ``import cs231n`` for the notebooks of CS231n and CS7643, on chainrule.

::

    python -m chainrule.course enable FOLDER     # from then on notebooks and scripts there work
    import chainrule.course.cs231n               # or this, before the first `import cs231n`

The modules below `chainrule.course.cs231n` have the names and signatures that the notebooks
import; each is a thin adapter that hands its arrays to chainrule's own layers, optimizers,
networks and readers. Two generations of the course differ in their conventions: *A* (CS231n 2015,
CS7643) keeps examples in columns, *B* (CS231n from 2016) in rows. The shapes of the arrays say
which is meant; where they do not, `use` decides.
"""

from chainrule.course.folders import Stub, disable, enable, status
from chainrule.course.generations import generation, use
from chainrule.course.hook import activate

__all__ = ["Stub", "activate", "disable", "enable", "generation", "status", "use"]
