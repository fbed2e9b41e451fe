"""The main job on a small model: made, locked, planned, built, verified, tampered with, checked.

- Makes a base and a delta in LLaMA's shape with the generator of the tests, then runs the real
  commands, each a process of its own, and prints what they print. A line with three dots stands
  for lines that are left out.
- Everything happens in one directory, ``demo`` unless another is named; so does the signing key,
  and the user's own configuration is neither read nor written.
- Every exit status and every claim is asserted: the script fails if anything is not as it says.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = importlib.util.find_spec("vbuild") is not None
sys.path.insert(0, str(ROOT))

from tests.support.llama import (  # noqa: E402  (from the checkout, which is on the path only now)
    Llama,
    Tensors,
    expected_sum,
    make_base,
    make_delta_v0,
    manifest_text,
    round_to_bfloat16,
    write_torch,
)

NAME = "mini-vicuna-v0"
MODEL = f"build/{NAME}"
MARKER = ".vbuild-demo"
GGUF = "build/gguf"
SHARDS = 2
GENERATE = """
import sys
from gpt4all import GPT4All
model = GPT4All(sys.argv[1], model_path=sys.argv[2], allow_download=False, device="cpu")
print(ascii(model.generate("soma kire", max_tokens=8, temp=0)))
"""
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Unexpected(Exception):
    """Something is not as the demonstration says."""


class Demo:
    """A directory, and how commands are run and shown in it."""

    def __init__(self, directory: Path, *, colour: bool) -> None:
        self.directory = directory
        self.colour = colour
        self.steps = 0
        own = {k: v for k, v in os.environ.items() if not k.startswith("VBUILD_")}
        own |= {"XDG_CONFIG_HOME": str(directory / "config"), "PYTHONIOENCODING": "utf-8"}
        self.environment = own
        if colour:
            self.environment["FORCE_COLOR"] = "1"
        if not INSTALLED:
            self.environment["PYTHONPATH"] = str(ROOT)

    def heading(self, title: str, *text: str) -> None:
        """Begin a section."""
        self.say("", self._style("1;34", f"── {title} {'─' * (74 - len(title))}"), *text)

    def say(self, *lines: str) -> None:
        """Lines of text."""
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()

    def vbuild(
        self, command: str, *, expect: int = 0, keep: Callable[[str], bool] | None = None
    ) -> str:
        """Run ``vbuild COMMAND``, show what it prints, and return that without colours.

        ``keep`` chooses the lines to show; ``expect`` is the exit status that there has to be.
        """
        self.say(self._style("1", f"$ vbuild {command}"))
        done = subprocess.run(
            [sys.executable, "-m", "vbuild", *shlex.split(command)],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        lines = done.stdout.splitlines()
        self._show(lines, keep)
        if done.returncode != expect:
            raise Unexpected(f"`vbuild {command}` ended with {done.returncode}, not {expect}")
        if expect:
            self.say(self._style("2", f"(exit status {expect}, as it should be)"))
        self.steps += 1
        return ANSI.sub("", "\n".join(lines))

    def claim(self, what: str, truth: bool) -> None:
        """Say ``what``, which has to be true."""
        if not truth:
            raise Unexpected(f"not true: {what}")
        self.say(f"{self._style('32', '✓')} {what}")
        self.steps += 1

    def _show(self, lines: list[str], keep: Callable[[str], bool] | None) -> None:
        left_out = False
        for line in lines:
            if keep is None or keep(ANSI.sub("", line)):
                self.say(line)
                left_out = False
            elif line and not left_out:
                self.say(self._style("2", "..."))
                left_out = True

    def _style(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text


def fresh(directory: Path) -> None:
    """Make ``directory``; what an earlier run has left there goes away, nothing else does."""
    if directory.exists() and any(directory.iterdir()):
        if not (directory / MARKER).is_file():
            raise Unexpected(f"{directory} is there, and not from an earlier demonstration")
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARKER).write_text("made by docs/tutorial/demo.py\n")


def make_inputs(demo: Demo) -> tuple[Llama, Tensors]:
    """The base, the delta and the manifest."""
    top = demo.directory
    base = make_base(top / "base", hidden=256, layers=4, heads=8, vocab=320, shards=SHARDS)
    delta = make_delta_v0(top / "delta", base, shards=SHARDS)
    text = manifest_text(NAME).replace("\n[base]", 'license = "CC0-1.0"\n\n[base]', 1)
    text = text.removesuffix("\n[output]\n\n")
    (top / "manifest.toml").write_text(text)
    count = sum(values.size for values in base.tensors.values())
    demo.heading("A model, a delta, a manifest")
    demo.say(
        f"base/   {base.layers} layers, {count / 1e6:.1f} million random numbers in float16, "
        f"{base.vocab} tokens",
        f"delta/  what makes another model of it, with one token more: {base.vocab + 1}",
        "manifest.toml:",
        *(f"  {line}" for line in text.splitlines() if line),
    )
    return base, delta


def lock_and_plan(demo: Demo) -> None:
    """An unpinned manifest is refused; the same one pinned says what it would do."""
    demo.heading("Lock: a build reads only what is pinned by digest")
    refused = demo.vbuild("apply manifest.toml", expect=4)
    demo.claim("the message names the command that helps", "vbuild lock manifest.toml" in refused)
    demo.vbuild("lock manifest.toml")
    demo.heading("Plan: what would be read, computed and written")
    shown = re.compile(r"read|write|rules|compute|memory|disk| +[0-9]+  ")
    demo.vbuild("plan manifest.toml", keep=lambda line: bool(shown.match(line)))
    demo.heading("Verify the inputs")
    demo.vbuild("verify manifest.toml", keep=lambda line: "PASSED" in line)


def build(demo: Demo, base: Llama, delta: Tensors) -> None:
    """The main job, and that its result is right."""
    demo.heading("Apply: base + delta -> a signed model")
    demo.vbuild("apply manifest.toml", keep=lambda line: not small(line))
    expected = expected_sum(base.tensors, delta)
    made = load(demo.directory / MODEL)
    same = made.keys() == expected.keys() and all(
        np.array_equal(made[name].view("<u2"), expected[name].view("<u2")) for name in expected
    )
    demo.claim(f"all {len(made)} tensors are, bit for bit, numpy's sum of base and delta", same)


def small(line: str) -> bool:
    """Whether a line is about a file that is not weights."""
    return ".json" in line or "tokenizer.model" in line


def load(directory: Path) -> dict[str, NDArray[np.float16]]:
    """The float16 tensors in the safetensors files of ``directory``, read without vbuild."""
    tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        data = path.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        for name, entry in json.loads(data[8:start]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                values = np.frombuffer(data, "<f2", (end - begin) // 2, start + begin)
                tensors[name] = values.reshape(entry["shape"])
    return tensors


def verify(demo: Demo) -> None:
    """Yes to the model, no to one flipped bit in it."""
    demo.heading("Verify: yes to what was signed")
    demo.vbuild(f"verify {MODEL}", keep=lambda line: not small(line))
    demo.heading("Tampering: one bit of one weight is flipped")
    shard = sorted((demo.directory / MODEL).glob("*.safetensors"))[-1]
    flip(shard)
    told = demo.vbuild(f"verify {MODEL}", expect=1, keep=lambda line: not line.endswith(": OK"))
    demo.claim("the file is named, and it alone", told.count(f"{shard.name}: FAILED") == 1)
    flip(shard)
    demo.say("The bit is flipped back:")
    demo.vbuild(f"verify {MODEL}", keep=lambda line: "PASSED" in line)


def flip(path: Path) -> None:
    """Flip the lowest bit of the last byte but one."""
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-2, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def wrong_base(demo: Demo, base: Llama) -> None:
    """A base of the right size and shape, but converted to bfloat16 and back on its way."""
    demo.heading("A wrong base: rounded to bfloat16 by somebody, same names, same sizes")
    wrong = demo.directory / "base-bf16"
    shutil.copytree(demo.directory / "base", wrong)
    write_torch(wrong, {n: round_to_bfloat16(t) for n, t in base.tensors.items()}, SHARDS)
    demo.vbuild("apply manifest.toml --base base-bf16 --out build/wrong", expect=1)
    left = sorted(path.name for path in (demo.directory / "build").iterdir())
    demo.claim("nothing was published", left == [NAME, f"{NAME}.attest"])


def check(demo: Demo) -> None:
    """The build is reproducible, and the published model is what it gives."""
    demo.heading("Check: built twice more, as differently as can be; the same bytes")
    command = f"check manifest.toml --against {MODEL}"
    demo.vbuild(command, keep=lambda line: not line.endswith(": SAME"))


def gguf(demo: Demo) -> None:
    """The same model as a GGUF file; a few tokens from it, where gpt4all is there to make them."""
    demo.heading("GGUF: the same model for llama.cpp and gpt4all")
    if importlib.util.find_spec("gguf") is None:
        demo.say("Left out: the package gguf is not installed (pip install 'vbuild[gguf]').")
        return
    text = (demo.directory / "manifest.toml").read_text()
    (demo.directory / "gguf.toml").write_text(text + '\n[output]\nformat = "gguf"\ntype = "F16"\n')
    demo.vbuild(f"apply gguf.toml --out {GGUF}", keep=lambda line: ".gguf" in line)
    demo.vbuild(f"verify {GGUF}", keep=lambda line: "PASSED" in line)
    if importlib.util.find_spec("gpt4all") is None:
        demo.say("Nothing is generated from it: gpt4all is not installed (pip install gpt4all).")
        return
    # A process of its own: the library writes on the terminal what it does not find.
    done = subprocess.run(
        [sys.executable, "-c", GENERATE, f"{NAME}-F16.gguf", str(demo.directory / GGUF)],
        env=demo.environment | {"HOME": str(demo.directory / "config")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    demo.say(f"gpt4all goes on from 'soma kire': {done.stdout.strip()}")
    demo.claim(
        "gpt4all loads the file and generates from it (of random weights, nonsense)",
        done.returncode == 0 and len(done.stdout) > len("''"),
    )


def main() -> int:
    """Run everything; 0 if it was as expected."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "demo").absolute()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    demo = Demo(directory, colour=terminal and not os.environ.get("NO_COLOR"))
    try:
        fresh(directory)
        base, delta = make_inputs(demo)
        lock_and_plan(demo)
        build(demo, base, delta)
        verify(demo)
        wrong_base(demo, base)
        check(demo)
        gguf(demo)
    except Unexpected as problem:
        sys.stdout.flush()
        sys.stderr.write(f"demo: {problem}\n")
        return 1
    demo.heading("Done")
    demo.say(f"All {demo.steps} steps went as they should. Look around in {directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
