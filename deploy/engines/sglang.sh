#!/bin/bash
# Records what a running SGLang server routes, and makes the placement that its next start takes.
set -euo pipefail
. "$(dirname "$0")/rebalance.sh"

usage() {
  cat <<'TEXT'
usage: sglang.sh --gpus N --replicas P [more options of trimtab rebalance]

Records what a SGLang server routes under its real traffic, and writes a placement of P slots on N GPUs. One that is there
already is taken to be in force: then few experts move, --max-moves says how many at most. The server has to run on this
machine with
  SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR=FOLDER ... --expert-distribution-recorder-mode stat

settings, from the environment:
  SGLANG_URL                               http://127.0.0.1:30000
  SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR  /tmp, as SGLang has it
  RECORD_SECONDS                           300
  OUTPUT                                   placement.json

examples:
  sglang.sh --gpus 32 --replicas 288
  RECORD_SECONDS=60 OUTPUT=next.json sglang.sh --gpus 32 --previous placement.json --max-moves 1800 --target placement:50051
TEXT
}

case ${1:-} in '' | -h | --help) usage; exit 0 ;; esac
url=${SGLANG_URL:-http://127.0.0.1:30000}
dumps=${SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR:-/tmp}
seconds=${RECORD_SECONDS:-300}
output=${OUTPUT:-placement.json}
[ -d "$dumps" ] || fail "there is no folder $dumps; SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR must be that of the server"

tell_server() {
  curl --fail --silent --show-error --max-time 120 --request POST "$url/$1_expert_distribution_record" >/dev/null ||
    fail "the server at $url can't $1 a record; does it run with --expert-distribution-recorder-mode stat?"
}

begin=$(mktemp)
trap 'rm -f "$begin"' EXIT
tell_server start
echo "recording for $seconds s ..." >&2
sleep "$seconds"
tell_server stop
tell_server dump

mapfile -d '' -t recorded < <(
  find "$dumps" -maxdepth 1 -name 'expert_distribution_recorder_*.pt' -newer "$begin" -print0 | sort -z
)
[ ${#recorded[@]} -gt 0 ] || fail "no new dump in $dumps; SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR must be that of the server"
rebalance "$output" "${recorded[@]}" "$@"
cat <<TEXT

Start the server with --init-expert-location $output, and with as many slots by --ep-num-redundant-experts.
TEXT
