# The model server: no torch, no compiler, no root. Build from the repository's root:
#   docker build -f docker/serving.Dockerfile -t estimator-serving .

FROM python:3.11-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY wire wire
COPY ops ops
COPY training training
COPY exporter exporter
COPY serving serving
COPY cli cli
COPY examples examples
RUN python -m venv /opt/estimator-serving
RUN /opt/estimator-serving/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.11-slim-bookworm
COPY --from=build /opt/estimator-serving /opt/estimator-serving
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin serving
USER 10001
# Nothing is written at run time, so the root file system may be read-only.
ENV PATH=/opt/estimator-serving/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MODEL_NAME=model \
    MODEL_BASE_PATH=/models
EXPOSE 8500 8501
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import ssl, urllib.request as r\ntry: r.urlopen('http://127.0.0.1:8501/healthz', timeout=2)\nexcept OSError: r.urlopen('https://127.0.0.1:8501/healthz', timeout=2, context=ssl._create_unverified_context())"]
# As in TensorFlow Serving's image: MODEL_NAME names the model and its directory under MODEL_BASE_PATH, and flags may
# follow, --model_config_file among them, which takes the place of both. Every flag is an environment variable too.
ENTRYPOINT ["/bin/sh", "-c", "exec estimator-serving serve --port=8500 --rest_api_port=8501 --model_name=\"$MODEL_NAME\" --model_base_path=\"$MODEL_BASE_PATH/$MODEL_NAME\" \"$@\"", "serve"]
