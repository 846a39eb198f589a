"""Chromium without a window, steered through its own pipe: what a page does when a person looks at it and clicks.

Nothing but the standard library: commands and events of the DevTools protocol are JSON, ended by a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
OPTIONS += ("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage")
# a pipe's ends are called 3 and 4 in the browser, whatever they are here
_AS_3_AND_4 = "import os,sys;a,b=(os.dup(int(n))for n in sys.argv[1:3]);"
_AS_3_AND_4 += "c,d=(os.dup(n)for n in(a,b));os.dup2(c,3);os.dup2(d,4);os.execvp(sys.argv[3],sys.argv[3:])"
SECONDS = 60


def browser() -> str:
    """The browser's path; the tests that need it do not pass without one."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found, f"The report's tests need one of {', '.join(NAMES)}. On Debian: apt-get install chromium"
    return found


class Tab:
    """One page in the browser, with all that it did."""

    def __init__(self, write: int, read: int):
        self._write, self._read, self._rest, self._last, self._session = write, read, b"", 0, ""
        self.events: list[tuple[str, dict]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: object) -> dict:
        """Send a command and wait for its answer; events on the way are kept."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _next(self) -> dict:
        until = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            got = os.read(self._read, 1 << 16)
            assert got and time.monotonic() < until, "the browser ended"
            self._rest += got
        message, _zero, self._rest = self._rest.partition(b"\0")
        read = json.loads(message)
        if "method" in read:
            self.events.append((read["method"], read["params"]))
        return read

    def open(self, path: Path, width: int = 1440, height: int = 900, dark_script: bool = False) -> None:
        """Show a file and wait until it is there; `dark_script` True: as a browser without JavaScript."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Emulation.setScriptExecutionDisabled", value=dark_script)
        self.events.clear()
        self.ask("Page.navigate", url=path.as_uri())
        while not any(name == "Page.loadEventFired" for name, _told in self.events):
            self._next()

    def run(self, expression: str) -> object:
        """What an expression is worth in the page, as JSON; an error in it is an error here."""
        done = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def complaints(self) -> list[str]:
        """Everything on the console, errors, dialogs, and whatever was refused by the page's policy."""
        wrong = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
        wrong |= {"Page.javascriptDialogOpening"}
        return [json.dumps(told) for name, told in self.events if name in wrong]

    def requests(self) -> list[str]:
        """What was asked of files or the network, besides the page itself and data that it holds."""
        asked = [told for name, told in self.events if name == "Network.requestWillBeSent"]
        urls = [told["request"]["url"] for told in asked if told.get("type") != "Document"]
        return [url for url in urls if not url.startswith("data:")]

    def picture(self, path: Path, **clip: float) -> None:
        """What is seen, as a PNG."""
        more = {"clip": clip | {"scale": 1}, "captureBeyondViewport": True} if clip else {}
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", **more)["data"]))


@contextmanager
def tab() -> Iterator[Tab]:
    """A browser with one empty page, gone afterwards."""
    there, write = os.pipe()
    read, back = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [sys.executable, "-c", _AS_3_AND_4, str(there), str(back), browser(), *OPTIONS]
        command += [f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        started = subprocess.Popen(
            command, pass_fds=(there, back), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(there)
        os.close(back)
        try:
            one = Tab(write, read)
            yield one
            one._session = ""
            one.ask("Browser.close")
            started.wait(SECONDS)
        finally:
            started.kill()
            started.wait()
            os.close(write)
            os.close(read)
