"""Mutations of the reference backwards: one node of the syntax tree changed at a time.

The label of a mutant follows from what was changed and where. Mutants that have no cause with a
name, such as a product made a sum in the middle of a formula, have no labels: of them the doctor
is to say that it does not know.
"""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
import re
import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chainrule.layers import PAIRS, reference

__all__ = ["Mutant", "mutants", "split"]

SOURCE = inspect.getsource(reference)
HELPERS = {
    "_crop": ("conv2d", "max_pool2d", "avg_pool2d"),
    "_positions": ("conv2d", "max_pool2d", "avg_pool2d"),
    "_normalise_backward": ("batch_norm", "layer_norm", "group_norm"),
}


@dataclass(frozen=True)
class Mutant:
    """A wrong backward.

    Parameters
    ----------
    name : str
        Layer, place and change; what the split into halves goes by.
    layer : str
        Key of the cases.
    forward, backward : callable
        The right forward and the wrong backward.
    labels : frozenset of str
        Codes that name the bug; empty if it has no name.
    """

    name: str
    layer: str
    forward: Callable[..., object]
    backward: Callable[..., object]
    labels: frozenset[str]


def split(name: str) -> str:
    """Which half a mutant belongs to, by the parity of a hash of its name that never changes."""
    import hashlib

    first = name.partition(" #")[0]  # the same change elsewhere in a line is in the same half
    return "held out" if hashlib.sha256(first.encode()).digest()[0] % 2 else "development"


def mutants(every: int = 1) -> Iterator[Mutant]:
    """All mutants of all reference backwards, or one in so many of each function."""
    tree = ast.parse(SOURCE)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    targets = [(f"{name}_backward", (name,)) for name in PAIRS]
    for function, layers in [*targets, *HELPERS.items()]:
        changes = itertools.islice(_changes(functions[function]), 0, None, every)
        for change, labels, mutated in changes:
            for layer in layers:
                yield Mutant(
                    f"{layer}: {function}: {change}",
                    layer,
                    getattr(reference, f"{layer}_forward"),
                    _compiled(tree, mutated, layer),
                    frozenset(labels),
                )


def _compiled(tree: ast.Module, mutated: ast.FunctionDef, layer: str) -> Callable[..., object]:
    """The backward of a layer from the module with one function replaced."""
    body = [
        mutated if isinstance(node, ast.FunctionDef) and node.name == mutated.name else node
        for node in tree.body
    ]
    module = types.ModuleType("mutated")
    code = compile(ast.fix_missing_locations(ast.Module(body, [])), "<mutant>", "exec")
    exec(code, module.__dict__)
    backward: Callable[..., object] = getattr(module, f"{layer}_backward")
    return backward


def _changes(
    function: ast.FunctionDef,
) -> Iterator[tuple[str, set[str], ast.FunctionDef]]:
    """Each change of a function as (words, labels, function)."""
    body = function.body[1:]  # without the docstring
    nodes = [
        node
        for statement in body
        if not ast.unparse(statement).startswith(("check_", "scale = check"))
        for node in ast.walk(statement)
    ]
    seen: set[str] = set()
    names: Counter[str] = Counter()
    for node in nodes:
        for replacement, operator in _replacements(node):
            mutated = copy.deepcopy(function)
            _Replace(node, replacement).run(function, mutated)
            before, after = ast.unparse(node), ast.unparse(replacement)
            text = ast.unparse(mutated)
            if text in seen or text == ast.unparse(function):
                continue
            seen.add(text)
            line = _line_of(function, node)
            change = f"{line}: {before} -> {after}"
            names[change] += 1
            if names[change] > 1:
                change = f"{change} #{names[change]}"
            yield change, label(function.name, operator, line, before, after), mutated


def _line_of(function: ast.FunctionDef, node: ast.AST) -> str:
    """The innermost statement that a node is in."""
    found = ""
    for statement in ast.walk(function):
        if isinstance(
            statement, ast.Assign | ast.AugAssign | ast.Return | ast.AnnAssign | ast.Expr
        ):
            if any(each is node for each in ast.walk(statement)):
                found = ast.unparse(statement)
        elif isinstance(statement, ast.If) and any(
            each is node for each in ast.walk(statement.test)
        ):
            found = f"if {ast.unparse(statement.test)}"
    return found


class _Replace:
    """Put a replacement where a node of the original is, in a copy of the tree."""

    def __init__(self, node: ast.AST, replacement: ast.AST) -> None:
        self.node, self.replacement = node, replacement

    def run(self, original: ast.AST, mutated: ast.AST) -> None:
        """Walk both trees together."""
        for name, value in ast.iter_fields(original):
            other = getattr(mutated, name)
            if value is self.node:
                setattr(mutated, name, copy.deepcopy(self.replacement))
            elif isinstance(value, list):
                for i, each in enumerate(value):
                    if each is self.node:
                        other[i] = copy.deepcopy(self.replacement)
                    elif isinstance(each, ast.AST):
                        self.run(each, other[i])
            elif isinstance(value, ast.AST):
                self.run(value, other)


def _replacements(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """What a node is changed to, and the name of the operator that does it."""
    if isinstance(node, ast.BinOp):
        yield from _binary(node)
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Gt):
        for new, name in ((ast.GtE(), "boundary"), (ast.Lt(), "mask"), (ast.NotEq(), "mask")):
            yield ast.Compare(node.left, [new], node.comparators), name
    elif isinstance(node, ast.AugAssign):
        yield ast.Assign([node.target], node.value, lineno=0), "overwrite"
        flipped = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        yield ast.AugAssign(node.target, flipped, node.value), "flip"
    elif isinstance(node, ast.Attribute) and node.attr == "T":
        yield node.value, "transpose"
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for value in {node.value + 1, node.value * 2, node.value / 2 if node.value else -1}:
            if value != node.value:
                same = type(node.value)(value)
                yield ast.Constant(same), "constant"
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        for i, element in enumerate(node.value.elts):
            changed = list(node.value.elts)
            changed[i] = ast.UnaryOp(ast.USub(), element)
            yield ast.Return(ast.Tuple(changed, ast.Load())), "sign"
            zeroed = list(node.value.elts)
            zeroed[i] = _times(element, 0.0)
            yield ast.Return(ast.Tuple(zeroed, ast.Load())), "zero"
    elif isinstance(node, ast.Return) and node.value is not None:
        yield ast.Return(ast.UnaryOp(ast.USub(), node.value)), "sign"
        yield ast.Return(_times(node.value, 2.0)), "double"
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in (
        "dout", "dpixels", "dx_hat", "dvalue",
    ):  # fmt: skip
        ones = ast.parse(f"np.ones_like({node.id})", mode="eval").body
        yield ones, "ones"


def _times(node: ast.expr, c: float) -> ast.BinOp:
    return ast.BinOp(node, ast.Mult(), ast.Constant(c))


def _binary(node: ast.BinOp) -> Iterator[tuple[ast.AST, str]]:
    left, op, right = node.left, node.op, node.right
    swaps: dict[type[ast.operator], list[ast.operator]] = {
        ast.Add: [ast.Sub()],
        ast.Sub: [ast.Add()],
        ast.Mult: [ast.Add(), ast.Div()],
        ast.Div: [ast.Mult()],
    }
    for new in swaps.get(type(op), []):
        yield ast.BinOp(left, new, right), f"swap {type(op).__name__} {type(new).__name__}"
    if isinstance(op, ast.Add | ast.Sub | ast.Mult | ast.Div):
        yield left, f"keep left of {type(op).__name__}"
        if isinstance(op, ast.Sub):
            yield ast.UnaryOp(ast.USub(), right), "keep right of Sub"
        elif not isinstance(op, ast.Div):
            yield right, f"keep right of {type(op).__name__}"
    if isinstance(op, ast.MatMult):
        yield ast.BinOp(right, op, left), "commute"
        transposed = ast.BinOp(
            ast.Attribute(right, "T", ast.Load()), op, ast.Attribute(left, "T", ast.Load())
        )
        yield transposed, "transpose"
    if isinstance(op, ast.Pow):
        yield left, "exponent"


def _calls(node: ast.Call) -> Iterator[tuple[ast.AST, str]]:
    name = ast.unparse(node.func)
    if name.endswith(".sum"):
        source = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        mean = ast.parse(ast.unparse(node).replace(".sum(", ".mean("), mode="eval").body
        if ".mean(" in ast.unparse(mean):
            yield mean, "mean"
        if not any(each.arg == "keepdims" for each in node.keywords):
            yield source, "no sum"
        for keyword in node.keywords:
            if keyword.arg == "axis" and isinstance(keyword.value, ast.Constant | ast.Tuple):
                axes = ast.literal_eval(keyword.value) if "axes" not in ast.unparse(node) else None
                for other in {0: [1], (0, 2, 3): [(2, 3), (1, 2, 3), (0, 3), 0]}.get(axes, []):
                    changed = copy.deepcopy(node)
                    changed.keywords[0].value = ast.parse(repr(other), mode="eval").body
                    yield changed, "axis"
    if name == "np.where":
        condition, yes, no = node.args
        yield ast.Call(node.func, [condition, no, yes], []), "mask"
        if isinstance(condition, ast.Compare):
            wrong = ast.Compare(ast.Name("dout", ast.Load()), condition.ops, condition.comparators)
            yield ast.Call(node.func, [wrong, yes, no], []), "mask"
        yield yes, "no mask"
    if name == "np.zeros_like":
        text = f"np.zeros({ast.unparse(node.args[0])}.shape, dtype=np.int64)"
        yield ast.parse(text, mode="eval").body, "integers"
    if name == "_crop":
        whole = node.args[0]
        yield whole, "crop"
        for text in ("(0, 0)", "tuple(2 * p for p in paddings)", "tuple(p + 1 for p in paddings)"):
            yield (
                ast.Call(node.func, [*node.args[:2], ast.parse(text, mode="eval").body], []),
                "crop",
            )
    if name == "np.argmax":
        yield ast.Call(ast.parse("np.argmin", mode="eval").body, node.args, []), "mask"
    if name in ("np.tanh", "np.exp") and not node.keywords:
        yield node.args[0], "input"


# --- labels ---------------------------------------------------------------------------------


def label(function: str, operator: str, line: str, before: str, after: str) -> set[str]:
    """Codes that name a change; those that hold for every function come first."""
    layer = function.removesuffix("_backward")
    everywhere = {
        "sign": {"sign", "flipped_sign"},
        "boundary": {"mask_boundary"},
        "mask": {"mask_wrong_tensor"},
        "no mask": {"local_missing", "mask_wrong_tensor"},
        "transpose": {"transposed"},
        "commute": {"transposed"},
        "axis": {"wrong_axis", "missing_sum"},
        "no sum": {"missing_sum"},
        "mean": {"double_mean"},
        "zero": {"zero"},
        "integers": {"integer_truncation"},
        "crop": {"padding"},
        "double": {"factor"},
        "input": {"input_for_output"},
    }
    specific = _LABELS.get(layer)
    found = specific(operator, line, before, after) if specific else None
    if found is not None:
        return found
    if operator == "ones":
        return {"upstream_ignored"}
    return everywhere.get(operator, set())


def _relu(operator: str, line: str, before: str, after: str) -> set[str] | None:
    if operator == "constant":  # x > 1 instead of x > 0, or 1 where it should be 0
        return {"mask_wrong_tensor"} if before == "0" else None
    if operator == "mask" and "!=" in after:  # nothing is masked but zeros
        return {"mask_wrong_tensor", "local_missing"}
    if operator == "ones":
        return {"upstream_ignored"}
    return None


def _leaky(operator: str, line: str, before: str, after: str) -> set[str] | None:
    if operator == "mask" and "!=" in after:
        return {"mask_wrong_tensor", "local_missing", "leaky_slope"}
    if operator in ("mask", "no mask", "boundary"):
        return None if operator != "no mask" else {"leaky_slope", "local_missing"}
    if "slope" in before and operator != "ones":
        return {"leaky_slope"}
    if operator == "ones":
        return {"upstream_ignored", "leaky_slope"}
    if operator == "constant":
        return {"mask_wrong_tensor"}
    return None


def _smooth(operator: str, line: str, before: str, after: str) -> set[str] | None:
    """Of sigmoid, tanh, GELU and SiLU: terms, factors and constants of the derivative."""
    wrong = {"wrong_term", "wrong_constant", "missing_factor", "wrong_derivative"}
    if operator == "input":
        return {"input_for_output", "wrong_derivative"}
    if operator in ("ones", "sign", "double"):
        return None
    if not line.startswith("dx"):
        return wrong
    if before != line_value(line):
        return wrong | ({"upstream_ignored"} if before.startswith("dout *") else set())
    two_factors = re.fullmatch(r"dout \* (\w+|\([^()]*(\([^()]*\)[^()]*)*\))", before)
    return {
        "keep left of Mult": {"local_missing"} if two_factors else {"missing_factor"},
        "keep right of Mult": {"upstream_ignored", *(set() if two_factors else wrong)},
        "swap Mult Add": {"upstream_added"} if two_factors else set(),
        "swap Mult Div": {"wrong_derivative"},
    }.get(operator, set())


def line_value(line: str) -> str:
    """The right side of an assignment, or what is returned."""
    return line.partition(" = ")[2] or line.removeprefix("return ")


def _cross_entropy(operator: str, line: str, before: str, after: str) -> set[str] | None:
    if line.startswith("dx") and operator == "swap Mult Div":
        return {"missing_mean", "factor"}
    if line.startswith("dscores[n] -="):  # overwriting loses p as well
        return {"label_smoothing"} | ({"softmax_correction"} if operator == "overwrite" else set())
    if line.startswith("dscores[n, y[n]]"):
        if operator == "flip":
            return {"softmax_correction"}
        if operator == "overwrite":
            return {"softmax_correction"}
        return {"label_smoothing", "softmax_correction"}
    if line.startswith("dscores: ") and operator == "input":
        return {"softmax_correction"}
    if "max(count, 1)" in before and operator in ("keep left of Div", "swap Div Mult"):
        return {"missing_mean", "factor"}
    if operator == "constant" and "max(count" in line:
        return set()
    if before.startswith("dscores *") and operator == "keep left of Mult":
        return {"missing_mean"}
    return None


def _hinge(operator: str, line: str, before: str, after: str) -> set[str] | None:
    if not line and operator == "constant":  # the head of a loop: it ends too early
        return {"window_offset", "missing_term"}
    if line.startswith("dx") and operator == "swap Mult Div":
        return {"missing_mean", "factor"}
    if line.startswith("if "):
        if operator == "boundary":
            return {"mask_boundary"}
        if operator == "mask" and before.startswith("scores"):
            return {"mask_wrong_tensor"}
        return {"mask_wrong_tensor", "true_class"} if "scores" in before else set()
    if line.startswith(("dscores[n, c] +=", "dscores[n, y[n]] -=")):
        return {"true_class"}
    if "max(len(y), 1)" in before and operator in ("keep left of Div", "swap Div Mult"):
        return {"missing_mean", "factor"}
    if before.startswith("dscores *") and operator == "keep left of Mult":
        return {"missing_mean"}
    return None


def _conv(operator: str, line: str, before: str, after: str) -> set[str] | None:
    if line.startswith("dpadded[window] +="):
        if operator == "overwrite":
            return {"overwritten"}
        return {"sign"} if operator == "flip" else _product(operator)
    if line.startswith("dweight[f] +="):
        if operator == "overwrite":
            return {"overwritten"}
        if operator == "flip":
            return {"sign"}
        if operator in ("mean", "no sum", "axis"):
            return None
        return _product(operator)
    if line.startswith("window ="):
        return {"window_offset"} if operator == "constant" else set()
    if line.startswith("dbias =") and operator == "constant":
        return {"wrong_axis", "missing_sum"}
    if line.startswith("first ="):
        return {"wrong_group"}
    if line.startswith("padded ="):
        return {"padding"}
    return _avg_or_max(operator, line, before, after)


def _product(operator: str) -> set[str]:
    return {
        "ones": {"upstream_ignored"},
        "keep right of Mult": {"upstream_ignored"},
        "keep left of Mult": {"missing_factor"},
    }.get(operator, set())


def _avg_or_max(operator: str, line: str, before: str, after: str) -> set[str] | None:
    if not line and operator == "constant":  # the head of a loop: it ends too early
        return {"window_offset", "missing_term"}
    if line.startswith("dpadded[") and operator == "overwrite":
        return {"overwritten"}
    if line.startswith("dpadded[") and operator == "flip":
        return {"sign"}
    if line.startswith("dpadded[n, c") and re.search(r"(start|rows)", before):
        return {"window_offset"}
    if line.startswith("dpadded[:") and "prod(kernel)" in before:
        return {"missing_mean", "factor"}
    if line.startswith("i, j ="):
        return {"window_offset"} if operator == "constant" else None
    if operator == "constant" and "kernel" in line:
        return set()
    return None


def _global(operator: str, line: str, before: str, after: str) -> set[str] | None:
    if "prod" in before and operator in ("keep left of Div", "swap Div Mult"):
        return {"missing_mean", "factor"}
    if operator == "constant":  # H W taken from the wrong axes
        return {"wrong_count", "missing_mean", "double_mean", "factor"}
    return None


def _normalise(operator: str, line: str, before: str, after: str) -> set[str] | None:
    mean, var = "norm_mean_path", "norm_var_path"
    if line.startswith("mean ="):
        if operator == "no sum" or operator == "mean":
            return {mean}
        return {mean, "upstream_ignored"}
    if line.startswith("slope ="):
        if before == "dx_hat * x_hat":
            return {var, "input_for_output"}
        return {var, "upstream_ignored"}
    if line.startswith("count ="):
        return {mean, var}
    if line.startswith("dx:"):
        value = line_value(line)
        if before == value:
            if operator == "keep right of Mult":
                return {"upstream_ignored"}
            return {"missing_factor", "extra_factor"} if operator != "swap Mult Add" else set()
        if operator == "ones":
            return {"wrong_term"}
        if before == "dx_hat - mean - x_hat * slope":
            return {var} if operator.startswith(("swap", "keep left")) else {"wrong_term"}
        if before == "dx_hat - mean":
            return {mean} if operator.startswith(("swap", "keep left")) else {"wrong_term"}
        if before == "x_hat * slope":
            return {var}
    return None


def _norm_layer(operator: str, line: str, before: str, after: str) -> set[str] | None:
    if operator == "ones":
        return {"upstream_ignored", "missing_factor"}
    if "x_hat" in before and "dout" in before and "*" in before and len(before) < 40:
        if "sum" in before:
            return None
        return {"keep left of Mult": {"missing_factor"}, "keep right of Mult": {"upstream_ignored"},
                # normalised x adds up to 0, so a sum of the two is the bias gradient
                "swap Mult Add": {"upstream_added", "missing_factor"},
                }.get(operator, set())  # fmt: skip
    if "weight" in before and operator == "swap Mult Add":  # a constant leaves through the mean
        return {"missing_factor", "upstream_added"}
    if "weight" in before and "sum" not in before:
        return {"keep left of Mult": {"missing_factor"}, "keep right of Mult": {"upstream_ignored"},
                "swap Mult Div": {"missing_factor"}}.get(operator, set())  # fmt: skip
    if line.startswith("dx = ") and before == "dx_hat * inv_std":  # evaluation mode
        return {"missing_factor", "extra_factor"} if operator != "swap Mult Add" else set()
    if line.startswith(("axes =", "examples =")):
        return {"wrong_axis", "missing_sum"}
    if "range(lead" in before or operator == "constant":
        return {"wrong_axis", "missing_sum"} if "range" in line else set()
    return None


def _dropout(operator: str, line: str, before: str, after: str) -> set[str] | None:
    return {
        "keep left of Mult": {"local_missing", "dropout_mask"},
        "keep right of Mult": {"upstream_ignored"},
        "swap Mult Add": {"upstream_added"},
        "swap Mult Div": {"nan", "unrecognised"},
    }.get(operator)


def _linear(operator: str, line: str, before: str, after: str) -> set[str] | None:
    return {"missing_sum", "wrong_axis"} if "axis" in before and operator == "constant" else None


def _positions(operator: str, line: str, before: str, after: str) -> set[str] | None:
    if operator in ("sign", "double"):
        return None
    return {"window_offset", "zero"} if after in ("top", "left") else {"window_offset"}


def _crop(operator: str, line: str, before: str, after: str) -> set[str] | None:
    return None if operator in ("sign", "double") else {"padding"}


_LABELS: dict[str, Callable[[str, str, str, str], set[str] | None]] = {
    "relu": _relu,
    "leaky_relu": _leaky,
    **dict.fromkeys(("sigmoid", "tanh", "gelu", "silu"), _smooth),
    "cross_entropy": _cross_entropy,
    "multiclass_hinge": _hinge,
    "conv2d": _conv,
    **dict.fromkeys(("max_pool2d", "avg_pool2d"), _avg_or_max),
    "global_avg_pool2d": _global,
    "_normalise": _normalise,
    **dict.fromkeys(("batch_norm", "layer_norm", "group_norm"), _norm_layer),
    "dropout": _dropout,
    "linear": _linear,
    "_positions": _positions,
    "_crop": _crop,
}
