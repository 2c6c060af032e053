# syntax=docker/dockerfile:1
# The wheels of PyTorch bring their own CUDA libraries, so the small "base" image, which tells the container runtime
# which driver it needs, is enough. Name a digest after the tag (tag@sha256:...) to pin the image itself.
ARG CUDA_IMAGE=nvidia/cuda:12.8.1-base-ubuntu24.04
FROM ${CUDA_IMAGE}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Ubuntu drops superseded versions from its archive, so a pinned one stops building within weeks.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home separator \
    && mkdir /data \
    && chown separator /data

WORKDIR /opt/frame-transformer
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
ARG EXTRAS=train,web
# PyTorch, by far the largest layer, changes less often than the package.
COPY constraints.txt ./
RUN python3 -m venv /opt/venv && pip install --no-cache-dir torch -c constraints.txt
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY src src
RUN pip install --no-cache-dir ".[${EXTRAS}]" -c constraints.txt

USER 10001
WORKDIR /data
ENTRYPOINT ["frame-transformer"]
CMD ["--help"]
