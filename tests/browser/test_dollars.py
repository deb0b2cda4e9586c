"""In a real JupyterLab, text between two dollars in our HTML stays money; elsewhere it becomes a formula."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from dtqkit import Job, JobError
from dtqkit.capacity.html import table_html
from dtqkit.notebook import reprs
from dtqkit.notebook.html import plain
from tests.browser.lab import PATIENCE, Lab
from tests.wait import wait_until

pytestmark = pytest.mark.timeout(300)

COST = "from $150 to $1,382"
JOB = Job(
    id="a" * 24,
    task="pay",
    payload={"cost": COST},
    status="failed",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    error=JobError("exception", "ValueError", COST, "Traceback …"),
)


def notebook() -> dict[str, object]:
    """One cell for each kind of HTML, with its output saved; the first is not ours."""
    shown = [
        f"<p>control: {COST}</p>",
        reprs.job_card(JOB),
        reprs.jobs_table([JOB, JOB], more=False),
        table_html(("", "cost"), [("plan", COST)], title=COST, notes=[COST]),
        str(plain(COST)),
    ]
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "cells": [
            {
                "id": f"cell-{n}",
                "cell_type": "code",
                "execution_count": 1,
                "metadata": {},
                "source": "",
                "outputs": [{"output_type": "display_data", "metadata": {}, "data": {"text/html": html}}],
            }
            for n, html in enumerate(shown)
        ],
    }


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    (tmp_path / "money.ipynb").write_text(json.dumps(notebook()))
    lab = Lab(tmp_path, shows=tmp_path)
    try:
        wait_until(lab.answers, timeout_s=60)
        yield lab
    finally:
        lab.close()


def test_dollars_are_money(browser: Browser, lab: Lab) -> None:
    with browser.new_context(viewport={"width": 1280, "height": 1600}) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(lab.address("lab/tree/money.ipynb"))
        cells = page.locator(".jp-OutputArea-output")

        expect(cells.nth(0).locator("mjx-container").first).to_be_attached(timeout=PATIENCE)  # MathJax has come by

        expect(cells).to_have_count(5)
        for n in range(1, 5):
            expect(cells.nth(n)).to_contain_text(COST)
            expect(cells.nth(n).locator("mjx-container")).to_have_count(0)
