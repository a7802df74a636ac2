"""What the doctor knows of convolution: its gradients, and how people get them wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from chainrule.gradcheck.formulas import Arrays, Formula, Mistake, axis_sums
from chainrule.gradcheck.windows import (
    Pair,
    Windows,
    border_mistakes,
    cut_elsewhere,
    scatter,
    window_mistakes,
    windows_inside,
)

__all__ = ["Conv2d"]


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
    title : str
        Its name.
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
        for u, v, top, bottom, left, right in windows_inside(windows, x.shape, extent):
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
            pieces.append(scatter(x[:, c].shape, parts, windows, self._extent(dout), keep))
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
        for code, words, wrong in window_mistakes(windows, self._extent(dout)):
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
        yield from border_mistakes(padded, shape, windows)
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
        return None if slot else cut_elsewhere(padded, analytic, x.shape)

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
