"""A widget with sliders for workers, arrival rate and service time that shows waits and utilisation."""
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false
# (ipywidgets has no types, and matplotlib leaves most keyword arguments open)

import math
from dataclasses import replace
from io import BytesIO
from typing import Final

import ipywidgets as widgets
from matplotlib.figure import Figure

from dtqkit.capacity import load
from dtqkit.capacity.advice import general
from dtqkit.capacity.distributions import Scaled
from dtqkit.capacity.html import table_html
from dtqkit.capacity.plots import wait_curve
from dtqkit.capacity.simulate import quiet, simulate
from dtqkit.capacity.system import System
from dtqkit.capacity.workload import Workload
from dtqkit.model.starting import SimulationFailed

#: Per change of a slider.
REPLICATIONS: Final = 5


class Explorer(widgets.VBox):
    """Sliders `workers`, `jobs_per_day` and `mean_service_s`; `report` and `picture` show the results.

    When a slider is released, `REPLICATIONS` short days are simulated.
    """

    def __init__(self, work: Workload) -> None:
        self._work = work
        mean_s, rate = work.mean_service_s, work.jobs_per_day
        needed = max(3, round(work.offered_load * work.peak / 0.8))
        self.workers = widgets.IntSlider(
            value=needed, min=1, max=4 * needed, description="workers", continuous_update=False
        )
        self.jobs_per_day = widgets.FloatLogSlider(
            value=rate,
            base=10,
            min=min(1.0, math.log10(rate)),
            max=max(6.0, math.log10(rate) + 1),
            step=0.02,
            readout_format=",.0f",
            description="jobs a day",
            continuous_update=False,
        )
        self.mean_service_s = widgets.FloatSlider(
            value=mean_s,
            min=mean_s / 10,
            max=mean_s * 5,
            step=mean_s / 50,
            description="service (s)",
            continuous_update=False,
        )
        self.report, self.picture = widgets.HTML(), widgets.Image(format="png")
        sliders = [self.workers, self.jobs_per_day, self.mean_service_s]
        super().__init__([*sliders, self.report, self.picture])
        for slider in sliders:
            slider.observe(lambda _: self.update(), names="value")
        self.update()

    def update(self) -> None:
        """Simulate with the sliders' values and show the result."""
        factor = float(self.mean_service_s.value) / self._work.mean_service_s
        services = {p: Scaled(self._work.service_of(p), factor) for p in self._work.priorities}
        work = replace(self._work, jobs_per_day=float(self.jobs_per_day.value), service=services)
        system = System.default(int(self.workers.value))
        rows = [
            ("utilisation, mean", f"{load.utilisation(system, work):.0%}"),
            ("utilisation, busiest hour", f"{load.utilisation(system, work, peak=True):.0%}"),
        ]
        notes = [*general(system, work)]
        if load.utilisation(system, work) < 1:
            horizon_s = min(86_400.0, 20_000 / work.arrival_rate) if work.profile is None else work.cycle_s
            try:
                result = simulate(system, work, horizon_s, REPLICATIONS, progress=quiet)
                rows += [(f"wait {p}, p95", str(result.estimate("wait", q=0.95, priority=p))) for p in services]
            except SimulationFailed as error:
                notes.append(str(error))
        self.report.value = table_html(("", ""), rows, notes=notes)
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        axes = wait_curve(work, system.servers, ax=figure.add_subplot())
        axes.axvline(min(load.utilisation(system, work), 1.0), linestyle=":", color="#2fa36b")
        buffer = BytesIO()
        figure.savefig(buffer, dpi=90)
        self.picture.value = buffer.getvalue()


def explore(work: Workload) -> Explorer:
    """A widget with sliders that start at this workload, on the queue's own layout. Needs ipywidgets and matplotlib."""
    return Explorer(work)
