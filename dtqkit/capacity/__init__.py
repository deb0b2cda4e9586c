"""Capacity planning: how many workers, which tier, what wait, what cost, which limit is reached first, how certain.

    import dtqkit.capacity as cap

    work = cap.Workload(jobs_per_day=10_000, service=cap.Lognormal(mean=15, scv=1))
    cap.simulate(cap.System.default(5), work).ci("wait", q=.95, by="priority")
    cap.plan(work, slo=cap.SLO("high", wait_p95_s=5)).table()

Rates are in jobs/s or jobs/day, times in seconds. What a caller describes (Workload, System, Tier …) is a frozen
dataclass, to be varied with `dataclasses.replace`; what is computed (Result, Plan, Estimate …) is a frozen record. A
parameter out of range raises InvalidOption. Only plots and `explore` need matplotlib and ipywidgets.
"""

from typing import TYPE_CHECKING, Any

from dtqkit.model.errors import MissingExtra
from dtqkit.model.starting import SimulationFailed

try:
    from dtqkit.capacity.distributions import (
        Deterministic,
        Distribution,
        Empirical,
        Exponential,
        Gamma,
        HyperExponential,
        Lognormal,
        Scaled,
        Uniform,
        distribution,
    )
    from dtqkit.capacity.plan import Plan, plan
    from dtqkit.capacity.priority_theory import Classes, dedicated_mmc, priority_mg1, priority_mmc
    from dtqkit.capacity.profiles import HourOfDay, HourOfWeek
    from dtqkit.capacity.quotas import Footprint, Quota, quotas
    from dtqkit.capacity.results import Result
    from dtqkit.capacity.scenario import SLO
    from dtqkit.capacity.simulate import compare, simulate
    from dtqkit.capacity.statistics import Estimate, interval, mser5
    from dtqkit.capacity.system import Autoscale, Crashes, Latency, Retry, System
    from dtqkit.capacity.theory import Queue, md1_with_crashes, mdc, mg1, mgc, mmc, required_servers
    from dtqkit.capacity.tiers import Tier, default_tiers, load_tiers
    from dtqkit.capacity.workload import Trace, Workload
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("dtqkit"):
        raise
    raise MissingExtra("dtqkit.capacity", error.name.partition(".")[0], "capacity") from None

if TYPE_CHECKING:
    from dtqkit.capacity.sliders import explore

    TIERS: tuple[Tier, ...]

__all__ = [
    "SLO",
    "TIERS",
    "Autoscale",
    "Classes",
    "Crashes",
    "Deterministic",
    "Distribution",
    "Empirical",
    "Estimate",
    "Exponential",
    "Footprint",
    "Gamma",
    "HourOfDay",
    "HourOfWeek",
    "HyperExponential",
    "Latency",
    "Lognormal",
    "Plan",
    "Queue",
    "Quota",
    "Result",
    "Retry",
    "Scaled",
    "SimulationFailed",
    "System",
    "Tier",
    "Trace",
    "Uniform",
    "Workload",
    "compare",
    "dedicated_mmc",
    "default_tiers",
    "distribution",
    "explore",
    "interval",
    "load_tiers",
    "md1_with_crashes",
    "mdc",
    "mg1",
    "mgc",
    "mmc",
    "mser5",
    "plan",
    "priority_mg1",
    "priority_mmc",
    "quotas",
    "required_servers",
    "simulate",
]


def __getattr__(name: str) -> Any:
    """`TIERS` is read and `explore` is imported at first use."""
    if name == "TIERS":
        return default_tiers()
    if name == "explore":
        from dtqkit.capacity.sliders import explore

        return explore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
