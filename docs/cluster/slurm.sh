#!/usr/bin/env bash
# One worker on each of two machines with Slurm: sbatch docs/cluster/slurm.sh
# Photos, environment, output and cache lie in a folder that all machines see. A job that is put back into the queue goes on where it was.
#SBATCH --job-name=tfcnn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

SHARED=${SHARED:-$HOME/tfcnn}
export TFCNN_CACHE=$SHARED/cache

# srun tells each worker its number and the nodes, from which TensorFlow's resolver makes the addresses; TFCNN_PORT=... where 8888 is
# taken. When one worker ends with an error, the others are ended too.
srun --kill-on-bad-exit=1 "$SHARED/environment/bin/tfcnn" train "$SHARED/photos" \
    --backbone efficientnet_b0 --strategy multi_worker --batch-size 64 --rate-batch 32 \
    --checkpoint-minutes 10 --output "$SHARED/runs/$SLURM_JOB_NAME-$SLURM_JOB_ID" --resume
