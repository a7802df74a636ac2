"""What is read, what is refused, and where the fault is said to be."""

import ast
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.errors import ConfigError, InputError
from chainrule.explain import explain, read_value
from chainrule.explain.grammar import parse
from chainrule.explain.notation import to_text

POINT = {"w1": 1, "w2": -1}

REFUSED = [
    ("", "the expression is empty"),
    (" ;", "column 2, ';': this is no expression"),
    ("w1 +", "at column 5: the expression ends here, where a value was expected"),
    ("(w1 + w2", "at column 1: this parenthesis is never closed"),
    ("w1) + 3", "at column 3: this parenthesis was never opened"),
    ("w1 w2", "at column 4, 'w2': two values follow each other. Write * for a product"),
    ("2w1 + w2", "at column 1: two values follow each other"),
    ("w1(w2)", "at column 1, 'w1': there is no function 'w1'. For a product, write w1*(...)"),
    ("w1*(w1+w2)(w2)", "at column 4, '(w1+w2)(w2)': two values follow each other"),
    ("w1**w2.real", "at column 5, 'w2.real': is not part of the grammar: a dot between names"),
    ("np.exp(w1)", "at column 1, 'np.exp': is not part of the grammar: a dot between names"),
    ("f = expp(w1)", "at column 5, 'expp': there is no function 'expp'. Did you mean 'exp'?"),
    ("w1^2", "at column 1, 'w1^2': is not part of the grammar: '^'. Write ** for a power."),
    ("w1 % 2", "is not part of the grammar: '%'"),
    ("exp", "at column 1, 'exp': 'exp' is a function. Write exp(...)"),
    ("exp(w1, w2)", "at column 1, 'exp(w1, w2)': exp takes one argument; got 2."),
    ("max(w1)", "max takes two or more arguments; got 1."),
    ("exp(x=w1)", "arguments are written one after another"),
    ("max(*w1)", "arguments are written one after another"),
    ("w1 + 'a'", "at column 6, \"'a'\": only real numbers are read"),
    ("w1 + 1j", "only real numbers are read"),
    ("True*w1", "at column 1, 'True': only real numbers are read"),
    ("1e999*w1", "at column 1, '1e999': this number is too large for a float64"),
    ("[w1]", "is not part of the grammar: a list"),
    ("w1, w2", "is not part of the grammar: a tuple. Separate outputs by ';'"),
    ("w1[0]", "is not part of the grammar: square brackets"),
    ("w1 if w2 else 3", "is not part of the grammar: 'if'"),
    ("w1 and w2", "is not part of the grammar: 'and' or 'or'"),
    ("not w1", "is not part of the grammar: 'not' or '~'"),
    ("w1 < w2", "is not part of the grammar: a comparison"),
    ("lambda: w1", "is not part of the grammar: 'lambda'"),
    ("(y := w1)", "is not part of the grammar: ':='"),
    ("f'{w1}'", "is not part of the grammar: a text"),
    ("import os", "is not part of the grammar: a statement"),
    ("__import__('os').system('true')", "a dot between names"),
    ("a = b = w1", "two '=' in a row"),
    ("a.b = w1", "what is on the left of '=' is no name"),
    ("exp = w1", "'exp' is a function"),
    ("f += w1", "is not part of the grammar: an operator before '='"),
    ("f = w1; f = w2", "at column 9, 'f = w2': 'f' is assigned twice"),
    ("w1 = w2", "at column 1, 'w1 = w2': 'w1' is a variable"),
    ("f = w1 + w3", "at column 10: 'w3' has no value. Give it one: w3=1."),
    ("f = w1 + q", "at column 10: 'q' has no value. Give it one: q=1."),
    ("f = w1", "w2 is given a value, but no expression uses it. Known: w1."),
    ("f = w1 +\n w2\n)", "at line 3, column 1: this parenthesis was never opened"),
    ("w1 + \x00", "at column 6: a character that cannot be printed"),
    ("-" * 500 + "w1", "nested too deeply"),
    ("(" * 300 + "w1" + ")" * 300, "nested too deeply"),
    ("+".join(["w1"] * 500), "nested too deeply"),
    ("w1" + " " * 5000, "the expression has 5,002 characters; at most 4,000 are read"),
    ("é*ü + expp(é)", "at column 7, 'expp': there is no function 'expp'"),
    ("f = (w1*\n é*ü + q)", "at line 2, column 2: 'é' has no value"),
    ("\n  a = w1\n    f = a + q", "at line 3, column 13: 'q' has no value"),
    ("é + exp(ü) + log(é", "at column 17: this parenthesis is never closed"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[repr(t[:20]) for t, _ in REFUSED])
def test_refused(text, said):
    with pytest.raises(ConfigError) as raised:
        explain(text, POINT)
    message = str(raised.value)
    assert message.startswith("explain: ")
    assert message.count("explain:") == 1
    assert said in message


UNDEFINED = [
    ("f = w1 + log(w2)", "at column 10, 'log(w2)': log needs a number above 0; got w2 = -1."),
    ("sqrt(w1 + 2*w2)", "sqrt needs a number of at least 0; got w1 + 2*w2 = -1."),
    ("w2 + w1/(w2 + 1)", "divide needs a divisor other than 0; got w1 = 1 and w2 + 1 = 0."),
    ("w1 + w2**0.5", "power needs a base of at least 0 for an exponent that is no integer"),
    ("w1 + (w2 + 1)**-2", "power needs a base other than 0 for a negative exponent"),
    ("w1*asin(2*w2)", "arcsin needs a number from -1 to 1; got 2*w2 = -2."),
    ("w1*atanh(w2)", "arctanh needs a number between -1 and 1, both excluded; got w2 = -1."),
    ("w1*acosh(w2)", "arccosh needs a number of at least 1; got w2 = -1."),
    ("w1*log1p(w2)", "log1p needs a number above -1; got w2 = -1."),
    ("w2 + exp(1000*w1)", "at column 6, 'exp(1000*w1)': the result is too large for a float64"),
    ("w1 + w2*1e300*1e300", "the result is too large"),
    ("w1 + sqrt(w2 + 1)", "'sqrt(w2 + 1)': there is no derivative at w2 + 1 = 0."),
    ("w1 + asin(w2)", "there is no derivative at w2 = -1."),
    ("w1 + w2**w1", "there is no derivative at w2 = -1 and w1 = 1."),
    ("w1 + w2 + log(1 - 1)", "at column 11, 'log(1 - 1)': log needs a number above 0"),
    ("f = exp(w1*300)*exp(w1*350) + w2; g = (w2*1e200)*f", "too large for a float64"),
]


@pytest.mark.parametrize(("text", "said"), UNDEFINED, ids=[t for t, _ in UNDEFINED])
def test_undefined(text, said):
    with pytest.raises(InputError) as raised:
        explain(text, POINT)
    assert said in str(raised.value)
    assert str(raised.value).count("explain:") == 1


def test_a_derivative_that_overflows_on_the_way_is_said():
    text = "f = (x*1e200 - y)*1e200*z"
    with pytest.raises(InputError, match="the derivative of i3 by x is too large for a float64"):
        explain(text, x=1e-100, y=1e100, z=1)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a + b*c - d/e", "a + b*c - d/e"),
        ("(a + b)*c", "(a + b)*c"),
        ("a - (b - c)", "a - (b - c)"),
        ("a/(b*c)", "a/(b*c)"),
        ("(a/b)/c", "a/b/c"),
        ("-a**2", "-a**2"),
        ("(-a)**2", "(-a)**2"),
        ("a**b**c", "a**(b**c)"),
        ("a**-b", "a**(-b)"),
        ("a*-b", "a*(-b)"),
        ("+a", "a"),
        ("- -a", "-(-a)"),
        ("ln(a)", "log(a)"),
        ("arcsin(a)", "asin(a)"),
        ("pow(a, b)", "a**b"),
        ("max(a, b, c)", "max(max(a, b), c)"),
        ("maximum(a, 2)", "max(a, 2)"),
        ("2*pi*a", "2*pi*a"),
        ("1_000*a", "1_000*a"),
        ("  a # a remark", "a"),
    ],
)
def test_read(text, tree):
    assert to_text(parse(text, frozenset("e"))[0].expression) == tree


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        ("x*y", ["f"]),
        ("x*y; x + y", ["f1", "f2"]),
        ("f = x*y", ["f"]),
        ("loss = x*y", ["loss"]),
        ("a = x*y; loss = a + 1", ["loss"]),
        ("f1 = x*y; f2 = f1*y", ["f1", "f2"]),
        ("f = x*y; g = f*y; h = g*f", ["f", "h"]),
        ("f1 = x*y; x + y", ["f1", "f2"]),
        ("x\ny", ["f1", "f2"]),
        ("\n    x\n\n  # on its own\n\ty\n  ", ["f1", "f2"]),
        ("x; y; x*y;", ["f1", "f2", "f3"]),
    ],
)
def test_outputs(text, outputs):
    assert explain(text, x=1, y=2).output_names == outputs


def test_a_constant_can_be_a_variable_where_it_is_given():
    assert explain("e*x", x=1).jacobian().tolist() == [[2.718281828459045]]
    assert explain("e*x", {"e": 5, "x": 2}).jacobian().tolist() == [[2.0, 5.0]]


def test_names_are_compared_as_python_compares_them():
    composed, decomposed = "\u00e9", "e\u0301"
    assert explain(f"2*{composed}", {decomposed: 3}).jacobian().tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), ("-1e-3", -1e-3), ("1/4", 0.25), ("pi/2", 1.5707963267948966), ("exp(0)", 1.0)],
)
def test_values(text, value):
    assert read_value("x", text) == value


@pytest.mark.parametrize("text", ["", "x", "a=1", "1;2", "1/0", "exp(1000)", "one", "1,5", "nan"])
def test_values_that_are_no_numbers(text):
    with pytest.raises(ConfigError, match=r"^explain: x must be a number; got "):
        read_value("x", text)


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({}, "no variable has a value"),
        ({"x": float("nan")}, "x must be a finite number; got nan"),
        ({"x": 1, "exp": 2}, "'exp' is a function and cannot be a variable"),
        ({"x": 1, "a b": 2}, "'a b' cannot be the name of a variable"),
    ],
)
def test_points(point, said):
    with pytest.raises(ConfigError, match="explain: ") as raised:
        explain("f = x", point)
    assert said in str(raised.value)


ALPHABET = "xyz 0123456789.+-*/()=;,\n'\"[]{}:@!&|<>~^%#\\eEjJ_lnpowexp\u00e9\u4e2d\u0000\t"


@settings(max_examples=400, deadline=None)
@given(st.text(ALPHABET, max_size=60) | st.text(max_size=30))
def test_nothing_but_the_two_errors_ever_comes_out(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            statements = parse(text)
        except ConfigError:
            return
    assert statements


def test_nothing_is_run(monkeypatch):
    """Python's parser makes trees; compile is never asked for code, and eval and exec never run."""
    import builtins

    def forbidden(*args, **kwargs):
        raise AssertionError("ran")

    seen = []
    real = builtins.compile

    def watched(source, filename, mode, flags=0, *args, **kwargs):
        assert flags & ast.PyCF_ONLY_AST
        seen.append(source)
        return real(source, filename, mode, flags, *args, **kwargs)

    monkeypatch.setattr(builtins, "eval", forbidden)
    monkeypatch.setattr(builtins, "exec", forbidden)
    monkeypatch.setattr(builtins, "compile", watched)
    explain("f = x*sin(y) + 0.125", x=1, y=2)
    assert any("0.125" in str(source) for source in seen)
