#!/usr/bin/env bash
# One process per GPU, or per node, on a Slurm cluster; submit from the
# repository:
#   sbatch --nodes=2 launch/slurm.sh --config=configs/blim.py:msrvtt \
#     --workdir=/shared/blim
#   sbatch --nodes=2 --ntasks-per-node=1 --cpus-per-task=64 launch/slurm.sh ...
# The first starts 8 processes a node, each with the GPU of its local rank; the
# second one, with all GPUs of the node. The workdir and the data must be on a
# file system that all nodes see. JAX finds its coordinator and its GPUs from
# Slurm's environment.
# SIGTERM, which Slurm sends two minutes before the time limit and before it
# takes the nodes for another job, saves a checkpoint and ends the run with 130;
# the job then goes back into the queue and goes on where it stopped.
# Environment: PYTHON (default .venv/bin/python), JAXRET_MODULE (default
# jaxret.main), JAXRET_REQUEUE=0 to end instead of going back.
#SBATCH --job-name=jaxret
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -eu
cd "${SLURM_SUBMIT_DIR:-.}"
# All of the node's cores belong to the processes that read data.
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-.95}
# The steps are told as well; this shell only has to outlive them.
trap : TERM
code=0
srun --label --kill-on-bad-exit=1 \
  "${PYTHON:-.venv/bin/python}" -m "${JAXRET_MODULE:-jaxret.main}" \
  --distributed "$@" || code=$?
if [[ $code == 130 && ${JAXRET_REQUEUE:-1} == 1 ]]; then
  echo "stopped by a signal: back into the queue"
  exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
