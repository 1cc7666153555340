# Worker. The default build of torch supports CUDA. For CPU, set TORCH_INDEX to the index of CPU builds.
# Build from the root of the repository.
FROM python:3.11-slim

ARG TORCH_VERSION=2.13.0
ARG TORCH_INDEX=

RUN useradd --create-home --uid 10001 zoodip && install -d -o zoodip /data /models
WORKDIR /srv/zoodip

COPY constraints.txt ./
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c constraints.txt "torch==$TORCH_VERSION"

COPY pyproject.toml LICENSE ./
COPY zoodip_core ./zoodip_core
COPY api ./api
COPY worker ./worker
RUN pip install --no-cache-dir -c constraints.txt '.[heif,service]'

USER 10001
ENV ZOODIP_DATA_DIR=/data PYTHONUNBUFFERED=1
HEALTHCHECK --interval=10s --timeout=8s --start-period=120s \
  CMD ["python", "-m", "worker.health"]
CMD ["python", "-m", "worker"]
