"""A headless Chromium, as the tests of the web page use it.

    page = Page(driver, daemon)
    page.open("labels", model)      a fresh load, another model chosen
    page.press("2")                 as a person does: to whatever has the focus
    page.type("#text", "where is it")
    page.wait("css", "words")       until an element holds these words; -> the element
    page.until(lambda: ...)         the first true value

Nothing waits for a time: everything waits for what is on the page. Every request that the browser
makes is noted by the browser itself (page.requests), and so is what it complains about.
"""
import json
import shutil
import sys
import time

import pytest

import tools

PATIENCE_S = 60
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--no-first-run", "--no-default-browser-check", "--hide-scrollbars", "--lang=en",
         "--window-size=1280,860", "--force-color-profile=srgb")


def start():
    """A driver; skips loudly where there is no browser."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("SKIPPED: chromium or chromedriver is not there; deploy/deps.sh test installs "
                    "them")
    sys.path.append(tools.selenium())
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(service=Service(driver), options=options)


class Page:
    def __init__(self, driver, daemon):
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.common.action_chains import ActionChains
        self.driver, self.daemon = driver, daemon
        self.stale, self.actions = StaleElementReferenceException, lambda: ActionChains(driver)

    # ---- going there

    def open(self, view="ask", model=None, **storage):
        """storage: what this browser remembers for the origin (theme, annotator)."""
        self.driver.get(self.daemon.url + "/console/mark.svg")
        kept = {f"learnd-{k}": v for k, v in {"model": model, **storage}.items() if v is not None}
        self.js("localStorage.clear(); for (const [k, v] of Object.entries(arguments[0])) "
                "localStorage.setItem(k, v)", kept)
        self.driver.get(f"{self.daemon.url}/#/{view}")
        self.until(lambda: self.js("return document.querySelector('main').dataset.view"))
        return self

    def go(self, view):
        self.js("location.hash = arguments[0]", f"#/{view}")
        self.until(lambda: self.js("return document.querySelector('main').dataset.view") == view)
        return self

    def theme(self, scheme):
        """What the system wants: dark or light."""
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def size(self, width, height):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})

    # ---- looking

    def js(self, script, *args):
        return self.driver.execute_script(script, *args)

    def until(self, what, seconds=PATIENCE_S):
        end = time.monotonic() + seconds
        while True:
            try:
                value = what()
            except self.stale:  # drawn anew while it was looked at
                value = None
            if value:
                return value
            assert time.monotonic() < end, f"it does not come; the page says:\n{self.text('body')}"
            time.sleep(0.02)

    def all(self, css):
        return self.driver.find_elements("css selector", css)

    def text(self, css):
        """What is shown in the elements, together; hidden ones have none."""
        return "\n".join(e.text for e in self.all(css))

    def wait(self, css, words="", gone=False):
        """The first shown element of css with these words; gone: until there is none."""
        def look():
            found = [e for e in self.all(css) if e.is_displayed() and words in e.text]
            return (not found) if gone else (found[0] if found else None)
        return self.until(look)

    def focus(self):
        """What has the focus, as a word or two."""
        return self.js("const a = document.activeElement; return a.id || a.textContent.trim()")

    # ---- doing

    def press(self, *keys):
        for key in keys:
            self.actions().send_keys(key).perform()
        return self

    def click(self, css, words=""):
        def click():
            element = self.wait(css, words)
            self.js("arguments[0].scrollIntoView({block: 'center'})", element)
            element.click()
            return True
        self.until(click)  # again where it was drawn anew in between
        return self

    def type(self, css, text):
        """In place of what stands there."""
        element = self.wait(css)
        element.clear()
        element.send_keys(text)
        return element

    def fill(self, css, text):
        """At once, whatever it holds: for texts that no keyboard has."""
        self.js("const e = document.querySelector(arguments[0]); e.value = arguments[1]; "
                "e.dispatchEvent(new Event('input', {bubbles: true})); e.focus()", css, text)

    # ---- what the browser noted

    def requests(self):
        """Addresses of every request since the last call."""
        sent = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                sent.append(message["params"]["request"]["url"])
        return sent

    def complaints(self):
        """Errors of scripts, of the policy, of loading; without the refusals that an API answers."""
        return [e["message"] for e in self.driver.get_log("browser")
                if e["level"] == "SEVERE" and "status of 4" not in e["message"]
                and "status of 5" not in e["message"]]
