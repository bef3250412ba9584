"""The dashboard "Tokentide: recommendation audit": why each number was advised, and whether it was right."""

from __future__ import annotations

from typing import Any

from builder import LEGEND, POOL, Add, Layout, dashboard, gauge, query, row, series, state_timeline, table
from spikes import spikes

__all__ = ["audit_board"]

_CLOCK = "tokentide_clock_timestamp_seconds - on (instance) group_right ()"


def _why(add: Add) -> None:
    """State, reason and what binds."""
    add(row("Why"), 24, 1)
    newest = f"max by (model, pool) (tokentide_recommended_replicas{{{POOL}}})"
    labels = (
        ("state", "tokentide_recommendation_state"),
        ("reason", "tokentide_recommendation_reason"),
        ("constraint", "tokentide_recommendation_constraint"),
    )
    add(
        table(
            "Newest advice",
            "The recommendation, its state, its reason, and the resource that limits capacity.",
            [
                ("advised", query(newest), "none"),
                (
                    "lead time",
                    query(f"max by (model, pool) (tokentide_recommendation_horizon_seconds{{{POOL}}})"),
                    "s",
                ),
                (
                    "confidence",
                    query(f"max by (model, pool) (tokentide_recommendation_confidence_ratio{{{POOL}}})"),
                    "percentunit",
                ),
                (
                    "valid for",
                    query(
                        f"-1 * min by (model, pool) ({_CLOCK} "
                        f"tokentide_recommendation_expiry_timestamp_seconds{{{POOL}}})"
                    ),
                    "s",
                ),
                (
                    "age",
                    query(f"min by (model, pool) ({_CLOCK} tokentide_recommendation_timestamp_seconds{{{POOL}}})"),
                    "s",
                ),
                *(
                    ("", query(f"max by (model, pool, {label}) ({metric}{{{POOL}}}) == 1"), "none")
                    for label, metric in labels
                ),
            ],
            [],
        ),
        24,
        8,
    )
    for title, description, metric, label in (
        (
            "State of the advice",
            "Never scale down on a state other than fresh.",
            "tokentide_advice_state",
            "state",
        ),
        ("Reason", "Why the advice is what it is.", "tokentide_recommendation_reason", "reason"),
        ("What binds", "The resource that decides.", "tokentide_recommendation_constraint", "constraint"),
        ("Limits", "Which limit changed the advice.", "tokentide_recommendation_clamped", "by"),
        (
            "Input problems",
            "Checks of the inputs that hold the recommendation. While one fails, the recommendation is not lowered.",
            "tokentide_recommendation_input_problem",
            "check",
        ),
    ):
        add(
            state_timeline(title, description, [gauge(metric, f"{{{{{label}}}}} {LEGEND}", by=label, where="== 1")]),
            12,
            7,
        )
    add(
        series(
            "Changes of the advice",
            "Changes of the recommendation per minute, by direction and reason; and those raised between two windows.",
            [
                query(
                    "60 * sum by (direction, reason) (rate(tokentide_recommendation_changes_total"
                    f"{{{POOL}}}[$__rate_interval]))",
                    "{{direction}}: {{reason}}",
                ),
                query(
                    f"60 * sum(rate(tokentide_recommendation_revisions_total{{{POOL}}}[$__rate_interval]))",
                    "between two windows",
                ),
            ],
            "cpm",
        ),
        12,
        7,
    )
    add(
        series(
            "Generation",
            "Number that grows whenever the recommendation changes. Act once on each new number.",
            [gauge("tokentide_recommendation_generation")],
            stepped=True,
        ),
        12,
        7,
    )
    add(
        series(
            "Lead time",
            "The lead time used for planning, and the 90 % quantile of the observed start-up times.",
            [
                gauge("tokentide_lead_time_seconds", f"lead time {LEGEND}"),
                gauge("tokentide_start_up_p90_seconds", f"start-up {LEGEND}"),
            ],
            "s",
        ),
        12,
        7,
    )


def _past(add: Add) -> None:
    """How advice turned out, once the time had come for which it was given."""
    add(row("Was it right"), 24, 1)
    for title, description, targets, unit in (
        (
            "Too low, too high",
            "Share of the recommendations of the last day with fewer or with more replicas than the demand needed.",
            [
                gauge("tokentide_advice_too_low_ratio", f"too low {LEGEND}", matchers='span="1d"'),
                gauge("tokentide_advice_too_high_ratio", f"too high {LEGEND}", matchers='span="1d"'),
            ],
            "percentunit",
        ),
        (
            "Interval coverage",
            "Share of the recommendations whose interval contained the replicas that the demand needed; the aim is 90 "
            "%.",
            [gauge("tokentide_advice_interval_coverage_ratio", f"{{{{span}}}} {LEGEND}", by="span")],
            "percentunit",
        ),
        (
            "Regret",
            "Replica-seconds of the last day that were recommended below and above what the demand needed.",
            [
                gauge(
                    "tokentide_advice_regret_replica_seconds",
                    f"{{{{side}}}} {LEGEND}",
                    by="side",
                    matchers='span="1d"',
                )
            ],
            "s",
        ),
        (
            "Unserved requests",
            "Requests beyond the capacity of the recommended replicas.",
            [gauge("tokentide_advice_unserved_requests", f"{{{{span}}}} {LEGEND}", by="span")],
            "short",
        ),
        (
            "Advice followed, and in time",
            "Share of recommendations to scale up whose replicas ran, or were starting, when their time came; and "
            "of these the share whose replicas all served requests by then.",
            [
                gauge("tokentide_advice_followed_ratio", f"followed, {{{{span}}}} {LEGEND}", by="span"),
                gauge("tokentide_advice_lead_time_met_ratio", f"in time, {{{{span}}}} {LEGEND}", by="span"),
            ],
            "percentunit",
        ),
        (
            "Advice scored",
            "Number of recommendations whose time came within the span, so that they were scored.",
            [gauge("tokentide_advice_scored", f"{{{{span}}}} {LEGEND}", by="span")],
            "short",
        ),
    ):
        add(series(title, description, targets, unit), 8, 7)


def audit_board() -> dict[str, Any]:
    """Return the dashboard.

    Raises:
        DashboardError: an expression names a metric or label that the catalogue does not have.
    """
    layout = Layout()
    for section in (_why, _past):
        section(layout.add)
    return dashboard(
        "tokentide-audit",
        "Tokentide: recommendation audit",
        "Why replicas are recommended, and whether past recommendations were right. Generated by "
        "dashboards/generate.py.",
        layout,
        [spikes(POOL)],
    )
