"""Runs a group: makes its data, lets the contestants take turns, removes the data.

- An untimed ``cp`` goes before each run that writes, because the first new files after a pause are
  slow on virtual machines; what is read is in the page cache.
- A contestant that makes the model makes the reference's weights, byte for byte, or all ends.
- An optional contestant that vbuild refuses, or for which something is missing, is skipped, and
  vbuild's own words are the reason.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from benchmarks.cases import Group
from benchmarks.commands import Command, Contestant, Place, apply, vbuild, weight_files
from benchmarks.measure import Failed, Sample, busy, measure

__all__ = ["Ran", "run_group"]

ROOT = Path(__file__).resolve().parent.parent
REFUSED = (2, 3)
"""Exit statuses of vbuild: malformed, and could not find out."""


@dataclass(slots=True)
class Ran:
    """What a group gave: samples of each contestant, or why there are none.

    ``bytes`` are those of the model's tensors, ``others`` is the part of the processors that was
    busy before the contestants began.
    """

    bytes: int
    others: float
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


class _Runner:
    def __init__(self, group: Group, place: Place) -> None:
        self.group = group
        self.place = place
        self.log = place.data.with_name("log")
        # The user's keys and settings stay out of it.
        self.environment = {**os.environ, "XDG_CONFIG_HOME": str(place.data.with_name("config"))}
        self.reference: list[str] = []

    def run(self, command: Command) -> Sample:
        return measure(command(self.place), self.log, self.environment)

    def prepare(self) -> int:
        """Everything that is there before the first contestant; the bytes of the tensors."""
        data, model = self.place.data, self.group.model
        generate = [sys.executable, "-m", "benchmarks.generate", str(data), *model.sides]
        generate += ["--size", str(model.size), "--width", str(model.width)]
        generate += ["--vocabulary", str(model.vocabulary)]
        subprocess.run(generate, check=True, cwd=ROOT)
        facts = json.loads((data / "model.json").read_text())
        self.run(vbuild("keygen", "./key.pem"))
        if self.group.signed is not None:
            self.run(vbuild("sign", f"./{self.group.signed}", "--key", "./key.pem"))
        known = {"MAX_SHARD_SIZE": str(facts["max_shard_size"]), "WEIGHTS": "0" * 64}
        self.write_manifests(known)
        if self.group.reference:
            self.run(apply())
            self.place.out.rename(data / "reference")
            self.remove_output()
            self.reference = self.digests(data / "reference")
            self.run(vbuild("inspect", "./reference", "--weights-digest"))
            self.write_manifests({**known, "WEIGHTS": self.log.read_text().strip()})
        os.sync()
        return int(facts["bytes"])

    def write_manifests(self, facts: Mapping[str, str]) -> None:
        data = self.place.data
        pins = {path.stem: path.read_text() for path in data.glob("*.pins")}
        for name, job in self.group.jobs.items():
            (data / f"{name}.toml").write_text(job.manifest(pins, facts))

    def digests(self, directory: Path) -> list[str]:
        """SHA-256 of the shards in order, by openssl."""
        command = ["openssl", "dgst", "-sha256", "-r", *weight_files(directory)]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        return [line.split()[0] for line in ran.stdout.splitlines()]

    def remove_output(self) -> None:
        """The output of a contestant, and what stands beside it."""
        out = self.place.out
        for path in (out, out.with_name(out.name + ".attest")):
            shutil.rmtree(path, ignore_errors=True)

    def once(self, contestant: Contestant, check: bool) -> Sample:
        """One run, with what goes before and after it."""
        if contestant.writes:
            base, out = str(self.place.data / "base"), str(self.place.out)
            self.run(lambda _: ["cp", "-r", base, out])
            self.remove_output()
        try:
            sample = self.run(contestant.command)
            if check and contestant.same and self.digests(self.place.out) != self.reference:
                raise SystemExit(f"{self.log}: the output is not the reference's")
            return sample
        finally:
            self.remove_output()


def run_group(group: Group, place: Place, repetitions: int) -> Ran:
    """Samples of all contestants; ``place.data`` does not exist before and after."""
    runner = _Runner(group, place)
    try:
        ran = Ran(runner.prepare(), busy())
        going = dict(group.contestants)
        for round_number in range(repetitions * group.rounds):
            for label, contestant in list(going.items()):
                reason = _missing(contestant)
                try:
                    if reason is None:
                        sample = runner.once(contestant, check=round_number == 0)
                        ran.samples.setdefault(label, []).append(sample)
                except Failed as e:
                    if not contestant.optional or e.status not in REFUSED:
                        raise SystemExit(str(e)) from e
                    reason = f"vbuild says: {_first_line(e.output)}"
                if reason is not None:
                    ran.skipped[label] = reason
                    del going[label]
    finally:
        shutil.rmtree(place.data, ignore_errors=True)
    return ran


def _missing(contestant: Contestant) -> str | None:
    if contestant.needs is None or find_spec(contestant.needs) is not None:
        return None
    return f"{contestant.needs} is not installed"


def _first_line(output: str) -> str:
    """The error's own line, without the place that it names first."""
    lines = [line for line in output.splitlines() if line.startswith("error:")] or [output.strip()]
    return lines[0].removeprefix("error:").rpartition("toml:")[2].strip()
