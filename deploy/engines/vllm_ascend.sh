#!/bin/bash
# Makes the expert map that vllm-ascend takes at its start.
set -euo pipefail
. "$(dirname "$0")/rebalance.sh"

usage() {
  cat <<'TEXT'
usage: vllm_ascend.sh LOADS... --gpus N --replicas P [more options of trimtab rebalance]

LOADS are loads of the MoE layers alone, in any format that `trimtab convert --help` lists; of files that count dense layers
too, choose with --layers 3-60. The map has P slots on N devices. One that is there already, as vllm-ascend records it by
expert_map_record_path, is taken to be in force: then few experts move, --max-moves says how many at most.

settings, from the environment:
  OUTPUT  expert_map.json

examples:
  vllm_ascend.sh loads.npz --gpus 32 --replicas 288
  vllm_ascend.sh recorded.pt --layers 3-60 --gpus 32 --replicas 288 --target placement:50051
  OUTPUT=next.json vllm_ascend.sh loads.npz --previous expert_map.json --max-moves 900
TEXT
}

case ${1:-} in '' | -h | --help) usage; exit 0 ;; esac
output=${OUTPUT:-expert_map.json}
rebalance "$output" "$@" --output-format vllm-ascend
cat <<TEXT

Start the engine with
--additional-config '{"eplb_config": {"expert_map_path": "$output"}}'
TEXT
