# syntax=docker/dockerfile:1
# Images of the service and of a desktop agent: docker build --target service|agent .
FROM python:3.11.13-slim-bookworm AS build
ARG EXTRAS
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/leti
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY core core
COPY client client
COPY generator generator
COPY predictors predictors
COPY device_agents device_agents
COPY service service
COPY migrations migrations
COPY cli cli
COPY compression compression

FROM build AS build-service
RUN /opt/leti/bin/pip install -c constraints.txt ".[${EXTRAS:-service,postgres,s3,export,import-onnx,boosting,arrow}]"

FROM build AS build-agent
RUN /opt/leti/bin/pip install -c constraints.txt ".[${EXTRAS:-agent,onnxruntime}]"

FROM python:3.11.13-slim-bookworm AS base
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
# A user of its own, whose number deploy/secrets and volumes may be given to.
RUN groupadd --gid 10001 leti && useradd --uid 10001 --gid leti --no-create-home --home-dir /var/lib/leti leti \
    && install -d -o leti -g leti -m 0750 /var/lib/leti
ENV PATH=/opt/leti/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_WAIT_POLICY=PASSIVE
USER 10001:10001
WORKDIR /var/lib/leti
VOLUME /var/lib/leti
STOPSIGNAL SIGTERM
ENTRYPOINT ["leti"]

FROM base AS service
COPY --from=build-service /opt/leti /opt/leti
ENV LETI_HOME=/var/lib/leti LETI_LOG_FORMAT=json
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["serve", "--host", "0.0.0.0", "--workers", "0"]

FROM base AS agent
COPY --from=build-agent /opt/leti /opt/leti
HEALTHCHECK --interval=60s --timeout=10s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['LETI_URL'] + '/healthz', timeout=8)"]
CMD ["agent", "run", "--spool", "/var/lib/leti/spool"]
