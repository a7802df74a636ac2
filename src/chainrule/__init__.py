"""chainrule: a neural-network workbench in which every derivative is written out and proven."""

__version__ = "0.1.0"
