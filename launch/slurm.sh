#!/usr/bin/env bash
# One process per GPU on a Slurm cluster; submit from the repository:
#   sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 launch/slurm.sh \
#     --config=configs/blim.py:msrvtt --workdir=/shared/blim
# The workdir and the data must be on a file system that all nodes see. JAX
# finds its coordinator and its GPU from Slurm's environment. On SIGTERM, which
# Slurm sends two minutes before the time limit, a checkpoint is saved; submit
# the same command again to go on.
#SBATCH --job-name=jaxret
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%j.log
set -eu
cd "${SLURM_SUBMIT_DIR:-.}"
exec srun --label --kill-on-bad-exit=1 \
  "${PYTHON:-.venv/bin/python}" -m jaxret.main --distributed "$@"
