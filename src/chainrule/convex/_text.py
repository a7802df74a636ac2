"""Records as text: numbers, pairs and tables, aligned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["number", "pairs", "table"]


def number(value: float) -> str:
    """Write a number with four significant digits, as short as that allows.

    Examples
    --------
    >>> number(0.000123456), number(12345678.0), number(2.0), number(-0.5)
    ('0.0001235', '1.235e+07', '2', '-0.5')
    """
    return f"{value:.4g}"


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Write names and values, one pair a line.

    Examples
    --------
    >>> print(pairs([("eta", "0.1"), ("steps", "10")]))
    eta    0.1
    steps  10
    """
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 0) -> str:
    """Write columns, the first `left` aligned to the left and the others to the right.

    Examples
    --------
    >>> print(table(("T", "bound"), [("10", "0.5"), ("1000", "0.05")]))
       T  bound
      10    0.5
    1000   0.05
    """
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:{'<' if place < left else '>'}{width}}"
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
