"""Whether a tier is enough for a workload, and which limit is reached first."""

import math

import msgspec

from dtqkit.capacity import load
from dtqkit.capacity.advice import instability, peak_hour
from dtqkit.capacity.quotas import Footprint, Quota, quotas
from dtqkit.capacity.scenario import SLO, Layout, Scenario
from dtqkit.capacity.tiers import Tier
from dtqkit.capacity.workload import Workload


class TierCheck(msgspec.Struct, frozen=True):
    """One tier under the plan's workload."""

    tier: Tier
    scenario: Scenario
    quotas: tuple[Quota, ...]
    #: Why the tier is not enough; empty if it is.
    reasons: tuple[str, ...]
    #: The largest mean service time (s) that its workers carry at the plan's `max_utilisation`, at the mean rate.
    max_service_s: float

    @property
    def holds(self) -> bool:
        return not self.reasons

    @property
    def breaks_first(self) -> str:
        """The limit that is reached first, and when."""
        if self.scenario.utilisation >= 1:
            return "workers, at once"
        if self.scenario.peak_utilisation >= 1:
            return "workers, in the busiest hour"
        over = sorted((quota for quota in self.quotas if not quota.holds), key=lambda quota: quota.days)
        if over:
            return over[0].name + (f", after {over[0].days:.1f} days" if over[0].days else ", at once")
        return "the wait or utilisation asked for" if self.reasons else "nothing"


def check(
    tier: Tier,
    scenario: Scenario,
    work: Workload,
    layout: Layout,
    slo: SLO,
    max_utilisation: float,
    footprint: Footprint,
) -> TierCheck:
    system = layout(tier.workers)
    found = quotas(tier, work, system, footprint)
    reasons = [text for text in (instability(system, work), peak_hour(system, work)) if text]
    if not reasons:
        if scenario.peak_utilisation > max_utilisation:
            reasons.append(
                f"utilisation reaches {scenario.peak_utilisation:.0%} (asked for: at most {max_utilisation:.0%})"
            )
        if not scenario.meets(slo):
            reasons.append(
                f"p95 wait of {slo.priority} jobs is {scenario.wait_p95:.3g} s (asked for: {slo.wait_p95_s:g} s)"
            )
    reasons += [str(quota) for quota in found if not quota.holds]
    carried = work.mean_service_s * max_utilisation / load.utilisation(system, work)
    return TierCheck(tier, scenario, found, tuple(reasons), carried if math.isfinite(carried) else 0.0)
