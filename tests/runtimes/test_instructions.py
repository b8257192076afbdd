"""The names of instruction sets, as systems tell them."""

import sys
from pathlib import Path

import pytest

from amble.runtimes.instructions import CPUINFO, instructions, named


def test_the_instruction_sets_that_matter_are_named_in_one_order(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nflags\t\t: avx2 fpu sse4_1 avx avx512_vnni\n\nprocessor\t: 1\nflags\t\t: amx_int8\n"
    )
    if sys.platform != "darwin":
        assert instructions(tmp_path / "cpuinfo") == ("sse4_1", "avx", "avx2", "avx512_vnni")


def test_a_system_that_does_not_tell_has_none_known(tmp_path: Path) -> None:
    if sys.platform != "darwin":
        assert instructions(tmp_path / "missing") == ()
    assert named("") == ()


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("Features\t: fp asimd asimdhp asimddp i8mm bf16", ("asimd", "asimdhp", "asimddp", "i8mm", "bf16")),
        ("hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 0\nhw.optional.AdvSIMD: 1", ("asimddp",)),
        ("machdep.cpu.features: FPU SSE4.1 FMA\nmachdep.cpu.leaf7_features: AVX2", ("sse4_1", "avx2", "fma")),
    ],
)
def test_arm_and_macos_are_understood(told: str, found: tuple[str, ...]) -> None:
    assert named(told) == found


@pytest.mark.skipif(not CPUINFO.exists(), reason="no /proc/cpuinfo here")
def test_this_machine_tells_some() -> None:
    assert instructions()
