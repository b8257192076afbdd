#!/bin/bash
# Usage: setup.sh [NAME ...]      Make the environments of other people's programs: .venv-peer-NAME beside .venv.
# Clients of the server: triton locust kserve analyzer perf_analyzer schemathesis. Servers to compare with: litserve ray mlserver bentoml granian.
# tritonserver: a real Triton, from a wheel of 0.5 GB. llama: a real llama.cpp server, compiled here (cmake, a C++
# compiler, ten minutes on two cores). Both are governed by bench/govern_real.
# mrfi: an injector of bit errors (it asks for torchvision, which has no CPU build and which it does not need here).
# ray-amble: amble itself with Ray, for the tests and benches of clusters.
# openvino: amble itself with another ONNX Runtime, whose files would overwrite the CPU's.
# Without names: the clients, the servers that every bench of serving needs (litserve, ray), and openvino.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
root=$(realpath "$here/../..")
run=("onnxruntime==1.31.1" "numpy==2.4.6")      # what the compared servers answer with: the same as ours
for name in ${@:-triton locust kserve analyzer perf_analyzer schemathesis litserve ray openvino}; do
    case $name in
        triton)   wanted=("tritonclient[http,grpc]==2.73.0" mlcommons-loadgen==6.0.17) ;;
        locust)   wanted=(locust==2.47.0) ;;
        kserve)   wanted=(kserve==0.21.0 "psutil<6") ;;
        analyzer) wanted=(triton-model-analyzer==1.58.0 "setuptools<81") ;;
        schemathesis) wanted=(schemathesis==4.32.0) ;;
        litserve) wanted=(litserve==0.2.19 "${run[@]}") ;;
        ray)      wanted=("ray[serve]==2.60.0" "${run[@]}") ;;
        ray-amble) wanted=(-c "$root/constraints.txt" pytest hypothesis -e "$root[cpu,serve,torch,ray]") ;;
        mlserver) wanted=(mlserver==1.7.1 onnxruntime numpy) ;;
        tritonserver) wanted=(nvidia-pytriton==0.7.0 onnxruntime numpy) ;;
        llama)    wanted=(gguf==0.19.0 numpy) ;;
        bentoml)  wanted=(bentoml==1.4.40 "${run[@]}") ;;
        granian)  wanted=(granian==2.8.9) ;;
        openvino) wanted=(-c "$root/constraints.txt" pytest -e "$root[openvino]") ;;
        mrfi)     wanted=(-c "$root/constraints.txt" torch numpy onnx pyyaml scipy) ;;
        perf_analyzer) "$here/get_perf_analyzer.sh" "$root/.venv-peer-perf_analyzer"; continue ;;
        *) echo "unknown: $name (see the head of $0)" >&2; exit 2 ;;
    esac
    folder=$root/.venv-peer-$name
    [ -x "$folder/bin/python" ] || "${PYTHON:-python3.11}" -m venv "$folder"
    "$folder/bin/python" -m pip install -q --disable-pip-version-check "${wanted[@]}"
    [ "$name" != mrfi ] || "$folder/bin/python" -m pip install -q --disable-pip-version-check --no-deps mrfi==2.1.0
    [ "$name" != llama ] || "$here/llama_server.sh" setup "$folder"
    echo "made .venv-peer-$name"
done
