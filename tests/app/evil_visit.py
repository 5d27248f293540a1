"""Visits a page as `evil.test`, in a browser of its own, and prints what the page could see of other servers."""

import sys
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

if __name__ == "__main__":
    chromium, address, space = sys.argv[1:]
    port = urlsplit(address).port
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--host-resolver-rules=MAP evil.test 127.0.0.1",
                "--disable-features=LocalNetworkAccessChecks",
                f"--ip-address-space-overrides=127.0.0.1:{port}={space}",
            ],
        )
        page = browser.new_page()
        page.goto(address)
        page.wait_for_function("window.done", timeout=60_000)
        print(page.evaluate("window.done"))
        browser.close()
