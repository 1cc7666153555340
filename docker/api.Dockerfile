# HTTP API, without torch and models. Build from the root of the repository.
FROM python:3.11-slim

RUN useradd --create-home --uid 10001 zoodip && install -d -o zoodip /data /models
WORKDIR /srv/zoodip

COPY constraints.txt docker/requirements-api.txt ./
RUN pip install --no-cache-dir -c constraints.txt -r requirements-api.txt

COPY zoodip_core ./zoodip_core
COPY api ./api

USER 10001
ENV ZOODIP_DATA_DIR=/data PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["python", "-m", "api", "--host", "0.0.0.0", "--port", "8000"]
