"""Every plot has a title, labelled axes with units and something drawn, in light and in dark."""

import subprocess
import sys
from collections.abc import Callable
from datetime import date

import matplotlib
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

import dtqkit.capacity as cap
from dtqkit.capacity import plots

WORK = cap.Workload(5_000, cap.Lognormal(20), profile=cap.HourOfDay.swing(0.5))


@pytest.fixture(scope="module")
def result() -> cap.Result:
    return cap.simulate(cap.System.default(3), WORK, "1d", 3)


@pytest.fixture(scope="module")
def plan() -> cap.Plan:
    return cap.plan(WORK, workers=[2, 3, 4], replications=2)


Draw = Callable[[cap.Result, cap.Plan], Axes]
DRAW: dict[str, Draw] = {
    "depth": lambda result, _: result.plot.depth(),
    "tail": lambda result, _: result.plot.tail(real=[1.0, 5.0, 9.0], theory=cap.mmc(0.05, 20, 3)),
    "waits": lambda result, _: result.plot.waits(),
    "workers": lambda _, plan: plan.plot.workers(),
    "frontier": lambda _, plan: plan.plot.frontier(),
    "quotas": lambda _, plan: plan.plot.quotas(date(2027, 1, 1)),
    "sensitivity": lambda _, plan: plan.plot.sensitivity(plan.sensitivity(replications=2)),
    "wait_curve": lambda _result, _plan: plots.wait_curve(WORK, 3, [0.5, 0.8], replications=2),
    "dedicated_shared": lambda _result, _plan: plots.dedicated_shared(WORK, 3, replications=2),
}


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("name", DRAW)
def test_a_plot_names_its_axes_and_draws_something(name: str, style: str, result: cap.Result, plan: cap.Plan) -> None:
    with plt.style.context(style):
        axes = DRAW[name](result, plan)
        axes.figure.canvas.draw()
    assert axes.get_title()
    assert axes.get_xlabel() or axes.get_ylabel()
    assert axes.has_data()
    labels = axes.get_xlabel() + axes.get_ylabel()
    assert any(unit in labels for unit in ("(s)", "(h)", "jobs", "$", "date"))
    plt.close("all")


def test_the_package_is_imported_without_matplotlib_and_without_widgets() -> None:
    code = "import sys, dtqkit.capacity; print([m for m in ('matplotlib', 'ipywidgets') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_sliders_answer_when_they_are_moved() -> None:
    panel = cap.explore(WORK)
    before, picture = panel.report.value, bytes(panel.picture.value)
    assert picture.startswith(b"\x89PNG")
    panel.workers.value = 1
    assert "unstable" in panel.report.value
    assert panel.report.value != before
    plt.close("all")


def test_every_public_name_is_there() -> None:
    assert [name for name in cap.__all__ if not hasattr(cap, name)] == []
