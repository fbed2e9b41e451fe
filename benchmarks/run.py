"""Measures vbuild beside its peers: ``make bench``, or ``python -m benchmarks.run``.

- Prints a table and writes ``results.json``, ``results.md`` and ``results.svg``.
- ``--write-docs`` fills the marked blocks of the documents and the README's picture from such a
  JSON, and measures nothing.
- Nothing large is imported here: a child's peak memory begins with its parent's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cases import groups, quick
from benchmarks.commands import Place
from benchmarks.documents import blocks, picture, rewrite
from benchmarks.measure import machine
from benchmarks.results import Report, dumps, loads
from benchmarks.runner import Ran, run_group

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().with_name("results.json")
DOCUMENTS = ("README.md", "docs/explanation/performance.md")
PICTURE = "docs/images/performance.svg"
_PRINTED = ("machine", "lines", "kernels", "bound", "contestants", "growth", "shards")


def vbuild_command() -> tuple[str, ...]:
    """The console script beside this interpreter, or the module."""
    script = Path(sys.executable).with_name("vbuild")
    return (str(script),) if script.exists() else (sys.executable, "-m", "vbuild")


def run(asked: argparse.Namespace) -> Report:
    """Run the groups that are asked for, one after the other."""
    repetitions = asked.repetitions or (1 if asked.quick else 5)
    results: dict[str, Ran] = {}
    for name, group in groups().items():
        if asked.groups and name not in asked.groups:
            continue
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="vbuild-bench-", dir=asked.directory) as scratch:
            place = Place(Path(scratch) / "data", tuple(asked.vbuild or vbuild_command()))
            chosen = quick(group) if asked.quick else group
            results[name] = run_group(chosen, place, repetitions)
        print(f"{name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.kernels"]
    ran = subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    return Report(machine(), repetitions, asked.quick, json.loads(ran.stdout), results)


def written_documents(report: Report) -> dict[Path, str]:
    """The documents and the picture as the results make them, by path."""
    texts = {ROOT / name: rewrite((ROOT / name).read_text(), report) for name in DOCUMENTS}
    return texts | {ROOT / PICTURE: picture(report)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", nargs="+", choices=list(groups()), metavar="NAME")
    parser.add_argument("--repetitions", type=int, help="default: 5, with --quick 1")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the data")
    parser.add_argument("--vbuild", nargs="+", metavar="WORD", help="the command to measure")
    parser.add_argument("--directory", type=Path, help="for the data; default: a temporary one")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="for the results")
    parser.add_argument(
        "--write-docs",
        nargs="?",
        const=RESULTS,
        type=Path,
        metavar="JSON",
        help="only rewrite the documents, by default from benchmarks/results.json",
    )
    asked = parser.parse_args()
    if asked.write_docs is not None:
        for path, text in written_documents(loads(asked.write_docs.read_text())).items():
            path.write_text(text)
        return
    report = run(asked)
    made = blocks(report)
    text = "\n".join(made[name] for name in _PRINTED)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "results.json").write_text(dumps(report))
    (asked.out / "results.md").write_text(text)
    (asked.out / "results.svg").write_text(picture(report))
    print(text)
    print(f"written: {asked.out}/results.json, .md and .svg")


if __name__ == "__main__":
    main()
