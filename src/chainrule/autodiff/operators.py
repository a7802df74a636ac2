"""What a user calls: gradients, products with Jacobians, Jacobians, Hessians, the graph itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from chainrule.autodiff.tracing import (
    NOTHING,
    Dual,
    Node,
    Tape,
    Tracer,
    new_level,
    primal,
    shape_of,
)
from chainrule.autodiff.trees import flatten
from chainrule.errors import DTypeError, InputError, ShapeError, TracerError, explain

__all__ = [
    "Trace",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "trace",
    "value_and_grad",
    "vjp",
]

Argnums = int | Sequence[int]
_REAL = (Tracer, np.floating)  # tuples, as a union would be built anew at each call
_ONE = np.float64(1)
_SEVERAL = (tuple, list, range)
_UNLIKE = (np.matrix, np.ma.MaskedArray)  # of which a function makes something else than of arrays


def grad(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Return the function that computes the gradient of f, in reverse mode.

    Parameters
    ----------
    f : callable
        Returns one number. Written with plain NumPy.
    argnums : int or sequence of int, default 0
        By which positional arguments to differentiate. Each may be a number, an array, or a
        tuple, list or dict of such; integers are taken as float64.

    Returns
    -------
    callable
        Takes what f takes and returns the gradient, in structure, shapes and dtypes of the
        argument; a tuple of them if `argnums` is a sequence.

    Raises
    ------
    InputError
        If `argnums` names an argument that is not there. All errors come when the returned
        function is called.
    ShapeError
        If f returns anything but one number.
    DTypeError
        If an argument is not real.
    NoRuleError
        If f uses an operation that has no derivative rule.
    TracerError
        If f uses a value in a way that would lose its derivative.

    Notes
    -----
    With ``u -> v`` an operation, its cotangents obey ``ubar += (dv/du)^T vbar``, from the result
    back to the arguments [1]_. The cost is a small multiple of that of f, whatever the number of
    arguments; the memory is that of all intermediates. The returned function can be
    differentiated again, to any order.

    References
    ----------
    .. [1] A. Griewank and A. Walther, "Evaluating Derivatives", 2nd edition, 2008, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.autodiff import grad
    >>> grad(lambda x: np.sum(np.sin(x) * x**2))(np.array([0.0, 1.0])).round(4)
    array([0.    , 2.2232])
    >>> float(grad(grad(grad(np.exp)))(0.0))
    1.0
    >>> loss = lambda params, x: np.sum((x @ params["weight"] + params["bias"]) ** 2)
    >>> grad(loss)({"weight": np.ones(3), "bias": 0.0}, np.eye(3))
    {'weight': array([2., 2., 2.]), 'bias': np.float64(6.0)}
    """
    both = value_and_grad(f, argnums)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


def value_and_grad(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Return the function that computes f and its gradient at once, as `grad` does.

    Parameters
    ----------
    f : callable
        Returns one number.
    argnums : int or sequence of int, default 0
        By which positional arguments to differentiate.

    Returns
    -------
    callable
        Takes what f takes and returns ``(f(...), gradient)``.

    Examples
    --------
    >>> from chainrule.autodiff import value_and_grad
    >>> value, gradient = value_and_grad(lambda x: x**3)(2.0)
    >>> float(value), float(gradient)
    (8.0, 12.0)
    """

    def differentiated(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        tape = Tape()
        arguments, inputs = _enter("grad", args, _chosen("grad", argnums, len(args)), tape)
        out = _run(f, arguments, kwargs)
        if isinstance(out, Node) and out.level == tape.level:
            value = out.value
            _check_number(value)
            gathered = tape.pull_back({out.index: _one_like(value)}, keep=False)
        else:
            value = out
            _check_number(value)
            gathered = None
        return value, _one_or_all(argnums, _collect(inputs, gathered, ()))

    return differentiated


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Push tangents through f: the product of its Jacobian with a vector, in forward mode.

    Parameters
    ----------
    f : callable
        Returns an array, or a tuple, list or dict of arrays.
    primals : sequence
        Its arguments: numbers, arrays, or trees of them.
    tangents : sequence
        One for each argument, in its structure and shapes.

    Returns
    -------
    out
        ``f(*primals)``.
    tangent
        ``J v``, in structure and shapes of `out`.

    Raises
    ------
    ShapeError
        If a tangent has another shape than its primal.
    InputError
        If they differ in number or structure.

    Notes
    -----
    Each value carries its tangent along, ``vdot += (dv/du) udot``; nothing is kept, and the cost is
    that of two to three evaluations of f for one tangent.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.autodiff import jvp
    >>> out, tangent = jvp(lambda x, y: x * np.sin(y), (2.0, 0.0), (0.0, 1.0))
    >>> float(out), float(tangent)
    (0.0, 2.0)
    """
    leaves, rebuild = flatten(tuple(primals))
    directions, _ = flatten(tuple(tangents))
    if len(leaves) != len(directions):
        raise InputError(
            explain(
                "jvp",
                "tangents",
                f"have the structure of primals, {len(leaves)} arrays",
                f"{len(directions)} arrays",
            )
        )
    level = new_level()
    duals = []
    for leaf, direction in zip(leaves, directions, strict=True):
        value = _as_real("jvp", leaf)
        duals.append(Dual(level, value, _as_direction("jvp", "a tangent", direction, value)))
    results, assemble = flatten(_run(f, rebuild(duals)))
    values, pushed = [], []
    seen = {id(each) for dual in duals for each in (dual.value, dual.tangent)}
    for result in results:
        if isinstance(result, Dual) and result.level == level:
            values.append(result.value)
            pushed.append(_settle(result.tangent, result.value, seen))
        else:
            values.append(result)
            pushed.append(_zeros_like(result))
    return assemble(values), assemble(pushed)


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Evaluate f and return what pulls cotangents back through it, in reverse mode.

    Parameters
    ----------
    f : callable
        Returns an array, or a tuple, list or dict of arrays.
    *primals
        Its arguments: numbers, arrays, or trees of them.

    Returns
    -------
    out
        ``f(*primals)``.
    pull_back : callable
        Takes a cotangent in structure and shapes of `out` and returns ``u^T J``: a tuple with one
        entry for each argument, in its structure and shapes. It can be called many times.

    Raises
    ------
    ShapeError
        By `pull_back`, if a cotangent has another shape than the result.
    InputError
        By `pull_back`, if their structures differ.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.autodiff import vjp
    >>> out, pull_back = vjp(lambda w, x: w @ x, np.eye(2), np.array([1.0, 2.0]))
    >>> dw, dx = pull_back(np.array([1.0, 0.0]))
    >>> dw
    array([[1., 2.],
           [0., 0.]])
    """
    tape = Tape()
    arguments, inputs = _enter("vjp", primals, range(len(primals)), tape)
    results, assemble = flatten(_run(f, arguments))
    mine = [r if isinstance(r, Node) and r.level == tape.level else None for r in results]
    values = [result if m is None else m.value for result, m in zip(results, mine, strict=True)]

    def pull_back(cotangent: Any) -> tuple[Any, ...]:
        cotangents, _ = flatten(cotangent)
        if len(cotangents) != len(values):
            raise InputError(
                explain(
                    "vjp",
                    "the cotangent",
                    f"have the structure of the result, {len(values)} arrays",
                    f"{len(cotangents)} arrays",
                )
            )
        seeds: dict[int, Any] = {}
        for node, value, seed in zip(mine, values, cotangents, strict=True):
            seed = _as_direction("vjp", "a cotangent", seed, value)
            if node is not None:
                there = seeds.get(node.index)
                seeds[node.index] = seed if there is None else there + seed
        given = [id(seed) for seed in seeds.values()]
        return tuple(_collect(inputs, tape.pull_back(seeds), given))

    return assemble(values), pull_back


def jacobian(
    f: Callable[..., Any],
    argnums: Argnums = 0,
    mode: Literal["auto", "forward", "reverse"] = "auto",
) -> Callable[..., Any]:
    """Return the function that computes the Jacobian of f.

    Parameters
    ----------
    f : callable
        Returns an array of any shape, or a tuple, list or dict of arrays.
    argnums : int or sequence of int, default 0
        By which positional arguments to differentiate. Each may be a number, an array, or a
        tuple, list or dict of such.
    mode : {"auto", "forward", "reverse"}, default "auto"
        One `jvp` for each element of the arguments, or one `vjp` for each element of the result;
        by default the fewer of the two, reverse if they are as many.

    Returns
    -------
    callable
        Takes what f takes and returns an array ``J[i..., j...] = d out[i...] / d x[j...]`` of
        shape ``out.shape + x.shape``; a tuple of them if `argnums` is a sequence. If the result
        of f is a tree, in its structure, and within that in the structure of the argument.

    Raises
    ------
    InputError
        If `mode` or `argnums` is not understood. What `grad` raises comes when it is called.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.autodiff import jacobian
    >>> polar = lambda x: np.stack([np.hypot(x[0], x[1]), np.arctan2(x[1], x[0])])
    >>> jacobian(polar)(np.array([3.0, 4.0]))
    array([[ 0.6 ,  0.8 ],
           [-0.16,  0.12]])
    """
    if mode not in ("auto", "forward", "reverse"):
        rule = 'be "auto", "forward" or "reverse"'
        raise InputError(explain("jacobian", "mode", rule, repr(mode)))

    def differentiated(*args: Any, **kwargs: Any) -> Any:
        chosen = _chosen("jacobian", argnums, len(args))
        leaves, rebuild = flatten([args[i] for i in chosen])
        inputs = [_as_real("jacobian", leaf) for leaf in leaves]

        def inner(*values: Any) -> Any:
            arguments = list(args)
            for i, value in zip(chosen, rebuild(values), strict=True):
                arguments[i] = value
            return f(*arguments, **kwargs)

        def as_given(block: Sequence[Any]) -> Any:
            return _one_or_all(argnums, rebuild(block))

        if mode != "forward":
            out, pull_back = vjp(inner, *inputs)
            results, assemble = flatten(out)
            size = sum(_size(result) for result in results)
            if mode == "reverse" or size <= sum(map(_size, inputs)):
                blocks = _jacobian_rows(results, inputs, lambda seeds: pull_back(assemble(seeds)))
                return assemble([as_given(block) for block in blocks])
        out, columns = _jacobian_columns(inner, inputs)
        results, assemble = flatten(out)
        blocks = _stack_columns(results, inputs, columns)
        return assemble([as_given(block) for block in blocks])

    return differentiated


def hessian(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Return the function that computes the second derivatives of f, forward over reverse.

    Parameters
    ----------
    f : callable
        Returns one number.
    argnums : int or sequence of int, default 0
        By which positional arguments to differentiate. Each may be a number, an array, or a
        tuple, list or dict of such.

    Returns
    -------
    callable
        Takes what f takes and returns ``H[i..., j...] = d2 f / d x[i...] d x[j...]``, an array of
        shape ``x.shape + x.shape``; a tuple of tuples of such blocks if `argnums` is a sequence,
        and for a tree of arrays a tree of trees of them: ``H["w"]["b"]``.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.autodiff import hessian
    >>> hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    return jacobian(grad(f, argnums), argnums, mode="forward")


def hvp(f: Callable[..., Any], x: Any, v: Any) -> Any:
    """Multiply the Hessian of f with a vector, without ever forming it.

    Parameters
    ----------
    f : callable
        Of one argument; returns one number.
    x : array or tree of arrays
        Where to differentiate.
    v : array or tree of arrays
        The vector, in structure and shapes of x.

    Returns
    -------
    array or tree
        ``H v``, in structure and shapes of x.

    Notes
    -----
    One `jvp` of the gradient: a small multiple of the cost of f [1]_.

    References
    ----------
    .. [1] B. A. Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6,
       1994, equation 2.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.autodiff import hvp
    >>> hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    array([6., 0.])
    """
    return jvp(grad(f), (x,), (v,))[1]


@dataclass(frozen=True)
class Trace:
    """What a function did: its computation graph.

    Attributes
    ----------
    nodes : list of Node
        Every value computed, in order; the inputs first.
    inputs, outputs : list of Node
        Some of the nodes. A result that does not depend on the inputs is a node without rule.
    """

    nodes: list[Node]
    inputs: list[Node]
    outputs: list[Node]


def trace(f: Callable[..., Any], *args: Any) -> Trace:
    """Evaluate f and return its computation graph.

    Parameters
    ----------
    f : callable
        Returns an array, or a tuple, list or dict of arrays.
    *args
        Numbers, arrays, or trees of them; all of them become inputs of the graph.

    Returns
    -------
    Trace
        The graph, with all values.

    Examples
    --------
    >>> import numpy as np
    >>> from chainrule.autodiff import trace
    >>> graph = trace(lambda x, y: (x + y) * np.exp(y), 1.0, 0.0)
    >>> [(node.rule.name, float(node.value)) for node in graph.nodes if node.rule]
    [('add', 1.0), ('exp', 1.0), ('multiply', 1.0)]
    """
    tape = Tape()
    arguments, inputs = _enter("trace", args, range(len(args)), tape)
    results, _ = flatten(_run(f, arguments))
    outputs = [
        result
        if isinstance(result, Node) and result.level == tape.level
        else Node(tape, np.asarray(result)[()])
        for result in results
    ]
    return Trace(tape.nodes, [node for nodes, _ in inputs for node in nodes], outputs)


# --- entering and leaving -------------------------------------------------------------------


def _run(f: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] = NOTHING) -> Any:
    """Call f; say what NumPy means by "setting an array element with a sequence"."""
    try:
        return f(*args, **kwargs)
    except ValueError as error:
        if isinstance(error.__cause__, TracerError):
            raise TracerError(
                "autodiff: a traced value must not be written into an array; got y[...] = value. "
                "Build the result with numpy.stack, numpy.concatenate or numpy.where instead."
            ) from error
        raise


# For each differentiated argument the nodes of its leaves, and what puts others in their place.
Inputs = list[tuple[list[Node], Callable[[Iterable[Any]], Any]]]


def _chosen(where: str, argnums: Argnums, given: int) -> Sequence[int]:
    """Return `argnums` as indices from 0."""
    if argnums.__class__ is int and 0 <= argnums < given:
        return (argnums,)
    chosen: list[Any] = list(argnums) if isinstance(argnums, _SEVERAL) else [argnums]
    for i in chosen:
        if not (isinstance(i, int | np.integer) and -given <= i < given):
            rule = "name positional arguments that are given"
            remedy = f"The function was called with {given or 'none'}."
            raise InputError(explain(where, "argnums", rule, repr(argnums), remedy))
    chosen = [int(i) % given for i in chosen]
    if len(chosen) > 1 and len(set(chosen)) < len(chosen):
        raise InputError(explain(where, "argnums", "name each argument once", repr(argnums)))
    return chosen


def _one_or_all(argnums: Argnums, values: Sequence[Any]) -> Any:
    return tuple(values) if isinstance(argnums, _SEVERAL) else values[0]


def _enter(
    where: str, args: Sequence[Any], chosen: Iterable[int], tape: Tape
) -> tuple[list[Any], Inputs]:
    """Replace the leaves of the chosen arguments by nodes."""
    arguments = list(args)
    inputs: Inputs = []
    for i in chosen:
        leaves, rebuild = flatten(args[i])
        nodes = [Node(tape, _as_real(where, leaf)) for leaf in leaves]
        arguments[i] = rebuild(nodes)
        inputs.append((nodes, rebuild))
    return arguments, inputs


def _collect(inputs: Inputs, gathered: list[Any] | None, given: Iterable[int]) -> list[Any]:
    """Return the cotangents of the inputs in their structures, no two sharing memory.

    `given` are the ids of arrays that the caller has already.
    """
    seen = set(given)
    trees = []
    for nodes, rebuild in inputs:
        leaves = []
        for node in nodes:
            found = None if gathered is None else gathered[node.index]
            leaves.append(
                _zeros_like(node.value) if found is None else _settle(found, node.value, seen)
            )
        trees.append(rebuild(leaves))
    return trees


def _settle(found: Any, value: Any, seen: set[int]) -> Any:
    """Return a tangent or cotangent as its receiver may keep and modify it.

    It has the dtype of the value it belongs to, and memory of its own; `seen` has the ids of
    arrays that others hold.
    """
    if isinstance(found, Tracer) or (type(found) is type(value) and isinstance(found, np.generic)):
        return found
    dtype = value.dtype if hasattr(value, "dtype") else np.float64
    array = np.asarray(found)
    if array.dtype.kind == "c" and np.dtype(dtype).kind != "c":
        remedy = "Complex numbers have no rules."
        rule = "have real values on the way from its arguments to its result"
        raise DTypeError(explain("autodiff", "f", rule, array.dtype, remedy))
    if array.shape == () and not isinstance(primal(value), np.ndarray):
        return array.astype(dtype)[()]
    own = array.dtype == dtype and array.flags.owndata and array.flags.writeable
    if not own or id(array) in seen:
        array = np.array(array, dtype)
    seen.add(id(array))
    return array


def _zeros_like(value: Any) -> Any:
    """A tangent or cotangent that is zero."""
    value = _as_real("autodiff", primal(value))
    zeros = np.zeros(value.shape, value.dtype)
    return zeros if isinstance(value, np.ndarray) else zeros[()]


def _as_real(where: str, x: Any, name: str = "each argument") -> Any:
    """Return a leaf as it is differentiated: a float scalar, a float array or a tracer."""
    if isinstance(x, _REAL):
        return x
    if isinstance(x, float):
        return np.float64(x)
    array = np.asarray(x)
    if isinstance(x, _UNLIKE):
        remedy = "Take numpy.asarray of a matrix, and numpy.where for what is masked."
        rule = "be real numbers or plain arrays of them"
        raise DTypeError(explain(where, name, rule, type(x).__name__, remedy))
    if array.dtype.kind == "f":
        return array
    if array.dtype.kind in "iub":
        return array.astype(np.float64)[()]
    got = type(x).__name__ if array.dtype.kind == "O" else array.dtype
    raise DTypeError(explain(where, name, "be real numbers or arrays of them", got))


def _as_direction(where: str, name: str, direction: Any, value: Any) -> Any:
    """Check a tangent or cotangent against the value it belongs to, and take over its dtype."""
    direction = _as_real(where, direction, name)
    if shape_of(direction) != shape_of(value):
        rule = f"have the shape of its value, {shape_of(value)}"
        raise ShapeError(explain(where, name, rule, shape_of(direction)))
    if isinstance(direction, Tracer):
        return direction
    dtype = value.dtype if hasattr(value, "dtype") else np.float64
    return direction if direction.dtype == dtype else direction.astype(dtype)


def _one_like(value: Any) -> Any:
    return _ONE if isinstance(value, float) else value.dtype.type(1)


def _check_number(value: Any) -> None:
    """Require what f returned to `grad` to be one real number."""
    if isinstance(value, float):
        return
    if isinstance(value, Tracer | np.ndarray | np.generic | int):
        if shape_of(value) != ():
            remedy = "Use jacobian, or vjp with a cotangent."
            got = f"shape {shape_of(value)}"
            raise ShapeError(explain("grad", "f", "return one number", got, remedy))
        if isinstance(value, Tracer) or np.asarray(value).dtype.kind in "fiub":
            return
    raise DTypeError(explain("grad", "f", "return one real number", type(value).__name__))


# --- Jacobians from products ----------------------------------------------------------------


def _size(x: Any) -> int:
    return prod(shape_of(x))


def _basis(x: Any, j: int) -> Any:
    """Element j of the standard basis, in shape of x."""
    unit = np.zeros(_size(x))
    unit[j] = 1.0
    return unit.reshape(shape_of(x))


def _jacobian_rows(
    results: Sequence[Any], inputs: Sequence[Any], pull_back: Callable[[list[Any]], Sequence[Any]]
) -> list[list[Any]]:
    """For each result and input the Jacobian, one row at a time."""
    zeros = [np.zeros(shape_of(result)) for result in results]
    blocks = []
    for k, result in enumerate(results):
        rows = [
            pull_back([*zeros[:k], _basis(result, j), *zeros[k + 1 :]])
            for j in range(_size(result))
        ]
        block = []
        for i, x in enumerate(inputs):
            shape = shape_of(result) + shape_of(x)
            columns = [row[i] for row in rows]
            block.append(np.reshape(np.stack(columns), shape) if rows else np.zeros(shape))
        blocks.append(block)
    return blocks


def _jacobian_columns(f: Callable[..., Any], inputs: Sequence[Any]) -> tuple[Any, list[list[Any]]]:
    """The result of f, and for each element of the inputs the tangents of all results."""
    zeros = [np.zeros(shape_of(x)) for x in inputs]
    out, columns = None, []
    for i, x in enumerate(inputs):
        for j in range(_size(x)):
            out, tangent = jvp(f, inputs, [*zeros[:i], _basis(x, j), *zeros[i + 1 :]])
            columns.append(flatten(tangent)[0])
    return (f(*inputs) if out is None else out), columns


def _stack_columns(
    results: Sequence[Any], inputs: Sequence[Any], columns: Sequence[Sequence[Any]]
) -> list[list[Any]]:
    """For each result and input the Jacobian, from its columns."""
    blocks = []
    for k, result in enumerate(results):
        block, start = [], 0
        for x in inputs:
            shape = shape_of(result) + shape_of(x)
            mine = [column[k] for column in columns[start : start + _size(x)]]
            start += _size(x)
            block.append(np.reshape(np.stack(mine, axis=-1), shape) if mine else np.zeros(shape))
        blocks.append(block)
    return blocks
