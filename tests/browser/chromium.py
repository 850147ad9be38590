"""Debian's Chromium, as a visitor of the live page has it; nothing is downloaded."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains

from tests.waiting import wait_until
from tests.web import SUMMARY

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)

LOCALE = "en-GB"
"""Dates are written as this language has it, whatever the machine's is."""

PHONE, DESKTOP = 360, 1280
HEIGHT = 900


def find_program(name: str, package: str) -> str:
    """Raises AssertionError."""
    program = shutil.which(name)
    assert program, f"the tests need {name}: apt-get install {package}"
    return program


class Chromium:
    """One browser from the start of the block to its end; each test has a tab of its own in it."""

    def __init__(self, profile: Path) -> None:
        self._options = webdriver.ChromeOptions()
        self._options.binary_location = find_program("chromium", "chromium")
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            self._options.add_argument(flag)
        self._options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # Chromium does not start under libfaketime, and need not: the page goes by the server's clock.
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        self._service = Service(find_program("chromedriver", "chromium-driver"), env=environment)

    def __enter__(self) -> "Chromium":
        self.driver = webdriver.Chrome(self._options, self._service)
        self._first = self.driver.current_window_handle
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.driver.quit()

    def new_tab(self) -> "Tab":
        self.driver.switch_to.window(self._first)
        self.driver.switch_to.new_window("tab")
        return Tab(self.driver)

    def close_tabs(self) -> None:
        """All but the one that keeps the browser open."""
        for handle in self.driver.window_handles:
            if handle != self._first:
                self.driver.switch_to.window(handle)
                self.driver.close()
        self.driver.switch_to.window(self._first)


OPENED_AT_MOST = 5


class Tab:
    """A browser tab for a test: its actions and its content."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self._lines: list[dict[str, Any]] = []
        self.look(DESKTOP)
        self.run_first(_NOTE_REQUESTS)
        self.driver.execute_cdp_cmd("Emulation.setLocaleOverride", {"locale": LOCALE})

    def look(self, width: int, theme: Literal["light", "dark"] = "light", motion: Literal["reduce", ""] = "") -> None:
        """Use a screen of this width, and a browser with these preferences."""
        screen = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": width < 500}
        wishes = [
            {"name": "prefers-color-scheme", "value": theme},
            {"name": "prefers-reduced-motion", "value": motion or "no-preference"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wishes})

    def open(self, url: str) -> None:
        """Open a page; again if the machine got another network meanwhile.

        Chromium then ends all requests. Containers of other tests come and go with their networks.
        """
        for _ in range(OPENED_AT_MOST):
            with suppress(WebDriverException):
                self.driver.get(url)
                if not self._network_changed():
                    return
        self.driver.get(url)

    def _network_changed(self) -> bool:
        """Read the console; return True if a request has ended because the machine got another network."""
        lines: Sequence[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        others = [line for line in lines if "net::ERR_NETWORK_CHANGED" not in line["message"]]
        self._lines += others
        return len(others) < len(lines)

    def run_first(self, script: str) -> None:
        """Have every page that is opened run `script` before its own."""
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})

    def ask(self, script: str, *arguments: Any) -> Any:
        """Return the result of JavaScript; a promise is waited for."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str = "main") -> str:
        """The text that is seen there; empty where there is none or where it is hidden."""
        return next(iter(self.texts(selector)), "")

    def texts(self, selector: str) -> list[str]:
        return [" ".join(text.split()) for text in self.ask(_ALL_TEXTS, selector)]

    def sees(self, text: str, selector: str = "main", *, seconds: float = 15) -> None:
        """Wait until `text` is seen. Raises AssertionError, with what is seen instead."""
        try:
            wait_until(lambda: text in self.text(selector), seconds=seconds, pause=0.05, what=f"the page says {text!r}")
        except AssertionError as error:
            error.add_note(f"it says: {self.text(selector)}")
            raise

    @contextmanager
    def answers(self, text: str, selector: str = "main", *, path: str = SUMMARY) -> Iterator[None]:
        """Expect `text` on the page with its next request for `path` after the block.

        This counts requests instead of seconds: on a busy machine a request may come late, but none may come in vain.
        """
        assert text not in self.text(selector)
        self.ask(_WATCH, text, selector, path)
        yield
        before = len(self.requests(path))
        self.sees(text, selector)
        assert self.ask("return window.seenWith") - before <= 1

    def requests(self, path: str) -> list[float]:
        """Return the times at which the page began each request for an address, in milliseconds of its own clock."""
        found: list[float] = self.ask(
            "return requests.filter(([requested]) => requested === arguments[0]).map(([, start]) => start)", path
        )
        return found

    def site_in(self, zone: str) -> None:
        """Have the pages that are opened from now on believe that their site has this time zone."""
        self.run_first(_SITE_ZONE.replace("ZONE", zone))

    def site_at_noon(self) -> timezone:
        """Put the site into the time zone in which it is between 12:00 and 13:00 now.

        No test comes near midnight there, and no such zone changes its clocks.
        """
        behind = datetime.now(UTC).hour - 12
        self.site_in(f"Etc/GMT{behind:+}")  # which has the sign the other way round
        return timezone(timedelta(hours=-behind))

    def hide(self) -> None:
        """Minimize the window: what is behind another tab counts as shown where there is no screen."""
        self.driver.minimize_window()
        wait_until(lambda: self.ask("return document.hidden"), what="the page is hidden")

    def show(self) -> None:
        self.driver.set_window_rect(0, 0, DESKTOP, HEIGHT)

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def asked(self, path: str) -> list[dict[str, Any]]:
        """The requests for an address so far: `status`, `start` in milliseconds, and the bytes of the `body`."""
        found: list[dict[str, Any]] = self.ask(_REQUESTS, path)
        return found

    def complaints(self) -> Sequence[dict[str, Any]]:
        """Return the new lines of the console since the last call: errors, warnings, what the policy forbade."""
        self._network_changed()
        found, self._lines = self._lines, []
        return found


_ALL_TEXTS = """
const found = [...document.querySelectorAll(arguments[0])];
return found.filter((node) => node.checkVisibility()).map((node) => node.innerText);
"""

_NOTE_REQUESTS = """
window.requests = [];
const original = window.fetch;
window.fetch = (address, options) => {
  const { pathname, searchParams } = new URL(address, document.baseURI);
  const isTypicalWeek = searchParams.has("start") && !searchParams.has("end"); // once an hour, whenever that is
  requests.push([isTypicalWeek ? `${pathname} of 28 days` : pathname, performance.now()]);
  return original(address, options);
};
"""

_SITE_ZONE = """
document.addEventListener("readystatechange", () => {
  const meta = document.querySelector("meta[name=time-zone]") ?? document.createElement("meta");
  meta.name = "time-zone";
  meta.content = "ZONE";
  document.head.append(meta);
}, { once: true });
"""

_WATCH = """
const [text, selector, path] = arguments;
window.seenWith = null;
const watcher = new MutationObserver(() => {
  const node = [...document.querySelectorAll(selector)].find((each) => each.checkVisibility());
  if (seenWith !== null || !node?.innerText.replace(/\\s+/g, " ").includes(text)) return;
  window.seenWith = requests.filter(([requested]) => requested === path).length;
});
watcher.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
"""

_REQUESTS = """
return performance.getEntriesByType("resource").filter((entry) => new URL(entry.name).pathname === arguments[0])
  .map((entry) => ({ status: entry.responseStatus, start: entry.startTime, body: entry.encodedBodySize }))
"""
