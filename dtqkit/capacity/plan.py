"""The plan: how many workers, which tier, what wait, what cost, which limit is reached first."""

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

import msgspec
import pandas as pd

from dtqkit.capacity import advice, budget, checks, load
from dtqkit.capacity.formatting import duration
from dtqkit.capacity.html import table_html
from dtqkit.capacity.quotas import MONTH_DAYS, Footprint, quotas
from dtqkit.capacity.scenario import SCENARIOS, SLO, Layout, Scenario, counts, examine, fewest
from dtqkit.capacity.sensitivity import sensitivity
from dtqkit.capacity.simulate import ProgressCallback
from dtqkit.capacity.system import System
from dtqkit.capacity.tiercheck import TierCheck, check
from dtqkit.capacity.tiers import Tier, default_tiers
from dtqkit.capacity.workload import Workload
from dtqkit.model.errors import InvalidOption
from dtqkit.support.formatting import counted

if TYPE_CHECKING:
    from dtqkit.capacity.plan_plots import PlanPlots

#: What `required_workers` can go by.
BY: Final = ("mean", "peak-hour", "simulated")
#: Workers to start with, however many the full traffic needs.
FEW_AT_FIRST: Final = 5
#: Documents above this size get a warning.
LARGE_DOCUMENT_BYTES: Final = 16_000
HEADER: Final = (
    "tier",
    "",
    "workers",
    "utilisation, mean / busiest hour",
    "p95 wait [95 % interval] (s)",
    "carries mean service up to (s)",
    "breaks first",
    "$ a month",
    "$ per 1,000 jobs",
)


class Plan(msgspec.Struct, frozen=True, eq=False, dict=True):
    """Tiers and numbers of workers, compared with an objective."""

    work: Workload
    slo: SLO
    max_utilisation: float
    #: One per tier.
    checks: tuple[TierCheck, ...]
    #: One per number of workers, ascending.
    scenarios: tuple[Scenario, ...]
    footprint: Footprint
    #: Per scenario.
    replications: int
    seed: int
    layout: Layout

    # workers

    def required_workers(self, by: str = "peak-hour") -> int | None:
        """The smallest number of workers by one of three criteria.

        "mean", "peak-hour": utilisation at most `max_utilisation` at the mean rate, or in the busiest hour.
        "simulated": the whole interval of the simulated p95 wait is within the objective; None if no scenario is.
        """
        checks.one_of("by", by, BY)
        if by == "simulated":
            return next((s.workers for s in self.scenarios if s.meets(self.slo)), None)
        return fewest(self.work, self.layout, self.max_utilisation, peak=by == "peak-hour")

    @cached_property
    def recommended_workers(self) -> int:
        """Enough for the busiest hour, and for the objective if a scenario meets it."""
        by_load = fewest(self.work, self.layout, self.max_utilisation, peak=True)
        return max(by_load, self.required_workers("simulated") or 0)

    # cost

    def fitting(self, workers: int) -> tuple[Tier, ...]:
        """Tiers whose quotas suffice for this number of workers, the cheapest first."""
        system = self.layout(workers)
        fit = [
            c.tier
            for c in self.checks
            if all(quota.holds for quota in quotas(c.tier, self.work, system, self.footprint))
        ]
        return tuple(sorted(fit, key=lambda tier: tier.price(workers)))

    def price(self, workers: int) -> float:
        """$ a month for this number of workers on the cheapest tier whose quotas suffice; infinite if there is none."""
        fit = self.fitting(workers)
        return fit[0].price(workers) if fit else math.inf

    def per_thousand(self, price: float) -> float:
        """$ per 1,000 jobs, from a price in $ a month."""
        return price / (self.work.jobs_per_day * MONTH_DAYS / 1000)

    @property
    def advice(self) -> str:
        """A summary in a few sentences: what to rent, and what to expect."""
        n = self.recommended_workers
        system, found = self.layout(n), next((s for s in self.scenarios if s.workers == n), None)
        mean, peak = (load.utilisation(system, self.work, peak=p) for p in (False, True))
        workers = f"{counted(n, 'worker', 'workers')}{self._at_first()}"
        text = f"{workers}: {mean:.0%} busy in the mean, {peak:.0%} in the busiest hour."
        if found:
            waits = ", ".join(f"{p} {duration(wait.value)}" for p, wait in found.waits_p95.items())
            text += f" 95 % of the jobs wait at most: {waits}."
        fit = self.fitting(n)
        if not fit:
            return f"Take {text} The quotas of no tier hold: see the column 'breaks first'."
        tier, price = fit[0], fit[0].price(n)
        return (
            f"Take {text} With MongoDB {tier.mongodb} and Redis {tier.redis} (as tier '{tier.name}'): "
            f"${price:,.0f} a month, ${self.per_thousand(price):.3f} per 1,000 jobs. {self._if_it_doubles()}"
        )

    def _at_first(self) -> str:
        """The advice to start small: traffic that is not there yet needs no workers."""
        if self.recommended_workers <= FEW_AT_FIRST:
            return ""
        return (
            f" for the full {self.work.jobs_per_day:,.0f} jobs a day (start with {FEW_AT_FIRST} and add more as the "
            "traffic grows and the measured wait requires it)"
        )

    def _if_it_doubles(self) -> str:
        twice = self.work.scaled(jobs_per_day=2 * self.work.jobs_per_day)
        n = fewest(twice, self.layout, self.max_utilisation, peak=True)
        system = self.layout(n)
        fit = [
            c.tier.price(n) for c in self.checks if all(q.holds for q in quotas(c.tier, twice, system, self.footprint))
        ]
        cost = f"${min(fit):,.0f} a month" if fit else "the quotas of no tier would hold"
        return f"If the jobs double: {counted(n, 'worker', 'workers')}, {cost}."

    @property
    def warnings(self) -> tuple[str, ...]:
        found = [f"tier '{c.tier.name}' does not hold: {reason}" for c in self.checks for reason in c.reasons]
        found += self.work.summary().warnings
        found += advice.general(self.layout(self.recommended_workers), self.work)
        by_mean = fewest(self.work, self.layout, self.max_utilisation, peak=False)
        if by_mean <= self.recommended_workers * 2 / 3:
            found.append(
                f"the mean rate needs only {counted(by_mean, 'worker', 'workers')}: "
                "autoscaling saves the others outside the busiest hours"
            )
        if self.footprint.document_bytes > LARGE_DOCUMENT_BYTES:
            found.append("documents are large: store files elsewhere than in MongoDB and put a link into the job")
        return tuple(found)

    # tables

    def table(self) -> pd.DataFrame:
        """One row per tier."""
        rows = [
            {
                "tier": c.tier.name,
                "holds": c.holds,
                "workers": c.tier.workers,
                "utilisation": c.scenario.utilisation,
                "busiest_hour": c.scenario.peak_utilisation,
                "wait_p95_s": c.scenario.wait_p95.value,
                "low": c.scenario.wait_p95.low,
                "high": c.scenario.wait_p95.high,
                "max_service_s": c.max_service_s,
                "breaks_first": c.breaks_first,
                "usd_per_month": c.tier.price(),
                "usd_per_1000_jobs": self.per_thousand(c.tier.price()),
            }
            for c in self.checks
        ]
        table = pd.DataFrame(rows).set_index("tier")
        table.attrs.update(slo=str(self.slo), replications=self.replications, seed=self.seed, level=0.95)
        return table

    def frontier(self) -> pd.DataFrame:
        """One row per number of workers: utilisation, p95 wait (s) with its interval, price."""
        rows = [
            (
                s.workers,
                s.utilisation,
                s.peak_utilisation,
                s.wait_p95.value,
                s.wait_p95.low,
                s.wait_p95.high,
                s.meets(self.slo),
                self.price(s.workers),
            )
            for s in self.scenarios
        ]
        names = ["workers", "utilisation", "busiest_hour", "wait_p95_s", "low", "high", "meets_slo", "usd_per_month"]
        return pd.DataFrame(rows, columns=names).set_index("workers")

    def runway(self, start: date | None = None) -> pd.DataFrame:
        """One row per tier and quota: used, limit, share, and the day on which it is used up (None: never)."""
        today = start or date.today()  # noqa: DTZ011 - people plan by their local calendar
        rows = [
            (c.tier.name, q.name, q.used, q.limit, q.unit, q.share, self._runs_out(today, q.days))
            for c in self.checks
            for q in c.quotas
        ]
        return pd.DataFrame(rows, columns=["tier", "quota", "used", "limit", "unit", "share", "runs_out"])

    @staticmethod
    def _runs_out(today: date, days: float) -> date | None:
        return None if math.isinf(days) else today + timedelta(days=days)

    def sensitivity(self, *, replications: int = 10, executor: Executor | None = None) -> pd.DataFrame:
        """The objective's p95 wait (s) on the recommended workers, with one input at a time lowered and raised."""
        return sensitivity(
            self.work,
            self.layout,
            self.recommended_workers,
            self.slo,
            replications=replications,
            seed=self.seed,
            executor=executor,
        )

    # plots, text and HTML

    @property
    def plot(self) -> "PlanPlots":
        """Plots of this plan, such as `plan.plot.frontier()`. Needs matplotlib."""
        from dtqkit.capacity.plan_plots import PlanPlots

        return PlanPlots(self)

    @property
    def title(self) -> str:
        return f"{self.work.jobs_per_day:,.0f} jobs a day of {self.work.mean_service_s:.3g} s; objective: {self.slo}"

    def rows(self) -> list[tuple[str, ...]]:
        """The table as text, with the columns of HEADER."""
        return [
            (
                c.tier.name,
                "holds" if c.holds else "does not hold",
                str(c.tier.workers),
                f"{c.scenario.utilisation:.0%} / {c.scenario.peak_utilisation:.0%}",
                "unbounded" if math.isinf(c.scenario.wait_p95.value) else f"{c.scenario.wait_p95:.3g}",
                f"{c.max_service_s:.3g}",
                c.breaks_first,
                f"{c.tier.price():,.0f}",
                f"{self.per_thousand(c.tier.price()):.3f}",
            )
            for c in self.checks
        ]

    def __str__(self) -> str:
        lines = ["; ".join(row) for row in self.rows()]
        return "\n".join([self.title, *lines, self.advice, *(f"! {warning}" for warning in self.warnings)])

    def __repr__(self) -> str:
        return f"<Plan: {self.title}>"

    def _repr_html_(self) -> str:
        return table_html(HEADER, self.rows(), title=self.title, notes=[self.advice, *self.warnings])


def plan(
    work: Workload,
    tiers: Sequence[Tier] | None = None,
    slo: SLO | None = None,
    max_utilisation: float = 0.8,
    *,
    layout: Layout = System.default,
    workers: Sequence[int] | None = None,
    footprint: Footprint | None = None,
    replications: int = 30,
    seed: int = 1,
    executor: Executor | None = None,
    progress: ProgressCallback | None = None,
) -> Plan:
    """Simulates a day (or the week of the profile) for each tier's number of workers and for some others.

    The others are `workers`, or by default numbers around what is needed, up to 15 scenarios in all. `layout(n)` is the
    system with n workers; the default is the queue's own layout. A number of workers that cannot keep up with the mean
    rate is not simulated: its wait is infinite. `progress` is called with (scenarios done, all scenarios).

    Raises InvalidOption for a parameter out of range and SimulationFailed as `simulate` does.

        cap.plan(work, slo=cap.SLO("high", wait_p95_s=5)).table()
    """
    if not 0 < max_utilisation <= 1:
        raise InvalidOption(f"max_utilisation must be above 0 and at most 1, got {max_utilisation!r}")
    if work.trace is not None:
        raise InvalidOption("a plan needs a rate, not a trace: give the Workload a profile instead")
    offers = default_tiers() if tiers is None else tuple(tiers)
    if not offers:
        raise InvalidOption("tiers must hold at least one tier, got none")
    budget.afford(budget.need_of(layout(1), work, work.cycle_s), work, replications)
    objective, usage = slo or SLO(), footprint or Footprint()
    of_tiers = {tier.workers for tier in offers}
    chosen = counts(work, layout, max_utilisation, SCENARIOS - len(of_tiers)) if workers is None else set(workers)
    numbers = sorted(chosen | of_tiers)
    found: dict[int, Scenario] = {}
    for done, number in enumerate(numbers, start=1):
        found[number] = examine(
            work, layout, number, objective, replications=replications, seed=seed, executor=executor
        )
        if progress:
            progress(done, len(numbers))
    tier_checks = tuple(
        check(tier, found[tier.workers], work, layout, objective, max_utilisation, usage) for tier in offers
    )
    return Plan(work, objective, max_utilisation, tier_checks, tuple(found.values()), usage, replications, seed, layout)
