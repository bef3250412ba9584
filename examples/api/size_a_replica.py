"""How much does one replica carry, and what keeps it from more?"""

from sizing import Deployment, Slo, Workload, operating_point

deployment = Deployment(model="llama-3.1-8b", gpu="H100-SXM", precision="bf16")
point = operating_point(
    deployment,
    Workload(input_tokens=2000, output_tokens=300),
    Slo(ttft_seconds=1.0, tpot_seconds=0.05, percentile=0.95),
)
print(f"{point.requests_per_second:.1f} requests/s per replica; {point.message}")
