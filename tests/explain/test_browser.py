"""The page in a real browser: every step, by button, key and slider, wide and on a phone."""

import json
import os
import shutil
import time

import pytest

from chainrule.explain import explain
from chainrule.explain.stepping import all_sweeps

pytestmark = pytest.mark.browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COURSE = "f1 = exp(exp(w1)+exp(2*w2)) + sigmoid(exp(w1)+exp(2*w2)); f2 = w1*w2 + max(w1,w2)"
COUNT = 53


@pytest.fixture(scope="module")
def browser():
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


@pytest.fixture(scope="module")
def course():
    return explain(COURSE, w1=1, w2=-1)


class Viewer:
    """One page in the browser, on a screen of a given kind."""

    def __init__(self, browser, address, width, dark, still):
        self.browser = browser
        for log in ("browser", "performance"):
            browser.get_log(log)  # forget what earlier pages did
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 800}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get(address)

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def wait(self, script):
        deadline = time.monotonic() + 20
        while not self.run(script):
            assert time.monotonic() < deadline, script
            time.sleep(0.02)

    def find(self, selector):
        element = self.browser.find_element("css selector", selector)
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        return element

    def texts(self, selector):
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)",
            selector,
        )

    def at(self):
        """Which step is shown, from 0, according to the slider."""
        return int(self.run("return document.getElementById('slider').value")) - 1

    def press(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def state(self):
        """Everything that is highlighted."""
        return self.run(
            """
            const texts = (s) => [...document.querySelectorAll(s)].map((e) => e.textContent.trim());
            const ids = (s) => [...document.querySelectorAll(s)].map((e) => e.id);
            const badges = {};
            for (const node of document.querySelectorAll(".node")) {
              badges[node.id.slice(1)] = node.querySelector(".badge").textContent;
            }
            const shown = [...document.querySelectorAll(".sweep")]
              .filter((e) => getComputedStyle(e).display !== "none");
            const row = document.querySelector("tr.current");
            const box = row.closest(".rows").getBoundingClientRect();
            const inner = row.getBoundingClientRect();
            return {
              nodes: ids(".node.current"), edges: ids(".edge.current"),
              rows: document.querySelectorAll(".sweep.shown tr.current").length,
              say: row.dataset.say, spoken: document.getElementById("say").textContent,
              title: document.getElementById("sweep-title").textContent,
              count: document.getElementById("count").textContent,
              lines: texts("#lead dt"), badges, shown: shown.map((e) => e.dataset.title),
              pressed: texts("[data-sweep][aria-pressed=true]"),
              value: document.getElementById("slider").getAttribute("aria-valuetext"),
              visible: inner.top >= box.top - 1 && inner.bottom <= box.bottom + 1,
              sideways: document.documentElement.scrollWidth - innerWidth,
            };
            """
        )


@pytest.fixture
def view(browser, course, tmp_path):
    def open_page(width=1280, dark=False, still=False, explained=None):
        address = (explained or course).save(tmp_path / "page.html").resolve().as_uri()
        return Viewer(browser, address, width, dark, still)

    return open_page


@pytest.mark.parametrize("width", [1280, 390])
def test_every_step(view, course, width):
    page = view(width)
    expected = [
        (sweep, place, step)
        for sweep in all_sweeps(course)
        for place, step in enumerate(sweep.steps, 1)
    ]
    assert len(expected) == COUNT
    given = {}
    for i, (sweep, place, step) in enumerate(expected):
        if i:
            page.run("document.getElementById('next').click()")
        if place == 1:
            given = {}
        given[str(step.node)] = step.badge
        state = page.state()
        assert state["nodes"] == [f"n{step.node}"]
        assert sorted(state["edges"]) == sorted(f"e{a}-{b}" for a, b in step.edges)
        assert state["rows"] == 1
        assert state["say"] == step.say
        assert state["title"] == sweep.title
        assert state["count"] == f"· step {place} of {len(sweep.steps)}"
        assert state["lines"] == [label for label, _ in step.lines]
        assert state["shown"] == [sweep.title]
        assert len(state["pressed"]) == 1
        assert state["value"] == f"{sweep.title}, step {place} of {len(sweep.steps)}: {step.say}"
        assert state["spoken"] == (step.say if i else "")
        assert state["visible"]
        assert state["sideways"] <= 0
        if sweep.kind != "values":
            wanted = {node: f"∂ {badge}" for node, badge in given.items()}
            assert state["badges"] == {node: wanted.get(node, "") for node in state["badges"]}
    assert page.browser.get_log("browser") == []


def test_no_errors_and_no_requests(view):
    page = view()
    page.find("#last").click()
    assert page.browser.get_log("browser") == []
    messages = [json.loads(e["message"])["message"] for e in page.browser.get_log("performance")]
    asked = {
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    }
    assert {url.partition(":")[0] for url in asked} <= {"data", "file"}
    assert {url.rpartition("/")[2] for url in asked if url.startswith("file:")} == {"page.html"}


def test_the_policy_stops_a_foreign_script(view):
    page = view()
    page.run(
        "const s = document.createElement('script'); s.textContent = 'window.foreign = 1';"
        "document.body.append(s)"
    )
    assert page.run("return window.foreign === undefined")
    assert "Content Security Policy" in page.browser.get_log("browser")[0]["message"]


def test_buttons(view):
    page = view()
    for name, expected in (
        ("next", 1),
        ("next", 2),
        ("back", 1),
        ("last", COUNT - 1),
        ("first", 0),
    ):
        page.find(f"#{name}").click()
        assert page.at() == expected
    assert not page.find("#back").is_enabled()
    assert page.find("#next").is_enabled()
    sweeps = page.browser.find_elements("css selector", "[data-sweep]")
    names = [each.get_attribute("aria-label") for each in sweeps]
    assert names == [
        "Forward values", "Forward mode, seed w1", "Forward mode, seed w2",
        "Reverse mode, output f1", "Reverse mode, output f2",
    ]  # fmt: skip
    sweeps[3].click()
    assert page.at() == 36
    assert sweeps[3].get_attribute("aria-pressed") == "true"


def test_keys(view):
    from selenium.webdriver.common.keys import Keys

    page = view()
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert page.at() == 1  # with the focus nowhere
    page.press(Keys.END)
    assert page.at() == 1  # these keys scroll the page, unless the focus is in the player
    page.run("document.getElementById('player').focus()")
    page.press(Keys.END)
    assert page.at() == COUNT - 1
    page.press(Keys.ARROW_RIGHT)
    assert page.at() == COUNT - 1
    page.press(Keys.HOME)
    assert page.at() == 0
    page.run("document.querySelector('summary').focus()")
    page.press(Keys.ARROW_RIGHT)
    assert page.at() == 0  # the focus is elsewhere


def test_the_slider(view):
    from selenium.webdriver.common.keys import Keys

    page = view()
    slider = page.find("#slider")
    slider.click()
    middle = page.at()
    assert 20 <= middle <= 32
    page.press(Keys.ARROW_RIGHT)
    assert page.at() == middle + 1  # once, not twice
    page.press(Keys.HOME)
    assert page.at() == 0
    assert slider.get_attribute("max") == str(COUNT)


def test_playing(view):
    from selenium.webdriver.common.keys import Keys

    page = view()
    page.run("document.getElementById('player').focus()")
    page.press(Keys.SPACE)
    assert page.find("#play").get_attribute("aria-label") == "Pause"
    page.wait("return Number(document.getElementById('slider').value) >= 3")
    page.press(Keys.SPACE)
    stopped = page.at()
    assert page.find("#play").get_attribute("aria-label") == "Play"
    time.sleep(1.6)
    assert page.at() == stopped
    page.find("#play").click()
    page.find("#back").click()  # whoever steps takes over
    assert page.find("#play").get_attribute("aria-label") == "Play"


def test_playing_ends_with_the_last_step(view):
    page = view()
    page.find("#last").click()
    page.find("#back").click()
    page.find("#play").click()
    page.wait("return document.getElementById('play').getAttribute('aria-label') === 'Play'")
    assert page.at() == COUNT - 1


def test_rows_and_nodes_can_be_chosen(view):
    page = view()
    page.run("document.querySelectorAll('.sweep.shown tr[data-step]')[7].click()")
    assert page.at() == 7
    page.find("#n4 .op").click()
    assert page.at() == 4


def test_the_focus_stays_when_a_button_is_switched_off(view):
    page = view()
    page.find("#last").click()
    assert page.run("return document.activeElement.id") == "slider"


def test_it_is_all_reached_by_tab_and_the_focus_is_seen(view):
    from selenium.webdriver.common.keys import Keys

    page = view()
    page.press(Keys.ARROW_RIGHT)  # now all buttons are on
    reached = []
    for _ in range(40):
        page.press(Keys.TAB)
        if page.run("return document.activeElement === document.body"):
            break  # that was the last one
        reached.append(
            page.run(
                "const e = document.activeElement; const s = getComputedStyle(e);"
                "return [e.id || e.className || e.getAttribute('aria-label'), s.outlineStyle,"
                " e.getAttribute('aria-label') || e.textContent.trim()]"
            )
        )
    names = [name for name, _, _ in reached]
    assert names[0] == "skip"
    for wanted in ("first", "back", "play", "next", "last", "slider"):
        assert wanted in names
    assert [each for each in reached if each[1] != "solid" or not each[2]] == []


@pytest.mark.parametrize("width", [320, 360, 390, 768])
def test_a_phone_need_not_scroll_sideways(view, width):
    page = view(width)
    page.run("for (const d of document.querySelectorAll('details')) d.open = true")
    for step in (0, 20, 45):
        page.run("document.querySelectorAll('tr[data-step]')[arguments[0]].click()", step)
        assert page.run("return document.documentElement.scrollWidth") == width
    size = page.run("return document.querySelector('#next').getBoundingClientRect().toJSON()")
    assert min(size["width"], size["height"]) >= 44
    controls = page.run(
        "document.querySelector('.graphbox').scrollIntoView({behavior: 'instant'});"
        "return document.querySelector('.controls').getBoundingClientRect().toJSON()"
    )
    assert controls["bottom"] <= 844  # the buttons stay in sight beside the graph


def test_a_wide_graph_is_scrolled_to_its_current_node(view):
    text = "; ".join(f"f{i} = sin({i}*x)*cos({i}*y)" for i in range(1, 9))
    page = view(390, explained=explain(text, x=1, y=2))
    for step in range(0, 30, 7):
        page.run("document.querySelectorAll('tr[data-step]')[arguments[0]].click()", step)
        inside = page.run(
            "const n = document.querySelector('.node.current').getBoundingClientRect();"
            "const b = document.querySelector('.graphbox').getBoundingClientRect();"
            "return n.left >= b.left - 1 && n.right <= b.right + 1 && n.width >= 40"
        )
        assert inside, step
    assert page.run("return document.documentElement.scrollWidth") == 390


def colour(page, selector, of):
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    return page.run(script, selector, of)


def test_colours_follow_the_scheme(view):
    assert colour(view(), "main > section", "backgroundColor") == "rgb(255, 255, 255)"
    assert colour(view(dark=True), "main > section", "backgroundColor") == "rgb(23, 27, 33)"


def test_motion_is_reduced_where_that_is_preferred(view):
    assert colour(view(still=True), ".node rect", "transitionDuration") == "0s"
    assert colour(view(), ".node rect", "transitionDuration") != "0s"


def test_print_is_light_and_complete(view):
    page = view(dark=True)
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    )
    assert colour(page, "main > section", "backgroundColor") == "rgb(255, 255, 255)"
    shown = (
        "return [...document.querySelectorAll('.sweep')]"
        ".filter((e) => getComputedStyle(e).display !== 'none').length"
    )
    assert page.run(shown) == 5
    for selector in (".controls", ".sweeps", ".now"):
        assert colour(page, selector, "display") == "none"


def test_without_scripts_all_steps_are_tables(browser, course, tmp_path):
    address = course.save(tmp_path / "page.html").resolve().as_uri()
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page = Viewer(browser, address, 1280, dark=False, still=False)
        tables = page.browser.find_elements("css selector", ".sweep table")
        assert [table.is_displayed() for table in tables] == [True] * 5
        assert not page.browser.find_element("css selector", ".controls").is_displayed()
        assert (
            "Stepping needs JavaScript" in page.browser.find_element("css selector", "header").text
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_two_of_them_in_one_notebook(browser, course, tmp_path):
    other = explain("f = x*y", x=2, y=3)
    page = tmp_path / "notebook.html"
    body = course._repr_html_() + other._repr_html_()
    page.write_text(f"<!doctype html><meta charset=utf-8><body>{body}", encoding="utf-8")
    viewer = Viewer(browser, page.resolve().as_uri(), 1280, dark=False, still=False)
    counts = []
    for frame in browser.find_elements("css selector", "iframe"):
        browser.switch_to.frame(frame)
        viewer.run("document.getElementById('next').click()")
        counts.append((viewer.at(), viewer.run("return document.querySelectorAll('.node').length")))
        browser.switch_to.default_content()
    assert counts == [(1, 12), (1, 3)]
    assert browser.get_log("browser") == []
