#!/usr/bin/env python3
"""A remote profile by triton-model-analyzer (model_analyzer.yaml), which drives perf_analyzer and reads the metrics.

Needs: triton-model-analyzer, "setuptools<81", and the program perf_analyzer (get_perf_analyzer.sh).
The server must offer the model repository calls and the model's configuration.
"""

import csv
import pathlib
import shutil
import string
import subprocess
import sys
import tempfile

import payload


def main() -> int:
    here = pathlib.Path(__file__).resolve().parent
    parser = payload.arguments(__doc__.splitlines()[0])
    parser.add_argument("--grpc", default="127.0.0.1:8001", help="host:port; written into the file, not used")
    parser.add_argument("--metrics", default="http://127.0.0.1:8002/metrics")
    parser.add_argument("--perf-analyzer", default="perf_analyzer", help="path of the program")
    parser.add_argument("--model-analyzer", default="model-analyzer", help="path of the program")
    parser.add_argument("--max-p99-s", type=float, default=1.0, help="constraint; a slower server fails")
    parser.add_argument("--limit-s", type=float, default=300.0)
    options = parser.parse_args()
    programs = [shutil.which(options.model_analyzer), shutil.which(options.perf_analyzer)]
    if None in programs:
        return payload.unusable("model_analyzer", "needs model-analyzer and perf_analyzer")

    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name in ("repository", "output", "export", "checkpoints"):
            (root / name).mkdir()
        text = string.Template((here / "model_analyzer.yaml").read_text()).substitute(
            HOST=payload.address(options.url),
            GRPC=options.grpc,
            METRICS=options.metrics,
            FOLDER=folder,
            MODEL=options.model,
            PERF_ANALYZER=programs[1],
            MAX_P99_MS=int(options.max_p99_s * 1000),
        )
        (root / "run.yaml").write_text(text)
        try:
            done = subprocess.run(
                [programs[0], "profile", "-f", str(root / "run.yaml")],
                cwd=folder,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=options.limit_s,
            )
        except subprocess.TimeoutExpired:
            return payload.finish("model_analyzer", [f"no end after {options.limit_s} s"])
        print(done.stdout, file=sys.stderr)

        tables = {}
        for table in root.glob("export/results/*.csv"):
            print(table.read_text(), file=sys.stderr)
            with table.open() as lines:
                tables[table.stem] = list(csv.DictReader(lines))
    failures = []
    if done.returncode:
        failures.append(f"exit code {done.returncode}: {done.stdout.strip().splitlines()[-1:]}")
    measured = []
    for row in tables.get("metrics-model-inference", []):
        power = [
            float(gpu["GPU Power Usage (W)"])
            for gpu in tables.get("metrics-model-gpu", [])
            if gpu["Concurrency"] == row["Concurrency"] and "GPU Power Usage (W)" in gpu
        ]
        measured.append(
            {
                "load": int(row["Concurrency"]),
                "throughput_hz": float(row["Throughput (infer/sec)"]),
                "p99_s": float(row["p99 Latency (ms)"]) / 1000,
                "power_w": power,
            }
        )
        if row["Satisfies Constraints"] != "Yes":
            failures.append(f"constraint missed at concurrency {row['Concurrency']}")
    if not measured:
        failures.append("no results")
    return payload.finish("model_analyzer", failures, measured=measured)


if __name__ == "__main__":
    sys.exit(main())
