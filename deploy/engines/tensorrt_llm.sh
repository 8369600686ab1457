#!/bin/bash
# Makes TensorRT-LLM's load balancer configuration from the expert statistics of a run.
set -euo pipefail
. "$(dirname "$0")/rebalance.sh"

usage() {
  cat <<'TEXT'
usage: tensorrt_llm.sh STATISTICS --gpus N --replicas P [more options of trimtab rebalance]

STATISTICS is the folder that a run with EXPERT_STATISTIC_PATH=STATISTICS EXPERT_STATISTIC_ITER_RANGE=100-200 wrote. The
configuration places P slots on N ranks, and changes nothing while the engine runs. One that is there already is taken to be
in force: then few experts move, --max-moves says how many at most.

settings, from the environment:
  OUTPUT  moe_load_balancer.yaml

examples:
  tensorrt_llm.sh expert_statistic --gpus 36 --replicas 288
  OUTPUT=next.yaml tensorrt_llm.sh expert_statistic --gpus 36 --previous moe_load_balancer.yaml --max-moves 900
TEXT
}

case ${1:-} in '' | -h | --help) usage; exit 0 ;; esac
output=${OUTPUT:-moe_load_balancer.yaml}
rebalance "$output" "$@"
cat <<TEXT

Start the engine with, in its options file:
moe_config:
    backend: WIDEEP
    load_balancer: $output
TEXT
