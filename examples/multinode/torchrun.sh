#!/usr/bin/env bash
# Trains on several machines. Run the same line on every one of them:
#
#   NODES=2 DEVICES=8 HEAD=node1:29500 examples/multinode/torchrun.sh --config asym_unet_mct --data.prepared /shared/prepared
#
# NODES    how many machines, DEVICES  processes (GPUs) on each, HEAD  host:port of any one of them.
# All machines need the same package version and the same paths. If one process dies, torchrun ends all of them; start
# again with --resume auto added, and training goes on from the last checkpoint.
set -euo pipefail
: "${NODES:?how many machines}" "${DEVICES:?processes on each}" "${HEAD:?host:port of one of the machines}"

exec torchrun --nnodes "$NODES" --nproc-per-node "$DEVICES" \
    --rdzv-backend c10d --rdzv-endpoint "$HEAD" --rdzv-id "${RUN:-frame-transformer}" \
    --no-python frame-transformer train \
    --trainer.num_nodes "$NODES" --trainer.devices "$DEVICES" "$@"
