"""How Sphinx builds the manual: ``make docs``."""

import chainrule

project = "chainrule"
author = "The chainrule authors"
copyright = author
release = version = chainrule.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
default_role = "autolink"

# The reference lists what each room exports, and nothing by hand: api/index.rst names the rooms,
# the templates walk through their __all__.
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"  # types stand in the docstrings, with shapes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"chainrule {release}"
html_copy_source = False
html_show_sphinx = False
