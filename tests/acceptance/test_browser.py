"""The page in a real browser: Debian's chromium, driven by selenium; skipped where it is absent."""

import asyncio
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from daemon.ledger.acts import Act, ActKind
from daemon.ledger.operator import OperatorStore
from daemon.lines import State
from daemon.reports import meanings
from tests.integration.web.test_callbacks import URL, callback
from tests.support.look import Look, holder, looking

__all__ = ["holder"]

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WITHIN = 20.0
"""Seconds to wait for what the browser must show."""
QUICK = 0.1
"""Seconds between two questions of the page, which asks every 5 s outside of tests."""
HASTE = f"const timer = setTimeout; setTimeout = (work, wait) => timer(work, wait * {QUICK / 5});"
LISTS = ("/lines?state=rejected", "/lines?state=pending", "/lines?state=lost", "/acts")
CONTRAST = 4.5
"""What WCAG 2.2 AA asks of text."""

pytestmark = [
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="apt-get install chromium chromium-driver"
    ),
    pytest.mark.xdist_group("browser"),
]


def contains(piece: str, text: str) -> bool:
    return piece in text


class Browser:
    """A browser whose calls, which block, run beside the loop that serves the page."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    async def do(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(work, *arguments)

    async def open(
        self,
        look: Look,
        path: str = "/",
        *,
        theme: str = "light",
        width: int = 1200,
        language: str = "en",
    ) -> None:
        await self.do(self._open, f"http://127.0.0.1:{look.port}{path}", theme, width, language)

    def _open(self, url: str, theme: str, width: int, language: str) -> None:
        self.command("Network.enable")
        self.command("Network.setExtraHTTPHeaders", headers={"Accept-Language": language})
        self.command(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": theme},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ],
        )
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.driver.get(url)

    def command(self, name: str, **arguments: Any) -> None:
        self.driver.execute_cdp_cmd(name, arguments)

    async def run(self, script: str, *arguments: Any) -> Any:
        return await self.do(self.driver.execute_script, script, *arguments)

    async def text(self) -> str:
        return str(await self.run("return document.body.innerText"))

    async def keys(self, *keys: str) -> None:
        await self.do(lambda: ActionChains(self.driver).send_keys(*keys).perform())

    async def until(self, what: Callable[[str], object]) -> str:
        """Wait until the text that can be read is so."""
        deadline = time.monotonic() + WITHIN
        while not what(text := await self.text()):
            assert time.monotonic() < deadline, text
            await asyncio.sleep(0.1)
        return text

    def complaints(self) -> list[str]:
        """What the browser's console says, violations of the security policy among it."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    # Selenium would look for newer drivers, and count who uses it.
    os.environ |= {"SE_OFFLINE": "true", "SE_AVOID_STATS": "true"}
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": HASTE})
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(driver: webdriver.Chrome) -> Iterator[Browser]:
    """A browser that must have no complaint in the end, but of what a test does on purpose.

    The page is served no more, or a wrong address is asked for.
    """
    browser = Browser(driver)
    driver.get("about:blank")
    browser.complaints()
    yield browser
    expected = re.compile("ERR_CONNECTION|status of 400")
    assert [one for one in browser.complaints() if not expected.search(one)] == []


@pytest.fixture
async def look(dsn: str, db: asyncpg.Connection, holder: None) -> AsyncIterator[Look]:
    """A page with something of everything."""
    async with looking(dsn, db, callback_url=URL) as look:
        await look.beat()
        await db.execute("UPDATE feed SET watermark = now(), delivered_at = now()")
        await callback(look, 73001, State.PENDING)
        await callback(look, 1234567890123, State.REJECTED, last_status=400)
        waits = datetime.now(UTC) - timedelta(minutes=5)
        await look.line(1, State.PENDING, pending_since=waits)
        long = "FIELD_CUSTOM_VALIDATION_EXCEPTION:" + "x" * 160
        await look.line(2, State.PENDING, attempts=1, last_status=500, last_error=long)
        for number, state in enumerate(State, 3):
            if state is not State.PENDING:
                await look.line(number, state, last_status=400, last_error=long)
        store = OperatorStore(look.ledger.database)
        await store.pause(Act(ActKind.PAUSE, "alice@acd1", reason=f"release {'x' * 99}"))
        await store.resume(Act(ActKind.RESUME, "alice@acd1"))
        await store.begin(Act(ActKind.DISCARD, "alice@acd1", (State.PENDING,)))
        yield look


async def test_what_happens_shows_without_a_reload_and_disturbs_nobody(
    browser: Browser, look: Look
) -> None:
    await browser.open(look)
    await browser.run(
        "window.mine = true;"
        "document.querySelector('#day-table summary').click();"
        "document.querySelector('#meanings summary').focus();"
        "document.getElementById('q').value = 'half';"
    )
    await look.line(77, State.DELIVERED)
    await look.beat("unavailable", 600)
    text = await browser.until(lambda text: "Sending pauses" in text)
    assert "status.salesforce.com" in text
    await browser.until(lambda text: re.search(r"Delivered\s+2\b", text))
    assert await browser.run(
        "return [window.mine, document.getElementById('day-table').open,"
        " document.activeElement.textContent, document.getElementById('q').value,"
        " document.getElementById('news').textContent, document.title]"
    ) == [
        True,
        True,
        "What the words mean",
        "half",
        "Sending pauses",
        "Sending pauses · callstatsd",
    ]

    # Focus stays also where it was replaced around it.
    await browser.run("document.querySelector('#failures a[href=\"?q=7\"]').focus()")
    await look.line(1000, State.REJECTED, last_status=400)
    await browser.until(lambda text: "--call-id 1000" in text)
    assert await browser.run("return document.activeElement.textContent") == "7"


async def test_a_daemon_that_does_not_answer_is_told_and_its_return_too(
    browser: Browser, dsn: str, db: asyncpg.Connection, holder: None
) -> None:
    async with looking(dsn, db) as look:
        await look.beat()
        await browser.open(look)
        port = look.port
    await browser.until(lambda text: "The daemon has not answered since" in text)
    async with looking(dsn, db, port=port):
        await browser.until(lambda text: "has not answered" not in text)


async def test_a_search_needs_only_the_keyboard(browser: Browser, look: Look) -> None:
    await browser.open(look)
    await browser.keys(Keys.TAB)
    assert await browser.run("return document.activeElement.textContent") == "Skip to the content"
    await browser.keys(Keys.TAB, Keys.TAB)
    assert await browser.run("return document.activeElement.id") == "q"
    await browser.keys("7", Keys.ENTER)
    text = await browser.until(lambda text: "Call 7" in text)
    assert "Salesforce refused it" in text
    # The answer is not live: it stays as it was given.
    await look.beat("unavailable", 600)
    text = await browser.until(lambda text: "Sending pauses" in text)
    assert "Salesforce refused it" in text
    await browser.run("document.querySelector('.skip').focus()")
    await browser.keys(Keys.ENTER)
    await browser.keys(Keys.TAB)
    assert await browser.run("return document.activeElement.closest('main') !== null")


FOCUSED = """
const one = document.activeElement, box = one.getBoundingClientRect();
return [one.id || one.textContent.trim(), getComputedStyle(one).outlineStyle !== 'none'
        && box.height > 0 && box.top >= 0 && box.bottom <= innerHeight];
"""


async def test_lists_need_only_the_keyboard_which_shows_where_it_is(
    browser: Browser, look: Look
) -> None:
    await browser.open(look, "/lines?state=pending")
    stops: list[str] = []
    while "callback-73001" not in stops:
        await browser.keys(Keys.TAB)
        name, visible = await browser.run(FOCUSED)
        assert visible, name
        stops += [name] if name not in stops else []
        if name == "state":
            await browser.keys("rej")
        assert len(stops) < 20, stops
    header = ["Skip to the content", "callstatsd", "q", "Search", "Overview", "Lines", "Commands"]
    assert stops[: len(header) + 4] == [*header, "state", "feed", "day", "List"]
    await browser.run("document.querySelector('.filter button').focus()")
    await browser.keys(Keys.ENTER)
    text = await browser.until(lambda text: "Lines: rejected" in text)
    assert "callstatsd requeue --state rejected" in text
    assert await browser.run("return location.search") == "?state=rejected&feed=&day="


@pytest.mark.parametrize(
    ("width", "language"), [(320, "en"), (320, "de"), (768, "en"), (1400, "en")]
)
async def test_nothing_is_wider_than_the_screen(
    browser: Browser, look: Look, width: int, language: str
) -> None:
    searches = ("/?q=7", "/?q=callback-73001", "/?q=nothing")
    for path in ("/", *searches, *LISTS):
        await browser.open(look, path, width=width, language=language)
        assert await browser.run("return document.documentElement.lang") == language
        await browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")
        wide = await browser.run(
            "return [...document.body.querySelectorAll('*')].filter(one =>"
            " !one.closest('.wide, .unseen, thead')"
            " && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML)"
        )
        assert wide == []
        assert await browser.run("return document.documentElement.scrollWidth") <= width
        broken = await browser.run(
            "return [...document.querySelectorAll('tbody a, button, .state, .command span')]"
            ".filter(one => {"
            " const range = document.createRange(); range.selectNodeContents(one);"
            " return range.getClientRects().length > 1; }).map(one => one.outerHTML)"
        )
        assert broken == []


TEXTS = """
const colour = text => text.match(/[\\d.]+/g).map(Number);
const texts = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const one = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || one.closest('.unseen, noscript, title, desc')) continue;
  let ground = one, fill = [0, 0, 0, 0];
  while (ground && !(fill[3] ?? 1)) {
    fill = colour(getComputedStyle(ground).backgroundColor);
    ground = ground.parentElement;
  }
  const style = getComputedStyle(one);
  const ink = one.namespaceURI.includes('svg') ? style.fill : style.color;
  texts.push([walker.currentNode.data.trim().slice(0, 40), colour(ink), fill]);
}
return texts;
"""


def luminance(colour: list[float]) -> float:
    """Relative luminance, as WCAG defines it."""
    parts = [value / 255 for value in colour[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: list[float], other: list[float]) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_all_text_can_be_read_in_both_themes(
    browser: Browser, look: Look, theme: str
) -> None:
    places = [("/?q=7", None), ("/?q=7", "unauthorized"), ("/?q=7", "unavailable")]
    for path, reason in (*places, *((path, None) for path in LISTS)):
        await look.beat(reason, 600)
        await browser.open(look, path, theme=theme)
        said = meanings.PAUSES[reason].text if reason else "Last delivery"
        if path not in LISTS:
            await browser.until(partial(contains, said))
        await browser.run(
            "const gone = document.getElementById('gone') ?? {};"
            "gone.hidden = false; gone.textContent = 'gone';"
            "document.querySelectorAll('details').forEach(one => one.open = true)"
        )
        texts = await browser.run(TEXTS)
        assert len(texts) > (20 if path in LISTS else 100)
        faint = {
            text: round(contrast(ink, ground), 2)
            for text, ink, ground in texts
            if contrast(ink, ground) < CONTRAST
        }
        assert faint == {}
    ground = await browser.run(
        "return getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
    )
    assert (luminance(ground) > 0.5) == (theme == "light")


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_outcomes_differ_from_the_ground_and_in_lightness(
    browser: Browser, look: Look, theme: str
) -> None:
    await browser.open(look, theme=theme)
    fills = await browser.run(
        "const card = getComputedStyle(document.getElementById('day')).backgroundColor;"
        "const fills = ['delivered', 'skipped', 'refused', 'kept'].map(kind =>"
        " getComputedStyle(document.querySelector(`.chart rect.${kind}`)).fill);"
        "return [card, ...fills].map(text => text.match(/[\\d.]+/g).map(Number))"
    )
    card, delivered, skipped, refused, kept = fills
    assert all(contrast(card, fill) >= 3 for fill in (delivered, skipped, refused, kept))
    # Whoever sees no colours still tells neighbours apart.
    for one, other in ((delivered, skipped), (skipped, kept), (refused, kept)):
        assert contrast(one, other) >= 1.4


async def test_the_page_is_whole_without_javascript(browser: Browser, look: Look) -> None:
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        await browser.open(look)
        driver = browser.driver
        text = await browser.do(lambda: driver.find_element(By.TAG_NAME, "body").text)
        assert "Reload this page" in text
        assert "requeue --state rejected" in text

        def search() -> str:
            driver.find_element(By.ID, "q").send_keys("7")
            driver.find_element(By.TAG_NAME, "button").click()
            # The click does not wait for the page that it asks for.
            summary = (By.CSS_SELECTOR, ".lines summary")
            WebDriverWait(driver, WITHIN).until(lambda page: page.find_element(*summary)).click()
            return driver.find_element(By.TAG_NAME, "body").text

        text = await browser.do(search)
        assert "Salesforce refused it" in text
        assert "CallerID" in text
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


async def test_a_hidden_tab_asks_nothing(browser: Browser, look: Look) -> None:
    await browser.open(look)
    await browser.run(
        "Object.defineProperty(document, 'hidden', {get: () => window.away === true});"
        "window.asked = 0; const fetch = window.fetch;"
        "window.fetch = (...all) => { window.asked += 1; return fetch(...all); };"
        "window.away = true; document.dispatchEvent(new Event('visibilitychange'));"
    )
    await asyncio.sleep(20 * QUICK)  # nothing must happen, for longer than it would take
    assert await browser.run("return window.asked") == 0
    await browser.run("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    await browser.until(lambda _: True)
    assert await browser.run("return window.asked") == 1
