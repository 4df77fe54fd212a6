#!/usr/bin/env bash
# Run the TensorRT builder's tests against NVIDIA's own library of the newest API: TensorRT-RTX parses and builds
# without a GPU, and comes as plain wheels (TensorRT itself does not). In an environment of its own: 200 MB.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUTF8=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
venv=.work/tensorrt-rtx
stamp=$(cat constraints.txt tests/tensorrt_rtx.sh | sha256sum)
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$stamp" ]; then
  rm -rf "$venv"
  "${PYTHON:-.venv/bin/python}" -m venv "$venv"
  "$venv/bin/python" -m pip install -q -q -c constraints.txt \
    numpy onnx onnxruntime opencv-python-headless pytest pytest-timeout
  "$venv/bin/python" -m pip install -q -q --no-deps \
    'tensorrt_rtx_cu13_libs==1.7.1.116' 'tensorrt_rtx_cu13_bindings==1.7.1.116'
  echo "$stamp" >"$venv/installed"
fi
printed=$("$venv/bin/python" -m pytest -q -p no:cacheprovider -rs tests/deploy/test_tensorrt_rtx.py "$@") || {
  echo "$printed"
  exit 1
}
echo "$printed"
# A skipped test here would be a library that is not there.
case $printed in *skipped*) exit 1 ;; esac
