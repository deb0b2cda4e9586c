"""Every plot has a title, labelled axes with units and something drawn, in light and in dark."""

import subprocess
import sys
from collections.abc import Callable
from datetime import date

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

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


def drawn_bars(axes: Axes) -> list[list[tuple[float, float]]]:
    """Of each set of error bars: its points."""
    bars = [container for container in axes.containers if isinstance(container, ErrorbarContainer)]
    return [[(float(x), float(y)) for x, y in np.asarray(bar.lines[0].get_xydata())] for bar in bars]  # pyright: ignore


def test_plots_of_a_result_show_its_numbers(result: cap.Result) -> None:
    mean, p95 = drawn_bars(result.plot.waits())
    assert [y for _, y in mean] == pytest.approx(result.ci("wait", by="priority")["estimate"].tolist())
    assert [y for _, y in p95] == pytest.approx(result.ci("wait", q=0.95, by="priority")["estimate"].tolist())

    depth = {str(line.get_label()): line for line in result.plot.depth().get_lines()}
    table = result.depth_over_time()
    assert list(depth["mean"].get_ydata()) == pytest.approx(table["mean"].tolist())  # pyright: ignore
    assert list(depth["mean"].get_xdata())[-1] == 24  # pyright: ignore - hours

    theory = cap.mmc(0.05, 20, 3)
    tail = {
        str(line.get_label()): np.asarray(line.get_xydata()) for line in result.plot.tail([1, 5, 9], theory).get_lines()
    }
    np.testing.assert_allclose(tail["measured"], [[1, 1], [5, 2 / 3], [9, 1 / 3]])
    assert tail["theory"][10, 1] == pytest.approx(theory.wait_tail(tail["theory"][10, 0]))
    waits = np.concatenate([rep.wait[np.searchsorted(rep.ready, result.warm_up_s) :] for rep in result.replications])
    at, share = tail["simulated"][len(tail["simulated"]) // 2]
    assert share == pytest.approx((waits >= at).mean(), abs=1e-9)
    plt.close("all")


def test_plots_of_a_plan_show_its_numbers(plan: cap.Plan) -> None:
    table = plan.frontier()
    table = table[np.isfinite(table["wait_p95_s"])]
    (points,) = drawn_bars(plan.plot.workers())
    assert points == [(float(str(n)), pytest.approx(row["wait_p95_s"])) for n, row in table.iterrows()]
    (priced,) = drawn_bars(plan.plot.frontier())
    assert priced == [(row["usd_per_month"], pytest.approx(row["wait_p95_s"])) for _, row in table.iterrows()]

    first = date(2027, 1, 1)
    quotas = plan.plot.quotas(first)
    runway = plan.runway(first)
    ends = [bar.get_width() for bars in quotas.containers for bar in bars]  # pyright: ignore
    assert len(ends) == len(runway)
    for width, day in zip(ends, runway["runs_out"], strict=True):  # pyright: ignore
        assert day is None or width == pytest.approx(max((day - first).days, 0.25))

    sensitivity = plan.sensitivity(replications=2)
    tornado = plan.plot.sensitivity(sensitivity)
    spans = [bar.get_x() + bar.get_width() for bars in tornado.containers for bar in bars]  # pyright: ignore
    low, high = (sensitivity[name].replace(np.inf, max(spans)).tolist() for name in ("low", "high"))
    assert sorted(spans) == pytest.approx(sorted([*low, *high]))
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
