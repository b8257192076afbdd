"""What is told of plans on simulated chips: from `main_job`."""

from __future__ import annotations

import statistics

from bench.kit.told import Numbers, count, percent

SOURCES = {"main_job": "main_job@sim"}
PROMISED = 0.01  # at p99


NUMBERS: Numbers = {
    "main_job.on_time": lambda r: r.met("late at p99"),
    "main_job.latest": lambda r: percent(max(r.values("late at p99")), 1),
    "main_job.calibrated": lambda r: count({each["chip"]: each["calibrated"] for each in r.records}.values()),
    "main_job.governor_late": lambda r: count(each["governor_late"] > PROMISED for each in r.records),
    "main_job.single": lambda r: count(each["energy_j"] == each["single_j"] for each in r.records),
    "main_job.dearer": lambda r: count(each["saving_vs_single"] < 0 for each in r.records),
    "main_job.median": lambda r: percent(statistics.median(each["saving_vs_single"] for each in r.records)),
    "main_job.most": lambda r: percent(max(each["saving_vs_single"] for each in r.records), 1),
    "main_job.governor_median": lambda r: percent(statistics.median(each["saving_vs_governor"] for each in r.records)),
    "main_job.max_median": lambda r: percent(statistics.median(each["saving_vs_max"] for each in r.records)),
    "main_job.governor_least": lambda r: percent(min(each["saving_vs_governor"] for each in r.records), 1).replace(
        "-", "−"
    ),
}
TABLES: Numbers = {}
