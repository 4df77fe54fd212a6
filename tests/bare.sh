#!/usr/bin/env bash
# Train by hand as on a bare GPU node: the packages of requirements/train.txt alone, tracking=off, no DVC as parent,
# the smoke experiment, in a copy of the repository. Versions are those of constraints.txt.
# Usage: bash tests/bare.sh [PYTHON[:TORCH]]...   for example: bash tests/bare.sh 3.10:2.8.0 3.12
# PIP_ARGS: more arguments for pip, as `make test-bare TORCH=cpu` gives them.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUTF8=1
root=$PWD
absent="dvc matplotlib mlflow onnx onnxruntime onnxscript openvino pandas psutil"

find_python() {
  for candidate in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python; do
    if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: no Python $1 on this machine; install one, or name others: make test-bare BARE='3.12'" >&2
  return 1
}

# Make a virtual environment, once for each content of its two lists.
install() { # folder python torch
  local pins="$1/constraints.txt" stamp
  stamp=$(cat requirements/train.txt constraints.txt tests/bare.sh | sha256sum)
  if [ "$(cat "$1/installed" 2>/dev/null)" = "$stamp" ]; then return; fi
  rm -rf "$1"
  "$2" -m venv "$1"
  cp constraints.txt "$pins"
  if [ -n "$3" ]; then
    # Another torch has other CUDA packages and another triton: these pins go with the one in constraints.txt.
    grep -vE '^(torch|triton|cuda-[a-z]+|nvidia-(cu|nccl|nv)[a-z0-9-]*)==' constraints.txt >"$pins"
    echo "torch==$3" >>"$pins"
  fi
  # shellcheck disable=SC2086  # PIP_ARGS holds several arguments
  "$1/bin/python" -m pip install -q -q -r requirements/train.txt -c "$pins" ${PIP_ARGS:-}
  echo "$stamp" >"$1/installed"
}

copy_repository() { # folder
  rm -rf "$1"
  mkdir -p "$1"
  git ls-files -co --exclude-standard -z | while IFS= read -r -d '' file; do
    if [ -f "$file" ]; then printf '%s\0' "$file"; fi # git lists removed files too
  done | tar --null -cT - | tar -xC "$1"
  sed -i 's/^tracking: .*/tracking: off/; s/^experiment: .*/experiment: smoke/' "$1/params.yaml"
}

fails_with() { # words command...
  local words=$1 printed
  shift
  if printed=$("$@" 2>&1); then
    echo "error: '$*' ended well, expected an error that says: $words" >&2
    return 1
  fi
  case $printed in
    *Traceback*) ;;
    *"error: "*"$words"*) return ;;
  esac
  printf 'error: %s printed this, expected one line that says: %s\n%s\n' "$*" "$words" "$printed" >&2
  return 1
}

train_by_hand() { # python
  for stage in compose download convert split train prune retrain; do
    "$1" -m "stages.$stage"
  done
  "$1" -m stages.train train.epochs=1 --out elsewhere
  test -s models/retrain/model.pt -a -s results/retrain/history.csv -a -s results/prune/sensitivity.csv
  test -s elsewhere/models/train/model.pt
  fails_with "install -c constraints.txt onnx onnxruntime" "$1" -m stages.export
  fails_with "tracking: off" "$1" -m stages.train tracking.mode=local --out elsewhere
}

for wanted in "${@:-3.11}"; do
  version=${wanted%%:*} torch=""
  if [ "$version" != "$wanted" ]; then torch=${wanted#*:}; fi
  place="$root/.work/bare/${wanted/:/-torch}"
  found=$(find_python "$version")
  install "$place/venv" "$found" "$torch"
  python="$place/venv/bin/python"
  # shellcheck disable=SC2086  # one word per package
  "$python" -c "import importlib.util as i, sys
found = ', '.join(filter(i.find_spec, sys.argv[1:]))
sys.exit(f'error: requirements/train.txt brings {found}' if found else 0)" $absent
  copy_repository "$place/repository"
  started=$SECONDS
  (cd "$place/repository" && train_by_hand "$python")
  "$python" -c "import platform, sys, torch; print('test-bare: Python', platform.python_version() + ', torch',
    torch.__version__ + ':', sys.argv[1], 'seconds')" $((SECONDS - started))
done
