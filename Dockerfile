# The server, as an image: `docker build --build-arg VARIANT=cpu .`
#
# VARIANT=cpu asks for torch's CPU build, which comes from torch's own index or from a folder of wheels: name it with
# PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS. VARIANT=cuda takes the build with CUDA, some gigabytes of it.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS builder
ARG VARIANT=cpu
ARG TORCH_VERSION=2.13.0
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN case "${VARIANT}" in \
      cpu) torch="torch==${TORCH_VERSION}+cpu" ;; \
      cuda) torch="torch==${TORCH_VERSION}" ;; \
      *) echo "VARIANT must be cpu or cuda, got ${VARIANT}" >&2; exit 1 ;; \
    esac \
    && python3 -m venv /opt/trimtab \
    && /opt/trimtab/bin/pip install "${torch}"
# What changes with every commit comes after what takes minutes
COPY pyproject.toml README.md LICENSE deploy/locked.txt ./
COPY client client
COPY server server
RUN if [ "${VARIANT}" = cuda ]; then extras="server,cuda"; else extras="server"; fi \
    && /opt/trimtab/bin/pip install --constraint locked.txt ".[${extras}]"
# Compiled here, so that no start waits for it; for any CPU, since the one that runs it is another
ENV NUMBA_CACHE_DIR=/opt/trimtab/kernels NUMBA_CPU_NAME=generic
RUN /opt/trimtab/bin/python -c "from trimtab_server.solvers.cpu_packer import CpuPacker; CpuPacker()" \
    && /opt/trimtab/bin/python -c "from trimtab_server.solvers.cpu_searcher import CpuSearcher; CpuSearcher()"

FROM ${PYTHON_IMAGE} AS runtime
ARG VERSION=unknown
LABEL org.opencontainers.image.title="trimtab" \
      org.opencontainers.image.description="A placement service for Mixture-of-Experts serving clusters, over gRPC" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# Triton compiles a launcher with the machine's C compiler when it first meets a shape
ARG VARIANT=cpu
RUN if [ "${VARIANT}" = cuda ]; then \
      apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; \
    fi
RUN groupadd --system --gid 10001 trimtab \
    && useradd --system --uid 10001 --gid trimtab --home-dir /nonexistent --shell /usr/sbin/nologin trimtab
COPY --from=builder /opt/trimtab /opt/trimtab
# It listens for other machines, and so starts with TLS alone (TRIMTAB_TLS_CERT and TRIMTAB_TLS_KEY name mounted files),
# or with TRIMTAB_ALLOW_PLAINTEXT=true where the network is trusted: whoever runs it says so, not the image.
#
# Answers above 128 KiB would map and unmap memory each time (ten times slower to build): glibc keeps it instead
ENV MALLOC_TRIM_THRESHOLD_=67108864 \
    MALLOC_MMAP_THRESHOLD_=33554432 \
    NUMBA_CACHE_DIR=/opt/trimtab/kernels \
    NUMBA_CPU_NAME=generic \
    TRITON_CACHE_DIR=/tmp/triton \
    PATH=/opt/trimtab/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    TRIMTAB_LISTEN=0.0.0.0:50051 \
    TRIMTAB_METRICS_LISTEN=0.0.0.0:9095 \
    TRIMTAB_LOG_FORMAT=json
# By number, so that Kubernetes can see that it is not root
USER 10001:10001
EXPOSE 50051 9095
# The server drains on it: health says NOT_SERVING, taken work is finished
STOPSIGNAL SIGTERM
ENTRYPOINT ["trimtab-server"]
