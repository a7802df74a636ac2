"""What runs inside the sandbox, beside the student's code; it holds no answer of any kind.

This folder is copied by itself to where the sandbox sees it, under the name ``inside``, so it
imports NumPy and the standard library alone, and its own modules by relative names.
"""

__all__ = ()
