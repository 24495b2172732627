# Training and export, on the CPU. Build from the repository's root:
#   docker build -f docker/training.Dockerfile -t estimator-serving-training .

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
# pip reads this variable: an index of torch's CPU builds keeps gigabytes of CUDA out of the image.
ARG PIP_EXTRA_INDEX_URL=
RUN /opt/estimator-serving/bin/pip install --no-cache-dir --constraint constraints.txt '.[training]'

FROM python:3.11-slim-bookworm
COPY --from=build /opt/estimator-serving /opt/estimator-serving
COPY examples /examples
# The volume the servables go to belongs to the same user in both images.
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin serving \
 && mkdir -p /models /training \
 && chown 10001:10001 /models /training
USER 10001
WORKDIR /training
ENV PATH=/opt/estimator-serving/bin:$PATH \
    PYTHONUNBUFFERED=1
CMD ["python", "/examples/titanic/train.py", "--model_dir=/training/model", "--export_dir=/models/titanic"]
