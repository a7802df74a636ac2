"""How good the gradient doctor is: a corpus of wrong and right backward passes, and a measurement.

`mutation` breaks the reference backwards one syntax node at a time, `handwritten` has backwards in
the styles of courses and text edits that break them, `correct` right ones in other styles, and
`cases` the inputs. ``python -m doctor`` in the folder above runs the doctor on all of it.
"""
