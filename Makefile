# Every job of the project is one of these commands; CI calls exactly `make check test`.
#   make repro TORCH=cpu      PyTorch's CPU wheels instead of the multi-gigabyte CUDA ones
#   make demo VIDEO=clip.mp4  gestures in your own video
#   make test-bare BARE=3.12  the Pythons, each alone or with :TORCH
#   make bench-train BENCH='--devices 1,2 --batches 64 --target-ap50 0.8'

SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip --quiet --quiet
ifeq ($(TORCH),cpu)
PIP_ARGS := --extra-index-url https://download.pytorch.org/whl/cpu
endif
BARE ?= 3.10:2.8.0 3.11 3.12
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUTF8 := 1
# Nothing here phones home.
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1

.PHONY: help install repro test test-fast test-kill test-soak test-py36 test-triton test-tensorrt-rtx test-bare check format lock ui demo bench-train pull push pictures browser system-packages clean

help:  ## List the commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 20

install: $(STAMP)  ## Make .venv with everything pinned (done by the other targets when needed)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10 to 3.12 found; install one, or: make PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt $(PIP_ARGS) pip
	$(PIP) install -c constraints.txt $(PIP_ARGS) -e '.[dev]'
	@touch $(STAMP)

repro: $(STAMP)  ## Run the whole pipeline; only what changed runs again
	python -m stages._machine
	dvc repro

test: $(STAMP)  ## All tests
	OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not kill and not soak"

test-fast: $(STAMP)  ## Tests without the end-to-end ones
	OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not kill and not soak"

test-kill: $(STAMP)  ## The pipeline, killed in every stage, ends in the same bytes (4 minutes)
	OMP_NUM_THREADS=1 python -m pytest -m kill tests/test_pipeline.py

test-soak: $(STAMP)  ## The runtime's memory over half an hour at 30 frames per second
	OMP_NUM_THREADS=1 python -m pytest -m soak tests/deploy/test_memory.py

test-py36: $(STAMP)  ## deploy's tests on a real Python 3.6, where one is installed
	bash tests/py36.sh

test-triton: $(STAMP)  ## The Triton engine with NVIDIA's client, in an environment of its own
	bash tests/triton.sh

test-tensorrt-rtx: $(STAMP)  ## The TensorRT builder with NVIDIA's newest library, which needs no GPU to build
	bash tests/tensorrt_rtx.sh

test-bare:  ## Training without DVC, MLflow and exporters, as on a bare GPU node, for each of BARE='3.10:2.8.0 3.12'
	PIP_ARGS="$(PIP_ARGS)" bash tests/bare.sh $(BARE)

check: $(STAMP)  ## Format, lint, types, deploy's Python floor, locked versions
	ruff format --check .
	ruff check .
	mypy
	vermin -t=3.6- --no-tips --violations --eval-annotations --quiet deploy
	python tests/check_constraints.py

format: $(STAMP)  ## Rewrite the code in the project's format
	ruff check --fix .
	ruff format .

lock: $(STAMP)  ## Renew constraints.txt for Python 3.10 to 3.12
	uv pip compile --universal --upgrade --python-version 3.10 --extra dev --no-annotate --no-header \
		pyproject.toml requirements/pip.in -o constraints.txt

ui: $(STAMP)  ## MLflow's page on http://127.0.0.1:5000
	mlflow ui --backend-store-uri sqlite:///$(CURDIR)/mlflow.db --host 127.0.0.1 --port $(or $(PORT),5000)

demo: $(STAMP)  ## Gestures in a video: make demo VIDEO=clip.mp4 -> demo.mp4 and demo.jsonl
	@test -n "$(VIDEO)" || { echo "error: no video given; use: make demo VIDEO=clip.mp4" >&2; exit 2; }
	python -m deploy.run --source "$(VIDEO)" --sink demo.mp4 --sink demo.jsonl

bench-train: $(STAMP)  ## Training speed by batch and devices, time to a target AP -> .work/bench-train.json
	python -m benchmarks.train $(BENCH)

pull: $(STAMP)  ## Fetch the pipeline's outputs from the DVC remote of .dvc/config
	dvc pull

push: $(STAMP)  ## Store the pipeline's outputs in the DVC remote of .dvc/config
	dvc push

browser:  ## Install Debian's Chromium, in which the pages are tested and the README's pictures taken (needs root)
	apt-get update -qq && apt-get install -y -qq chromium chromium-driver fonts-dejavu-core

system-packages:  ## Install the servers that tests start and kill: broker, sshd, RTSP (needs root)
	apt-get update -qq && apt-get install -y -qq --no-install-recommends mosquitto openssl openssh-server python3-gi \
		gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly

pictures: $(STAMP)  ## Renew the README's pictures (after make repro; the MLflow page needs make browser)
	python -m docs.pictures

clean:  ## Remove environments, caches and unfinished work; outputs and runs stay
	rm -rf $(VENV) .work .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
