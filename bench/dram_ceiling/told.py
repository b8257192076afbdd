"""What is told of the most that lower voltages save: from `dram_ceiling`."""

from __future__ import annotations

from bench.kit.told import Numbers, Result, percent

SOURCES = {"ceiling": "dram_ceiling@cpu"}
SYSTEMS = {"cpu": "CPU", "gpu": "GPU", "eyeriss": "Eyeriss", "tpu": "TPU"}


def _ceiling(result: Result) -> str:
    lines = [
        "| system | rows | transfers | background and refresh | most, array only (A and C, B) | most, all terms "
        "| published |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for system, words in SYSTEMS.items():
        (a,), (b,) = (result.where(system=system, vendor=each) for each in ("A", "B"))
        rest = a["refresh"] + a["background"]
        cells = [percent(a["rows"]), percent(a["transfer"]), percent(rest, 1 if rest < 0.01 else 0)]
        cells += [", ".join(percent(each[name]) for each in (a, b)) for name in ("assumed", "all")]
        lines.append(f"| {words} | " + " | ".join([*cells, percent(a["published"])]) + " |")
    return "\n".join(lines)


NUMBERS: Numbers = {}
TABLES: Numbers = {"ceiling.systems": _ceiling}
