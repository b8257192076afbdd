#!/usr/bin/env bash
# A real llama.cpp server beside amble, built from the source distribution of llama-cpp-python, with random weights.
# Usage: llama_server.sh setup FOLDER (ten minutes on two cores) | llama_server.sh serve FOLDER PORT [OPTION ...]
# FOLDER: .venv-peer-llama. Its page, http://127.0.0.1:PORT/metrics, has counters and means, and no histogram.
set -euo pipefail
verb=$1 folder=$(realpath -m "$2"); shift 2
here=$(dirname "$(realpath "$0")")
case $verb in
setup)
    mkdir -p "$folder/source"
    if [ ! -x "$folder/build/bin/llama-server" ]; then
        "$folder/bin/python" -m pip download -q --no-deps --no-binary llama-cpp-python -d "$folder/source" \
            llama-cpp-python==0.3.36
        tar -C "$folder/source" -xf "$folder"/source/llama_cpp_python-*.tar.gz
        cmake -S "$folder"/source/llama_cpp_python-*/vendor/llama.cpp -B "$folder/build" -DCMAKE_BUILD_TYPE=Release \
            -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
            -DGGML_OPENMP=OFF >"$folder/build.log"
        cmake --build "$folder/build" --target llama-server -j"$(nproc)" >>"$folder/build.log"
    fi
    "$folder/bin/python" "$here/random_gguf.py" "$folder/random.gguf" ;;
serve)
    port=$1; shift
    exec "$folder/build/bin/llama-server" -m "$folder/random.gguf" --metrics --host 127.0.0.1 --port "$port" "$@" ;;
esac
