#!/usr/bin/env bash
# Builds the container image and runs it once. Environment:
#   ENGINE      docker (default) or podman
#   IMAGE       name and tag, default frame-transformer:VERSION
#   CUDA_IMAGE  base image, e.g. nvidia/cuda:12.8.1-base-ubuntu24.04@sha256:...
#   EXTRAS      extras to install, default train,web
# Further arguments go to "docker build".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

engine=${ENGINE:-docker}
command -v "$engine" >/dev/null || { echo "build.sh: $engine is not installed; set ENGINE" >&2; exit 1; }
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
image=${IMAGE:-frame-transformer:$version}

arguments=()
[ -z "${CUDA_IMAGE:-}" ] || arguments+=(--build-arg "CUDA_IMAGE=$CUDA_IMAGE")
[ -z "${EXTRAS:-}" ] || arguments+=(--build-arg "EXTRAS=$EXTRAS")
"$engine" build --tag "$image" "${arguments[@]}" "$@" .
"$engine" run --rm "$image" env-info
echo "built $image"
