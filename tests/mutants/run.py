"""guarantees.toml → every small change in what keeps them, tried against the tests that should notice; survivors fail.

mutmut makes the changes inside functions and runs the tests that reach them; the shortcuts written out in the list are
tried one by one. All happens in copies under build/mutants. Takes minutes; names of files as arguments pick guarantees.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build/mutants"
PYTEST = ["-p", "no:cacheprovider", "--hypothesis-profile=ci"]  # which has no deadlines and no chance
KILLED = 1  # what pytest returns when a test failed


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What is promised, the file that keeps it, and the tests that must notice."""

    says: str
    file: str
    tests: tuple[str, ...]
    functions: tuple[str, ...] = ()
    changes: tuple[tuple[str, str], ...] = ()

    @property
    def mutants(self) -> list[str]:
        """Return the names of all changes in its functions, as mutmut matches them."""
        module = self.file.removeprefix("src/").removesuffix(".py").replace("/", ".")
        return [f"{module}.{_mangled(name)}__mutmut_*" for name in self.functions]


def listed() -> tuple[tuple[Guarantee, ...], dict[str, str]]:
    """Read the list: guarantees, and the lines of mutants that are spared with the reason for each."""
    found = tomllib.loads(Path(__file__).with_name("guarantees.toml").read_text(encoding="utf-8"))
    guarantees = tuple(_guarantee(each) for each in found["guarantee"])
    return guarantees, {each["line"]: each["why"] for each in found.get("spared", [])}


def survivors_of_mutmut(guarantees: tuple[Guarantee, ...], spared: dict[str, str]) -> Iterator[str]:
    """Run mutmut over the functions → differences that no test noticed."""
    aimed = [each for each in guarantees if each.functions]
    if not aimed:
        return
    tests = list(dict.fromkeys(test for each in aimed for test in each.tests))
    _prepare(sorted({each.file for each in aimed}), tests)
    _mutmut("run", "--max-children", str(os.cpu_count() or 2), *(name for each in aimed for name in each.mutants))
    for name, verdict in re.findall(r"^ +(\S+__mutmut_\d+): (.+)$", _mutmut("results", quiet=True), re.MULTILINE):
        if verdict in ("not checked", "timeout"):  # a change that makes a test endless is noticed
            continue
        change = _mutmut("show", name, quiet=True)
        lines = [line[1:].strip() for line in change.splitlines() if re.match(r"\+(?!\+\+)", line)]
        if not any(line in spared for line in lines):
            yield f"{name}: {verdict}\n{change}"


def survivors_of_shortcuts(guarantees: tuple[Guarantee, ...]) -> Iterator[str]:
    """Write each shortcut into a copy and run the tests → those that no test noticed."""
    copy = WORK / "shortcuts"
    for guarantee in guarantees:
        for old, new in guarantee.changes:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(ROOT / "src", copy)
            path = copy / guarantee.file.removeprefix("src/")
            path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
            command = [sys.executable, "-m", "pytest", "-x", "-q", *PYTEST, *guarantee.tests]
            done = subprocess.run(command, cwd=ROOT, env=_environment(copy), capture_output=True, text=True)
            seen = done.returncode == KILLED
            print(f"{'noticed' if seen else 'SURVIVED'}: {guarantee.says}: {' '.join(new.split())}", flush=True)
            if not seen:
                yield f"{guarantee.file}\n-{old}\n+{new}\n{done.stdout[-2000:]}"


def _guarantee(given: dict[str, Any]) -> Guarantee:
    changes = tuple((old, new) for old, new in given.get("changes", ()))
    return Guarantee(given["says"], given["file"], tuple(given["tests"]), tuple(given.get("functions", ())), changes)


def _mangled(name: str) -> str:
    owner, _, function = name.rpartition(".")
    return f"xǁ{owner}ǁ{function}" if owner else f"x_{function}"


def _prepare(files: list[str], tests: list[str]) -> None:
    """Make a folder with the project's settings and mutmut's."""
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "mutants/src").mkdir(parents=True)  # a path that does not exist yet is none to import from
    for name in ("src", "tests", "bench", "tools", "examples"):
        (WORK / name).symlink_to(ROOT / name)
    settings = {
        "source_paths": ["src"],
        "only_mutate": files,
        "do_not_mutate_patterns": ["raise ", "_LOG", "Refused[(]", "said = ", 'f"'],  # words are for people
        "pytest_add_cli_args": PYTEST,
        "pytest_add_cli_args_test_selection": tests,
        "process_isolation": "forkserver",
    }
    lines = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    written = f"{project}\n[tool.mutmut]\ntrack_dependencies = false\n{lines}\n"
    (WORK / "pyproject.toml").write_text(written, encoding="utf-8")


def _mutmut(*arguments: str, quiet: bool = False) -> str:
    """Run mutmut → what it printed, where that is wanted."""
    command = [str(Path(sys.executable).with_name("mutmut")), *arguments]
    environment = _environment(WORK / "mutants/src")
    done = subprocess.run(command, cwd=WORK, env=environment, text=True, check=True, capture_output=quiet)
    return done.stdout if quiet else ""


def _environment(source: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}


def main(picked: list[str]) -> int:
    """Try all guarantees, or those of files that are named (``plan/search.py``); return 1 when anything survived."""
    guarantees, spared = listed()
    if picked:
        guarantees = tuple(each for each in guarantees if each.file.endswith(tuple(picked)))
    survived = [*survivors_of_mutmut(guarantees, spared), *survivors_of_shortcuts(guarantees)]
    print(*survived, f"{len(survived)} changes survived", sep="\n\n")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
