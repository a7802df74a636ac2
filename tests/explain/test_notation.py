"""Expressions as text, LaTeX and MathML."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from chainrule.explain.grammar import Call, Name, Number, parse
from chainrule.explain.notation import format_number, substitute, to_latex, to_mathml, to_text

HELP = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "expressions.py")))


def read(text):
    return parse(text)[0].expression


def bare(expression):
    """An expression without the places where it was read."""
    if isinstance(expression, Call):
        return (expression.operation, *map(bare, expression.arguments))
    return expression.name if isinstance(expression, Name) else expression.value


@settings(max_examples=300, deadline=None)
@given(text=HELP.texts())
def test_text_is_read_back_as_the_same_expression(text):
    expression = read(text)
    again = read(to_text(expression))
    assert bare(again) == bare(expression)


@settings(max_examples=200, deadline=None)
@given(text=HELP.texts())
def test_latex_is_balanced_and_mathml_is_well_formed(text):
    expression = read(text)
    latex = to_latex(expression)
    depth = 0
    for character in re.sub(r"\\[{}]", "", latex):
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert latex.count(r"\left") == latex.count(r"\right")
    tree = ElementTree.fromstring(f"<math>{to_mathml(expression)}</math>")
    for element in tree.iter():
        if element.tag in ("mfrac", "msup", "msub"):
            assert len(element) == 2, text


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("w1*w2", r"w_{1} \cdot w_{2}"),
        ("a_12 + beta", r"a_{12} + \beta"),
        ("rate*x", r"\mathrm{rate} \cdot x"),
        ("my_rate", r"\mathrm{my\_rate}"),
        ("exp(a + b)", "e^{a + b}"),
        ("exp(a)**2", r"\left(e^{a}\right)^{2}"),
        ("a/(b + 1)", r"\frac{a}{b + 1}"),
        ("(a/b)**2", r"\left(\frac{a}{b}\right)^{2}"),
        ("(a + b)*c", r"\left(a + b\right) \cdot c"),
        ("a - (b - c)", r"a - \left(b - c\right)"),
        ("a - b*c", r"a - b \cdot c"),
        ("a*(-b)", r"a \cdot \left(-b\right)"),
        ("-(a + b)", r"-\left(a + b\right)"),
        ("abs(a)", r"\left\lvert a\right\rvert"),
        ("sqrt(a*b)", r"\sqrt{a \cdot b}"),
        ("log(a)", r"\ln\left(a\right)"),
        ("log2(a)", r"\log_{2}\left(a\right)"),
        ("sigmoid(a)", r"\sigma\left(a\right)"),
        ("max(a, b)", r"\max\left(a, b\right)"),
        ("asin(a)", r"\arcsin\left(a\right)"),
        ("atanh(a)", r"\operatorname{arctanh}\left(a\right)"),
        ("square(a + 1)", r"\left(a + 1\right)^{2}"),
        ("1e-5*a", r"\left(1 \cdot 10^{-5}\right) \cdot a"),
        ("pi*a", r"\pi \cdot a"),
        ("θ", r"\theta"),
        ("λ_1", r"\lambda_{1}"),
        ("Δ*δ", r"\Delta \cdot \delta"),
    ],
)
def test_latex(text, latex):
    assert to_latex(read(text)) == latex.replace(
        r"\left(1 \cdot 10^{-5}\right)", r"1 \cdot 10^{-5}"
    )


def test_names_in_mathml_are_escaped_and_greek_names_become_letters():
    assert to_mathml(Name("x<y")) == "<mi>x&lt;y</mi>"
    assert to_mathml(Name("lambda")) == "<mi>λ</mi>"
    assert to_mathml(Name("x[0, 1]")) == "<msub><mi>x</mi><mn>0, 1</mn></msub>"


def test_numbers_in_mathml():
    assert to_mathml(Number(-2.0, "-2")) == "<mrow><mo>&#x2212;</mo><mn>2</mn></mrow>"
    assert "<msup><mn>10</mn><mrow><mo>&#x2212;</mo><mn>5</mn></mrow></msup>" in to_mathml(
        Number(1e-5, "1e-5")
    )


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (47.30262, 5, "47.303"),
        (1e-5, 5, "1e-5"),
        (1.5e300, 5, "1.5e300"),
        (-0.0, 5, "0"),
        (float("inf"), 5, "inf"),
        (1 / 3, 17, "0.3333333333333333"),
        (1234567.0, 3, "1.23e6"),
    ],
)
def test_numbers(value, digits, text):
    assert format_number(value, digits) == text


def test_substitution():
    filled = substitute(read("b*a**2 + c"), {"a": Name("i1"), "b": Number(-2.0, "-2")})
    assert to_text(filled) == "-2*i1**2 + c"
