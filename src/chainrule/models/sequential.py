"""`Sequential`: layers in order and two flat dicts of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chainrule import layers as pairs
from chainrule.errors import ConfigError, InputError, ShapeError, explain, nearest
from chainrule.kernels import Workspace
from chainrule.models.module import Init, Mode, Module, Shape
from chainrule.models.steps import Step, plan_steps

__all__ = ["LOSSES", "Loss", "Sequential", "Summary", "SummaryRow", "make_loss"]

Loss = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]
Observer = Callable[[str, np.ndarray], None]

LOSSES = ("cross_entropy", "multiclass_hinge")

FITTED = 5000  # examples that layers see that learn from data before training


def make_loss(name: str, implementation: str = "fast", **options: float) -> Loss:
    """Turn the name of a loss into a function of scores and labels.

    Parameters
    ----------
    name : {"cross_entropy", "multiclass_hinge"}
        The loss.
    implementation : {"fast", "numpy", "reference"}, default "fast"
        Which pair of `chainrule.layers` computes it.
    **options
        ``label_smoothing`` for the first, ``margin`` for the second.

    Returns
    -------
    callable
        ``loss(scores, y) -> (float, dscores)``; scores (N, C), y (N,), dscores (N, C).

    Raises
    ------
    ConfigError
        If the name is unknown.

    Examples
    --------
    >>> loss = make_loss("cross_entropy")
    >>> value, dscores = loss(np.zeros((1, 2)), np.array([0]))
    >>> round(value, 4), dscores
    (0.6931, array([[-0.5,  0.5]]))
    """
    if name not in LOSSES:
        raise ConfigError(f"loss: {name!r} is not known. {nearest(name, LOSSES)}")
    return _PairLoss(*pairs.pair(name, implementation), options)


@dataclass(frozen=True)
class _PairLoss:
    """A loss pair as one function; an object, because networks are pickled and closures not."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    options: dict[str, float]

    def __call__(self, scores: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        value, cache = self.forward(scores, y, **self.options)
        return float(value), self.backward(cache)


@dataclass(frozen=True)
class SummaryRow:
    """One layer of a `Summary`.

    Parameters
    ----------
    name, type : str
        Name in the network, such as ``conv1``, and kind, such as ``conv2d``.
    output_shape : tuple of int
        Shape of the layer's output for one example.
    parameters : int
        Number of trainable values.
    flops : int
        Floating-point operations of one forward pass of one example.
    """

    name: str
    type: str
    output_shape: Shape
    parameters: int
    flops: int


@dataclass(frozen=True)
class Summary:
    """Layers, output shapes, numbers of parameters and FLOPs of a network.

    A multiply-add counts as two operations; every other layer counts one for each value it
    reads or writes. The numbers are for the forward pass of one example.

    Parameters
    ----------
    rows : tuple of SummaryRow
        One for each layer.
    """

    rows: tuple[SummaryRow, ...]

    @property
    def parameters(self) -> int:
        """Number of trainable values."""
        return sum(row.parameters for row in self.rows)

    @property
    def flops(self) -> int:
        """Floating-point operations of one forward pass of one example."""
        return sum(row.flops for row in self.rows)

    def __str__(self) -> str:
        header = ("layer", "type", "output", "parameters", "FLOPs")
        body = [
            (r.name, r.type, str(r.output_shape), f"{r.parameters:,}", f"{r.flops:,}")
            for r in self.rows
        ]
        total = ("total", "", "", f"{self.parameters:,}", f"{self.flops:,}")
        widths = [max(len(row[i]) for row in [header, *body, total]) for i in range(5)]

        def line(cells: Sequence[str]) -> str:
            left = [cell.ljust(width) for cell, width in zip(cells[:3], widths, strict=False)]
            right = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
            return "  ".join(left + right).rstrip()

        rule = "-" * (sum(widths) + 8)
        return "\n".join([line(header), rule, *map(line, body), rule, line(total)])


class Sequential:
    """Layers in order, with a flat dict of parameters named as PyTorch would name them.

    Parameters
    ----------
    layers : sequence of Module
        The layers. Those without a name are numbered by kind: ``conv1``, ``bn1``, ``conv2``.
    loss : str or callable, default "cross_entropy"
        Name of a loss, or a function ``loss(scores, y) -> (value, dscores)``.
    implementation : {"fast", "numpy", "reference"}, default "fast"
        Which pairs of `chainrule.layers` compute it.
    fuse : bool, default True
        Compute sandwiches such as convolution, ReLU and pooling together, which saves passes
        over memory. The results agree to rounding.

    Attributes
    ----------
    params : dict of str to ndarray
        Trainable arrays, e.g. ``params["conv1.weight"]``. Optimizers update them in place.
    buffers : dict of str to ndarray
        Running statistics, e.g. ``buffers["bn1.running_mean"]``.
    input_shape : tuple of int
        Shape of one example; set by `init`.
    loss_name : str
        Name of the loss, ``"custom"`` for a function.

    Raises
    ------
    ConfigError
        If there are no layers or two of them have the same name.

    Examples
    --------
    >>> from chainrule.models import Linear, ReLU, Sequential
    >>> rng = np.random.default_rng(0)
    >>> net = Sequential([Linear(8), ReLU(), Linear(3)])
    >>> sorted(net.init(rng, (4,)))
    ['linear1.bias', 'linear1.weight', 'linear2.bias', 'linear2.weight']
    >>> loss, grads = net.loss_and_grads(np.ones((5, 4), np.float32), np.array([0, 1, 2, 0, 1]))
    >>> grads["linear1.weight"].shape
    (8, 4)
    """

    def __init__(
        self,
        layers: Sequence[Module],
        *,
        loss: str | Loss = "cross_entropy",
        implementation: str = "fast",
        fuse: bool = True,
    ) -> None:
        if not layers:
            raise ConfigError(explain("Sequential", "layers", "hold at least one layer", "none"))
        self.layers = tuple(_named(layers))
        self.loss = make_loss(loss, implementation) if isinstance(loss, str) else loss
        self.loss_name = loss if isinstance(loss, str) else "custom"
        self.implementation = implementation
        self.params: dict[str, np.ndarray] = {}
        self.buffers: dict[str, np.ndarray] = {}
        self.input_shape: Shape = ()
        self._dtype: np.dtype[Any] = np.dtype(np.float32)
        self._steps = plan_steps(self.layers, implementation, fuse)
        self._single_steps = plan_steps(self.layers, implementation, fuse=False)
        self._penalised = [f"{each.name}.{key}" for each in self.layers for key in each.penalised]
        trainable = [i for i, step in enumerate(self._steps) if step.trainable]
        self._first = trainable[0] if trainable else 0  # nothing before it needs a gradient
        self._workspace = Workspace()

    def init(
        self,
        rng: np.random.Generator,
        input_shape: Shape,
        init: Init = "he",
        dtype: np.dtype[Any] | type | str = np.float32,
        examples: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Draw all parameters afresh.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness; layers draw in order, so the same state gives the same network.
        input_shape : tuple of int
            Shape of one example, without the batch axis.
        init : {"he", "glorot"} or float, default "he"
            Scheme of the weights, or their standard deviation; a layer's own ``init_weight``
            goes before it. Biases start at zero.
        dtype : {float32, float64}, default float32
            Type of all parameters and buffers.
        examples : ndarray (N, ...), optional
            Preprocessed training examples, from which layers such as `Whiten2d` compute what is
            not trained.

        Returns
        -------
        dict of str to ndarray
            The parameters (`self.params`).

        Raises
        ------
        ShapeError
            If a layer cannot take what the one before it gives.
        """
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise ConfigError(explain("init", "dtype", "be float32 or float64", dtype))
        self._dtype = dtype
        self.input_shape = tuple(int(n) for n in input_shape)
        self.params, self.buffers = {}, {}
        for layer, shape in self._with_shapes():
            for key, value in layer.init(rng, shape, init).items():
                self.params[f"{layer.name}.{key}"] = value.astype(dtype)
            for key, value in layer.buffers(shape).items():
                self.buffers[f"{layer.name}.{key}"] = value.astype(dtype)
        if examples is not None:
            self._fit(self._checked(examples[:FITTED]))
        return self.params

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of all arithmetic: that of the parameters or, without any, what `init` was given."""
        return next((value.dtype for value in self.params.values()), self._dtype)

    @property
    def num_outputs(self) -> int:
        """Number of scores per example."""
        return self.summary().rows[-1].output_shape[0]

    def forward(
        self,
        x: np.ndarray,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        observe: Observer | None = None,
    ) -> np.ndarray:
        """Compute the scores of a batch.

        Parameters
        ----------
        x : ndarray (N, ...)
            Batch of examples; cast to the dtype of the parameters.
        training : bool, default False
            Use batch statistics and dropout, and update the running statistics.
        rng : numpy.random.Generator, optional
            Needed in training by networks with dropout.
        observe : callable, optional
            Called as ``observe(layer_name, output)`` after each layer; layers are then computed
            one by one.

        Returns
        -------
        ndarray (N, C)
            Scores.

        Raises
        ------
        ShapeError
            If `x` has not the shape that `init` was given.
        """
        with self._workspace:
            steps = self._steps if observe is None else self._single_steps
            return self._run_forward(x, Mode(training, rng), observe, steps)[0]

    def loss_and_grads(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        l2: float = 0.0,
        rng: np.random.Generator | None = None,
        observe: Observer | None = None,
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Compute the training loss of a batch and the gradient of every parameter.

        Parameters
        ----------
        x : ndarray (N, ...)
            Batch of examples.
        y : ndarray (N,), integer
            Labels.
        l2 : float, default 0
            Strength of the penalty ``l2 / 2 * sum(w ** 2)`` over the weights of linear and
            convolutional layers (not over biases and normalisation).
        rng : numpy.random.Generator, optional
            Needed by networks with dropout.
        observe : callable, optional
            Called as ``observe(layer_name, output)`` after each layer, after each sandwich
            where layers are computed together; the last call has the scores.

        Returns
        -------
        loss : float
            Mean loss of the batch plus the penalty.
        grads : dict of str to ndarray
            Gradients with the names, shapes and dtypes of `params`.

        Raises
        ------
        ShapeError
            If `x` has not the shape that `init` was given.
        InputError
            If a label is out of range.
        """
        with self._workspace:
            scores, caches = self._run_forward(x, Mode(True, rng), observe, self._steps)
            loss, dout = self.loss(scores, y)
            grads: dict[str, np.ndarray] = {}
            upstream: np.ndarray | None = dout
            for i in range(len(self._steps) - 1, self._first - 1, -1):
                assert upstream is not None  # only the first trainable step skips dx
                upstream, own = self._steps[i].backward(upstream, caches.pop(), i > self._first)
                grads |= {key: grad for key, grad in own.items() if grad is not None}
        if l2:
            loss += self._penalty(l2)
            for key in self._penalised:
                weight = self.params[key]
                grads[key] += weight.dtype.type(l2) * weight
        return loss, {key: grads[key] for key in self.params}

    def training_loss(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        l2: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> float:
        """Compute what `loss_and_grads` computes, without the gradients.

        Parameters
        ----------
        x : ndarray (N, ...)
            Batch of examples.
        y : ndarray (N,), integer
            Labels.
        l2 : float, default 0
            Strength of the penalty.
        rng : numpy.random.Generator, optional
            Needed by networks with dropout.

        Returns
        -------
        float
            Mean loss of the batch plus the penalty.
        """
        return self.loss(self.forward(x, training=True, rng=rng), y)[0] + self._penalty(l2)

    def _fit(self, out: np.ndarray) -> None:
        """Let each layer that learns from data see what comes to it."""
        fitting = [type(layer).fit is not Module.fit for layer in self.layers]
        last = max((i for i, fits in enumerate(fitting) if fits), default=-1)
        for layer, step in zip(self.layers[: last + 1], self._single_steps, strict=False):
            for key, value in layer.fit(out).items():
                self.buffers[f"{layer.name}.{key}"] = value.astype(self.dtype)
            out, _, _ = step.forward(out, self._tensors, Mode())

    def _penalty(self, l2: float) -> float:
        weights = (self.params[key] for key in self._penalised)
        return 0.5 * l2 * sum(float(np.vdot(w, w)) for w in weights) if l2 else 0.0

    def scores(self, x: np.ndarray, batch_size: int = 500) -> np.ndarray:
        """Compute scores in evaluation mode, in batches that bound the memory.

        Parameters
        ----------
        x : ndarray (N, ...)
            Examples.
        batch_size : int, default 500
            Examples per batch.

        Returns
        -------
        ndarray (N, C)
            Scores.
        """
        if len(x) == 0:
            return self.forward(x)
        starts = range(0, len(x), batch_size)
        return np.concatenate([self.forward(x[i : i + batch_size]) for i in starts])

    def predict(self, x: np.ndarray, batch_size: int = 500) -> np.ndarray:
        """Return the most probable label of each example.

        Parameters
        ----------
        x : ndarray (N, ...)
            Examples.
        batch_size : int, default 500
            Examples per batch.

        Returns
        -------
        ndarray (N,), int64
            Labels; the first of equal scores.
        """
        return np.asarray(np.argmax(self.scores(x, batch_size), axis=1))

    def summary(self, input_shape: Shape | None = None) -> Summary:
        """Return layers, output shapes, parameters and FLOPs as a printable table.

        Parameters
        ----------
        input_shape : tuple of int, optional
            Shape of one example; default: that given to `init`.

        Returns
        -------
        Summary
            ``print(net.summary())`` shows it.

        Raises
        ------
        InputError
            If the shape is neither given nor known.

        Examples
        --------
        >>> from chainrule.models import two_layer
        >>> print(two_layer(10, hidden=32).summary((1, 8, 8)))
        layer     type     output  parameters  FLOPs
        --------------------------------------------
        flatten1  flatten  (64,)            0      0
        linear1   linear   (32,)        2,080  4,096
        relu1     relu     (32,)            0     32
        linear2   linear   (10,)          330    640
        --------------------------------------------
        total                           2,410  4,768
        """
        rng = np.random.default_rng(0)
        rows = []
        for layer, shape in self._with_shapes(input_shape):
            count = sum(value.size for value in layer.init(rng, shape, 0.0).values())
            rows.append(
                SummaryRow(
                    layer.name, layer.kind, layer.output_shape(shape), count, layer.flops(shape)
                )
            )
        return Summary(tuple(rows))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_workspace"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _workspace=Workspace())

    def _with_shapes(self, input_shape: Shape | None = None) -> Iterator[tuple[Module, Shape]]:
        """Yield each layer with the shape of its input."""
        shape = self.input_shape if input_shape is None else tuple(input_shape)
        if not shape:
            raise InputError(
                explain(
                    "Sequential",
                    "input_shape",
                    "be known",
                    "an empty shape",
                    "Call init(rng, input_shape) first.",
                )
            )
        for layer in self.layers:
            following = layer.output_shape(shape)
            yield layer, shape
            shape = following

    def _run_forward(
        self, x: np.ndarray, mode: Mode, observe: Observer | None, steps: list[Step]
    ) -> tuple[np.ndarray, list[Any]]:
        out, caches = self._checked(x), []
        for step in steps:
            out, cache, statistics = step.forward(out, self._tensors, mode)
            caches.append(cache)
            self.buffers.update(statistics)
            if observe is not None:
                observe(step.name, out)
        return out, caches

    def _tensors(self, layer: Module) -> dict[str, np.ndarray]:
        """Return a layer's parameters and buffers by their local names."""
        found = {}
        for key in layer.parameters:
            if (full := f"{layer.name}.{key}") in self.params:
                found[key] = self.params[full]
        for key in layer.statistics:
            found[key] = self.buffers[f"{layer.name}.{key}"]
        return found

    def _checked(self, x: np.ndarray) -> np.ndarray:
        if not self.input_shape:
            raise InputError(
                explain(
                    "Sequential",
                    "the network",
                    "be initialised",
                    "no parameters",
                    "Call init(rng, input_shape) first.",
                )
            )
        if x.shape[1:] != self.input_shape:
            expected = ", ".join(["N", *map(str, self.input_shape)])
            raise ShapeError(explain("Sequential", "x", f"have shape ({expected})", x.shape))
        return x if x.dtype == self.dtype else x.astype(self.dtype)


def _named(layers: Sequence[Module]) -> list[Module]:
    """Number the layers that have no name, and check that names are unique."""
    counts: dict[str, int] = {}
    named = []
    for layer in layers:
        counts[layer.label] = counts.get(layer.label, 0) + 1
        named.append(
            layer if layer.name else replace(layer, name=f"{layer.label}{counts[layer.label]}")
        )
    names = [layer.name for layer in named]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(explain("Sequential", "layer names", "be unique", ", ".join(twice)))
    return named
