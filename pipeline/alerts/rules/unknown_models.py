"""Events name models and pools that no settings know."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule, Panel, RuleCase
from pipeline.alerts.shares import share_above, share_of

_UNKNOWN, _ACCEPTED = "tokentide_events_unknown_model_total", "tokentide_events_accepted_total"

RULE = AlertRule(
    name="unknown_models",
    alert="TokentideUnknownModels",
    group="losses",
    severity="warning",
    summary="More than <share %> of the events name a model and pool without settings.",
    description=(
        "{{ $value | humanizePercentage }} of the events of the last 15 minutes belong to no configured pool. Read "
        "unknown_models in /v1/status, then add an alias or a pool to the settings."
    ),
    # Without any configured pool every model is unknown, and nobody waits for advice.
    expr=f"{share_above(_UNKNOWN, _ACCEPTED)} and count(tokentide_pool_info) > 0",
    for_seconds=900,
    thresholds={"share": 0.05, "least_events": 100},
    panel=Panel(
        title="Unknown models",
        description="Share of the events of models and pools without settings; the alert fires above <share %>.",
        expr=share_of(_UNKNOWN, _ACCEPTED),
    ),
    cases=(
        RuleCase(
            name="a fifth of the events is of a model that was renamed, until it is configured",
            series={
                f'{_ACCEPTED}{{instance="a"}}': "0+100x120",
                f'{_UNKNOWN}{{instance="a"}}': "0x20 0+20x40 800x60",
                'tokentide_pool_info{model="m",pool="p",accelerator="x",profile="y",instance="a"}': "1x120",
            },
            silent_at=(20, 90),
            fires_at=(60,),
            description=(
                "20% of the events of the last 15 minutes belong to no configured pool. Read unknown_models in "
                "/v1/status, then add an alias or a pool to the settings."
            ),
        ),
        RuleCase(
            name="no pool is configured at all",
            series={
                f'{_ACCEPTED}{{instance="a"}}': "0+100x60",
                f'{_UNKNOWN}{{instance="a"}}': "0+100x60",
            },
            silent_at=(60,),
        ),
    ),
)
