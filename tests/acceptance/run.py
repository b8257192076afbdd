"""Other people's clients -> one verdict on `amble serve`, started on the bundled network: all of them, and a fuzzer;
then NVIDIA's client, KServe's and curl once more on a server that speaks TLS and asks for a key.

    make setup-peers && make acceptance          DEVICE=sim:jetson-tx2 make acceptance, for one with a meter
    ALLOW_MISSING="wrk kserve" make acceptance   these may be unable to run here; any other that is, has failed
    ONLY="tritonclient locust" make acceptance

Prints one line of JSON for each client and one for all; what the clients say goes to build/acceptance/NAME.log.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LOGS = ROOT / "build" / "acceptance"
MODEL = "fashion-resnet"
LIMIT_S = 400.0


def peer(name: str, program: str) -> str:
    """A program in the environment of a client."""
    return str(ROOT / f".venv-peer-{name}" / "bin" / program)


@contextmanager
def server(device: str, *more: str) -> Iterator[dict[str, str]]:
    """Serve the bundled network on free ports while the block runs; its addresses."""
    command = [str(Path(sys.executable).parent / "amble"), "serve", MODEL, "--device", device, "--json"]
    ports = [f"--{door}-port=0" for door in ("http", "grpc", "metrics")]
    with (LOGS / "server.log").open("w") as log:
        running = subprocess.Popen([*command, *ports, *more], stdout=log, stderr=subprocess.PIPE, text=True)
        assert running.stderr is not None
        try:
            for line in running.stderr:
                if line.startswith("{"):
                    yield json.loads(line)["ready"]
                    break
                log.write(line)
            else:
                raise SystemExit(f"the server did not start: see {LOGS / 'server.log'}")
        finally:
            running.send_signal(signal.SIGTERM)
            log.write(running.communicate(timeout=60)[1])
    if running.returncode != 0:
        raise SystemExit(f"the server ended with {running.returncode}: see {LOGS / 'server.log'}")


def clients(at: dict[str, str]) -> dict[str, list[str]]:
    """The command of each client."""
    common = ["--url", at["http"], "--model", MODEL]
    tester = str(ROOT / ".venv-peer-perf_analyzer" / "perf_analyzer")
    triton, here = peer("triton", "python"), str(HERE)
    return {
        "tritonclient": [triton, f"{here}/check_tritonclient.py", *common, "--grpc", at["grpc"]],
        "kserve": [peer("kserve", "python"), f"{here}/check_kserve.py", *common],
        "loadgen": [triton, f"{here}/check_loadgen.py", *common, "--metrics", at["metrics"], "--rate-hz", "20"],
        "perf_analyzer": [
            *(sys.executable, f"{here}/check_perf_analyzer.py", *common, "--grpc", at["grpc"]),
            *("--metrics", at["metrics"], "--perf-analyzer", tester),
        ],
        "model_analyzer": [
            *(sys.executable, f"{here}/check_model_analyzer.py", *common, "--metrics", at["metrics"]),
            *("--perf-analyzer", tester, "--model-analyzer", peer("analyzer", "model-analyzer")),
        ],
        "locust": [
            *(peer("locust", "locust"), "-f", f"{here}/locustfile.py", "--headless", "--only-summary", "--users", "4"),
            *("--spawn-rate", "4", "--run-time", "5s", "--host", at["http"], "--model", MODEL, "--rate-hz", "5"),
        ],
        "curl": [f"{here}/check_curl.sh", at["http"], MODEL],
        "wrk": [f"{here}/check_wrk.sh", at["http"], MODEL],
        "schemathesis": [f"{here}/check_schemathesis.sh", peer("schemathesis", "st"), at["http"]],
    }


def secure_clients(at: dict[str, str]) -> dict[str, list[str]]:
    """The command of each client that is tried over TLS and with a key."""
    every = clients(at)
    return {f"{name}-tls": every[name] for name in ("tritonclient", "kserve", "curl")}


def secured() -> tuple[list[str], dict[str, str]]:
    """Make a certificate and a key -> options of the server, and variables for its clients."""
    cert, private, keys, key = LOGS / "cert.pem", LOGS / "cert.key", LOGS / "keys", secrets.token_hex(32)
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", private, "-out", cert],
        check=True,
        capture_output=True,
    )
    keys.write_text(key)
    options = ["--tls-cert", str(cert), "--tls-key", str(private), "--api-keys", str(keys)]
    return options, {"AMBLE_CA": str(cert), "AMBLE_KEY": key}


def run(name: str, command: list[str], variables: dict[str, str]) -> dict[str, object]:
    """Run a client; its summary, or why there is none."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables}
    with (LOGS / f"{name}.log").open("w") as log:
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=log, text=True, timeout=LIMIT_S, env=environment
            )
        except FileNotFoundError as error:
            return {"client": name, "ok": False, "unusable": f"{error.filename} is missing: make setup-peers"}
        except subprocess.TimeoutExpired:
            return {"client": name, "ok": False, "failures": [f"no end after {LIMIT_S:g} s"]}
        log.write(done.stdout)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return {"client": name, "ok": False, "failures": [f"no summary: see {LOGS / name}.log"]}
    found: dict[str, object] = json.loads(lines[-1])
    return found


def main() -> int:
    """Run them all; 0 when every one that can run passed, and those that cannot may be missing."""
    LOGS.mkdir(parents=True, exist_ok=True)
    only, missing = (os.environ.get(name, "").split() for name in ("ONLY", "ALLOW_MISSING"))
    failed, left_out = list[str](), list[str]()
    device = os.environ.get("DEVICE", "host")

    def try_all(options: list[str], variables: dict[str, str], commands: Callable[..., dict[str, list[str]]]) -> int:
        count = 0
        with server(device, *options) as at:
            for name, command in commands(at).items():
                if only and name not in only:
                    continue
                found = {**run(name, command, variables), "client": name}
                print(json.dumps(found), flush=True)
                count += 1
                if "unusable" in found and name in missing:
                    left_out.append(name)
                elif not found["ok"]:
                    failed.append(name)
        return count

    ran = try_all(["--shared-memory"], {}, clients) + try_all(*secured(), secure_clients)
    print(json.dumps({"client": "all", "ok": not failed, "ran": ran, "failed": failed, "left_out": left_out}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
