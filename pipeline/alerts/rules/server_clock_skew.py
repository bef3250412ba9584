"""The clock of an inference server is off."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule, Panel, RuleCase

_OFFSET = "max by (server) (abs(tokentide_server_clock_offset_seconds))"

RULE = AlertRule(
    name="server_clock_skew",
    alert="TokentideServerClockSkew",
    group="losses",
    severity="warning",
    summary="The clock of an inference server is off by more than <offset_seconds> s.",
    description=(
        "The clock of server {{ $labels.server }} is off by {{ $value | humanizeDuration }}. Repair the time "
        "synchronisation (NTP, PTP) of that server."
    ),
    expr=f"{_OFFSET} > <offset_seconds>",
    for_seconds=600,
    thresholds={"offset_seconds": 5},
    panel=Panel(
        title="Clock offsets of servers",
        description="Estimated offset of servers whose clocks are off; the alert fires beyond <offset_seconds> s for "
        "10 minutes.",
        expr="max by (server) (tokentide_server_clock_offset_seconds)",
        legend="{{server}}",
        unit="s",
    ),
    cases=(
        RuleCase(
            name="one server falls behind, another is within the tolerance, a third is off for a moment",
            series={
                'tokentide_server_clock_offset_seconds{server="gpu-7",instance="a"}': "-1x10 -55x30 _x20",
                'tokentide_server_clock_offset_seconds{server="gpu-8",instance="a"}': "4.5x60",
                'tokentide_server_clock_offset_seconds{server="gpu-9",instance="a"}': "0x10 30x5 0x45",
            },
            silent_at=(10, 19, 50),
            fires_at=(25,),
            labels={"server": "gpu-7"},
            description=(
                "The clock of server gpu-7 is off by 55s. Repair the time synchronisation (NTP, PTP) of that server."
            ),
        ),
    ),
)
