"""`dtqkit plan` and `dtqkit simulate`, on an app of their own."""

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dtqkit.cli.plan import plan
from dtqkit.cli.simulate import simulate
from dtqkit.cli.textplot import bars

app = typer.Typer()
app.command("plan")(plan)
app.command("simulate")(simulate)
runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})

SMALL = ["--jobs-per-day", "2000", "--replications", "2"]


def test_plan_says_what_to_rent_and_draws_it(tmp_path: Path) -> None:
    png = tmp_path / "plan.png"
    done = runner.invoke(app, ["plan", *SMALL, "--mean-service", "15", "--swing", "1", "--png", str(png)])
    assert done.exit_code == 0, done.output
    assert re.search(r"Take \d+ workers: .*busy in the mean.*\$\d+ a month", done.stdout, re.DOTALL)
    assert "p95 wait of high jobs (s) by workers" in done.stdout
    assert "scenarios: " in done.stderr
    assert png.read_bytes().startswith(b"\x89PNG")


def test_plan_as_json_is_json_alone_and_an_endless_wait_is_null() -> None:
    done = runner.invoke(
        app,
        [
            "plan",
            "--jobs-per-day",
            "100000",
            "--mean-service",
            "30.5",
            "--replications",
            "1",
            "--service",
            "deterministic",
            "--json",
        ],
    )
    found = json.loads(done.stdout)
    assert found["required_workers"]["mean"] == 45
    assert [tier["wait_p95_s"] for tier in found["tiers"]] == [None] * 3
    assert any("unstable" in warning for warning in found["warnings"])


def test_simulate_shows_waits_with_intervals_and_says_that_it_is_unstable(tmp_path: Path) -> None:
    png = tmp_path / "day.png"
    done = runner.invoke(app, ["simulate", *SMALL, "--workers", "1", "--mean-service", "60", "--png", str(png)])
    assert done.exit_code == 0, done.output
    assert "unstable: the workload is 1.39 times" in done.stdout
    assert "waiting jobs over time" in done.stdout
    assert png.exists()


def test_simulate_as_json_has_every_option_s_effect() -> None:
    options = [
        "--workers",
        "3",
        "--strict",
        "--failures",
        "0.1",
        "--mtbf-h",
        "2",
        "--max-workers",
        "5",
        "--backlog",
        "50",
    ]
    done = runner.invoke(app, ["simulate", *SMALL, *options, "--horizon", "2h", "--json"])
    found = json.loads(done.stdout)
    assert found["stable"]
    wait = found["measures"]["wait_high"]["p95"]
    assert wait["low"] <= wait["value"] <= wait["high"]
    assert any("retries" in text for text in found["warnings"])
    assert any("crashes" in text for text in found["warnings"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan", "--jobs-per-day", "0"], "jobs_per_day must be a finite number above 0, got 0"),
        (["plan", "--jobs-per-day", "10", "--mix", "high=.5"], "mix must add up to 1, got 0.5"),
        (["plan", "--jobs-per-day", "10", "--mix", "high"], "--mix must be NAME=NUMBER"),
        (["plan", "--jobs-per-day", "10", "--service", "weibull"], "got 'weibull'"),
        (["plan", "--jobs-per-day", "10", "--slo", "vip=5"], "got 'vip'"),
        (["plan", "--jobs-per-day", "10", "--tiers", "/nowhere.toml"], "nowhere.toml"),
        (["simulate", "--jobs-per-day", "10", "--workers", "0"], "workers must be a whole number of at least 1, got 0"),
        (["simulate", "--jobs-per-day", "10", "--strict", "--workers", "1"], "no worker of the system serves them"),
        (["simulate", "--jobs-per-day", "10", "--horizon", "soon"], "got 'soon'"),
        (["simulate"], "jobs-per-day"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(arguments: list[str], says: str) -> None:
    done = runner.invoke(app, arguments)
    assert done.exit_code == 2
    assert says in done.output
    assert "Traceback" not in done.output


def test_text_bars_mark_the_objective_and_stand_for_nothing_too() -> None:
    drawn = bars("wait", [("1", 10.0), ("2", 5.0)], limit=5).splitlines()
    assert drawn[1].count("█") == 39
    assert drawn[2].index("|") == drawn[1].index("|")
    assert bars("wait", []) == "wait: nothing to draw"
