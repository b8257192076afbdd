"""Which provider runs networks, how it is asked for, and what is refused instead of falling back in silence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import amble
from amble.core.errors import Refused
from amble.runtimes import onnx
from amble.runtimes.onnx.addressing import execution
from amble.runtimes.onnx.execution import (
    Execution,
    Fallback,
    cpu_flags,
    fallbacks,
    pinned,
    refuse_mostly_elsewhere,
)
from amble.runtimes.onnx.providers import CPU, PROVIDERS, TORCH, Request, installed, named, refuse_mixture
from amble.runtimes.onnx.trace import Details, Kernel
from tests.runtimes import models

GPU = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


def having(*names: str):
    def version(name: str) -> str:
        if name not in names:
            raise PackageNotFoundError(name)
        return "1.0"

    return version


def test_a_gpu_is_driven_by_the_quickest_provider_that_is_installed_and_else_by_torch() -> None:
    assert execution({}, "cuda", available=GPU).provider.name == "tensorrt"
    assert execution({}, "cuda", available=GPU[1:]).provider.name == "cuda"
    assert execution({}, "cuda", available=GPU[2:]).provider is TORCH
    assert execution({"provider": "cuda"}, "cuda", available=GPU).provider.name == "cuda"
    assert execution({}, "cpu", available=GPU).provider is CPU


def test_a_provider_that_is_not_installed_is_refused_with_the_extra_that_has_it() -> None:
    with pytest.raises(Refused, match=r"it has cpu.*pip install -e '.\[openvino\]'"):
        named("openvino", "cpu", ["CPUExecutionProvider"])
    with pytest.raises(Refused, match=r"none of cpu, openvino, xnnpack"):
        named("cuda", "cpu", GPU)
    assert [each.name for each in installed("cuda", GPU)] == ["tensorrt", "cuda"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"threads": "none"}, "threads=none is not a number"),
        ({"threads": "0"}, "threads=0 is not a number"),
        ({"cpus": "0..3"}, "cpus=0..3 is not a list"),
        ({"cpus": "3-1"}, "runs backwards"),
        ({"provider": "auto"}, "name the provider here that they chose"),
        ({"cpus": "9999"}, "is not one that this process may use"),
        ({"precision": "fp8"}, "computes FP32 networks in fp32, not in fp8"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, str], says: str) -> None:
    with pytest.raises(Refused, match=says):
        execution(options, "cpu")


def test_cpus_are_read_as_people_write_them_and_give_the_threads() -> None:
    mine = sorted(os.sched_getaffinity(0))
    found = execution({"cpus": ",".join(map(str, mine))}, "cpu")

    assert found.cpus == tuple(mine)
    assert found.threads == len(mine)
    with pytest.raises(Refused, match="do not fit"):
        execution({"cpus": str(mine[0]), "threads": "2"}, "cpu")
    with pytest.raises(Refused, match="are of the CPU"):
        execution({"threads": "2"}, "cuda", available=GPU)


def test_two_wheels_of_the_runtime_are_refused_and_one_is_not() -> None:
    refuse_mixture(having("onnxruntime-gpu"))
    with pytest.raises(Refused, match=r"uninstall -y onnxruntime onnxruntime-gpu, then .*'.\[cuda\]'"):
        refuse_mixture(having("onnxruntime", "onnxruntime-gpu"))


def test_precisions_are_asked_for_by_name(tmp_path: Path) -> None:
    """Left alone, providers choose faster ones in silence: BF16 on some CPUs, TF32 on GPUs."""
    asked = Request("fp32", 3, 1, tmp_path)
    hints = json.loads(PROVIDERS["openvino"].settings(asked)["load_config"])["CPU"]
    assert hints["INFERENCE_PRECISION_HINT"] == "f32"
    assert hints["INFERENCE_NUM_THREADS"] == 3
    cuda = PROVIDERS["cuda"].settings(asked)
    assert (cuda["use_tf32"], cuda["device_id"], cuda["enable_cuda_graph"]) == ("0", "1", "1")
    tensorrt = PROVIDERS["tensorrt"].settings(Request("fp16", 1, 0, tmp_path))
    assert (tensorrt["trt_fp16_enable"], tensorrt["trt_bf16_enable"]) == ("1", "0")
    assert tensorrt["trt_engine_cache_path"] == str(tmp_path)


def test_what_falls_back_to_the_cpu_is_listed_with_its_share_and_most_of_it_is_refused() -> None:
    def kernel(kind: str, provider: str, duration_us: int) -> Kernel:
        return Kernel(kind, 0, duration_us, Details(op_name=kind, provider=provider))

    seen = [
        kernel("Conv", "CUDAExecutionProvider", 5),
        kernel("Det", CPU.full, 100),
        kernel("Unique", CPU.full, 200),
        kernel("Unique", CPU.full, 100),
    ]
    cuda = PROVIDERS["cuda"]
    found = fallbacks(seen, 1e-3, cuda)

    assert [(each.kind, each.count) for each in found] == [("Unique", 2), ("Det", 1)]
    assert str(found[0]) == "2 Unique (30.0% of the time)"
    refuse_mostly_elsewhere("net", found, cuda)
    with pytest.raises(Refused, match=r"net runs on the CPU for 60% of its time.*use provider=cpu"):
        refuse_mostly_elsewhere("net", (Fallback("Det", 1, 0.6),), cuda)
    assert fallbacks(seen, 1e-3, CPU) == ()


def test_a_provider_that_does_not_start_is_refused_not_replaced(tmp_path: Path) -> None:
    """ONNX Runtime itself leaves it out, and runs everything on the CPU."""
    path = models.saved(tmp_path, models.mlp())
    with (
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(Refused, match="cannot start"),
    ):
        Execution(PROVIDERS["cuda"], engines=tmp_path).open(path)


def test_work_is_kept_on_its_cpus_and_the_thread_is_freed_again() -> None:
    mine = os.sched_getaffinity(0)
    with pinned([min(mine)]):
        assert os.sched_getaffinity(0) == {min(mine)}
    assert os.sched_getaffinity(0) == mine


def test_every_timing_says_whose_time_it_is(tmp_path: Path) -> None:
    path = models.saved(tmp_path, models.mlp())
    for uri, says in (("host", "own CPU time"), ("host?threads=2", "wall clock, 2 threads")):
        device = amble.open(uri)
        profile = amble.measure(amble.load(path, device=uri), device, points=1, repeats=3)
        assert says in profile.notes[0]
        assert profile.where.device == uri


def test_flags_are_read_and_bf16_is_refused_where_the_cpu_has_none(tmp_path: Path) -> None:
    written = tmp_path / "cpuinfo"
    written.write_text("processor: 0\nflags\t\t: fpu avx2 avx512_bf16\n")
    assert "avx512_bf16" in cpu_flags(written)
    assert cpu_flags(tmp_path / "absent") == frozenset()
    if not {"avx512_bf16", "amx_bf16", "bf16"} & cpu_flags():
        with pytest.raises(Refused, match="no BF16"):
            Execution(PROVIDERS["openvino"], precision="bf16")


def test_a_network_loaded_for_other_kernels_is_refused(tmp_path: Path) -> None:
    path = models.saved(tmp_path, models.cnn())
    elsewhere = onnx.load(path, execution=Execution(TORCH))
    with pytest.raises(Refused, match=r"load it again for this one: amble.load\(..., device=URI\)"):
        amble.open("host").runner.run(elsewhere, amble.OperatingPoint(), {})


def test_a_machine_without_any_runtime_is_told_which_extras_have_one() -> None:
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "import amble\n"
        "try:\n    amble.open('host')\nexcept amble.Refused as error:\n    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "pip install -e '.[cpu]'" in said


@pytest.mark.parametrize("uri", ["host?threads", "host?colour=red", "nvml:0?provider=openvino", "sysfs:gpu?cpus=0"])
def test_uris_that_mean_nothing_are_refused(uri: str) -> None:
    with pytest.raises(Refused):
        amble.open(uri)
