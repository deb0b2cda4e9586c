"""How many workers, which tier, what wait, what cost, what breaks first."""

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from dtqkit.capacity import advice, budget, checks, load
from dtqkit.capacity.html import table_html
from dtqkit.capacity.quotas import MONTH_DAYS, Footprint, quotas
from dtqkit.capacity.scenario import SCENARIOS, SLO, Layout, Scenario, counts, examine, fewest
from dtqkit.capacity.sensitivity import sensitivity
from dtqkit.capacity.simulate import Progress
from dtqkit.capacity.system import System
from dtqkit.capacity.tiercheck import TierCheck, check
from dtqkit.capacity.tiers import Tier, default_tiers
from dtqkit.capacity.workload import Workload

if TYPE_CHECKING:
    from dtqkit.capacity.plots import PlanPlots

BY = ("mean", "peak-hour", "simulated")
FEW_AT_FIRST = 5
LARGE_DOCUMENT_BYTES = 16_000
HEADER = (
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


@dataclass(frozen=True, eq=False)
class Plan:
    """Tiers and numbers of workers, held against an objective."""

    work: Workload
    slo: SLO
    max_utilisation: float
    checks: tuple[TierCheck, ...]
    scenarios: tuple[Scenario, ...]
    footprint: Footprint
    replications: int
    seed: int
    layout: Layout = field(repr=False)

    # how many

    def required_workers(self, by: str = "peak-hour") -> int | None:
        """The fewest workers whose utilisation is within the limit in the "mean" or in the "peak-hour", or whose
        "simulated" p95 meets the objective with its whole interval (None: no simulated number does)."""
        checks.one_of("by", by, BY)
        if by == "simulated":
            return next((s.workers for s in self.scenarios if s.meets(self.slo)), None)
        return fewest(self.work, self.layout, self.max_utilisation, peak=by == "peak-hour")

    @cached_property
    def recommended_workers(self) -> int:
        """Enough for the busiest hour and, where a simulated number meets it, for the objective."""
        by_load = fewest(self.work, self.layout, self.max_utilisation, peak=True)
        return max(by_load, self.required_workers("simulated") or 0)

    # at what cost

    def fitting(self, workers: int) -> tuple[Tier, ...]:
        """Tiers whose quotas hold with so many workers, the cheapest first."""
        system = self.layout(workers)
        fit = [
            c.tier
            for c in self.checks
            if all(quota.holds for quota in quotas(c.tier, self.work, system, self.footprint))
        ]
        return tuple(sorted(fit, key=lambda tier: tier.price(workers)))

    def price(self, workers: int) -> float:
        """$ a month with so many workers, on the cheapest tier whose quotas hold; infinite if none does."""
        fit = self.fitting(workers)
        return fit[0].price(workers) if fit else math.inf

    def per_thousand(self, price: float) -> float:
        """$ per 1,000 jobs, of a price a month."""
        return price / (self.work.jobs_per_day * MONTH_DAYS / 1000)

    @property
    def advice(self) -> str:
        """What to rent and what to expect of it."""
        n = self.recommended_workers
        system, found = self.layout(n), next((s for s in self.scenarios if s.workers == n), None)
        mean, peak = (load.utilisation(system, self.work, peak=p) for p in (False, True))
        text = f"{n} workers{self._at_first()}: {mean:.0%} busy in the mean, {peak:.0%} in the busiest hour."
        if found:
            waits = ", ".join(f"{p} {advice.duration(wait.value)}" for p, wait in found.waits_p95.items())
            text += f" 95 % of the jobs wait at most: {waits}."
        fit = self.fitting(n)
        if not fit:
            return f"Take {text} The quotas of no tier hold: see what breaks first."
        tier, price = fit[0], fit[0].price(n)
        return (
            f"Take {text} With MongoDB {tier.mongodb} and Redis {tier.redis} (as tier '{tier.name}'): "
            f"${price:,.0f} a month, ${self.per_thousand(price):.3f} per 1,000 jobs. {self._if_it_doubles()}"
        )

    def _at_first(self) -> str:
        """Nobody should rent for traffic that is not there yet."""
        if self.recommended_workers <= FEW_AT_FIRST:
            return ""
        return (
            f" for the full {self.work.jobs_per_day:,.0f} jobs a day (start with {FEW_AT_FIRST} and add more as the "
            "traffic comes and the measured wait asks for it)"
        )

    def _if_it_doubles(self) -> str:
        twice = self.work.scaled(jobs_per_day=2 * self.work.jobs_per_day)
        n = fewest(twice, self.layout, self.max_utilisation, peak=True)
        system = self.layout(n)
        fit = [
            c.tier.price(n) for c in self.checks if all(q.holds for q in quotas(c.tier, twice, system, self.footprint))
        ]
        cost = f"${min(fit):,.0f} a month" if fit else "the quotas of no tier would hold"
        return f"If the jobs double: {n} workers, {cost}."

    @property
    def warnings(self) -> tuple[str, ...]:
        found = [f"tier '{c.tier.name}' does not hold: {reason}" for c in self.checks for reason in c.reasons]
        found += self.work.summary().warnings
        found += advice.general(self.layout(self.recommended_workers), self.work)
        by_mean = fewest(self.work, self.layout, self.max_utilisation, peak=False)
        if by_mean <= self.recommended_workers * 2 / 3:
            found.append(
                f"the mean rate alone needs {by_mean} workers: autoscaling saves the rest outside the busiest hours"
            )
        if self.footprint.document_bytes > LARGE_DOCUMENT_BYTES:
            found.append("no large files in MongoDB: store them elsewhere and keep a link in the job")
        return tuple(found)

    # as tables

    def table(self) -> pd.DataFrame:
        """A row a tier."""
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
        """A row a number of workers: utilisation, p95 wait (s) with its interval, price."""
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
        """A row a tier and quota: used, limit, share, and the day on which it runs out (None: it does not)."""
        today = start or date.today()  # noqa: DTZ011 - a person plans by the local calendar
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
        """The objective's p95 wait (s) with the recommended workers, one input lower and higher at a time."""
        return sensitivity(
            self.work,
            self.layout,
            self.recommended_workers,
            self.slo,
            replications=replications,
            seed=self.seed,
            executor=executor,
        )

    # how it shows itself

    @property
    def plot(self) -> "PlanPlots":
        from dtqkit.capacity.plots import PlanPlots

        return PlanPlots(self)

    @property
    def title(self) -> str:
        return f"{self.work.jobs_per_day:,.0f} jobs a day of {self.work.mean_service_s:.3g} s; objective: {self.slo}"

    def rows(self) -> list[tuple[str, ...]]:
        """The table as text, under HEADER."""
        return [
            (
                c.tier.name,
                "holds" if c.holds else "does not hold",
                str(c.tier.workers),
                f"{c.scenario.utilisation:.0%} / {c.scenario.peak_utilisation:.0%}",
                "without end" if math.isinf(c.scenario.wait_p95.value) else f"{c.scenario.wait_p95:.3g}",
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
    progress: Progress | None = None,
) -> Plan:
    """Simulates a day for each tier and for other numbers of workers: `workers`, or what is needed and some around it,
    15 in all.

    `layout(n)` is the system with n workers; the default is the queue's own. Numbers that cannot keep up in
    the mean are not simulated, their wait is without end. `progress` is called with (scenarios done, scenarios).
    Raises SimulationFailed as `simulate` does.
    """
    if not 0 < max_utilisation <= 1:
        raise ValueError(f"max_utilisation must be above 0 and at most 1, got {max_utilisation!r}")
    if work.trace is not None:
        raise ValueError("a plan needs a rate and not a trace: give the Workload a profile instead")
    offers = default_tiers() if tiers is None else tuple(tiers)
    if not offers:
        raise ValueError("tiers must hold at least one tier, got none")
    budget.afford(budget.need_of(layout(1), work, work.cycle_s), work, replications)
    objective, print_ = slo or SLO(), footprint or Footprint()
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
        check(tier, found[tier.workers], work, layout, objective, max_utilisation, print_) for tier in offers
    )
    return Plan(
        work, objective, max_utilisation, tier_checks, tuple(found.values()), print_, replications, seed, layout
    )
