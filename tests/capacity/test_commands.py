"""`dtqkit plan` and `dtqkit simulate`, on an app of their own."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dtqkit.__main__ import main
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
    assert "A worker is 1 slot here: it runs 1 job at a time" in done.stdout
    assert "present: what runs now, before anything is rented; breaks first: " in done.stdout
    assert "p95 wait of high jobs (s) by workers" in done.stdout
    assert "scenarios: " in done.stderr
    assert png.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("columns", [80, 160])
def test_a_plan_is_read_whole_at_this_width(columns: int) -> None:
    done = runner.invoke(
        app,
        ["plan", "--jobs-per-day", "100000", "--service", "deterministic", "--swing", ".1", "--replications", "1"],
        env={"COLUMNS": str(columns)},
    )
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines) <= columns
    assert "…" not in done.stdout
    assert any(re.search(r"^ tier +holds +workers +busy, peak +p95 wait \(s\) +carries", line) for line in lines)
    assert any(re.search(r"^ present +no +3 +579%, 637% +unbounded +2.07 +7", line) for line in lines)
    said = " ".join(done.stdout.split())
    assert (
        "present: what runs now, before anything is rented; breaks first: workers, at once; not enough: its 3 " in said
    )
    assert (
        "workers would have to be 637% busy and its quotas are too small (MongoDB operations, MongoDB storage" in said
    )
    assert "would have to be 191% busy; with 24 workers it is enough" in said
    assert any(re.search(r"^ +> 24 +72%, 80%( +[\d.]+){3} +857", line) for line in lines)


def test_a_plan_for_many_workers_advises_to_start_with_few() -> None:
    done = runner.invoke(app, ["plan", "--jobs-per-day", "40000", "--replications", "1"])
    assert re.search(r"Take \d+ workers for the full 40,000 jobs a day \(start with 5 and add more as the", done.stdout)
    assert "rent no more" not in done.stdout


def test_plan_as_json_is_json_alone_and_an_unbounded_wait_is_null() -> None:
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
    assert done.stdout.splitlines()[1].startswith("unstable: the workload is 1.39 times")
    assert done.stdout.count("unstable") == 1
    assert "waiting jobs over time" in done.stdout
    assert "inf" not in done.stdout
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


@pytest.mark.parametrize("say", [simulate, plan], ids=lambda command: command.__name__)
def test_large_numbers_have_no_exponent(say: Callable[..., None]) -> None:
    done = runner.invoke(app, [say.__name__, "--jobs-per-day", "100000", "--mean-service", "12", "--replications", "1"])
    assert done.exit_code == 0, done.output
    assert not re.search(r"\de\+\d", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan", "--jobs-per-day", "0"], "'--jobs-per-day': it must be a finite number above 0, not 0"),
        (
            ["plan", "--jobs-per-day", "10", "--mean-service", "-1"],
            "'--mean-service': it must be a finite number",
        ),
        (["plan", "--jobs-per-day", "10", "--failures", "1"], "'--failures': it must be at least 0 and below 1, not 1"),
        (["plan", "--jobs-per-day", "10", "--mtbf-h", "0"], "'--mtbf-h': it must be a finite number above 0"),
        (["plan", "--jobs-per-day", "10", "--mix", "high=.5"], "'--mix': must add up to 1, got 0.5"),
        (["plan", "--jobs-per-day", "10", "--mix", "high"], "'--mix': must be NAME=NUMBER, got 'high'"),
        (["plan", "--jobs-per-day", "10", "--service", "weibull"], "'--service': must be one of exponential, "),
        (["plan", "--jobs-per-day", "10", "--service", "hyperexponential"], "'--scv': must be above 1, got 1.0"),
        (["plan", "--jobs-per-day", "10", "--slo", "vip=5"], "'--slo': priority must be one of high, medium, low, all"),
        (
            ["plan", "--jobs-per-day", "10", "--tiers", "/nope.toml"],
            "'--tiers': /nope.toml cannot be read: No such",
        ),
        (
            ["plan", "--jobs-per-day", "10", "--png", "plan.bmp"],
            "'--png': plan.bmp must end in one of .png, .svg",
        ),
        (["simulate", "--jobs-per-day", "10", "--workers", "0"], "'--workers': "),
        (["simulate", "--jobs-per-day", "10", "--strict", "--workers", "1"], "'--strict': "),
        (["simulate", "--jobs-per-day", "10", "--max-workers", "2"], "'--max-workers': must be at least the 3 fixed"),
        (
            ["simulate", "--jobs-per-day", "10", "--horizon", "soon"],
            "'--horizon': must be seconds or a number with",
        ),
        (["simulate"], "Missing option '--jobs-per-day'; see dtqkit simulate --help"),
    ],
)
def test_wrong_use_is_one_line_that_names_the_option_and_status_2(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dtqkit", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith("dtqkit: ")
    assert err.count("\n") == 1
    assert says in err


def test_text_bars_mark_the_objective_and_stand_for_nothing_too() -> None:
    drawn = bars("wait", [("1", 10.0), ("2", 5.0)], limit=5).splitlines()
    assert drawn[1].count("█") == 39
    assert drawn[2].index("|") == drawn[1].index("|")
    assert bars("wait", []) == "wait: nothing to draw"
