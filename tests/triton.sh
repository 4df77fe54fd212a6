#!/usr/bin/env bash
# Run the tests of the Triton engine with NVIDIA's real client, gRPC and HTTP, against a real server on loopback.
# In an environment of its own: the client wants an older protobuf than constraints.txt has.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUTF8=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
venv=.work/triton
stamp=$(cat constraints.txt tests/triton.sh | sha256sum)
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$stamp" ]; then
  rm -rf "$venv"
  "${PYTHON:-.venv/bin/python}" -m venv "$venv"
  grep -vE '^(protobuf|greenlet|ml-dtypes)==' constraints.txt >"$venv/constraints.txt"
  "$venv/bin/python" -m pip install -q -q -c "$venv/constraints.txt" \
    numpy onnx onnxruntime opencv-python-headless pytest pytest-timeout 'tritonclient[grpc,http]==2.73.0'
  echo "$stamp" >"$venv/installed"
fi
printed=$("$venv/bin/python" -m pytest -q -p no:cacheprovider -rs tests/deploy/test_engine_triton.py tests/deploy/test_render.py "$@") || {
  echo "$printed"
  exit 1
}
echo "$printed"
# A skipped test here would be a client that is not there.
case $printed in *skipped*) exit 1 ;; esac
