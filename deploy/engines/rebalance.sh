# shellcheck shell=bash
# What the engines' scripts share; sourced by them.

fail() {
  echo "$(basename "$0"): $1" >&2
  exit 2
}

# rebalance OUTPUT OPTIONS...: by `trimtab rebalance`, from the placement at OUTPUT where there is one and no other is named
rebalance() {
  local output=$1
  shift
  local previous=()
  if [ -s "$output" ] && [[ " $* " != *" --previous "* && " $* " != *" --from-nothing "* ]]; then
    previous=(--previous "$output")
  fi
  trimtab rebalance "$@" "${previous[@]}" -o "$output"
}
