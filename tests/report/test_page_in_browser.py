"""The page as a person's browser shows it. Needs Chromium (or CHROMIUM=path) and playwright; skipped where they are not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from sightline.report import Report, build

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDE, NARROW = 1280, 390


@dataclass
class Visit:
    """The page opened at one width, and what the browser complained about or asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        pytest.skip("no Chromium is installed: the page was not opened in a browser")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: the page was not opened in a browser"
    )
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=[(WIDE, "light"), (NARROW, "dark")], ids=["wide-light", "narrow-dark"])
def visit(request, browser, finished_run) -> Iterator[Visit]:
    width, scheme = request.param
    path = build(finished_run, Report(num_prompts=24))
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    found = Visit(context.new_page())
    found.page.on("console", lambda message: found.complaints.append(message.text))
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.on("request", lambda asked: found.requests.append(asked.url))
    found.page.goto(path.as_uri())
    found.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    yield found
    context.close()


def test_the_page_opens_without_complaints_and_asks_for_nothing_outside_itself(visit):
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith("data:")] == visit.requests[:1]


def test_nothing_makes_the_page_scroll_sideways(visit):
    across, seen = visit.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert across <= seen


def test_every_picture_is_loaded_and_described(visit):
    broken = "[...document.images].filter((one) => !one.complete || one.naturalWidth === 0 || !one.alt).length"
    assert visit.page.evaluate("document.images.length") > 96
    assert visit.page.evaluate(broken) == 0


def test_pixel_art_is_enlarged_without_smoothing(visit):
    style = "getComputedStyle(document.querySelector('.exhibit img')).imageRendering"
    assert visit.page.evaluate(style) == "pixelated"
    assert visit.page.evaluate("document.querySelector('.exhibit img').clientWidth") > 4 * 24


def test_winners_on_the_page_are_those_of_the_ranking(visit, finished_run):
    marked = visit.page.evaluate(
        """Object.fromEntries([...document.querySelectorAll('tr[data-prompt]')].map((row) =>
             [row.dataset.prompt, [...row.querySelectorAll('td')].map((cell) => cell.innerText.includes('winner'))]))"""
    )
    assert marked == {
        row.id: [candidate.image_id == row.image_id for candidate in row.candidates] for row in finished_run.rows("ranking")
    }


def test_the_headline_and_the_verdicts_can_be_read(visit):
    text = visit.page.inner_text("body").replace("\u00a0", " ")
    assert "Hallucinated objects fell from 21.4 % to 6.3 % of mentions; coverage held." in text
    for word in ("better", "undecided", "winner", "Chosen", "Rejected", "image-blind", "best and worst are closer than min_gap"):
        assert word in text


def test_text_stands_out_from_its_background(visit):
    assert visit.page.evaluate(CONTRAST) == []


def test_the_filter_shows_the_pairs_of_one_topic(visit, finished_run):
    values = "(options) => options.map((one) => one.value).filter(Boolean)"
    topics = visit.page.eval_on_selector_all("form.filter option", values)
    visit.page.select_option("form.filter select", topics[0])
    shown = visit.page.locator("#pairs .pair:visible")
    assert shown.count() > 0
    assert {shown.nth(at).get_attribute("data-topic") for at in range(shown.count())} == {topics[0]}
    assert f"{shown.count()} of " in visit.page.inner_text("form.filter output")
    visit.page.select_option("form.filter select", "")


def test_the_page_is_whole_without_its_script(browser, finished_run):
    context = browser.new_context(java_script_enabled=False, viewport={"width": WIDE, "height": 900})
    page = context.new_page()
    page.goto(build(finished_run).as_uri())
    assert page.locator("form.filter").is_hidden()
    assert page.locator("#pairs .pair").first.is_visible()
    context.close()


# Texts whose contrast is below WCAG's AA (4.5, or 3 where they are large), with the ratio
CONTRAST = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const one of document.querySelectorAll('body *')) {
    const says = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!says || one.closest('svg, select')) continue;
    const style = getComputedStyle(one);
    const [a, b] = [light(parts(style.color)), light(ground(one))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) poor.push(`${one.className || one.tagName}: ${ratio.toFixed(2)}`);
  }
  return [...new Set(poor)];
})()"""
