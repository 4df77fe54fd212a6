#!/usr/bin/env bash
# Make the environment of the detectors that benchmarks/peers.py compares with: .work/peers.
# Of its own, because MediaPipe wants NumPy 1 and a Python up to 3.12. Several gigabytes with CUDA's libraries, which
# nothing here uses; where PyTorch's own index is reachable, CPU wheels of both torch packages do:
#   PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu' bash benchmarks/peers.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUTF8=1
venv=.work/peers
python=""
for candidate in ${PYTHON:-} python3.11 python3.10 python3.12; do
  if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "peers: no Python 3.10 to 3.12 on this machine, nothing was installed; name one: PYTHON=/path/to/python" >&2
  exit 1
fi
stamp=$("$python" -V; sha256sum <benchmarks/peers.sh)
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$stamp" ]; then
  rm -rf "$venv"
  "$python" -m venv "$venv"
  # torchvision's release says which torch it was built for, so that both are of one build.
  "$venv/bin/python" -m pip install -q -q ${PIP_ARGS:-} \
    'ultralytics==8.4.190' 'mediapipe==0.10.21' 'numpy<2' 'torchvision>=0.25' \
    'onnx>=1.19' 'onnxruntime>=1.23' 'onnxslim>=0.1.71'
  echo "$stamp" >"$venv/installed"
fi
"$venv/bin/python" -m pip list 2>/dev/null | grep -iE '^(ultralytics|mediapipe|onnxruntime|torch|torchvision|numpy|opencv-contrib-python) '
