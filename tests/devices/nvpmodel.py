"""A board's ``nvpmodel`` that sets modes in a tree of files, as the tool does on the board it was written for.

It keeps to the tree it lies in: ``ROOT/usr/sbin/nvpmodel``. Modes whose name ends in ``_REBOOT`` it asks for a reboot
instead of setting them, and with ``ROOT/deaf`` there it says that all is well and changes nothing.
"""

import sys
from pathlib import Path

TOOL = """#!{python}
import pathlib, re, sys
root = pathlib.Path(__file__).resolve().parents[2]
modes = re.findall(r"< POWER_MODEL ID=(\\d+) NAME=(\\S+) >([^<]*)", (root / "etc/nvpmodel.conf").read_text())
status = root / "var/lib/nvpmodel/status"
if sys.argv[1] == "-q":
    number = int(status.read_text().rpartition(":")[2])
    print("NV Power Mode:", dict((int(n), name) for n, name, _ in modes)[number])
    print(number)
    sys.exit()
wanted = sys.argv[sys.argv.index("-m") + 1]
with (root / "told").open("a") as log:
    log.write(wanted + "\\n")
name, body = next((name, body) for number, name, body in modes if number == wanted)
if name.endswith("_REBOOT"):
    print("NVPM WARN: Reboot required for changing to this power mode:", wanted)
    print("DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:")
    sys.exit()
if (root / "deaf").exists():
    sys.exit()
caps = dict(re.findall(r"^(GPU|CPU)\\w* MAX_FREQ (-?\\d+)$", body, re.M))
for file, kind in [(path, "GPU") for path in root.glob("sys/class/devfreq/*gp*/max_freq")] + [
    (path, "CPU") for path in root.glob("sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq")
]:
    levels = file.parent / ("available_frequencies" if kind == "GPU" else "scaling_available_frequencies")
    highest = max(map(int, levels.read_text().split()))
    cap = int(caps.get(kind, -1))
    file.write_text("%d\\n" % (highest if cap < 0 else min(cap, highest)))
    low = file.with_name(file.name.replace("max", "min"))
    low.write_text("%d\\n" % min(map(int, levels.read_text().split())))
status.write_text("pmode:%04d\\n" % int(wanted))
"""


def install(root: Path, current: str, **modes: str) -> Path:
    """Give a tree the tool and these modes, each with its lines -> the file that logs what the tool was told."""
    lines = [f"< POWER_MODEL ID={number} NAME={name} >\n{body}" for number, (name, body) in enumerate(modes.items())]
    (root / "etc").mkdir(parents=True, exist_ok=True)
    (root / "etc/nvpmodel.conf").write_text("\n".join(["# modes", *lines, "< PM_CONFIG DEFAULT=0 >\n"]))
    (root / "var/lib/nvpmodel").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/nvpmodel/status").write_text(f"pmode:{list(modes).index(current):04d}\n")
    tool = root / "usr/sbin/nvpmodel"
    tool.parent.mkdir(parents=True, exist_ok=True)
    tool.write_text(TOOL.replace("{python}", sys.executable))
    tool.chmod(0o755)
    return root / "told"
