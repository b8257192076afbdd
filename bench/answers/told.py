"""What is told of right answers: from `answers`."""

from __future__ import annotations

from bench.kit.told import Numbers

SOURCES = {"answers": "answers@host"}
NUMBERS: Numbers = {
    "answers.sent": lambda r: f"{sum(r.column('sent')):,}",
    "answers.wrong": lambda r: str(sum(r.column("wrong"))),
    "answers.failed": lambda r: str(sum(r.column("failed"))),
}
TABLES: Numbers = {}
