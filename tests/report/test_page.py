"""What the page says, that it is safe, and that it needs nothing from outside."""

import base64
import hashlib
import json
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from chainrule.records import RunDirectory
from chainrule.report import make_report

VOID = {"meta", "link", "img", "br", "rect"}


class Page(HTMLParser):
    """The elements of a page, its text, and whether its tags are balanced."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.inside: dict[str, list[str]] = {}
        self.texts: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        tag = self.open[-1] if self.open else ""
        self.inside.setdefault(tag, []).append(data)
        if tag not in ("script", "style"):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def data(self) -> dict[str, Any]:
        found = json.loads(self.inside["script"][0])
        assert isinstance(found, dict)
        return found


def page_of(run: RunDirectory) -> Page:
    return Page(make_report(run.path, formats=()).page.read_text(encoding="utf-8"))


@pytest.fixture
def page(full_run: RunDirectory) -> Page:
    return page_of(full_run)


def test_tags_are_balanced(page: Page) -> None:
    assert page.open == []


def test_summary(page: Page) -> None:
    assert "convnet on pets" in page.inside["h1"]
    assert page.inside["dt"] == [
        "Best validation accuracy", "Test accuracy", "Parameters", "Steps", "Training time",
    ]  # fmt: skip
    values = [v for v in page.inside["dd"] if v.strip()]
    assert values == [
        "70.0%", "step 80, epoch 2", "78.0%", "250 examples", "936", "in 3 arrays", "120",
        "3 epochs", "1 min 00 s", "5,060 images/s",
    ]  # fmt: skip


def test_sections_and_links_agree(page: Page) -> None:
    targets = {attributes.get("id") for _, attributes in page.elements}
    links = [str(a["href"])[1:] for a in page.all("a")]
    assert links == [
        "content", "curves", "weights", "classes", "mistakes", "inside", "config",
    ]  # fmt: skip
    assert set(links) <= targets


def test_charts_hold_the_metrics(page: Page, full_metrics: list[dict[str, Any]]) -> None:
    charts = page.data["charts"]
    assert set(charts) == {
        "loss", "accuracy", "lr", "updates",
        "activation_mean", "activation_std", "activation_zeros",
    }  # fmt: skip
    loss = {series["name"]: series for series in charts["loss"]["series"]}
    assert loss["validation set"]["x"] == [40, 80, 120]
    assert loss["validation set"]["y"] == [1.3, 0.9, 1]
    raw = [r["loss"] for r in full_metrics if r["kind"] == "step"]
    np.testing.assert_allclose(loss["single batch"]["y"], raw, rtol=1e-4)
    assert charts["loss"]["range"] == [0, 120]
    assert charts["loss"]["mark"] == {
        "step": 80, "value": 0.9, "label": "best: 0.9", "colour": 1,
    }  # fmt: skip
    assert charts["updates"]["guide"] == 1e-3
    assert page.data["steps_per_epoch"] == 40


def test_tables_hold_the_numbers(page: Page) -> None:
    assert "40 1 1.2 1.3" in page.text
    assert "80 ★ 2 0.7 0.9" in page.text
    cells = page.inside["td"]
    for cell in ("0.002", "0.03", "50.0%", "0.001", "0.9, 0.999", "3.12.1"):
        assert cell in cells
    assert "sessions 1 started 2026-01-01 blas 1.name openblas" in page.text
    assert page.data["confusion"][1][0] == "9 of 50 dog taken for cat (18.0%)"
    assert page.data["confusion"][0][0] == "40 of 50 cat right (80.0%)"


def test_pictures_have_alternative_texts(page: Page) -> None:
    images = page.all("img")
    assert len(images) == 6 + 7
    assert all(image.get("alt") is not None for image in images)
    assert images[6]["alt"] == "cat, taken for <script>document.title='hacked'</script>"
    lists = [a for a in page.all("ul") if a.get("role") == "img"]
    assert [a["aria-label"] for a in lists] == ["6 filters, 5 x 5 pixels, each on its own scale"]


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    assert "://" not in page.source
    assert "@import" not in page.source
    assert "url(" not in page.inside["style"][0]


def test_policy_admits_only_the_page_s_own_script_and_style(page: Page) -> None:
    (policy,) = (
        str(meta["content"])
        for meta in page.all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    for name, tag in (("script-src", "script"), ("style-src", "style")):
        content = "".join(page.inside[tag][-1:])
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives[name] == f"'sha256-{digest}'"
    assert not any("style" in attributes for _, attributes in page.elements)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_names_cannot_become_markup(make_run: Any, evaluation: dict[str, Any]) -> None:
    evil = "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)>"
    evaluation["classes"] = [evil, *evaluation["classes"][1:]]
    layers = {"kind": "layers", "step": 1, "layers": {evil: {"activation_std": 1.0}}}
    config = f'[model]\nname = """{evil}"""\n'
    page = page_of(make_run(metrics=[layers], evaluation=evaluation, config=config))
    assert len(page.all("script")) == 2
    assert page.all("img") == []
    assert page.data["charts"]["activation_std"]["series"][0]["name"] == evil
    assert evil in page.inside["h1"][0]


def test_a_run_without_accuracies(make_run: Any, custom_loss_metrics: list[dict[str, Any]]) -> None:
    page = page_of(make_run(metrics=custom_loss_metrics))
    assert list(page.data["charts"]) == ["loss", "lr"]
    assert "Best validation loss" in page.inside["dt"]
    assert "chainrule evaluate" in page.text


def test_a_diverged_run(make_run: Any) -> None:
    losses = [2.0, 3.0, float("nan"), float("inf")]
    records = [{"kind": "step", "step": s, "loss": v} for s, v in enumerate(losses, 1)]
    page = page_of(make_run(metrics=records))
    assert "The loss was not finite at step 3: training diverged." in page.text
    chart = page.data["charts"]["loss"]
    assert chart["broken"] == 3
    assert chart["series"][0]["y"] == [2, 3, None, None]
    assert "NaN" not in page.inside["script"][0]


def test_many_classes_become_a_picture(make_run: Any) -> None:
    counts = (np.eye(100, dtype=int) * 50 + 1).tolist()
    names = [f"class {i}" for i in range(100)]
    page = page_of(make_run(evaluation={"classes": names, "confusion": counts}))
    (image,) = page.all("img")
    assert (image["class"], image["width"]) == ("heatmap", "100")
    assert not any(attributes.get("class") == "confusion" for attributes in page.all("table"))
    assert page.data["confusion"] == []


def test_long_runs_stay_small(make_run: Any, full_run: RunDirectory) -> None:
    rng = np.random.default_rng(0)
    records = [
        {"kind": "step", "step": s, "epoch": s / 500, "loss": v, "accuracy": v, "lr": v}
        for s, v in enumerate(rng.random(20_000).tolist(), 1)
    ]
    tensors = {
        "mistake_images": rng.integers(0, 256, (64, 3, 32, 32), dtype=np.uint8),
        "mistake_true": np.zeros(64, int),
        "mistake_predicted": np.ones(64, int),
        "mistake_confidence": np.ones(64),
    }
    weights = {"linear1.weight": rng.normal(size=(1024, 3072))}
    evaluation = full_run.evaluation("test")
    run = make_run("long", metrics=records, weights=weights, evaluation=evaluation, tensors=tensors)
    page = page_of(run)
    assert len(page.all("img")) == 64 + 48
    assert len(page.source) < 2_000_000


def test_long_tables_say_that_they_are_cut(make_run: Any) -> None:
    records = [{"kind": "evaluation", "step": s, "val_loss": 1 / s} for s in range(1, 301)]
    page = page_of(make_run(metrics=records))
    assert "300 evaluations; the last 200 are listed" in page.text
    assert "100 0.01" not in page.text
    assert "101 0.009901" in page.text
