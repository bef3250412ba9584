"""How many replicas does a demand need, given its quantiles?"""

from sizing import Demand, Deployment, PolicyConfig, Slo, Workload, plan

demand = Demand(
    levels=(0.1, 0.5, 0.9, 0.95),
    requests_per_second=(12.0, 18.0, 26.0, 31.0),
    workload=Workload(input_tokens=2000, output_tokens=300),
    horizon_seconds=300.0,
)
found = plan(
    demand,
    Deployment(model="llama-3.1-8b", gpu="H100-SXM", precision="bf16"),
    Slo(ttft_seconds=1.0, tpot_seconds=0.05, percentile=0.95),
    PolicyConfig(min_replicas=1, max_replicas=16),
)
print(f"{found.desired} replicas ({found.lower} to {found.upper}): {found.message}")
