"""What the doctor knows of pooling: its gradients, and how people get them wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from chainrule.gradcheck.formulas import Arrays, Formula, Mistake
from chainrule.gradcheck.windows import (
    Pair,
    Windows,
    border_mistakes,
    cut_elsewhere,
    scatter,
    window_mistakes,
    windows_inside,
)

__all__ = ["GlobalAveragePool", "Pool2d"]


@dataclass
class Pool2d(Formula):
    """Largest value or mean of each window.

    Parameters
    ----------
    windows : Windows
        Kernel, stride and padding.
    kind : {"max", "average"}
        Which.
    """

    windows: Windows
    kind: str = "max"

    def __post_init__(self) -> None:
        self.title = f"{self.kind} pooling"

    def _columns(
        self, x: np.ndarray, windows: Windows | None = None, extent: Pair | None = None
    ) -> np.ndarray:
        windows = windows or self.windows
        padded = windows.pad(x, -np.inf if self.kind == "max" else 0.0)
        extent = extent or windows.extent(x.shape)
        columns = np.zeros((*x.shape[:2], *extent, *windows.kernel))
        for u, v, top, bottom, left, right in windows_inside(windows, x.shape, extent):
            columns[:, :, u, v] = padded[..., top:bottom, left:right]
        return columns

    def forward(self, x: np.ndarray, params: Arrays) -> np.ndarray:
        """Pool."""
        columns = self._columns(x)
        pooled: np.ndarray = (columns.max if self.kind == "max" else columns.mean)(axis=(4, 5))
        return pooled

    def _share(
        self, x: np.ndarray, windows: Windows | None = None, extent: Pair | None = None
    ) -> np.ndarray:
        """What part of dout each element of a window gets."""
        columns = self._columns(x, windows, extent)
        if self.kind != "max":
            return np.full(columns.shape, 1 / prod(self.windows.kernel))
        flat = columns.reshape(*columns.shape[:4], -1)
        return _one_hot(flat.argmax(axis=-1), flat.shape[-1]).reshape(columns.shape)

    def backward(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Arrays:
        """Give each window's dout to its elements and add up."""
        parts = dout[..., None, None] * self._share(x)
        padded = scatter(x.shape, parts, self.windows, (dout.shape[2], dout.shape[3]))
        return [self.windows.crop(padded, x.shape)]

    def mistakes(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Iterator[Mistake]:
        """Overwriting, borders, offsets, and which element."""
        w, extent = self.windows, (dout.shape[2], dout.shape[3])
        share = self._share(x)
        parts = dout[..., None, None] * share

        def placed(
            parts: np.ndarray, windows: Windows = w, keep: str = "sum"
        ) -> list[np.ndarray | None]:
            return [w.crop(scatter(x.shape, parts, windows, extent, keep), x.shape)]

        for code, words, value in border_mistakes(scatter(x.shape, parts, w, extent), x.shape, w):
            yield Mistake(code, words, [value])
        over = "overwritten"
        sentence = "dx is overwritten instead of added up where windows overlap"
        yield Mistake(over, sentence, placed(parts, keep="last"))
        if self.kind == "max":
            padded = np.zeros_like(w.pad(x))
            for u, v, rows, columns in w.places(x.shape):
                window = padded[..., rows, columns]
                chosen = share[:, :, u, v] > 0
                window[chosen] = parts[:, :, u, v][chosen]
            sentence = "an element that is the largest in two windows keeps the last dout only"
            yield Mistake(over, sentence, [w.crop(padded, x.shape)])
        for code, words, wrong in window_mistakes(w, extent):
            yield Mistake(code, words, placed(parts, wrong))
            if self.kind == "max":
                moved = self._share(x, wrong, extent)
                words = f"{words}, for the largest elements as well"
                yield Mistake(code, words, placed(dout[..., None, None] * moved, wrong))
        yield from self._wrong_element(dout, x, share, placed)

    def pattern(
        self, slot: int, analytic: np.ndarray, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> tuple[str, str] | None:
        """Whether dx is cut from the padded gradient at another place."""
        parts = dout[..., None, None] * self._share(x)
        padded = scatter(x.shape, parts, self.windows, (dout.shape[2], dout.shape[3]))
        return cut_elsewhere(padded, analytic, x.shape)

    def _at_points(
        self, dout: np.ndarray, x: np.ndarray, i: np.ndarray, j: np.ndarray
    ) -> list[np.ndarray | None]:
        """Gradients put i rows and j columns from where their window begins."""
        w = self.windows
        padded = np.zeros_like(w.pad(x))
        for u, v, rows, columns in w.places(x.shape):
            for n, c in np.ndindex(*x.shape[:2]):
                row, column = rows.start + i[n, c, u, v], columns.start + j[n, c, u, v]
                if row < padded.shape[2] and column < padded.shape[3]:
                    padded[n, c, row, column] += dout[n, c, u, v]
        return [w.crop(padded, x.shape)]

    def _of_size(self, dout: np.ndarray, x: np.ndarray, size: Pair) -> list[np.ndarray | None]:
        """Means spread over windows of another size, divided by the right one."""
        w = self.windows
        padded = np.zeros_like(w.pad(x))
        for u, v, rows, columns in w.places(x.shape):
            window = (slice(rows.start, rows.start + size[0]),
                      slice(columns.start, columns.start + size[1]))  # fmt: skip
            padded[(..., *window)] += dout[:, :, u, v, None, None] / prod(w.kernel)
        return [w.crop(padded, x.shape)]

    def _without_start(
        self, dout: np.ndarray, x: np.ndarray, share: np.ndarray, axis: int
    ) -> list[np.ndarray | None]:
        """Gradients put where they belong in a window at row, or column, 0."""
        w = self.windows
        padded = np.zeros_like(w.pad(x))
        for u, v, rows, columns in w.places(x.shape):
            if axis == 0:
                rows = slice(0, w.kernel[0])
            else:
                columns = slice(0, w.kernel[1])
            padded[..., rows, columns] += dout[:, :, u, v, None, None] * share[:, :, u, v]
        return [w.crop(padded, x.shape)]

    def _wrong_element(
        self,
        dout: np.ndarray,
        x: np.ndarray,
        share: np.ndarray,
        placed: Callable[..., list[np.ndarray | None]],
    ) -> Iterator[Mistake]:
        columns, kernel = self._columns(x), self.windows.kernel
        if self.kind == "average":
            yield Mistake("missing_mean", "dout is not divided by the size of the window",
                          placed(dout[..., None, None] * np.ones(kernel)))  # fmt: skip
            for words, size in (("rows", kernel[0]), ("columns", kernel[1])):
                sentence = f"dout is divided by the number of {words} instead of elements"
                yield Mistake("wrong_count", sentence,
                              placed(dout[..., None, None] * np.ones(kernel) / size))  # fmt: skip
            h, wd = kernel
            for extent in {(wd, wd), (h, h), (wd, h), (h - 1, wd), (h, wd - 1), (h + 1, wd),
                         (h, wd + 1), (h - 1, wd - 1), (h + 1, wd + 1)} - {kernel}:  # fmt: skip
                sentence = f"windows are {extent[0]} x {extent[1]} instead of {h} x {wd}"
                yield Mistake("window_offset", sentence, self._of_size(dout, x, extent))
            first = np.zeros(kernel)
            first[0, 0] = 1.0
            sentence = "dout goes to the first element of each window only"
            yield Mistake("mask_wrong_tensor", sentence, placed(dout[..., None, None] * first))
            return
        flat = columns.reshape(*columns.shape[:4], -1)
        finite = np.where(np.isfinite(flat), flat, np.inf)
        mask = "mask_wrong_tensor"

        def to(index: np.ndarray) -> list[np.ndarray | None]:
            chosen = _one_hot(index, flat.shape[-1]).reshape(columns.shape)
            return placed(dout[..., None, None] * chosen)

        rows, cols = np.divmod(flat.argmax(axis=-1), kernel[1])
        yield Mistake(mask, "dout goes to the smallest element of a window instead of the largest",
                      to(finite.argmin(axis=-1)))  # fmt: skip
        yield Mistake(mask, "dout goes to the first element of each window", to(rows * 0))
        yield Mistake(mask, "dout goes to the last element of each window",
                      to(rows * 0 + flat.shape[-1] - 1))  # fmt: skip
        everywhere = dout[..., None, None] * np.ones(kernel)
        yield Mistake(mask, "every element of a window gets dout", placed(everywhere))
        yield Mistake(mask, "every element of a window gets a share of dout, as for the mean",
                      placed(everywhere / prod(kernel)))  # fmt: skip
        if kernel[0] == kernel[1]:
            sentence = "row and column of the largest element are swapped"
            yield Mistake("transposed", sentence, to(cols * kernel[1] + rows))
        for i, j, words in (
            (1, 0, "below"),
            (0, 1, "right of"),
            (-1, 0, "above"),
            (0, -1, "left of"),
        ):
            moved = np.zeros_like(columns)
            source = share[
                ..., max(-i, 0) : kernel[0] - max(i, 0), max(-j, 0) : kernel[1] - max(j, 0)
            ]
            moved[..., max(i, 0) : kernel[0] + min(i, 0), max(j, 0) : kernel[1] + min(j, 0)] = (
                source
            )
            sentence = f"dout goes to the element {words} the largest"
            yield Mistake("window_offset", f"{sentence}, if that is in the window",
                          placed(dout[..., None, None] * moved))  # fmt: skip
            shift = replace(self.windows, shift=(i, j))
            yield Mistake("window_offset", sentence, placed(dout[..., None, None] * share, shift))
        for words, index in (
            ("the row of the largest element is lost", cols),
            ("the column of the largest element is lost", rows * kernel[1]),
        ):
            yield Mistake("window_offset", f"{words}: 0 is used", to(index))
        for width in (kernel[1] - 1, kernel[1] + 1, kernel[0]):
            if width > 0 and width != kernel[1]:
                sentence = f"the index of the largest element is read with rows of {width}"
                value = self._at_points(dout, x, *np.divmod(flat.argmax(axis=-1), width))
                yield Mistake("window_offset", f"{sentence} instead of {kernel[1]}", value)
        for axis in (0, 1):
            sentence = f"the {('row', 'column')[axis]} where a window begins is not added"
            yield Mistake("window_offset", sentence, self._without_start(dout, x, share, axis))
        raw = flat.argmin(axis=-1)
        yield Mistake(
            mask, "dout goes to the smallest element of a window, borders included", to(raw)
        )
        values = columns * share
        values[~np.isfinite(values)] = 0.0
        yield Mistake("upstream_ignored", "dx is the largest value itself", placed(values))
        yield Mistake("extra_factor", "dout is multiplied by the largest value",
                      placed(dout[..., None, None] * values))  # fmt: skip


class GlobalAveragePool(Formula):
    """Mean over the image."""

    title = "global average pooling"

    def forward(self, x: np.ndarray, params: Arrays) -> np.ndarray:
        """Take the mean."""
        mean: np.ndarray = x.mean(axis=(2, 3))
        return mean

    def backward(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Arrays:
        """Spread dout evenly."""
        return [dout[:, :, None, None] * np.ones(x.shape) / prod(x.shape[2:])]

    def mistakes(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Iterator[Mistake]:
        """What dout is divided by."""
        spread = dout[:, :, None, None] * np.ones(x.shape)
        height, width = x.shape[2:]
        yield Mistake("missing_mean", "the division by H W is missing", [spread])
        for words, size in (("H", height), ("W", width), ("N", len(x)), ("C", x.shape[1])):
            if size > 1:
                sentence = f"divided by {words} instead of H W"
                yield Mistake("wrong_count", sentence, [spread / size])
        yield Mistake("wrong_count", "divided by H + W instead of H W", [spread / (height + width)])
        yield Mistake("missing_sum", "dx is not spread over the image", [dout / (height * width)])


def _one_hot(index: np.ndarray, size: int) -> np.ndarray:
    chosen: np.ndarray = (index[..., None] == np.arange(size)).astype(np.float64)
    return chosen
