#!/usr/bin/env bash
# Run deploy's tests with NumPy and OpenCV alone on a real Python 3.6 (JetPack 4), where one is installed.
# Versions: the last that have wheels for Python 3.6.
set -euo pipefail
cd "$(dirname "$0")/.."
python=""
for candidate in python3.6 "$HOME/.pyenv/versions/"3.6.*/bin/python; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 6))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "test-py36: no Python 3.6 on this machine, nothing was tested; install one, for example with pyenv" >&2
  exit 0
fi
venv=.work/py36
if [ ! -x "$venv/bin/pytest" ]; then
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install -q -q 'pip==21.3.1'
  "$venv/bin/python" -m pip install -q -q 'numpy==1.19.5' 'opencv-python-headless==4.6.0.66' 'pytest==7.0.1'
fi
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider -c tests/py36.ini --rootdir . -m "not soak" tests/deploy "$@"
