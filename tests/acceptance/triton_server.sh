#!/usr/bin/env bash
# A real Triton Inference Server beside amble, from the wheel nvidia-pytriton: its binary and its Python back end.
# Usage: triton_server.sh repository VENV REPOSITORY NAME=MODEL.onnx ...
#        triton_server.sh serve VENV REPOSITORY HTTP_PORT GRPC_PORT METRICS_PORT [OPTION ...]
# VENV: .venv-peer-tritonserver, made by setup.sh. The wheel's own wrapper breaks on some Pythons; its binary does not.
set -euo pipefail
verb=$1 venv=$(realpath -m "$2") repository=$3; shift 3
python=$venv/bin/python
case $verb in
repository)
    for each in "$@"; do
        "$python" "$(dirname "$(realpath "$0")")/triton_repository.py" "$repository" "${each%%=*}" "${each#*=}" "$venv"
    done ;;
serve)
    home=$("$python" -c 'import importlib.util as u, pathlib; print(pathlib.Path(u.find_spec("pytriton").origin).parent)')/tritonserver
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    cp -n "$home/python_backend_stubs/$version/triton_python_backend_stub" "$home/backends/python/"
    exec "$home/bin/tritonserver" --model-repository="$(realpath "$repository")" --backend-directory="$home/backends" \
        --http-port "$1" --grpc-port "$2" --metrics-port "$3" "${@:4}" ;;
esac
