"""What amble runs on a board: sets and restores its clocks, reads its power, runs and times networks.

One file, the standard library only, Python 3.6 and later; it is sent over a connection and leaves no program behind.
Requests come as lines of JSON on standard input, answers go as lines of JSON to standard output; a line that cannot be
answered is answered with {"error": ...}. Whatever was changed is put back when the input ends (the connection broke,
the other side was killed), on a signal, when nobody asked anything for the lease, and by the next probe where this one
was killed. ``python3 probe.py ROOT LEASE`` looks at another folder than / and waits so many seconds (for trials).
"""

import base64
import contextlib
import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from os.path import basename, dirname, exists, join
from typing import Any, Dict, List, Optional, Tuple

KEPT = "amble-probe-restore.json"
GPU_WORDS = ("gpu", "mali", "adreno", "kgsl", "gp10b", "gv11b", "ga10b", "gm20b", "panfrost", "panthor")
INPUT_RAILS = ("VDD_IN", "VIN", "VIN_SYS_5V0", "POM_5V_IN", "VDD_IN_5V0", "SYS5V")
PERIOD_S = 0.05


class Told(Exception):
    """Something that the person at the other end must be told."""


def read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except (OSError, ValueError) as error:
        raise Told("cannot read %s: %s" % (path, getattr(error, "strerror", None) or error))


def write(path: str, text: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError as error:
        raise Told("cannot write %s: %s; log in as root, or let an administrator open it" % (path, error.strerror))


class Knob:
    """One clock: the files of its bounds (low, high), or of a rate with a lock (rate, lock)."""

    def __init__(self, domain: str, levels_hz: List[float], files: List[Tuple[str, str]], unit: float, locked: bool):
        self.domain, self.levels_hz, self.files = domain, sorted(levels_hz), files
        self.unit, self.locked = unit, locked
        folder = dirname(files[0][0])
        nows = [files[0][0]] if locked else [join(folder, "cur_freq"), join(folder, "scaling_cur_freq")]
        self.now = next((each for each in nows if exists(each)), files[0][1])

    def found(self) -> List[Tuple[str, str]]:
        """What the files hold, in the order to put it back: of a lock the rate first, of bounds the upper one."""
        paths = [path for pair in self.files for path in (pair if self.locked else (pair[1], pair[0]))]
        return [(path, read(path)) for path in paths]

    def hold(self, clock_hz: float) -> None:
        text = "%d" % round(clock_hz / self.unit)
        for first, second in self.files:
            if self.locked:
                write(second, "1")
                write(first, text)
                kept = [read(first)]
            else:
                rising = float(text) >= float(read(second))
                for path in (second, first) if rising else (first, second):
                    write(path, text)
                kept = [read(first), read(second)]
            if any(each != text for each in kept):
                raise Told(
                    "asked %s for %g MHz, the board keeps %s: heat, firmware or the power mode (nvpmodel -q) limits it"
                    % (first, clock_hz / 1e6, " to ".join(kept))
                )

    def hz(self) -> float:
        return float(read(self.now)) * self.unit


def knobs(root: str) -> List[Knob]:
    found = [_gpu(root), _memory(root), _cpu(root)]
    return [each for each in found if each is not None]


def _gpu(root: str) -> Optional[Knob]:
    nodes = []
    for folder in sorted(glob.glob(join(root, "sys/class/devfreq/*"))):
        needed = [join(folder, name) for name in ("available_frequencies", "min_freq", "max_freq")]
        is_gpu = exists(join(folder, "device/load")) or any(word in basename(folder).lower() for word in GPU_WORDS)
        if is_gpu and all(exists(each) for each in needed):
            nodes.append(folder)
    if not nodes:
        return None
    levels = {read(join(each, "available_frequencies")) for each in nodes}
    if len(levels) > 1:
        raise Told("several devfreq nodes could be the GPU: %s" % ", ".join(map(basename, nodes)))
    files = [(join(each, "min_freq"), join(each, "max_freq")) for each in nodes]
    return Knob("core", [float(word) for word in levels.pop().split()], files, 1.0, False)


def _memory(root: str) -> Optional[Knob]:
    folder = join(root, "sys/kernel/debug/bpmp/debug")
    rate, lock = (join(folder, "clk/emc", name) for name in ("rate", "mrq_rate_locked"))
    rates = join(folder, "emc/possible_rates")
    if not all(exists(each) for each in (rate, lock, rates)):
        return None
    levels = [float(word) * 1e3 for word in read(rates).split() if word.isdigit() and word != "0"]
    return Knob("memory", levels, [(rate, lock)], 1.0, True)


def _cpu(root: str) -> Optional[Knob]:
    policies: Dict[str, List[str]] = {}
    for folder in sorted(glob.glob(join(root, "sys/devices/system/cpu/cpufreq/policy*"))):
        named = join(folder, "scaling_available_frequencies")
        if exists(named) and exists(join(folder, "scaling_min_freq")):
            policies.setdefault(read(named), []).append(folder)
    if not policies:
        return None
    fastest = max(policies, key=lambda text: max(float(word) for word in text.split()))
    files = [(join(each, "scaling_min_freq"), join(each, "scaling_max_freq")) for each in policies[fastest]]
    return Knob("cpu", [float(word) * 1e3 for word in fastest.split()], files, 1e3, False)


class Rail:
    """The board's input: power readings of its sensor, added up over time in a thread of its own."""

    def __init__(self, root: str) -> None:
        self.name, self.paths = _rail(root)
        self.energy_j: Optional[float] = 0.0 if self.paths else None
        self.last = time.monotonic()
        self.lock = threading.Lock()
        if self.paths:
            threading.Thread(target=self._follow, daemon=True).start()

    def power_w(self) -> float:
        if len(self.paths) == 1:
            return float(read(self.paths[0])) * 1e-6
        volts, amperes = (float(read(each)) * 1e-3 for each in self.paths)
        return volts * amperes

    def total(self) -> Tuple[float, Optional[float]]:
        with self.lock:
            self._add()
            return self.last, self.energy_j

    def _follow(self) -> None:
        while True:
            time.sleep(PERIOD_S)
            with self.lock:
                self._add()

    def _add(self) -> None:
        """A sensor that vanishes makes the energy unknown from then on."""
        now = time.monotonic()
        if self.energy_j is not None:
            try:
                self.energy_j += self.power_w() * (now - self.last)
            except (Told, ValueError):
                self.energy_j = None
        self.last = now


def _rail(root: str) -> Tuple[str, List[str]]:
    for folder in sorted(glob.glob(join(root, "sys/class/hwmon/hwmon*"))):
        for label in sorted(glob.glob(join(folder, "*_label"))):
            number, name = "".join(each for each in basename(label) if each.isdigit()), ""
            with contextlib.suppress(Told):
                name = read(label)
            if name not in INPUT_RAILS:
                continue
            power = [join(folder, "power%s_input" % number)]
            product = [join(folder, "%s%s_input" % (kind, number)) for kind in ("in", "curr")]
            for paths in (power, product):
                if all(exists(each) for each in paths):
                    return name, paths
    return "", []


class Networks:
    """Networks that were sent, opened in the board's own ONNX Runtime; or in trtexec."""

    def __init__(self) -> None:
        self.opened: Dict[str, Any] = {}
        self.folder = tempfile.mkdtemp(prefix="amble-probe-")

    def open(self, key: str, content: bytes, providers: List[str], threads: int) -> None:
        import onnxruntime

        missing = [each for each in providers if each not in onnxruntime.get_available_providers()]
        if missing:
            have = ", ".join(onnxruntime.get_available_providers())
            raise Told("the board's ONNX Runtime %s has no %s, only %s" % (onnxruntime.__version__, missing[0], have))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
        try:
            session = onnxruntime.InferenceSession(content, options, providers=providers)
        except Exception as error:
            raise Told("the board cannot open the network: %s" % str(error)[:300])
        if providers[0] not in session.get_providers():
            raise Told("%s does not start on the board: check its libraries" % providers[0])
        self.opened[key] = session

    def run(self, key: str, feed: Dict[str, Any], runs: int, own: bool) -> Tuple[List[float], Dict[str, Any]]:
        session, given = self.opened[key], {name: _array(each) for name, each in feed.items()}
        now = time.thread_time if own and hasattr(time, "thread_time") else time.perf_counter
        times, results = [], []
        for _ in range(runs):
            begin = now()
            results = session.run(None, given)
            times.append(now() - begin)
        names = [each.name for each in session.get_outputs()]
        return times, {name: _told(results[at]) for at, name in enumerate(names)}

    def trtexec(self, content: bytes, runs: int, precision: str) -> Dict[str, Any]:
        path, layers, times = (join(self.folder, name) for name in ("network.onnx", "layers.json", "times.json"))
        with open(path, "wb") as file:
            file.write(content)
        command = ["trtexec", "--onnx=" + path, "--iterations=%d" % runs, "--exportProfile=" + layers,
                   "--exportTimes=" + times, "--separateProfileRun", "--useCudaGraph"]  # fmt: skip
        command += {"fp16": ["--fp16"], "bf16": ["--bf16"], "int8": ["--int8"]}.get(precision, ["--noTF32"])
        try:
            done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except OSError as error:
            raise Told("the board has no trtexec in its PATH (%s): add /usr/src/tensorrt/bin" % error.strerror)
        said = done.communicate()[0].decode(errors="replace")
        if done.returncode != 0:
            raise Told("trtexec failed on the board: %s" % said.strip()[-300:])
        return {"layers": json.loads(_text(layers)), "times": json.loads(_text(times))}


def _text(path: str) -> str:
    with open(path) as file:
        return file.read()


def _array(told: Dict[str, Any]) -> Any:
    import numpy

    return numpy.frombuffer(base64.b64decode(told["data"]), told["dtype"]).reshape(told["shape"])


def _told(value: Any) -> Dict[str, Any]:
    data = base64.b64encode(value.tobytes()).decode()
    return {"dtype": str(value.dtype), "shape": list(value.shape), "data": data}


class Probe:
    """Answers requests, and puts back what it changed."""

    def __init__(self, root: str, lease_s: float) -> None:
        self.root, self.knobs, self.rail, self.networks = root, knobs(root), Rail(root), Networks()
        self.lease_s = lease_s
        self.found: List[Tuple[str, str]] = []
        self.kept = join(os.path.expanduser("~"), "." + KEPT) if root == "/" else join(root, KEPT)
        self.asked_s = time.monotonic()
        self.lock = threading.Lock()
        self.mended = self._mend()

    def answer(self, request: Dict[str, Any]) -> Dict[str, Any]:
        self.asked_s = time.monotonic()
        with self.lock:
            return getattr(self, "do_" + request.pop("do"))(**request)  # type: ignore[no-any-return]

    def do_hello(self) -> Dict[str, Any]:
        found: Dict[str, Any] = {
            "python": sys.version.split()[0],
            "machine": os.uname().machine,
            "rail": self.rail.name,
        }
        found["board"] = os.uname().nodename
        with contextlib.suppress(Told):
            found["board"] = read(join(self.root, "proc/device-tree/model")).rstrip("\0")
        found["knobs"] = [{"domain": each.domain, "levels_hz": each.levels_hz} for each in self.knobs]
        found["mended"] = self.mended
        found["runtime"], found["providers"] = None, []
        with contextlib.suppress(ImportError):
            import onnxruntime

            found["runtime"], found["providers"] = onnxruntime.__version__, onnxruntime.get_available_providers()
        return found

    def do_set(self, clocks: Dict[str, float]) -> Dict[str, Any]:
        held = [each for each in self.knobs if each.domain in clocks]
        if not self.found:
            self.found = [pair for each in self.knobs for pair in each.found()]
            boot = read("/proc/sys/kernel/random/boot_id")
            with open(self.kept, "w") as file:
                json.dump({"pid": os.getpid(), "boot": boot, "found": self.found}, file)
                file.flush()
                os.fsync(file.fileno())
        for each in held:
            each.hold(clocks[each.domain])
        return self.do_clocks()

    def do_clocks(self) -> Dict[str, Any]:
        return {"clocks": {each.domain: each.hz() for each in self.knobs}}

    def do_restore(self) -> Dict[str, Any]:
        return {"restored": self.put_back()}

    def do_meter(self) -> Dict[str, Any]:
        now_s, energy_j = self.rail.total()
        return {"time_s": now_s, "energy_j": energy_j}

    def do_open(self, key: str, content: str, providers: List[str], threads: int) -> Dict[str, Any]:
        if key not in self.networks.opened:
            self.networks.open(key, base64.b64decode(content), providers, threads)
        return {}

    def do_close(self, key: str) -> Dict[str, Any]:
        self.networks.opened.pop(key, None)
        return {}

    def do_run(self, key: str, feed: Dict[str, Any], runs: int, own: bool, answers: bool) -> Dict[str, Any]:
        if key not in self.networks.opened:
            raise Told("the board has no network %s: open it first" % key)
        before, begin_s = self.rail.total()[1], time.perf_counter()
        times, outputs = self.networks.run(key, feed, runs, own)
        after, end_s = self.rail.total()[1], time.perf_counter()
        energy_j = None if before is None or after is None else after - before
        return {
            "times_s": times,
            "energy_j": energy_j,
            "wall_s": end_s - begin_s,
            "outputs": outputs if answers else {},
        }

    def do_trtexec(self, content: str, runs: int, precision: str) -> Dict[str, Any]:
        return self.networks.trtexec(base64.b64decode(content), runs, precision)

    def put_back(self) -> int:
        """Put back everything, as much of it as can be; later files of a pair may need the earlier ones."""
        found, self.found = self.found, []
        failed = _put_back(found)
        if found and not failed:
            os.unlink(self.kept)
        if failed:
            self.found = found
            raise Told("could not put back %s: do it by hand (the values are in %s)" % (failed[0], self.kept))
        return len(found)

    def _mend(self) -> int:
        """Put back what a probe left that was killed since this boot."""
        try:
            with open(self.kept) as file:
                left = json.load(file)
        except (OSError, ValueError):
            return 0
        if exists("/proc/%d" % left["pid"]):
            raise Told("another probe (process %d) holds the clocks of this board: end it first" % left["pid"])
        found = left["found"] if left["boot"] == read("/proc/sys/kernel/random/boot_id") else []
        if _put_back(found):
            raise Told("a killed probe left clocks changed that cannot be put back: see %s" % self.kept)
        os.unlink(self.kept)
        return len(found)

    def watch(self) -> None:
        while True:
            time.sleep(min(1.0, self.lease_s / 2))
            if time.monotonic() - self.asked_s > self.lease_s and self.found and self.lock.acquire(False):
                with contextlib.suppress(Told):
                    self.put_back()
                self.lock.release()


def _put_back(found: List[Tuple[str, str]]) -> List[str]:
    """Write files twice where the first time was too early: a bound cannot pass the other one."""
    failed: List[str] = []
    for path, text in list(found) + list(found):
        with contextlib.suppress(Told):
            write(path, text)
    for path, text in found:
        kept = None
        with contextlib.suppress(Told):
            kept = read(path)
        failed += [path] if kept != text else []
    return failed


def stop(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def main(root: str = "/", lease_s: str = "120") -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, stop)
    answer: Dict[str, Any]
    try:
        probe = Probe(root, float(lease_s))
    except Told as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    threading.Thread(target=probe.watch, daemon=True).start()
    try:
        for line in iter(sys.stdin.readline, ""):
            try:
                answer = probe.answer(json.loads(line))
            except Told as error:
                answer = {"error": str(error)}
            except Exception as error:
                answer = {"error": "%s: %s" % (type(error).__name__, str(error)[:300])}
            print(json.dumps(answer), flush=True)
    finally:
        probe.put_back()


if __name__ in ("__main__", "amble_probe"):
    main(*sys.argv[1:])
