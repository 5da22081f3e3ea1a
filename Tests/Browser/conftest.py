"""A real server, three real peers, and Chromium."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("COHORT_BINARY", ROOT / ".build/debug/cohort"))
SCREENSHOTS = Path(os.environ["COHORT_SCREENSHOTS"]) if "COHORT_SCREENSHOTS" in os.environ else None


class Server:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.peers: list[subprocess.Popen[bytes]] = []
        self.token = ""
        self.start()

    def start(self) -> None:
        self.process = self._run("serve", "--port", str(self.port), "--data-dir", str(self.folder / "server"), stdout=subprocess.PIPE)
        assert self.process.stdout
        self.url = self.process.stdout.readline().decode().removeprefix("listening on ").strip()
        self.port = int(self.url.rsplit(":", 1)[1])

    def add_peer(self, name: str, token: str, engine: str = "native") -> None:
        self.token = token
        self.peers.append(
            self._run(
                "peer", "--server", self.url, "--token", token, "--name", name, "--engine", engine, "--threads", "1", "--data-dir", str(self.folder / name)
            )
        )

    def remove_peer(self) -> None:
        peer = self.peers.pop()
        peer.terminate()
        assert peer.wait(timeout=30) == 0

    def _run(self, *arguments: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder / "config"), "COHORT_LOG_LEVEL": "warning"}
        with open(self.folder / f"{arguments[0]}.log", "ab") as log:
            return subprocess.Popen([BINARY, *arguments], env=environment, stdout=stdout, stderr=log)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)

    def end(self) -> None:
        for process in [*self.peers, self.process]:
            process.terminate()
        for process in [*self.peers, self.process]:
            process.wait(timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("cohort"))
    yield server
    server.end()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("COHORT_CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a separate browser; its console may have no errors but those that a test expects."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_page(expected: tuple[str, ...] = (), **options: object) -> Page:
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, **options)  # type: ignore[arg-type]
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()

        def note(text: str) -> None:
            if not any(part in text for part in expected):
                errors.append(text)

        page.on("console", lambda message: note(f"{message.text} ({message.location})") if message.type == "error" else None)
        page.on("pageerror", lambda error: note(str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def picture() -> Callable[[Page, str], None]:
    """Keeps how a page looks, at 1280 and 390 pixels, light and dark, where COHORT_SCREENSHOTS names a folder."""

    def picture(page: Page, name: str) -> None:
        for width, height in ((1280, 900), (390, 844)):
            page.set_viewport_size({"width": width, "height": height})
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                page.wait_for_timeout(150)  # A frame or two, so that the curves are drawn in the new colours.
                # Nothing is wider than the screen.
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} at {width}"
                if SCREENSHOTS:
                    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
                    page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
        page.set_viewport_size({"width": 1280, "height": 900})
        page.emulate_media(color_scheme="light")

    return picture
