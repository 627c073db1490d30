"""The four pictures of the README, taken from the demonstration with Debian's Chromium.

`make screens`; takes as long as the demonstration and a minute more.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).parent.parent / "docs" / "screens"
SIZE = {"width": 1280, "height": 800}
COLOURS = 192
BYTES_MAX = 150_000
PATIENCE_MS = 60_000


def main() -> None:
    """Start the demonstration, look at four screens, end it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("screens: there is no Chromium on this machine: apt install chromium")
    port = free_port()
    demo = subprocess.Popen(
        [sys.executable, "-m", "headend", "demo", "--http-port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        # Wide enough that no line is broken inside the password.
        env=os.environ | {"COLUMNS": "500", "HEADEND_LANG": "en"},
    )
    try:
        password = password_of(demo)
        FOLDER.mkdir(parents=True, exist_ok=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
            take(browser, f"http://127.0.0.1:{port}", password)
            browser.close()
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(60)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
        return number


def password_of(demo: subprocess.Popen[str]) -> str:
    """What the demonstration prints once it stays up."""
    assert demo.stdout is not None
    for line in demo.stdout:
        sys.stdout.write(line)
        if found := re.search(r"password (\S+);", line):
            return found[1]
    sys.exit("screens: the demonstration ended before it stayed up")


def take(browser: Browser, url: str, password: str) -> None:
    """The room board in the dark, an account, a sale before it is made, and the nights."""
    page = signed_in(browser, url, "manager", password, scheme="dark")
    page.goto(f"{url}/rooms")
    page.click("main a[href^='/rooms/']")
    keep(page, "room-board")
    page = signed_in(browser, url, "manager", password)
    page.goto(f"{url}/accounts")
    numbers = page.eval_on_selector_all("td a.mono, td.mono a", "all => all.map(a => a.href)")
    page.goto(max(numbers[:30], key=lambda where: rows_of(page, where)))
    keep(page, "account")
    page.goto(f"{url}/rooms")
    page.click("main a[href^='/rooms/']")
    meter = page.get_attribute("main a[href^='/meters/']", "href")
    assert meter is not None
    page.goto(f"{url}/vend?meter={meter.rpartition('/')[2]}")
    page.fill("#amount", "100")
    page.locator("#preview").get_by_text("100.00").first.wait_for()
    keep(page, "vend")
    page.goto(f"{url}/nights")
    keep(page, "collection-board")


def rows_of(page: Page, where: str) -> int:
    """How much there is to see of a customer."""
    page.goto(where)
    return page.locator("main tbody tr").count()


def signed_in(
    browser: Browser, url: str, name: str, password: str, *, scheme: str = "light"
) -> Page:
    """A browser of somebody's own."""
    context = browser.new_context(
        viewport=SIZE,  # type: ignore[arg-type]  # two numbers
        locale="en-GB",
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{url}/")
    page.fill("#name", name)
    page.fill("#password", password)
    page.click("button.primary")
    page.wait_for_selector("nav.nav", state="attached")
    return page


def keep(page: Page, name: str) -> None:
    """The window as a small PNG: a screen has few colours."""
    page.wait_for_timeout(800)
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = FOLDER / f"{name}.png"
    taken.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    sys.stdout.write(f"{path.name}: {size} bytes\n")
    if size > BYTES_MAX:
        sys.exit(f"screens: {path.name} is larger than {BYTES_MAX} bytes")


if __name__ == "__main__":
    main()
