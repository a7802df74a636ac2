"""The page in a real browser: it draws, answers pointer, finger and keys, and loads nothing."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chainrule.records import RunDirectory
from chainrule.report import make_report
from chainrule.report.style import DARK, DARK_SURFACE, LIGHT, LIGHT_SURFACE

pytestmark = pytest.mark.browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; without one the tests are skipped here and fail in CI."""
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        program = None
    if program is None or driver is None:
        message = "needs selenium, chromium and chromedriver"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chromium = webdriver.Chrome(options=options, service=Service(driver))
    yield chromium
    chromium.quit()


class Viewer:
    """One page in the browser, on a screen of a given kind."""

    def __init__(self, browser: Any, address: str, width: int, dark: bool, touch: bool) -> None:
        self.browser = browser
        for log in ("browser", "performance"):
            browser.get_log(log)  # forget what earlier pages did
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        screen = {"width": width, "height": 840, "deviceScaleFactor": 1, "mobile": touch}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [scheme]})
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        browser.get(address)
        self.wait("return document.querySelectorAll('figure.chart path.line').length > 0")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def wait(self, script: str) -> None:
        deadline = time.monotonic() + 10
        while not self.run(script):
            assert time.monotonic() < deadline, script
            time.sleep(0.02)

    def find(self, selector: str) -> Any:
        element = self.browser.find_element("css selector", selector)
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        return element

    def colour(self, selector: str, of: str) -> str:
        script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        parts = self.run(script, selector, of)[4:-1].split(",")
        return "#" + "".join(f"{int(part):02x}" for part in parts)

    def tip(self, chart: str) -> str:
        element = self.browser.find_element("css selector", f"[data-chart={chart}] .tip")
        return str(element.text)

    def hover(self, selector: str, x: float = 0.5) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        element = self.find(selector)
        offset = round((x - 0.5) * element.rect["width"])
        ActionChains(self.browser).move_to_element_with_offset(element, offset, 0).perform()

    def touch(self, selector: str, x: float) -> None:
        box = self.run("return arguments[0].getBoundingClientRect().toJSON()", self.find(selector))
        point = {"x": box["left"] + x * box["width"], "y": box["top"] + box["height"] / 2}
        for kind, points in (("touchStart", [point]), ("touchEnd", [])):
            event = {"type": kind, "touchPoints": points}
            self.browser.execute_cdp_cmd("Input.dispatchTouchEvent", event)

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()


Opener = Callable[..., Viewer]


@pytest.fixture
def view(browser: Any, full_run: RunDirectory) -> Opener:
    address = make_report(full_run.path, formats=()).page.resolve().as_uri()

    def open_page(width: int = 1280, dark: bool = False, touch: bool = False) -> Viewer:
        return Viewer(browser, address, width, dark, touch)

    return open_page


def test_no_errors_and_no_requests(view: Opener) -> None:
    page = view()
    page.hover("[data-chart=loss] svg")
    page.find("[data-chart=loss] .scale").click()
    assert page.browser.get_log("browser") == []
    messages = [json.loads(e["message"])["message"] for e in page.browser.get_log("performance")]
    asked = {
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    }
    outside = {url for url in asked if not url.startswith(("data:", "file:"))}
    assert outside == set()
    assert {url.rpartition("/")[2] for url in asked if url.startswith("file:")} == {"report.html"}


def test_names_are_shown_and_not_run(view: Opener) -> None:
    page = view()
    assert page.browser.title == "convnet on pets · chainrule report"
    text = page.browser.find_element("css selector", "table.confusion").text
    assert "<script>document.title='hacked'</script>" in text


def test_the_policy_stops_a_foreign_script(view: Opener) -> None:
    page = view()
    page.run(
        "const s = document.createElement('script'); s.textContent = 'window.foreign = 1';"
        "document.body.append(s)"
    )
    assert page.run("return window.foreign === undefined")
    assert "Content Security Policy" in page.browser.get_log("browser")[0]["message"]


def test_pictures_are_there(view: Opener) -> None:
    page = view()
    broken = "return [...document.images].filter((i) => !i.complete || !i.naturalWidth).length"
    assert page.run("return document.images.length") == 13
    assert page.run(broken) == 0


def test_hover_shows_values(view: Opener) -> None:
    page = view()
    page.hover("[data-chart=loss] svg", 0.6)
    lines = page.tip("loss").splitlines()
    heading, step = lines[0], int(lines[0].split()[1])
    assert heading == f"step {step} · epoch {round(step / 40, 2):g}"
    assert 50 < step < 80
    values = dict(zip(lines[1::2], lines[2::2], strict=True))
    assert set(values) == {
        "single batch", "training batches, smoothed", "training set, step 80",
        "validation set, step 80",
    }  # fmt: skip
    assert values["validation set, step 80"] == "0.9"
    # the other charts of the group show their cursor at the same step
    value = "return document.querySelector('[data-chart=accuracy] svg').ariaValueNow"
    assert page.run(value) == str(step)
    page.hover("h1")
    assert page.tip("loss") == ""


def test_keyboard(view: Opener) -> None:
    from selenium.webdriver.common.keys import Keys

    page = view()
    chart = page.find("[data-chart=accuracy] svg")
    page.run("arguments[0].focus({focusVisible: true})", chart)
    page.press(Keys.HOME)
    assert chart.get_attribute("aria-valuenow") == "1"
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert chart.get_attribute("aria-valuenow") == "2"
    page.press(Keys.END)
    spoken = chart.get_attribute("aria-valuetext")
    assert spoken.startswith("step 120 · epoch 3; ")
    assert "validation set: 66.7%" in spoken
    assert "66.7%" in page.tip("accuracy")
    page.press(Keys.PAGE_DOWN)
    assert chart.get_attribute("aria-valuenow") == "108"
    page.press(Keys.ESCAPE)
    assert page.tip("accuracy") == ""
    assert page.run("return document.activeElement.matches(':focus-visible')")


def test_legend_switches_lines_off_and_on(view: Opener) -> None:
    page = view()
    drawn = "return document.querySelectorAll('[data-chart=loss] path.line').length"
    assert page.run(drawn) == 4
    button = page.find("ul[data-legend=loss] li:last-child button")
    assert (button.text, button.get_attribute("aria-pressed")) == ("validation set", "true")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.run(drawn) == 3
    page.hover("[data-chart=loss] svg")
    assert "validation" not in page.tip("loss")
    button.click()
    assert page.run(drawn) == 4


def test_one_legend_rules_all_charts_of_the_layers(view: Opener) -> None:
    page = view()
    drawn = "return document.querySelectorAll('[data-legend=activations] path.line').length"
    assert page.run(drawn) == 6
    page.find("ul[data-legend=activations] button").click()
    assert page.run(drawn) == 3


def test_logarithmic_axis(view: Opener) -> None:
    page = view()
    button = page.find("[data-chart=loss] .scale")
    path = "return document.querySelector('[data-chart=loss] path.line').getAttribute('d')"
    before = page.run(path)
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.run(path) != before
    assert "NaN" not in page.run(path)


def test_confusions_are_read_out(view: Opener) -> None:
    page = view()
    page.hover("table.confusion tbody tr:nth-child(2) td:nth-child(2)")
    assert page.find("#readout").text == "9 of 50 dog taken for cat (18.0%)"


@pytest.mark.parametrize("width", [320, 360, 390, 768])
def test_a_phone_need_not_scroll_sideways(view: Opener, width: int) -> None:
    page = view(width=width, touch=True)
    page.run("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.run("return document.documentElement.scrollWidth") == width
    page.touch("[data-chart=loss] svg", 0.95)
    assert page.tip("loss").startswith("step ")
    assert page.run("return document.documentElement.scrollWidth") == width
    box = page.run("return document.querySelector('.tip:not([hidden])').getBoundingClientRect()")
    assert box["left"] >= 0
    assert box["right"] <= width


def test_colours_follow_the_scheme(view: Opener) -> None:
    for dark, surface, palette in ((False, LIGHT_SURFACE, LIGHT), (True, DARK_SURFACE, DARK)):
        page = view(dark=dark)
        assert page.colour("section", "backgroundColor") == surface
        assert page.colour("[data-chart=loss] path.line.s0", "stroke") == palette[0]
        assert page.colour("[data-chart=loss] path.line.s1", "stroke") == palette[1]


def test_print_is_light_and_complete(view: Opener) -> None:
    page = view(dark=True)
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    )
    assert page.colour("[data-chart=loss] path.line.s0", "stroke") == LIGHT[0]
    assert page.run("return getComputedStyle(document.querySelector('nav')).display") == "none"
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("return document.querySelectorAll('details:not([open])').length") == 0


def test_a_diverged_run_draws_its_gap(browser: Any, make_run: Any) -> None:
    losses = [2.0, 2.5, None, 3.0, None]
    records = [{"kind": "step", "step": s, "loss": v} for s, v in enumerate(losses, 1)]
    address = make_report(make_run(metrics=records).path, formats=()).page.resolve().as_uri()
    page = Viewer(browser, address, 1280, dark=False, touch=False)
    path = page.run("return document.querySelector('path.line').getAttribute('d')")
    assert (path.count("M"), path.count("L")) == (2, 1)
    assert page.run("return document.querySelector('text.broken').textContent") == "not finite"
    assert browser.get_log("browser") == []
