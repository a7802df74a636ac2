"""What the doctor knows of convolution and pooling: windows that overlap, borders, strides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from chainrule.gradcheck.formulas import Arrays, Formula, Mistake, agrees, axis_sums

__all__ = ["Conv2d", "GlobalAveragePool", "Pool2d"]

Pair = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Where windows lie on padded images.

    Parameters
    ----------
    kernel, stride, padding : pair of int
        Of rows and columns.
    shift : pair of int, default (0, 0)
        A mistake: all windows moved by this.
    skip : str, default ""
        A mistake: "last" or "first" row and column of windows left out.
    count : pair of int, optional
        A mistake: so many rows and columns of windows, filled in order with the pixels of dout.
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    shift: Pair = (0, 0)
    skip: str = ""
    count: Pair | None = None

    def extent(self, shape: tuple[int, ...]) -> Pair:
        """Rows and columns of windows on images of a shape."""
        rows, columns = (
            (shape[2 + i] + 2 * self.padding[i] - self.kernel[i]) // self.stride[i] + 1
            for i in (0, 1)
        )
        return rows, columns

    def pad(self, x: np.ndarray, value: float = 0.0) -> np.ndarray:
        """Surround images."""
        border = ((0, 0), (0, 0), (self.padding[0],) * 2, (self.padding[1],) * 2)
        return np.pad(x, border, constant_values=value)

    def crop(
        self, padded: np.ndarray, shape: tuple[int, ...], by: Pair | None = None
    ) -> np.ndarray:
        """Take the border off, perhaps at the wrong place."""
        top, left = self.padding if by is None else by
        return padded[:, :, top : top + shape[2], left : left + shape[3]]

    def places(self, shape: tuple[int, ...]) -> Iterator[tuple[int, int, slice, slice]]:
        """Row and column of each window and the slices it covers, those inside only."""
        if self.count is not None:
            yield from self._in_order(shape)
            return
        rows, columns = self.extent(shape)
        height, width = (shape[2 + i] + 2 * self.padding[i] for i in (0, 1))
        first = 1 if self.skip.startswith("first") else 0
        last = 1 if self.skip.startswith("last") else 0
        by_row, by_column = "row" in self.skip, "column" in self.skip
        for u in range(first * by_row, rows - last * by_row):
            for v in range(first * by_column, columns - last * by_column):
                top, left = u * self.stride[0] + self.shift[0], v * self.stride[1] + self.shift[1]
                bottom, right = top + self.kernel[0], left + self.kernel[1]
                if top >= 0 and left >= 0 and bottom <= height and right <= width:
                    yield u, v, slice(top, bottom), slice(left, right)

    def _in_order(self, shape: tuple[int, ...]) -> Iterator[tuple[int, int, slice, slice]]:
        """Another number of windows, the pixels of dout given to them one after another."""
        rows, columns = self.extent(shape)
        wanted = self.count or (rows, columns)
        for p in range(min(rows * columns, wanted[0] * wanted[1])):
            top, left = divmod(p, wanted[1])
            a, b = top * self.stride[0], left * self.stride[1]
            inside = a + self.kernel[0] <= shape[2] + 2 * self.padding[0]
            if inside and b + self.kernel[1] <= shape[3] + 2 * self.padding[1]:
                rows_, columns_ = slice(a, a + self.kernel[0]), slice(b, b + self.kernel[1])
                yield (*divmod(p, columns), rows_, columns_)


def _variants(windows: Windows, extent: Pair) -> Iterator[tuple[str, str, Windows]]:
    """Windows in wrong places, as (code, words, windows)."""
    code = "window_offset"
    for shift in ((1, 0), (0, 1), (1, 1), (-1, 0), (0, -1), (-1, -1)):
        yield code, f"windows are shifted by {shift}", replace(windows, shift=shift)
    for skip in ("last", "first"):
        for which in ("row", "column", "row and column"):
            words = f"the {skip} {which} of windows is left out"
            yield code, words, replace(windows, skip=f"{skip} {which}")
    if windows.stride != (1, 1):
        yield code, "windows are placed as for stride 1", replace(windows, stride=(1, 1))
    for other in ((windows.stride[0] + 1,) * 2, (windows.stride[1], windows.stride[0])):
        if other != windows.stride:
            yield code, f"windows are placed with stride {other}", replace(windows, stride=other)
    rows, columns = extent
    stride = windows.stride
    few = {(1, columns), (rows, 1), (rows - 1, columns), (rows, columns - 1)}
    few |= {(-(-rows // stride[0]), columns), (rows, -(-columns // stride[1]))}
    few |= {
        (-(-(rows + stride[0]) // stride[0]), columns),
        (rows, -(-(columns + stride[1]) // stride[1])),
    }
    for count in sorted(few - {extent}):
        if min(count) > 0:
            words = f"{count[0]} x {count[1]} windows are filled instead of {rows} x {columns}"
            yield code, words, replace(windows, count=count)
    if windows.kernel != windows.stride:
        yield (
            code,
            "windows are placed a kernel apart instead of a stride",
            replace(windows, stride=windows.kernel),
        )


def _to_extent(windows: Windows, shape: tuple[int, ...], extent: Pair) -> Iterator[tuple[int, ...]]:
    for u, v, rows, columns in windows.places(shape):
        if u < extent[0] and v < extent[1]:
            yield u, v, rows.start, rows.stop, columns.start, columns.stop


def _scatter(
    x_shape: tuple[int, ...], parts: np.ndarray, windows: Windows, extent: Pair, keep: str = "sum"
) -> np.ndarray:
    """Put windows (N, C, OH, OW, KH, KW) back on padded images, adding or overwriting."""
    padded = np.zeros(
        (*x_shape[:2], x_shape[2] + 2 * windows.padding[0], x_shape[3] + 2 * windows.padding[1])
    )
    for u, v, top, bottom, left, right in _to_extent(windows, x_shape, extent):
        window = (..., slice(top, bottom), slice(left, right))
        if keep == "sum":
            padded[window] += parts[:, :, u, v]
        else:
            padded[window] = parts[:, :, u, v]
    return padded


def _border_mistakes(
    padded: np.ndarray, shape: tuple[int, ...], windows: Windows
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield wrong ways to take the border off."""
    if windows.padding == (0, 0):
        return
    code, (top, left) = "padding", windows.padding
    yield code, "dx still has the padding around it", padded
    for by, words in (
        ((0, 0), "the border is cut off at the end only, so dx is shifted by the padding"),
        ((2 * top, 2 * left), "the border is cut off at the beginning only"),
        ((top + 1, left + 1), "dx is cut one pixel too far to the lower right"),
        ((top + 1, left), "dx is cut one row too low"),
        ((top, left + 1), "dx is cut one column too far right"),
        ((top - 1, left), "dx is cut one row too high"),
        ((top, left - 1), "dx is cut one column too far left"),
        ((top - 1, left - 1), "dx is cut one pixel too far to the upper left"),
        ((left, top), "rows and columns of the padding are swapped"),
        ((0, left), "the padding is not taken off at the top"),
        ((top, 0), "the padding is not taken off at the left"),
    ):
        if min(by) >= 0 and by != windows.padding:
            yield code, words, windows.crop(padded, shape, by)
    inner = padded[:, :, top : -top or None, left : -left or None]
    inner = inner[:, :, : shape[2], : shape[3]]
    erased = np.zeros(shape)
    erased[:, :, top : shape[2] - top, left : shape[3] - left] = inner[
        :, :, top : shape[2] - top, left : shape[3] - left
    ]
    yield code, "the outermost pixels of x get no gradient: cut twice", erased


def _cut(
    padded: np.ndarray, analytic: np.ndarray, shape: tuple[int, ...]
) -> tuple[str, str] | None:
    """Whether a result is another part of the padded gradient than that of the image."""
    if analytic.ndim != 4 or analytic.shape[:2] != shape[:2] or analytic.shape == shape:
        return None
    height, width = analytic.shape[2:]
    for top in range(padded.shape[2] - height + 1):
        for left in range(padded.shape[3] - width + 1):
            if agrees(analytic, padded[:, :, top : top + height, left : left + width]).all():
                words = f"of {height} x {width} pixels from ({top}, {left}) on"
                sentence = f"dx is the part {words} of the padded gradient: it is cut wrongly"
                return "padding", sentence
    return None


@dataclass
class Conv2d(Formula):
    """``out[n, f, u, v] = sum w[f, c, i, j] x[n, c, s u + i - p, s v + j - p] + b[f]``.

    Parameters
    ----------
    windows : Windows
        Kernel, stride and padding.
    groups : int
        Groups of channels.
    has_bias : bool
        Whether there is a bias.
    """

    windows: Windows
    groups: int = 1
    has_bias: bool = True
    title: str = "conv2d"

    def _parts(self, x: np.ndarray, weight: np.ndarray) -> Iterator[tuple[slice, slice]]:
        channels, filters = x.shape[1] // self.groups, len(weight) // self.groups
        for g in range(self.groups):
            yield (
                slice(g * channels, (g + 1) * channels),
                slice(g * filters, (g + 1) * filters),
            )

    def _columns(self, x: np.ndarray, windows: Windows, extent: Pair) -> np.ndarray:
        """Windows of the images, (N, C, OH, OW, KH, KW); zeros where there is none."""
        padded = windows.pad(x)
        columns = np.zeros((*x.shape[:2], *extent, *windows.kernel))
        for u, v, top, bottom, left, right in _to_extent(windows, x.shape, extent):
            columns[:, :, u, v] = padded[..., top:bottom, left:right]
        return columns

    def forward(self, x: np.ndarray, params: Arrays) -> np.ndarray:
        """Correlate."""
        extent = self.windows.extent(x.shape)
        columns = self._columns(x, self.windows, extent)
        out = np.concatenate(
            [
                np.einsum("ncuvij,fcij->nfuv", columns[:, c], params[0][f], optimize=True)
                for c, f in self._parts(x, params[0])
            ],
            axis=1,
        )
        return out + params[1].reshape(-1, 1, 1) if self.has_bias else out

    def _by_x(
        self,
        dout: np.ndarray,
        x: np.ndarray,
        weight: np.ndarray,
        windows: Windows,
        keep: str = "sum",
    ) -> np.ndarray:
        """Gradient by the padded images."""
        pieces = []
        for c, f in self._parts(x, weight):
            filters = slice(f.stop - 1, f.stop) if keep == "one" else f
            parts = np.einsum("nfuv,fcij->ncuvij", dout[:, filters], weight[filters], optimize=True)
            pieces.append(_scatter(x[:, c].shape, parts, windows, self._extent(dout), keep))
        return np.concatenate(pieces, axis=1)

    def _by_weight(
        self, dout: np.ndarray, x: np.ndarray, weight: np.ndarray, windows: Windows
    ) -> np.ndarray:
        columns = self._columns(x, windows, self._extent(dout))
        return np.concatenate(
            [
                np.einsum("nfuv,ncuvij->fcij", dout[:, f], columns[:, c], optimize=True)
                for c, f in self._parts(x, weight)
            ]
        )

    @staticmethod
    def _extent(dout: np.ndarray) -> Pair:
        return dout.shape[2], dout.shape[3]

    def backward(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Arrays:
        """Each product of the forward passes dout times the other factor back."""
        weight, windows = params[0], self.windows
        dx = windows.crop(self._by_x(dout, x, weight, windows), x.shape)
        gradients = [dx, self._by_weight(dout, x, weight, windows)]
        return (
            [*gradients, dout.sum(axis=(0, 2, 3)).reshape(params[1].shape)]
            if (self.has_bias)
            else gradients
        )

    def mistakes(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Iterator[Mistake]:
        """Overwriting, borders, offsets, flips and sums."""
        weight, windows = params[0], self.windows
        tail: list[np.ndarray | None] = [None] * (len(params) - 1)
        right = self.backward(dout, x, params)
        for code, words, value in self._wrong_dx(dout, x, weight):
            yield Mistake(code, words, [value, None, *tail])
        for code, words, value in self._wrong_dweight(dout, x, weight, right[1]):
            yield Mistake(code, words, [None, value, *tail])
        for code, words, wrong in _variants(windows, self._extent(dout)):
            dx = windows.crop(self._by_x(dout, x, weight, wrong), x.shape)
            dweight = self._by_weight(dout, x, weight, wrong)
            yield Mistake(code, f"{words}, in all gradients", [dx, dweight, *tail])
            yield Mistake(code, f"{words}, in dx", [dx, None, *tail])
            yield Mistake(code, f"{words}, in the weight gradient", [None, dweight, *tail])
        if self.has_bias:
            for code, words, value in axis_sums(dout, (0, 2, 3), "the bias"):
                yield Mistake(code, words, [None, None, value])
            for words, value in (
                ("the last example", dout[-1].sum(axis=(1, 2))),
                ("the last row", dout[:, :, -1].sum(axis=(0, 2))),
                ("the last column", dout[..., -1].sum(axis=(0, 2))),
                ("the last pixel", dout[:, :, -1, -1].sum(axis=0)),
                ("the last pixel of the last example", dout[-1, :, -1, -1]),
            ):
                sentence = f"the bias gradient is that of {words}: overwritten, not added up"
                yield Mistake("overwritten", sentence, [None, None, value])

    def _wrong_dx(
        self, dout: np.ndarray, x: np.ndarray, weight: np.ndarray
    ) -> Iterator[tuple[str, str, np.ndarray]]:
        windows, shape = self.windows, x.shape
        padded = self._by_x(dout, x, weight, windows)
        yield from _border_mistakes(padded, shape, windows)
        over = "overwritten"
        if windows.kernel[0] > windows.stride[0] or windows.kernel[1] > windows.stride[1]:
            last = self._by_x(dout, x, weight, windows, "last")
            sentence = "dx is overwritten instead of added up where windows overlap"
            yield over, sentence, windows.crop(last, shape)
            by_offset = self._by_offset(dout, x, weight)
            sentence = "dx is overwritten where windows overlap, one kernel offset after another"
            yield over, sentence, windows.crop(by_offset, shape)
        if len(weight) > self.groups:
            one = self._by_x(dout, x, weight, windows, "one")
            sentence = "dx is overwritten by each window and filter instead of added up"
            yield over, sentence, windows.crop(one, shape)
            kept = np.zeros_like(dout)
            for _, f in self._parts(x, weight):
                kept[:, f.stop - 1] = dout[:, f.stop - 1]
            sentence = "dx is that of the last filter: each overwrites the one before"
            yield over, sentence, windows.crop(self._by_x(kept, x, weight, windows), shape)
        yield (
            "missing_factor",
            "the weight is missing from dx",
            windows.crop(self._by_x(dout, x, np.ones_like(weight), windows), shape),
        )
        flipped = weight[..., ::-1, ::-1]
        yield (
            "flipped",
            "dx uses the kernel flipped in rows and columns",
            windows.crop(self._by_x(dout, x, flipped, windows), shape),
        )
        if windows.kernel[0] == windows.kernel[1]:
            yield (
                "transposed",
                "dx uses the kernel with rows and columns swapped",
                windows.crop(self._by_x(dout, x, weight.swapaxes(2, 3), windows), shape),
            )
        if weight.shape[0] == weight.shape[1] and self.groups == 1:
            yield (
                "transposed",
                "dx uses the weight with filters and channels swapped",
                windows.crop(self._by_x(dout, x, weight.swapaxes(0, 1), windows), shape),
            )
        if self.groups > 1:
            shifted = np.roll(weight, len(weight) // self.groups, axis=0)
            yield (
                "wrong_group",
                "dx uses the filters of another group",
                windows.crop(self._by_x(dout, x, shifted, windows), shape),
            )

    def pattern(
        self, slot: int, analytic: np.ndarray, dout: np.ndarray, x: np.ndarray, params: Arrays
    ) -> tuple[str, str] | None:
        """Whether dx is cut from the padded gradient at another place."""
        padded = self._by_x(dout, x, params[0], self.windows)
        return None if slot else _cut(padded, analytic, x.shape)

    def _by_offset(self, dout: np.ndarray, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Images overwritten by kernel offsets in row-major order."""
        w, extent = self.windows, self._extent(dout)
        padded = np.zeros_like(w.pad(x))
        for i in range(w.kernel[0]):
            for j in range(w.kernel[1]):
                rows = slice(i, i + w.stride[0] * (extent[0] - 1) + 1, w.stride[0])
                columns = slice(j, j + w.stride[1] * (extent[1] - 1) + 1, w.stride[1])
                padded[..., rows, columns] = np.concatenate(
                    [
                        np.einsum("nfuv,fc->ncuv", dout[:, f], weight[f, :, i, j])
                        for _, f in self._parts(x, weight)
                    ],
                    axis=1,
                )
        return padded

    def _wrong_dweight(
        self, dout: np.ndarray, x: np.ndarray, weight: np.ndarray, right: np.ndarray
    ) -> Iterator[tuple[str, str, np.ndarray]]:
        windows, over = self.windows, "overwritten"
        for words, index in (
            ("example", (-1,)),
            ("window", (..., -1, -1)),
            ("window of the last example", (-1, slice(None), -1, -1)),
            ("row of windows", (..., -1, slice(None))),
            ("column of windows", (..., slice(None), -1)),
        ):
            kept = np.zeros_like(dout)
            kept[index] = dout[index]
            yield (
                over,
                f"the weight gradient is that of the last {words}: overwritten, not added up",
                self._by_weight(kept, x, weight, windows),
            )
        lost = self._by_weight(dout, np.ones_like(x), weight, replace(windows, padding=(0, 0)))
        if windows.padding == (0, 0):
            yield "missing_factor", "x is missing from the weight gradient", lost
        first = np.zeros_like(dout)
        first[0] = dout[0]
        yield (
            "missing_term",
            "the weight gradient is that of the first example only",
            self._by_weight(first, x, weight, windows),
        )
        yield (
            "flipped",
            "the weight gradient is flipped in rows and columns",
            right[..., ::-1, ::-1],
        )
        if windows.kernel[0] == windows.kernel[1]:
            sentence = "the weight gradient has rows and columns of the kernel swapped"
            yield "transposed", sentence, right.swapaxes(2, 3)
        if windows.padding != (0, 0):
            bottom, side = 2 * windows.padding[0], 2 * windows.padding[1]
            moved = np.pad(x, ((0, 0), (0, 0), (0, bottom), (0, side)))
            unpadded = replace(windows, padding=(0, 0))
            sentence = "the weight gradient reads x without its padding"
            yield "padding", sentence, self._by_weight(dout, moved, weight, unpadded)
        if self.groups > 1:
            rolled = np.roll(x, x.shape[1] // self.groups, axis=1)
            sentence = "the weight gradient reads the channels of another group"
            yield "wrong_group", sentence, self._by_weight(dout, rolled, weight, windows)


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
        for u, v, top, bottom, left, right in _to_extent(windows, x.shape, extent):
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
        padded = _scatter(x.shape, parts, self.windows, (dout.shape[2], dout.shape[3]))
        return [self.windows.crop(padded, x.shape)]

    def mistakes(self, dout: np.ndarray, x: np.ndarray, params: Arrays) -> Iterator[Mistake]:
        """Overwriting, borders, offsets, and which element."""
        w, extent = self.windows, (dout.shape[2], dout.shape[3])
        share = self._share(x)
        parts = dout[..., None, None] * share

        def placed(
            parts: np.ndarray, windows: Windows = w, keep: str = "sum"
        ) -> list[np.ndarray | None]:
            return [w.crop(_scatter(x.shape, parts, windows, extent, keep), x.shape)]

        for code, words, value in _border_mistakes(_scatter(x.shape, parts, w, extent), x.shape, w):
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
        for code, words, wrong in _variants(w, extent):
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
        padded = _scatter(x.shape, parts, self.windows, (dout.shape[2], dout.shape[3]))
        return _cut(padded, analytic, x.shape)

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
