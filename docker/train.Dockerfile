# Training on an NVIDIA GPU, or on a CPU without one:
#   docker build -f docker/train.Dockerfile -t hand-gestures .
#   docker run --rm --gpus all --shm-size 8g -v "$PWD:/repo" hand-gestures dvc repro
FROM python:3.12-slim-bookworm
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /repo
WORKDIR /setup
COPY pyproject.toml constraints.txt README.md ./
COPY stages stages
COPY deploy deploy
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir -c constraints.txt '.[dev]' \
    && /opt/venv/bin/pip uninstall --yes hand-gestures
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 DVC_NO_ANALYTICS=1 MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /repo
CMD ["dvc", "repro"]
