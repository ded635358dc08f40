#!/usr/bin/env bash
# Starts N CPU processes on this machine that train or evaluate one model over
# one mesh:
#   launch/local.sh N --config=configs/blim.py [--config.x=y ...]
# Each line is prefixed by its process. When one process fails the others are
# ended and its exit code is returned; Ctrl-C saves a checkpoint and stops all.
# Environment: PYTHON (default .venv/bin/python, or python where there is none),
# JAXRET_MODULE (default jaxret.main), JAX_PLATFORMS (default cpu).
set -u
if [[ ! ${1:-} =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: launch/local.sh N [flags of python -m jaxret.main]" >&2
  exit 1
fi
n=$1
shift
python=python
if [[ -x .venv/bin/python ]]; then python=.venv/bin/python; fi
python=${PYTHON:-$python}
port=$("$python" -c 'import socket
with socket.socket() as s:
  s.bind(("127.0.0.1", 0))
  print(s.getsockname()[1])') || exit 1
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
export JAXRET_COORDINATOR=127.0.0.1:$port JAXRET_NUM_PROCESSES=$n
pids=()

prefixed() {
  local line
  while IFS= read -r line || [[ -n $line ]]; do
    printf '[%d] %s\n' "$1" "$line"
  done
}

# Gives the processes some seconds to save and leave, then ends them.
stop_all() {
  local signal=$1 seconds=$2 i
  exec 2> /dev/null # bash would report each process that it ended
  kill "-$signal" "${pids[@]}" 2>/dev/null
  for ((i = 0; i < seconds * 10; i++)); do
    kill -0 "${pids[@]}" 2>/dev/null || return
    sleep 0.1
  done
  kill -KILL "${pids[@]}" 2>/dev/null
}

interrupted() {
  trap '' INT TERM
  stop_all TERM 60
  exit 130
}

trap interrupted INT TERM
# Prefixing must outlive Ctrl-C, to show what the processes say last.
for ((i = 0; i < n; i++)); do
  JAXRET_PROCESS_ID=$i "$python" -m "${JAXRET_MODULE:-jaxret.main}" "$@" \
    > >(trap '' INT TERM; prefixed "$i") \
    2> >(trap '' INT TERM; prefixed "$i" >&2) &
  pids+=($!)
done
while ((${#pids[@]})); do
  for i in "${!pids[@]}"; do
    kill -0 "${pids[i]}" 2>/dev/null && continue
    wait "${pids[i]}"
    code=$?
    unset "pids[i]"
    if ((code)); then
      if ((${#pids[@]})); then stop_all KILL 2; fi
      exit "$code"
    fi
  done
  sleep 0.1
done
