"""Random expressions, and the same computations in other libraries' words."""

from hypothesis import strategies as st

from chainrule.explain.grammar import Call, Name, Number

UNARY = (
    "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan",
    "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sqrt", "square", "abs", "sigmoid",
    "softplus", "relu",
)  # fmt: skip


def texts(names=("x", "y", "z"), deepest=12):
    """Texts of the grammar in which every variable may occur."""
    leaves = st.one_of(
        st.sampled_from(names),
        st.floats(0.1, 3).map(lambda number: f"{number:.3g}"),
        st.sampled_from(["2", "-1", "pi", "e", "0.5"]),
    )

    def grow(inner):
        return st.one_of(
            st.builds("{}({})".format, st.sampled_from(UNARY), inner),
            st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner),
            st.builds("({})**({})".format, inner, st.sampled_from(["2", "3", "0.5", "-1"])),
            st.builds("{}({}, {})".format, st.sampled_from(["max", "min"]), inner, inner),
            st.builds("-({})".format, inner),
        )

    return st.recursive(leaves, grow, max_leaves=deepest)


def interpret(expression, functions, values):
    """Compute an expression with another library's functions."""
    if isinstance(expression, Number):
        return expression.value
    if isinstance(expression, Name):
        return values[expression.name]
    assert isinstance(expression, Call)
    arguments = [interpret(each, functions, values) for each in expression.arguments]
    return functions[expression.operation](*arguments)
