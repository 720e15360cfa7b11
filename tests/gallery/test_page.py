"""The search page in a real browser, over a gallery of rendered people and a network that tells them apart."""

import base64
import csv
import io
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright
from rendered_people import picture, write_picture

from msclnet.gallery.store import Gallery
from msclnet.retrieval.calibration import Calibration, LogisticFit
from pipelines.gallery.server import make_app
from pipelines.gallery.service import SearchService
from pipelines.gallery.work import open_model_of
from pipelines.search import open_model

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt-get install chromium")
expect.set_options(timeout=30_000)  # a busy machine may take seconds for what takes a tenth alone
COLOURS = (
    *(("text", "ground"), ("text", "panel"), ("faint", "panel"), ("faint", "sunk"), ("accent", "panel")),
    *(("on-accent", "accent"), ("good", "panel"), ("bad", "bad-ground"), ("warn", "warn-ground")),
)  # words and what is behind them


@dataclass
class Site:
    """A server on a port of its own that can be stopped and started again."""

    service: Callable[[], SearchService]
    port: int = 0
    _running: list[tuple[uvicorn.Server, threading.Thread]] = field(default_factory=list)

    def start(self) -> str:
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(make_app(self.service()), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        self._running.append((server, thread))
        return self.address

    def stop(self) -> None:
        server, thread = self._running.pop()
        server.should_exit = server.force_exit = True
        thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def site(gallery: Gallery) -> Iterator[Site]:
    opened = Site(lambda: SearchService(gallery, open_model_of, name="yard"))
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # A container's root has no sandbox.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def context(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    """A fresh browser of one user. Whatever a test does, nothing is asked of another machine and no script fails."""
    opened = browser.new_context(base_url=site.address)
    opened.set_default_timeout(30_000)
    requests: list[str] = []
    errors: list[str] = []
    opened.on("request", lambda request: requests.append(request.url))
    opened.on("weberror", lambda error: errors.append(str(error.error)))
    yield opened
    opened.close()
    assert requests
    elsewhere = re.compile(r"(?!http://127\.0\.0\.1:|data:|blob:)")
    assert [url for url in requests if elsewhere.match(url)] == []
    assert errors == []


@pytest.fixture
def page(context: BrowserContext, gallery: Gallery) -> Iterator[Page]:
    opened = context.new_page()
    opened.goto("/")
    expect(opened.locator("#gallery")).to_have_text("yard")
    yield opened
    for mark in gallery.marks.all():
        gallery.marks.remove(mark.query, mark.image)


@pytest.fixture(scope="module")
def query(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An infrared picture of person 3 that the network has not seen."""
    return write_picture(tmp_path_factory.mktemp("query") / "query.png", 3, 3, 5)


def give(page: Page, data: bytes, event: str) -> None:
    """Drop or paste a file, as the browser hands it over."""
    script = """([event, data]) => {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const given = new DataTransfer();
        given.items.add(new File([bytes], "given.png", { type: "image/png" }));
        const made = event === "paste" ? new ClipboardEvent(event, { clipboardData: given, bubbles: true })
            : new DragEvent(event, { dataTransfer: given, bubbles: true, cancelable: true });
        document.body.dispatchEvent(made);
    }"""
    page.evaluate(script, [event, base64.b64encode(data).decode()])


def file_of(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def results(page: Page) -> Locator:
    return page.locator("#grid .card")


def people(page: Page) -> list[int]:
    """Whom the results show, by their files' names."""
    names = page.locator("#grid .file").all_text_contents()
    return [int(Path(name).stem.rpartition("_")[2]) for name in names]


def searched(page: Page, query: Path) -> None:
    page.set_input_files("#file", query)
    expect(results(page)).to_have_count(20)


def test_an_image_finds_its_person_first(page: Page) -> None:
    for event, identity in (("paste", 5), ("drop", 3)):
        give(page, file_of(picture(identity, 3, 5)), event)
        expect(results(page).first).to_have_accessible_name(re.compile(rf"_{identity}\.jpg$"))
        assert people(page)[:4] == [identity] * 4
    first = results(page).first
    expect(first).to_have_accessible_name(
        re.compile(r"^Rank 1, similarity 0\.\d{3}, camera c[14], 2026-11-03 11:")
    )
    expect(first.locator(".rank")).to_have_text("1")
    expect(page.get_by_label("Infrared", exact=True)).to_be_checked()
    expect(page.locator("footer")).to_contain_text(re.compile(r"yard, 48 images\s+Model .*\s+Search \d+ ms"))


def test_the_modality_can_be_corrected(page: Page, query: Path) -> None:
    searched(page, query)
    page.get_by_text("Visible", exact=True).click()
    expect(page.locator("#modality-words")).to_contain_text("infrared")
    expect(page.locator("#summary")).to_contain_text("infrared images")


def test_filters_and_their_words(page: Page, query: Path) -> None:
    searched(page, query)
    page.get_by_text("c4", exact=True).click()
    expect(results(page)).to_have_count(12)
    assert people(page)[:2] == [3, 3]
    page.get_by_label("Not before").fill("2026-11-03T13:00:00")
    expect(results(page)).to_have_count(4)
    assert set(people(page)) == {5, 6}
    page.get_by_label("Not before").fill("2026-11-04T00:00:00")
    expect(page.locator("#words")).to_contain_text("No image under these filters")
    page.locator("#words").get_by_role("button", name="Clear the filters").click()
    expect(results(page)).to_have_count(20)


def test_a_pair_is_compared_marked_and_exported(page: Page, query: Path, site: Site) -> None:
    searched(page, query)
    results(page).nth(1).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("Result 2 of 20")
    expect(dialog.locator(".heat.left")).to_be_visible()
    heat = "(image) => [image.naturalWidth, image.naturalHeight]"
    assert dialog.locator(".heat.left").evaluate(heat) == [96, 96]  # both images next to each other
    dialog.get_by_label("Heat map of this pair").uncheck()
    expect(dialog.locator(".heat.left")).to_be_hidden()
    dialog.get_by_role("button", name="Same person").click()
    expect(dialog.get_by_role("button", name="Same person")).to_have_attribute("aria-pressed", "true")
    dialog.get_by_role("button", name="Next").click()
    dialog.get_by_role("button", name="Another one").click()
    dialog.get_by_role("button", name="Next").click()
    dialog.get_by_role("button", name="Same person").click()
    dialog.get_by_role("button", name="Same person").click()  # and taken back
    expect(dialog.get_by_text("The mark is removed.")).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(results(page).locator(".mark")).to_have_text(["✓ same", "✕ another"])
    expect(page.locator("#mark-count")).to_have_text("2 marks")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export table").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert list(rows[0]) == ["path", "identity", "modality", "camera"]
    assert rows[0]["identity"] == rows[1]["identity"] != rows[2]["identity"]
    assert [row["modality"] for row in rows] == ["infrared", "visible", "visible"]


def test_a_mark_is_there_the_next_time(page: Page, query: Path) -> None:
    searched(page, query)
    results(page).first.click()
    page.get_by_role("button", name="Same person").click()
    expect(page.get_by_text("The mark is kept")).to_be_visible()
    page.reload()
    expect(results(page).first.locator(".mark")).to_have_text("✓ same")


def test_the_address_shows_the_same_search_again(page: Page, query: Path, browser: Browser) -> None:
    searched(page, query)
    page.get_by_text("c1", exact=True).click()
    expect(results(page)).to_have_count(12)
    shown = [each.get_attribute("aria-label") for each in results(page).all()]
    with browser.new_context() as other:
        again = other.new_page()
        again.goto(page.url)
        expect(results(again)).to_have_count(12)
        assert [each.get_attribute("aria-label") for each in results(again).all()] == shown
        expect(again.get_by_label("c1", exact=True)).to_be_checked()
    page.go_back()
    expect(results(page)).to_have_count(20)


def test_a_result_becomes_the_query_and_back(page: Page, query: Path) -> None:
    searched(page, query)
    results(page).first.click()
    page.get_by_role("button", name="Search with this one").click()
    expect(page.locator("#summary")).to_contain_text("infrared images")
    assert people(page)[:4] == [3] * 4
    assert re.search(r"#(.*&)?image=[0-9a-f]{20}$", page.url)
    page.reload()
    expect(results(page)).to_have_count(20)
    assert people(page)[:4] == [3] * 4
    page.go_back()
    expect(page.locator("#summary")).to_contain_text("visible images")


def test_everything_by_keyboard(page: Page, query: Path) -> None:
    def tab_to(wanted: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("(wanted) => document.activeElement.matches(wanted)", wanted):
                return
        raise AssertionError(f"Tab does not lead to {wanted}")

    tab_to("#choose")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(query)
    expect(results(page)).to_have_count(20)
    tab_to("[name=camera][value=c4]")
    page.keyboard.press("Space")
    expect(results(page)).to_have_count(12)
    tab_to("#grid .card")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("Result 1 of 12")
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("heading")).to_have_text("Result 2 of 12")
    page.keyboard.press("s")
    expect(dialog.get_by_text("The mark is kept")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(results(page).nth(1)).to_be_focused()
    expect(results(page).nth(1)).to_have_accessible_name(re.compile("marked as the same person$"))


def test_a_box_is_drawn_on_a_whole_frame(page: Page, tmp_path: Path) -> None:
    frame = np.full((480, 900, 3), 90, np.uint8)
    person_2, person_5 = picture(2, 3, 5), picture(5, 3, 5)
    frame[60 : 60 + len(person_2), 100 : 100 + person_2.shape[1]] = person_2
    height, width = person_5.shape[:2]
    frame[80 : 80 + height, 600 : 600 + width] = person_5
    Image.fromarray(frame).save(tmp_path / "frame.png")
    page.set_input_files("#file", tmp_path / "frame.png")
    expect(page.get_by_text("Draw a box around one person")).to_be_visible()
    area = page.locator("#frame-image").bounding_box()
    assert area is not None
    scale = area["width"] / 900
    page.mouse.move(area["x"] + 600 * scale, area["y"] + 80 * scale)
    page.mouse.down()
    page.mouse.move(area["x"] + 650 * scale, area["y"] + 200 * scale)
    page.mouse.move(area["x"] + (600 + width) * scale, area["y"] + (80 + height) * scale)
    page.mouse.up()
    drawn = [int(page.locator(f"#box-{name}").input_value()) for name in ("left", "top", "width", "height")]
    assert drawn == pytest.approx([600, 80, width, height], abs=2)
    page.get_by_role("button", name="Search this box").click()
    expect(results(page)).to_have_count(20)
    assert people(page)[:4] == [5] * 4
    page.get_by_role("button", name="Draw a box").click()
    for name, value in zip(
        ("Left", "Top", "Width", "Height"), (100, 60, *person_2.shape[1::-1]), strict=True
    ):
        page.get_by_label(name).fill(str(value))
    page.get_by_role("button", name="Search this box").click()
    expect(page.locator("#frame")).to_be_hidden()
    expect(results(page).first).to_have_accessible_name(re.compile(r"_2\.jpg$"))


def test_a_refused_image_says_why_and_the_page_goes_on(page: Page, query: Path) -> None:
    page.set_input_files("#file", {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"no image"})
    expect(page.get_by_role("alert")).to_contain_text("no image file of a known kind")
    searched(page, query)
    expect(page.locator("#refused")).to_be_hidden()


def test_a_server_that_is_gone_and_comes_back(page: Page, query: Path, site: Site) -> None:
    searched(page, query)
    site.stop()
    page.get_by_text("c1", exact=True).click()
    expect(page.locator("#notices")).to_contain_text("msclnet serve yard")
    site.start()
    expect(page.locator("#notices")).to_be_empty()
    expect(results(page)).to_have_count(12)
    site.stop()
    site.start()  # it has forgotten the query; the page sends it again
    results(page).first.click()
    expect(page.locator(".heat.right")).to_be_visible()
    site.stop()
    site.start()
    page.get_by_role("button", name="Same person").click()
    expect(page.get_by_text("The mark is kept")).to_be_visible()


def test_words_for_an_empty_gallery_a_newer_champion_and_probabilities_of_another_world(
    context: BrowserContext, gallery: Gallery, model: Path, query: Path, tmp_path: Path
) -> None:
    fit = LogisticFit(20.0, -8.0, 0.1, 12, 1000, reliability=(), top_reliability=())
    calibration = Calibration("synthetic", False, gallery.model.digest, {"cross-modal": fit}).to_json()
    description = replace(gallery.model, address="models:/msclnet/3", calibration=calibration)
    empty = Gallery.create(tmp_path / "hall", description)
    other = Site(
        lambda: SearchService(empty, lambda _: open_model(str(model)), name="hall", champion=lambda: "4")
    )
    page = context.new_page()
    page.goto(other.start())
    try:
        expect(page.locator("#words")).to_contain_text("msclnet gallery add hall images/")
        expect(page.locator("#notices")).to_contain_text("version 4")
        expect(page.locator("#notices")).to_contain_text("msclnet gallery rebuild hall")
        expect(page.get_by_text("Do not trust them")).to_be_visible()
        empty.add(gallery._images.to_arrow())
        page.reload()
        searched(page, query)
        similarity, probability = (
            float(re.search(pattern, results(page).first.get_attribute("aria-label") or "")[1])  # pyright: ignore
            for pattern in (r"similarity ([\d.]+)", r"probability (?:> )?(\d+) %")
        )
        assert probability == pytest.approx(100 / (1 + np.exp(8 - 20 * similarity)), abs=1)
    finally:
        other.stop()


def test_the_page_is_legible_wide_and_narrow_light_and_dark(page: Page, query: Path) -> None:
    searched(page, query)
    for width in (1600, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        results(page).first.click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert page.evaluate("document.querySelector('#pair').scrollWidth") <= width
        page.keyboard.press("Escape")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for words, ground in COLOURS:
            assert contrast(page, words, ground) >= 4.5, (scheme, words, ground)


def test_every_control_and_image_has_a_name(page: Page, query: Path) -> None:
    def check() -> None:
        for each in (
            page.locator("button, input, select, a[href], img:not([alt=''])").locator("visible=true").all()
        ):
            expect(each).to_have_accessible_name(re.compile(r"\w"))

    page.locator("[name=top]").select_option("10")
    page.set_input_files("#file", query)
    expect(results(page)).to_have_count(10)
    check()
    results(page).first.click()
    page.locator("main").evaluate("(main) => main.remove()")  # a dialog makes the rest of the page inert
    check()


def contrast(page: Page, words: str, ground: str) -> float:
    """WCAG's contrast ratio of two of the page's colours, 1 to 21."""

    def luminance(name: str) -> float:
        script = "(name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()"
        text = page.evaluate(script, name)
        channels = np.array([int(text[place : place + 2], 16) for place in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    light, dark = sorted((luminance(words), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
