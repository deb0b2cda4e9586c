"""The form that submits a job: which task it opens on, and its options."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from dtqkit.dashboard import BOARD, FOLDER
from dtqkit.support.linker import link, style_sheet
from tests.browser.played import mount, open_blank


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    open_blank(page, {})
    yield page
    page.context.close()


def opened(page: Page) -> Locator:
    mount(page, link(BOARD), style_sheet(FOLDER))
    page.get_by_role("button", name="Submit job").click()
    page.clock.run_for(300)
    return page.get_by_role("complementary")


def send(page: Page, form: Locator) -> None:
    form.get_by_role("button", name="Submit", exact=True).click()
    page.clock.run_for(300)


def submitted(page: Page) -> dict[str, Any]:
    return page.evaluate("sent.filter(([operation]) => operation === 'submit').at(-1)?.[1]")


def test_a_task_is_asked_for_and_the_last_one_is_remembered(page: Page) -> None:
    form = opened(page)
    task = form.get_by_label("Task", exact=True)
    expect(task).to_be_focused()
    expect(task).to_have_value("")
    expect(form.get_by_text("Options")).to_be_hidden()
    send(page, form)
    expect(task).to_be_focused()
    expect(task).to_have_accessible_description("Choose one first.")
    assert submitted(page) is None
    task.select_option("walk")
    expect(task).to_have_accessible_description("")
    form.get_by_label("page", exact=True).fill("1")
    form.get_by_label("kind", exact=True).select_option("b")
    send(page, form)
    assert submitted(page) == {"task": "walk", "payload": {"page": 1, "kind": "b"}}
    page.reload()
    page.clock.run_for(300)
    form = opened(page)
    expect(form.get_by_label("Task", exact=True)).to_have_value("walk")


def test_a_task_that_is_gone_is_not_remembered_and_a_browser_may_keep_nothing(page: Page) -> None:
    page.evaluate("localStorage.setItem('dtqkit.task', 'gone')")
    expect(opened(page).get_by_label("Task", exact=True)).to_have_value("")
    page.evaluate("Object.defineProperty(window, 'localStorage', { get() { throw new Error('forbidden'); } })")
    form = opened(page)
    form.get_by_label("Task", exact=True).select_option("walk")
    form.get_by_label("page", exact=True).fill("1")
    form.get_by_label("kind", exact=True).select_option("b")
    send(page, form)
    expect(form.get_by_role("status")).to_contain_text("Submitted")


def test_all_options_of_a_call_are_reached_by_tab_described_and_sent(page: Page) -> None:
    form = opened(page)
    form.get_by_label("Task", exact=True).select_option("walk")
    form.get_by_label("page", exact=True).fill("1")
    form.get_by_label("kind", exact=True).select_option("b")
    form.get_by_text("Options").press("Enter")
    fields = {
        "Delay": "1.5",
        "Expires after": "60",
        "Unique key": "doc-7",
        "Unique for": "3600",
        "Debounce": "5",
        "Debounce max": "30",
        "Tags": "a, b",
    }
    for label, value in fields.items():
        field = form.get_by_label(label, exact=True)
        field.fill(value)
        expect(field).to_have_accessible_description(re.compile("optional"))
    form.get_by_label("Start at", exact=True).fill("2026-01-02T03:04:05")
    form.get_by_label("Unique", exact=True).select_option("window", force=True)
    form.get_by_label("On duplicate", exact=True).select_option("raise")
    reached: list[str] = []
    form.get_by_text("Options").focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        name, outline = form.page.evaluate(
            """() => {
              const node = document.querySelector("#cell > div").shadowRoot.activeElement;
              return [node.id, getComputedStyle(node).outlineStyle];
            }"""
        )
        assert outline == "solid", name
        if not name and reached:
            break
        if name not in reached:
            reached.append(name)
    names = ["delay_s", "starts_at", "expires_s", "unique", "unique_for_s", "unique_key", "on_duplicate"]
    assert {f"option-{name}" for name in [*names, "debounce_s", "debounce_max_s"]} <= set(reached)
    send(page, form)
    assert submitted(page) == {
        "task": "walk",
        "payload": {"page": 1, "kind": "b"},
        "delay_s": 1.5,
        "starts_at": submitted(page)["starts_at"],
        "expires_s": 60,
        "unique": "window",
        "unique_key": "doc-7",
        "unique_for_s": 3600,
        "on_duplicate": "raise",
        "debounce_s": 5,
        "debounce_max_s": 30,
        "tags": ["a", "b"],
    }


def test_what_is_wrong_with_an_option_is_shown_at_it_though_the_options_are_folded(page: Page) -> None:
    form = opened(page)
    form.get_by_label("Task", exact=True).select_option("walk")
    form.get_by_label("page", exact=True).fill("1")
    form.get_by_label("kind", exact=True).select_option("b")
    form.get_by_text("Options").click()
    delay = form.get_by_label("Delay", exact=True)
    delay.fill("soon")
    form.get_by_text("Options").click()
    expect(delay).to_be_hidden()
    send(page, form)
    expect(delay).to_be_focused()
    expect(form).to_contain_text("soon is not a number.")
    delay.fill("5")
    page.evaluate("answers.submit = { error: { code: 'invalid_option', detail: 'unique_for_s is 5, but …' } }")
    send(page, form)
    expect(form.get_by_label("Unique for", exact=True)).to_be_focused()
    expect(form.get_by_label("Unique for", exact=True)).to_have_accessible_description(
        re.compile("unique_for_s is 5, but …")
    )
