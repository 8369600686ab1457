# The server, as an image: `make image`, or `docker build .` where there is Docker.
#
# VARIANT=cpu asks for torch's CPU build, which comes from torch's own index or from a folder of wheels: name it with
# PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS. VARIANT=cuda takes the build with CUDA, some gigabytes of it.
#
# It runs as any user id on a read-only root; what it writes goes to /tmp, which has to be a tmpfs then, and one that
# may hold programs for Triton (Docker: --tmpfs /tmp:exec).
ARG PYTHON_IMAGE=python:3.12-slim

# checkov:skip=CKV_DOCKER_7:the tag stands in PYTHON_IMAGE, so that a build can name another base
FROM ${PYTHON_IMAGE} AS builder
ARG VARIANT=cpu
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_PROGRESS_BAR=off
WORKDIR /build
COPY deploy/locked.txt deploy/
# Tools that are not shipped install into an environment that has none; the SBOM is of that one
RUN torch="$(grep '^torch==' deploy/locked.txt)" \
    && case "${VARIANT}" in \
      cpu) torch="${torch}+cpu" ;; \
      cuda) ;; \
      *) echo "VARIANT must be cpu or cuda, got ${VARIANT}" >&2; exit 1 ;; \
    esac \
    && python3 -m venv --without-pip /opt/trimtab \
    && python3 -m venv tools \
    && tools/bin/pip install 'cyclonedx-bom>=7,<8' \
    && tools/bin/pip --python /opt/trimtab/bin/python install --constraint deploy/locked.txt "${torch}"
# What changes with every commit comes after what takes minutes
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY server server
COPY deploy/image/finish.sh deploy/image/
RUN if [ "${VARIANT}" = cuda ]; then extras="server,otel,cuda"; else extras="server,otel"; fi \
    && tools/bin/pip --python /opt/trimtab/bin/python install --constraint deploy/locked.txt ".[${extras}]"
# Compiled for any CPU, since the one that runs it is another
ENV NUMBA_CACHE_DIR=/opt/trimtab/kernels NUMBA_CPU_NAME=generic
RUN sh deploy/image/finish.sh

FROM ${PYTHON_IMAGE} AS runtime
ARG VARIANT=cpu
# Triton compiles a launcher with the machine's C compiler when it first meets a shape
# hadolint ignore=DL3008 # the base image's release decides the compiler, and its archive keeps no old versions
RUN groupadd --gid 10001 trimtab \
    && useradd --uid 10001 --gid trimtab --no-log-init --no-create-home --home-dir /nonexistent \
      --shell /usr/sbin/nologin trimtab \
    && if [ "${VARIANT}" = cuda ]; then \
      apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; \
    fi
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
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="trimtab" \
      org.opencontainers.image.description="A placement service for Mixture-of-Experts serving clusters, over gRPC" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
# By number, so that Kubernetes can see that it is not root
USER 10001:10001
EXPOSE 50051 9095
# The server drains on it: health says NOT_SERVING, taken work is finished
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["trimtab-server", "--probe"]
ENTRYPOINT ["trimtab-server"]
