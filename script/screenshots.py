"""Pictures of the console for the READMEs, in both languages: mail is sent to the sandbox, and its pages are photographed.

Needs a running development server (``script/server``, found by the same RELAY_VAR and RELAY_HTTP_BIND) and Debian's
chromium with fonts-noto-cjk. A picture above ``MOST_BYTES`` ends it with exit code 1.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
STATE = Path(os.environ.get("RELAY_VAR") or ROOT / "var")
SERVER = f"http://{os.environ.get('RELAY_HTTP_BIND') or '127.0.0.1:8000'}"
MOST_BYTES = 200_000
SIZE = {"width": 1200, "height": 760}
PATIENCE_SECONDS = 60

SUBJECTS = {
    "en": ("Your order 1234", "Your password", "News of November"),
    "ja": ("ご注文の確認（1234）", "パスワードの再設定", "11月のお知らせ"),
}
# None of these puts an address on the suppression list, so that a second run shows the same.
RECIPIENTS = (
    ("recipient-filter", "accept", "greylist"),
    ("accept",),
    ("accept", "mailbox-full", "content-refused", "rate-limit"),
)


def main() -> int:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("no chromium here: apt-get install chromium fonts-noto-cjk")
        return 1
    try:
        secrets = json.loads((STATE / "demo.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        print(f"{STATE} has no demo tenant: start script/server first")
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    too_large = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for language, subjects in SUBJECTS.items():
            message = send_all(subjects, api_key=secrets["api_key"])
            for name, page in pages(browser, language, message, secrets):
                path = IMAGES / (f"{name}.png" if language == "en" else f"{name}.{language}.png")
                page.screenshot(path=path, animations="disabled")
                size = path.stat().st_size
                print(f"{path.relative_to(ROOT)}  {size:,} bytes")
                if size > MOST_BYTES:
                    too_large.append(path)
        browser.close()
    for path in too_large:
        print(f"{path.name} is larger than {MOST_BYTES:,} bytes")
    return 1 if too_large else 0


def pages(browser: Browser, language: str, message: str, secrets: dict[str, str]) -> Iterator[tuple[str, Page]]:
    """The pages to be photographed, one after the other in the same window."""
    owner = signed_in(browser, language, "demo@inbox.sandbox.test", secrets["owner_password"])
    for name, path in (
        ("log", "/t/demo/messages/"),
        ("message", f"/t/demo/messages/{message}/"),
        ("domain", "/t/demo/domains/demo.relay.test/"),
    ):
        owner.goto(SERVER + path)
        yield name, owner


def signed_in(browser: Browser, language: str, email: str, password: str) -> Page:
    page = browser.new_context(locale=language, color_scheme="light", viewport=SIZE).new_page()
    page.goto(f"{SERVER}/accounts/login/")
    page.fill("#email", email)
    page.fill("#password", password)
    page.press("#password", "Enter")
    page.wait_for_url(lambda url: "/accounts/login/" not in url)
    # What a person has chosen before counts more than the browser.
    page.locator(f"button[name=language][value={language}]").first.click()
    page.wait_for_selector(f"html[lang={language}]")
    return page


def send_all(subjects: tuple[str, ...], *, api_key: str) -> str:
    """Hands the mails over, waits until each recipient was tried, and gives the id of the first."""
    ids = []
    for subject, behaviours in reversed(list(zip(subjects, RECIPIENTS, strict=True))):
        mail = {
            "from": "Demo Shop <shop@demo.relay.test>",
            "to": [f"{behaviour}@{behaviour}.sandbox.test" for behaviour in behaviours],
            "subject": subject,
            "text": f"{subject}\n",
        }
        ids.append(ask("/messages", api_key=api_key, body=mail)["id"])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(untried(one, api_key=api_key) for one in ids):
        if time.monotonic() > deadline:
            raise SystemExit("the mails were not tried in time: is script/server well?")
        time.sleep(0.5)
    return ids[-1]


def untried(message: str, *, api_key: str) -> list[Any]:
    """Its recipients that wait for their first attempt."""
    return ask(f"/messages/{message}/recipients?state=queued", api_key=api_key)["data"]


def ask(path: str, *, api_key: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        f"{SERVER}/api/v1{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main())
