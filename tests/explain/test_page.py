"""The page as text: complete, closed to the network, safe, and in the colours of the report."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from chainrule.explain import explain
from chainrule.explain.page import COLOURS, COLOURS_DARK
from chainrule.explain.picture import curve_svg
from chainrule.explain.stepping import all_sweeps
from chainrule.explain.sweeps import Curve
from chainrule.report.style import (
    DARK,
    DARK_SURFACE,
    INK,
    LIGHT,
    LIGHT_SURFACE,
    MUTED,
    RULE,
    WARNING,
    contrast,
)

COURSE = "f1 = exp(exp(w1)+exp(2*w2)) + sigmoid(exp(w1)+exp(2*w2)); f2 = w1*w2 + max(w1,w2)"
VOID = {"meta", "link", "input", "path", "rect", "circle", "br"}


@pytest.fixture(scope="module")
def course():
    return explain(COURSE, w1=1, w2=-1)


@pytest.fixture(scope="module")
def page(course):
    return course.to_html()


class Reader(HTMLParser):
    """Tags in order, ids, and whether every tag is closed where it should be."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if "id" in dict(attrs):
            self.ids.append(dict(attrs)["id"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_well_formed_and_ids_are_unique(page):
    reader = Reader(page)
    assert len(reader.ids) == len(set(reader.ids))
    for tag, attrs in reader.tags:
        for name in ("aria-labelledby", "aria-describedby"):
            for target in attrs.get(name, "").split():
                assert target in reader.ids, (tag, target)


def test_nothing_is_loaded(page):
    for tag, attrs in Reader(page).tags:
        assert tag not in ("img", "iframe", "object", "embed", "base", "form")
        assert not {"src", "srcset", "action", "style"} & set(attrs)
        assert not any(name.startswith("on") for name in attrs)
        if "href" in attrs:
            assert attrs["href"].startswith(("#", "data:"))
    assert "http" not in page.replace("http-equiv", "")


def test_the_policy_admits_its_own_script_and_style_alone(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; ")
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_there_is_a_row_for_every_step(course, page):
    sweeps = all_sweeps(course)
    assert [sweep.kind for sweep in sweeps] == ["values", *["forward"] * 2, *["reverse"] * 2]
    counts = [len(sweep.steps) for sweep in sweeps]
    assert counts == [12, 12, 12, 10, 7]
    assert page.count("<tr data-step ") == sum(counts)
    leads = re.search(r'<template id="leads">(.*?)</template>', page, re.S)[1]
    assert leads.count("<dl>") == sum(counts)


def test_steps_say_what_happens(course):
    sweeps = {sweep.title: sweep.steps for sweep in all_sweeps(course)}
    assert [step.say for step in sweeps["Forward values"]][
        5
    ] == "i4 = i1 + i3 = 2.7183 + 0.13534 = 2.8536."
    assert (
        sweeps["Forward mode, seed w1"][6].say
        == "The derivative of i5 by w1 is 47.163: 17.35 times 2.7183."
    )
    assert (
        sweeps["Forward mode, seed w1"][3].say == "i2 does not depend on w1: its derivative is 0."
    )
    assert (
        sweeps["Reverse mode, output f1"][4].say
        == "i5 hands 1 times 17.35 to i4: it gets 17.35, in all 17.402."
    )
    assert sweeps["Reverse mode, output f1"][4].edges == ((5, 6),)
    assert sweeps["Reverse mode, output f1"][4].badge == "17.402"
    assert sweeps["Forward values"][10].say.endswith("= 1. w1 > w2.")


def test_the_last_steps_are_the_jacobian(course):
    jacobian = course.jacobian()
    for column, sweep in enumerate(all_sweeps(course)[1:3]):
        badges = {step.node: step.badge for step in sweep.steps}
        assert [badges[8], badges[11]] == [f"{x:.5g}" for x in jacobian[:, column]]
    for row, sweep in enumerate(all_sweeps(course)[3:]):
        badges = {step.node: step.badge for step in sweep.steps}
        assert [badges[0], badges[1]] == [f"{x:.5g}" for x in jacobian[row]]


def test_names_cannot_become_markup():
    def hostile(x):
        return x * 2

    hostile.__name__ = "<img src=x onerror=alert(1)>"
    text = explain(hostile, 1.0).to_html()
    assert "<img" not in text
    assert "&lt;img src=x" in text


def test_arrays_have_a_page_too():
    explained = explain(lambda w, b: np.exp(w * b), [0.5, -0.3], 2.0)
    text = explained.to_html()
    Reader(text)
    assert "[0.5, -0.3] (2)" in text


def test_signs_of_comparison_are_no_markup():
    text = explain(lambda w: np.minimum(w, 0.5), [0.2, 0.9]).to_html()
    assert "∂w where w &lt; 0.5" in text
    assert "w < 0.5" not in text.replace("w &lt; 0.5", "")


def test_the_colours_are_those_of_the_report():
    for colours, series, surface in (
        (COLOURS, LIGHT, LIGHT_SURFACE),
        (COLOURS_DARK, DARK, DARK_SURFACE),
    ):
        assert [colours[f"c{i}"] for i in range(3)] == list(series[:3])
        assert colours["surface"] == surface
    assert (COLOURS["ink"], COLOURS["muted"]) == (INK, MUTED)
    assert (COLOURS["rule"], COLOURS["warning"]) == (RULE, WARNING)
    assert set(COLOURS) == set(COLOURS_DARK)


@pytest.mark.parametrize("colours", [COLOURS, COLOURS_DARK], ids=["light", "dark"])
def test_colours_can_be_told_apart(colours):
    for i in range(3):
        assert contrast(colours[f"t{i}"], colours["surface"]) >= 4.5
        assert contrast(colours[f"t{i}"], colours[f"b{i}"]) >= 4.5
        assert contrast(colours["ink"], colours[f"b{i}"]) >= 7
        assert contrast(colours[f"c{i}"], colours["surface"]) >= 3
    for name in ("ink", "muted", "link"):
        assert contrast(colours[name], colours["surface"]) >= 4.5
        assert contrast(colours[name], colours["page"]) >= 4.5


def test_a_notebook_gets_a_frame_with_the_page_inside(course, page):
    text = course._repr_html_()
    (tag, attrs) = Reader(text).tags[0]
    assert tag == "iframe"
    assert attrs["srcdoc"] == page
    assert attrs["sandbox"] == "allow-scripts"


def test_a_curve_with_gaps_is_drawn_in_pieces():
    text = curve_svg([Curve("forward difference", (1.0, 0.1, 0.01, 1e-3), (1.0, None, 0.1, 0.0))])
    path = re.search(r'class="line s0" d="([^"]*)"', text)[1]
    assert path.count("M") == 2
    assert text.count("<circle") == 3


def test_paths_of_the_graph_keep_clear_of_nodes():
    """Edges bend between layers only, and pass layers at points of their own."""
    explained = explain("f = x*exp(exp(exp(x))) + x + sin(y)*x", x=0.1, y=2)
    text = explained.to_html()
    rects = [
        tuple(
            float(re.search(rf'{key}="([\d.]+)"', rect)[1]) for key in ("x", "y", "width", "height")
        )
        for rect in re.findall(r"<rect [^>]*>", text)
    ]
    paths = re.findall(r'class="edge" id="e\d+-\d+"><path d="([^"]*)"', text)
    assert paths
    for path in paths:
        numbers = [float(number) for number in re.findall(r"[\d.]+", path.replace("M", " "))]
        points = list(zip(numbers[::2], numbers[1::2], strict=True))
        for (x0, y0), (x1, y1) in pairwise(points):
            for share in np.linspace(0.02, 0.98, 25):
                x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
                for left, top, width, height in rects:
                    inside = left < x < left + width and top + 1 < y < top + height - 1
                    assert not inside, path
