#!/usr/bin/env bash
# Builds the PyTorch plugin, .build/torch/libcohort-torch.so, where `cohort` finds it.
#
# PyTorch is taken from COHORT_TORCH (the folder …/site-packages/torch, or an unpacked libtorch), else from the Python that is active, else from
# the system (libtorch-dev), else it is installed from PyPI into .build-tools/torch, once. `torch.sh fetch` ends there.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_CONSTRAINT="$PWD/scripts/constraints.txt"

fail() {
    printf 'torch: %s\n' "$*" >&2
    exit 1
}

own=.build-tools/torch
of_python() { "$1" -c 'import os, torch; print(os.path.dirname(torch.__file__))' 2>/dev/null; }

if [ -n "${COHORT_TORCH:-}" ]; then
    torch=$COHORT_TORCH
    [ -f "$torch/include/ATen/ATen.h" ] ||
        fail "COHORT_TORCH is $torch, which has no include/ATen/ATen.h: it must be PyTorch's folder (…/site-packages/torch) or libtorch's"
elif torch=$(of_python python3); then
    :
elif [ -f /usr/include/ATen/ATen.h ]; then
    torch=
else
    if ! torch=$(of_python "$own/bin/python"); then
        echo "torch: installing PyTorch from PyPI into $own, once (some gigabytes with what it names for GPUs)" >&2
        rm -rf "$own"
        python3 -m venv "$own"
        # Make has one exit code for all failures: CI looks for this file.
        mkdir -p .build/torch && touch .build/torch/unavailable
        "$own/bin/pip" install --quiet --disable-pip-version-check torch numpy safetensors onnx onnxruntime
        rm .build/torch/unavailable
        torch=$(of_python "$own/bin/python") || fail "PyTorch was installed into $own, and could not be imported: $("$own/bin/python" -c 'import torch' 2>&1 | tail -n 1)"
    fi
fi
[ "${1:-}" = fetch ] && exit
shown=${torch:-libtorch of the system}
echo "torch: building the plugin for $shown" >&2

build=.build/torch/cmake
# What another PyTorch was found by is not kept.
if [ -f "$build/torch-folder" ] && [ "$(cat "$build/torch-folder")" != "$torch" ]; then rm -rf "$build"; fi
mkdir -p "$build"
cmake -S Plugins/Torch -B "$build" -DCOHORT_TORCH="$torch" -DCMAKE_BUILD_TYPE=Release >"$build/configure.log" 2>&1 || {
    cat "$build/configure.log" >&2
    fail "CMake could not set the plugin up for $shown"
}
grep '^-- CUDA' "$build/configure.log" | sed 's/^-- /torch: /' >&2 || true
printf '%s' "$torch" >"$build/torch-folder"
cmake --build "$build" --parallel "$(nproc)" >"$build/build.log" 2>&1 || {
    cat "$build/build.log" >&2
    fail "the plugin does not compile with this PyTorch: 2.4 or newer is needed"
}
# Swapped whole: a peer that has the one before open keeps it.
cp "$build/libcohort-torch.so" .build/torch/libcohort-torch.so.new
mv -f .build/torch/libcohort-torch.so.new .build/torch/libcohort-torch.so
echo "torch: .build/torch/libcohort-torch.so is built; \`cohort engines\` lists it" >&2
