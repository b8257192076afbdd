"""This machine's CPU → the names of those of its instruction sets that INT8 and half precision depend on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["CPUINFO", "instructions", "named"]

CPUINFO = Path("/proc/cpuinfo")

_X86 = (
    *("sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "avx_vnni", "avx_vnni_int8", "amx_tile", "amx_int8", "amx_bf16"),
)
_ARM = {
    **{name: name for name in ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme", "sme2")},
    "feat_dotprod": "asimddp",
    "feat_i8mm": "i8mm",
    "feat_bf16": "bf16",
    "feat_fp16": "asimdhp",
    "feat_sme": "sme",
}
_SYSCTL = ("sysctl", "hw.optional", "machdep.cpu.features", "machdep.cpu.leaf7_features")


def instructions(cpuinfo: Path = CPUINFO) -> tuple[str, ...]:
    """Return the instruction sets of this machine; empty where the system does not tell."""
    if sys.platform == "darwin":
        asked = subprocess.run(_SYSCTL, capture_output=True, text=True, check=False, timeout=10)
        return named(asked.stdout)
    try:
        return named(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ()


def named(told: str) -> tuple[str, ...]:
    """Read Linux's ``/proc/cpuinfo`` (of its first processor) or macOS's ``sysctl``.

    >>> named("flags : fpu sse4_1 avx avx2 avx512_vnni")
    ('sse4_1', 'avx', 'avx2', 'avx512_vnni')
    >>> named("hw.optional.arm.FEAT_DotProd: 1\\nhw.optional.arm.FEAT_BF16: 0")
    ('asimddp',)
    """
    has: set[str] = set()
    for line in told.splitlines():
        name, _, value = (part.strip().lower() for part in line.partition(":"))
        if name in ("flags", "features", "machdep.cpu.features", "machdep.cpu.leaf7_features"):
            has.update(value.replace(".", "_").split())
        elif name.startswith("hw.optional.") and value == "1":
            has.add(name.rpartition(".")[2].replace("avx2_0", "avx2"))
        elif not name and has:
            break
    return (*(each for each in _X86 if each in has), *dict.fromkeys(_ARM[each] for each in _ARM if each in has))
