#!/usr/bin/env bash
# Runs one command on all workers of a Cloud TPU slice:
#   launch/tpu_pod.sh NAME ZONE --config=configs/blim.py:msrvtt --workdir=DIR
# Once before, on all workers, the repository with its environment:
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all --command='
#     git clone URL jaxret && cd jaxret && python3 -m venv .venv &&
#     .venv/bin/pip install -e .[tpu]'
# DIR and the data must be on a file system that all workers see.
# Environment: JAXRET_DIR (default jaxret), the repository on the workers.
set -eu
if (($# < 3)); then
  echo "usage: launch/tpu_pod.sh NAME ZONE --config=FILE [flags ...]" >&2
  exit 1
fi
name=$1
zone=$2
shift 2
flags=$(printf ' %q' "$@")
directory=$(printf '%q' "${JAXRET_DIR:-jaxret}")
program='.venv/bin/python -m jaxret.main --distributed'
exec gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
  --command="cd $directory && $program$flags"
