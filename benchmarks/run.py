"""Measures ``vbuild apply`` beside its peers, in one run, and writes JSON and a markdown table.

- Every contestant is a process of its own, started as a user starts it; wall time, CPU time and
  peak memory are the kernel's (``wait4``). Nothing is imported here that a child would be charged
  for: a child's peak begins with its parent's.
- Repetitions are interleaved, an untimed ``cp`` goes before each (new files are slow at first on
  virtual machines), and the best of all repetitions counts.
- ``cp`` and the peers sync what they write, because a build does.
- The outputs of vbuild and of torch must be the same bytes, or nothing is reported.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True, slots=True)
class Case:
    """A model to be built; containers and shards are those of base and delta."""

    name: str
    parameters: float
    containers: tuple[str, str] = ("safetensors", "safetensors")
    shards: tuple[int, int] = (2, 2)


CASES = (
    Case("aligned", 1.2e9),
    Case("aligned, small", 0.12e9),
    Case("one file", 1.2e9, shards=(1, 1)),
    Case("bin", 1.2e9, ("bin", "bin")),
    Case("bin, cut differently", 1.2e9, ("bin", "bin"), (2, 3)),
    Case("safetensors + bin", 1.2e9, ("safetensors", "bin")),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one contestant: seconds, and bytes of peak memory."""

    wall: float
    user: float
    system: float
    memory: int


def measure(command: list[str], log: Path) -> Sample:
    """Run ``command`` to its end; its output goes to ``log``."""
    with log.open("wb") as out:
        begin = time.perf_counter()
        actions = [(os.POSIX_SPAWN_DUP2, out.fileno(), fd) for fd in (1, 2)]
        pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - begin
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()}")
    return Sample(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024)


def vbuild_command() -> list[str]:
    """The console script beside this interpreter, or the module."""
    script = Path(sys.executable).with_name("vbuild")
    return [str(script)] if script.exists() else [sys.executable, "-m", "vbuild.cli"]


def apply_command(data: Path, out: Path) -> list[str]:
    """The build of ``data`` into ``out``."""
    apply = [*vbuild_command(), "apply", str(data / "manifest.toml"), "--out", str(out)]
    return [*apply, "--unsigned", "--quiet"]


def weight_files(*directories: Path) -> list[str]:
    """Paths of the shards in the directories."""
    return [
        str(path) for d in directories for path in sorted(d.iterdir()) if path.suffix in WEIGHTS
    ]


def contestants(data: Path, out: Path, jobs: Sequence[int], torch: bool) -> dict[str, list[str]]:
    """Commands by label. Each writes ``out`` (but openssl, which needs ``data/reference``)."""
    base, delta = data / "base", data / "delta"
    apply = apply_command(data, out)
    commands = {f"vbuild, {n} thread{'s' * (n > 1)}": [*apply, "--jobs", str(n)] for n in jobs}
    commands["cp + sync"] = ["sh", "-c", 'cp -r "$0" "$1" && sync "$1"/*', str(base), str(out)]
    files = weight_files(base, delta, data / "reference")
    commands["openssl dgst"] = ["openssl", "dgst", "-sha256", *files]
    if torch:
        peer = str(HERE / "peer_torch.py")
        commands["torch + hashlib"] = [sys.executable, peer, str(base), str(delta), str(out)]
    return commands


def digests(directory: Path) -> list[str]:
    """SHA-256 of the shards, in order."""
    found = []
    for path in weight_files(directory):
        with Path(path).open("rb") as f:
            found.append(hashlib.file_digest(f, "sha256").hexdigest())
    return found


def remove(out: Path) -> None:
    """The output of a contestant, and what stands beside it."""
    for path in (out, out.with_name(out.name + ".attest")):
        shutil.rmtree(path, ignore_errors=True)


def run_case(
    case: Case, data: Path, *, jobs: Sequence[int], repetitions: int, torch: bool
) -> dict[str, list[Sample]]:
    """All samples of a case, by contestant. ``data`` is made here and left to the caller."""
    generate = [sys.executable, str(HERE / "generate.py"), str(data), "--force"]
    generate += ["--parameters", str(case.parameters), "--container", case.containers[0]]
    generate += ["--delta-container", case.containers[1], "--shards", str(case.shards[0])]
    subprocess.run([*generate, "--delta-shards", str(case.shards[1])], check=True)
    out, log = data / "out", data / "log"
    measure(apply_command(data, out), log)
    out.rename(data / "reference")
    remove(out)
    commands = contestants(data, out, jobs, torch)
    samples: dict[str, list[Sample]] = {label: [] for label in commands}
    for i in range(repetitions):
        for label, command in commands.items():
            measure(["sh", "-c", 'cp -r "$0" "$1"', str(data / "base"), str(out)], log)
            remove(out)
            samples[label].append(measure(command, log))
            if i == 0 and label.startswith(("vbuild", "torch")):
                check_output(label, out, data / "reference")
            remove(out)
    return samples


def check_output(label: str, out: Path, reference: Path) -> None:
    """Every contestant that makes the model makes the same bytes."""
    if digests(out) != digests(reference):
        raise SystemExit(f"{label}: the output differs from that of the first build")


def best(samples: Sequence[Sample]) -> Sample:
    """The least of each figure."""
    return Sample(
        *(min(values) for values in zip(*(asdict(s).values() for s in samples), strict=True))
    )


def summary(samples: Mapping[str, Sequence[Sample]]) -> dict[str, dict[str, float]]:
    """Best and median figures of each contestant, and ratios of its best to the peers'."""
    least = {label: best(runs) for label, runs in samples.items()}
    result = {}
    for label, own in least.items():
        figures = asdict(own)
        figures["wall_median"] = statistics.median(s.wall for s in samples[label])
        figures["wall_to_cp"] = own.wall / least["cp + sync"].wall
        figures["user_to_openssl"] = own.user / least["openssl dgst"].user
        if "torch + hashlib" in least:
            figures["times_faster_than_torch"] = least["torch + hashlib"].wall / own.wall
        result[label] = figures
    return result


def machine() -> dict[str, str]:
    """Where the figures come from."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    openssl = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True)
    return {
        "processor": model,
        "cores": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "openssl": openssl.stdout.split()[1],
    }


def markdown(results: Mapping[str, Mapping[str, Mapping[str, float]]], here: dict[str, str]) -> str:
    """The table for the README."""
    lines = [
        f"{here['cores']} cores of {here['processor']}, {here['system']}, Python {here['python']}, "
        f"OpenSSL {here['openssl']}; cached files, outputs synced, best of several runs.",
        "",
        "| model | | wall s | x cp | user CPU x openssl | x faster than torch | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for case, contestants in results.items():
        for label, f in contestants.items():
            faster = f.get("times_faster_than_torch")
            cells = [
                case,
                label,
                f"{f['wall']:.2f}",
                f"{f['wall_to_cp']:.2f}",
                f"{f['user_to_openssl']:.2f}",
                "" if faster is None else f"{faster:.1f}",
                f"{f['memory'] / 2**20:.0f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", choices=[c.name for c in CASES], help="default: all")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--jobs", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--no-torch", action="store_true", help="leave the slow peer out")
    parser.add_argument("--directory", type=Path, help="for the data; default: a temporary one")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="for the results")
    asked = parser.parse_args()
    here = machine()
    results, raw = {}, {}
    for case in CASES:
        if asked.cases and case.name not in asked.cases:
            continue
        with tempfile.TemporaryDirectory(prefix="vbuild-bench-", dir=asked.directory) as scratch:
            samples = run_case(
                case,
                Path(scratch) / "data",
                jobs=asked.jobs,
                repetitions=asked.repetitions,
                torch=not asked.no_torch,
            )
        raw[case.name] = {label: [asdict(s) for s in runs] for label, runs in samples.items()}
        results[case.name] = summary(samples)
        print(markdown({case.name: results[case.name]}, here), flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    document = {"machine": here, "results": results, "samples": raw}
    (asked.out / "results.json").write_text(json.dumps(document, indent=2) + "\n")
    (asked.out / "results.md").write_text(markdown(results, here))
    print(f"written: {asked.out}/results.json, {asked.out}/results.md")


if __name__ == "__main__":
    main()
