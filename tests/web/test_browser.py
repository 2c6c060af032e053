"""The page in a real browser. Skipped where Chromium is missing (Debian: apt-get install chromium)."""

import os
import re
import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from frame_transformer.audio import AudioWriter, decode
from tests.web.conftest import COMMAND

api = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright")
from axe_playwright_python.sync_playwright import Axe  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("browser tests need Chromium: apt-get install chromium", allow_module_level=True)
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# Notes when every stretch of sound begins, on the audio clock.
SPY = """
window.starts = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when) {
  window.starts.push([when, this.buffer.length, this.buffer.getChannelData(0)[100]]);
  return start.call(this, when);
};
"""


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def visitor(browser, page):
    """Opens the page as somebody of their own; what it asks for must come from its own server."""
    address, _ = page
    contexts, strangers, failures = [], [], []

    def open_page(address=address, **options):
        # Playwright's own waiting evaluates strings, which the page's content policy forbids.
        context = browser.new_context(**{"bypass_csp": True} | options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(90_000)
        tab.on("request", lambda request: strangers.append(request.url) if not _own(request.url, address) else None)
        tab.on("pageerror", lambda error: failures.append(str(error)))
        tab.add_init_script(SPY)
        tab.goto(address)
        tab.wait_for_selector("body[data-ready]")
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert strangers == []
    assert failures == []


@pytest.fixture
def long_song(tmp_path):
    """Minutes of noise: still in work whatever the page is asked meanwhile."""

    def make(minutes):
        path = tmp_path / "long.flac"
        quiet = np.random.default_rng(0).standard_normal((1, 44_100 * 60)).astype(np.float32) * 0.01
        with AudioWriter(path, 44_100, 1, audio_format="flac") as writer:
            for _ in range(minutes):
                writer.write(quiet)
        return path

    return make


def _own(url, address):
    return url.startswith((address, "data:", "blob:"))


def separate(tab, *paths):
    tab.set_input_files("#files", [str(path) for path in paths])
    tab.wait_for_function("n => document.querySelectorAll('[data-state=ready]').length === n", arg=len(paths))
    tab.click("#separate")


def files_below(folder):
    # Unlike rglob, walk does not mind folders that vanish meanwhile.
    return [Path(parent) / name for parent, _, names in os.walk(folder) for name in names if name != "lock"]


def assert_gone(folder):
    deadline = time.monotonic() + 5
    while files_below(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert files_below(folder) == []


def test_upload_listen_and_download_what_the_command_makes(visitor, run, song, tiny_file, tmp_path):
    path = song("Mein Lied é.wav", samples=400_000, rate=48_000)
    tab = visitor()
    separate(tab, path)
    tab.wait_for_selector("[data-state=done]")
    tab.wait_for_function("[...document.images].length === 3 && [...document.images].every(i => i.naturalWidth > 0)")

    # All three tracks begin on the same sample and go on without a gap.
    tab.click(".play")
    tab.wait_for_function("window.starts.length >= 6")
    tab.wait_for_function("parseFloat(document.querySelector('.position').value) > 0.3")
    starts = tab.evaluate("window.starts")
    first, second = starts[:3], starts[3:6]
    assert len({when for when, _, _ in first}) == 1
    assert second[0][0] - first[0][0] == pytest.approx(4.0, abs=1e-6)
    mixture, vocals, instrumental = (value for _, _, value in first)
    assert mixture == pytest.approx(vocals + instrumental, abs=1e-4)
    assert abs(vocals) > 0
    tab.click(".play")
    held = tab.input_value(".position")
    tab.wait_for_timeout(200)
    assert tab.input_value(".position") == held
    row = tab.locator("[data-track=vocals]")
    row.locator(".solo").click()
    assert tab.locator(".track:not(.silent)").count() == 1
    row.locator(".solo").click()
    row.locator(".mute").click()
    assert tab.locator(".track:not(.silent)").get_attribute("data-track") == "instrumental"
    tab.locator("[data-track=mixture] .picture").click(position={"x": 300, "y": 20})
    assert float(tab.input_value(".position")) > 1

    assert run("separate", path, "-n", tiny_file, "-o", tmp_path / "command")[0] == 0
    for stem in ("vocals", "instrumental"):
        with tab.expect_download() as download:
            tab.click(f"[data-track={stem}] .download")
        assert download.value.suggested_filename == f"Mein Lied é ({stem}).wav"
        ours, rate = decode(download.value.path())
        theirs, _ = decode(tmp_path / "command" / "tiny" / "Mein Lied é" / f"{stem}.wav")
        assert rate == 48_000
        np.testing.assert_array_equal(ours, theirs)
    with tab.expect_download() as download:
        tab.click("#zip")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert sorted(archive.namelist()) == ["Mein Lied é/instrumental.wav", "Mein Lied é/vocals.wav"]


def test_a_text_file_is_refused_with_a_sentence(visitor, tmp_path, song):
    (tmp_path / "letter.mp3").write_text("no sound in here " * 100)
    long = tmp_path / "long.wav"
    with AudioWriter(long, 8000, 1) as writer:
        writer.write(np.zeros((1, 8000 * 60 * 11), np.float32))
    tab = visitor()
    tab.set_input_files("#files", [str(tmp_path / "letter.mp3"), str(long)])
    states = tab.locator("[data-state=failed] .state")
    api.expect(states).to_have_count(2)
    assert states.nth(0).text_content().startswith("letter.mp3: cannot be read as audio")
    assert "11 minutes are more than this page takes" in states.nth(1).text_content()
    assert tab.is_disabled("#separate")


def test_two_visitors_at_once(visitor, song):
    first, second = visitor(), visitor()
    separate(first, song("one.wav", samples=200_000), song("three.wav", samples=100_000))
    second.select_option("#format", "flac")
    second.uncheck("[value=instrumental]")
    second.click("#advanced summary")
    second.check("#tta")
    second.fill("#overlap", "0.1")
    separate(second, song("two.wav", samples=50_000))
    api.expect(first.locator("[data-state=done]")).to_have_count(2, timeout=90_000)
    api.expect(second.locator("[data-state=done]")).to_have_count(1, timeout=90_000)
    assert first.locator("h2").all_text_contents() == ["one.wav", "three.wav"]
    assert second.locator(".track").count() == 2
    with second.expect_download() as download:
        second.click("[data-track=vocals] .download")
    assert download.value.suggested_filename == "two (vocals).flac"


def test_as_many_songs_at_once_as_jobs_and_the_next_waits(visitor, long_song, song):
    first, second, third = visitor(), visitor(), visitor()
    path = long_song(2)
    for tab in (first, second):
        tab.click("#advanced summary")
        tab.check("#tta")
        separate(tab, path)
    for tab in (first, second):
        api.expect(tab.locator(".state")).to_have_text(re.compile(r"Separating: \d+ %"), timeout=90_000)
    separate(third, song("short.wav"))
    api.expect(third.locator(".state")).to_have_text(re.compile(r"Next in the queue\."))
    first.click(".cancel")
    api.expect(third.locator("[data-state=done]")).to_have_count(1, timeout=90_000)
    assert second.locator("[data-state=running]").count() == 1
    second.click(".cancel")
    api.expect(second.locator(".state")).to_have_text("Cancelled.", timeout=30_000)


def test_cancel_midway_leaves_no_files_and_the_song_can_be_separated_again(visitor, page, long_song):
    tab = visitor()
    separate(tab, long_song(8))
    tab.wait_for_function(
        "document.querySelector('progress')?.value > 0 && document.querySelector('.cancel').offsetParent"
    )
    tab.wait_for_function("/Separating: \\d+ %/.test(document.querySelector('.state').textContent)")
    sessions = page[1]
    tab.click(".cancel")
    api.expect(tab.locator(".state")).to_have_text("Cancelled.", timeout=5_000)
    assert [path.name for path in files_below(sessions)] == ["upload"]
    tab.click("#separate")
    tab.wait_for_function(
        "/^Separating: \\d+ %, about \\d+:\\d\\d left$/.test(document.querySelector('.state').textContent)"
    )
    tab.click(".remove")
    assert_gone(sessions)


def test_closing_the_page_removes_its_files(visitor, page, song):
    tab = visitor()
    tab.set_input_files("#files", [str(song())])
    tab.wait_for_selector("[data-state=ready]")
    assert len(files_below(page[1])) == 1
    tab.close(run_before_unload=True)
    assert_gone(page[1])


@pytest.mark.parametrize("width", [360, 390])
def test_a_phone_needs_no_scrolling_sideways(visitor, song, width):
    tab = visitor(bypass_csp=False, viewport={"width": width, "height": 740}, is_mobile=True, has_touch=True)
    separate(tab, song("a_name_without_any_place_to_break_it_that_is_wider_than_the_whole_screen_of_a_phone.wav"))
    tab.wait_for_selector("[data-state=done]")
    tab.click("#advanced summary")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    for button in tab.locator("button:visible, a.button:visible").all():
        box = button.bounding_box()
        assert box["height"] >= 36
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    title, remove = tab.locator("h2").bounding_box(), tab.locator(".remove").bounding_box()
    assert title["y"] <= remove["y"] + remove["height"] / 2 <= title["y"] + title["height"]
    # The whole number fits into its field, beside the arrows that a browser may draw.
    room = tab.evaluate("""() => {
        const field = document.querySelector("#overlap");
        const context = document.createElement("canvas").getContext("2d");
        context.font = getComputedStyle(field).font;
        return field.clientWidth - context.measureText(field.value).width;
    }""")
    assert room >= 30


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_violations_of_accessibility_rules(visitor, two_streams, scheme):
    tab = visitor(color_scheme=scheme)
    tab.click("#advanced summary")
    check = Axe()
    reports = [check.run(tab)]
    tab.set_input_files("#files", [str(two_streams)])
    tab.wait_for_selector("[data-state=ready]")
    reports.append(check.run(tab))
    tab.click("#separate")
    tab.wait_for_selector("[data-state=done]")
    tab.click(".mute >> nth=1")
    reports.append(check.run(tab))
    tab.set_input_files("#files", [{"name": "letter.mp3", "mimeType": "audio/mpeg", "buffer": b"no sound"}])
    tab.wait_for_selector("[data-state=failed]")
    reports.append(check.run(tab))
    assert [report.generate_report() for report in reports if report.violations_count] == []


def test_everything_is_reached_by_keyboard_in_the_order_of_the_page(visitor, song):
    tab = visitor()
    tab.set_input_files("#files", [str(song("a.wav"))])
    tab.wait_for_selector("[data-state=ready]")
    tab.focus("#files")
    order = []
    for _ in range(7):
        tab.keyboard.press("Tab")
        order.append(
            tab.evaluate("document.activeElement.id || document.activeElement.value || document.activeElement.tagName")
        )
    assert order == ["tiny", "vocals", "instrumental", "format", "SUMMARY", "separate", "BUTTON"]
    tab.focus("#separate")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("[data-state=done]")
    assert tab.evaluate("document.activeElement.id") == "separate"
    tab.focus(".play")
    tab.keyboard.press("Enter")
    tab.wait_for_function("parseFloat(document.querySelector('.position').value) > 0.05")
    names = [
        button.get_attribute("aria-label") for button in tab.locator(".song button:visible, .song a:visible").all()
    ]
    for name in ("Remove a.wav", "Separate again: a.wav", "Mute vocals", "Solo instrumental", "Download vocals"):
        assert name in names
    tab.focus(".remove")
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "files"


def test_a_screen_reader_hears_what_happens_but_not_every_percent(visitor, song):
    tab = visitor()
    tab.evaluate("""() => {
        window.heard = [];
        const announcer = document.querySelector("[role=status]");
        new MutationObserver(() => window.heard.push(announcer.textContent)).observe(announcer, {childList: true});
    }""")
    separate(tab, song("a.wav", samples=800_000))
    tab.wait_for_selector("[data-state=done]")
    heard = tab.evaluate("window.heard")
    assert heard[-1].startswith("a.wav: Separated in")
    assert len(heard) <= 6


def test_less_motion_where_it_is_asked_for(visitor, song):
    steps = {}
    for wish in ("no-preference", "reduce"):
        tab = visitor(reduced_motion=wish)
        separate(tab, song(samples=600_000))
        tab.wait_for_selector("[data-state=done]")
        tab.click(".play")
        tab.wait_for_function("document.querySelector('.position').value > 0.1")
        tab.evaluate("""() => {
            window.moves = 0;
            const cursor = document.querySelector(".picture i");
            new MutationObserver(() => window.moves++).observe(cursor, {attributeFilter: ["style"]});
        }""")
        tab.wait_for_timeout(2_000)
        steps[wish] = tab.evaluate("window.moves")
        tab.click(".play")
    assert steps["reduce"] <= 3
    assert steps["no-preference"] > 10


def test_the_audio_stream_of_a_file_with_several_is_chosen(visitor, two_streams):
    tab = visitor()
    tab.set_input_files("#files", [str(two_streams)])
    tab.wait_for_selector("[data-state=ready]")
    assert tab.locator(".stream option").all_text_contents() == ["1: pcm_s16le, stereo", "2: pcm_s16le, mono"]
    tab.select_option(".stream select", "1")
    tab.click("#separate")
    tab.wait_for_selector("[data-state=done]")
    with tab.expect_download() as download:
        tab.click("[data-track=vocals] .download")
    assert decode(download.value.path())[0].shape == (1, 44_100)


def test_a_server_that_ends_is_told_of(visitor, start_page, tiny_file, long_song):
    """The page says so and goes on once the connection is back; a separation that is gone is an error, not a wait."""
    address, _, process = start_page(COMMAND, "web", "-n", tiny_file, "--port", 0)
    tab = visitor(address=address)
    separate(tab, long_song(8))
    api.expect(tab.locator(".state")).to_have_text(re.compile("Separating|reading|Reading"), timeout=90_000)
    process.terminate()
    process.wait(30)
    api.expect(tab.locator(".state")).to_have_text("Connection lost, trying again …", timeout=30_000)
    start_page(COMMAND, "web", "-n", tiny_file, "--port", address.rsplit(":", 1)[1])
    api.expect(tab.locator(".state")).to_have_text(re.compile("no longer has this song"), timeout=30_000)
