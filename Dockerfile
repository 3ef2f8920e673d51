# The service as an image: `make image`, or `docker build -t sse-kit .` The pages docs/deploy/ say how to run it.
#
# Nothing is installed by the system's package manager: the first image has a compiler, the last has Python and nothing
# more. Everything from PyPI is pinned with its hashes in deploy/image/ (`make pins` renews them).

# Both of one Debian and one Python: what the first compiles the second runs. Name them by digest for a build that can be
# repeated to the byte.
ARG BUILD_IMAGE=docker.io/library/python:3.13-trixie
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie

# -- our wheel ------------------------------------------------------------------------------------------------------------
FROM ${BUILD_IMAGE} AS wheel

ENV PIP_CACHE_DIR=/var/cache/pip
RUN python3 -m venv /tools
COPY deploy/image/build.txt /src/deploy/image/
RUN --mount=type=cache,target=/var/cache/pip \
    /tools/bin/pip install --quiet --require-hashes --requirement /src/deploy/image/build.txt

WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY sse_core sse_core
COPY service service
# Data of the package, for `sse-kit nginx`.
COPY nginx nginx
# No isolation: its tools are the pinned ones. No dependencies: those are pinned too, and come below.
RUN /tools/bin/pip wheel --quiet --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels .

# -- what it needs --------------------------------------------------------------------------------------------------------
FROM wheel AS environment

# `service-llm` for one that also has the libraries of the providers openai and anthropic: 60 MB more.
ARG REQUIREMENTS=service
COPY deploy/image/*.txt deploy/image/
# Without pip: nothing is ever installed into the finished image.
RUN --mount=type=cache,target=/var/cache/pip \
    python3 -m venv --without-pip /opt/sse-kit \
    && /tools/bin/pip --quiet --python /opt/sse-kit/bin/python install --require-hashes --requirement deploy/image/${REQUIREMENTS}.txt \
    && /tools/bin/pip --quiet --python /opt/sse-kit/bin/python install --no-index --no-deps /wheels/*.whl
# What is in it, for scanners (CycloneDX); the libraries of Python, not those of the system.
RUN mkdir -p /opt/sse-kit/share \
    && /tools/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
        --output-file /opt/sse-kit/share/sbom.cdx.json /opt/sse-kit/bin/python

# -- the image ------------------------------------------------------------------------------------------------------------
FROM ${PYTHON_IMAGE}

COPY --from=environment /opt/sse-kit /opt/sse-kit

# PYTHONDONTWRITEBYTECODE: the root may be read-only, and all is compiled already. PYTHONUNBUFFERED: the log is not held
# back when something dies. The address is that of all interfaces, since a container's loopback is its own.
ENV PATH=/opt/sse-kit/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SSE_KIT_BIND=0.0.0.0:8000

# A number, so that Kubernetes' runAsNonRoot can tell without a list of users. It owns nothing in here.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM

# Twice, before it means anything: while Redis goes away publishers can hold all threads for a moment.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["sse-kit", "health"]

ENTRYPOINT ["sse-kit"]
CMD ["serve"]

# Last, so that a new revision keeps the layers above.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sse-kit" \
      org.opencontainers.image.description="Server-Sent Events for WSGI applications: the service under gunicorn" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
