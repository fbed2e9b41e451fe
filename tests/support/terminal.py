"""A command on a pseudo-terminal, and what it writes there."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.commands import ROOT

__all__ = ["run_on_terminal"]


def run_on_terminal(
    *arguments: object,
    config: Path,
    environment: Mapping[str, str] | None = None,
    stdout: int | None = None,
    answers: Sequence[tuple[str, str]] = (),
) -> tuple[int, str]:
    """Exit status of ``vbuild ARGUMENTS``, and all that came to its terminal.

    ``stdout`` is where standard output goes instead; ``answers`` are prompts, in order, and
    the lines that the user types when they have come (what is typed before a prompt is lost).
    """
    own = {
        k: v for k, v in os.environ.items() if not k.startswith(("VBUILD_", "NO_COLOR", "FORCE"))
    }
    own |= {"XDG_CONFIG_HOME": str(config), "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "vbuild", *map(str, arguments)],
        env={**own, **(environment or {})},
        stdin=follower,
        stdout=follower if stdout is None else stdout,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    waiting = [(prompt.encode(), reply.encode()) for prompt, reply in answers]
    seen, position = b"", 0
    while True:
        try:
            data = os.read(leader, 65536)
        except OSError:  # Linux says EIO when the last process has closed the terminal
            break
        if not data:
            break
        seen += data
        if waiting and (found := seen.find(waiting[0][0], position)) >= 0:
            position = found + 1
            os.write(leader, waiting.pop(0)[1] + b"\n")
    os.close(leader)
    return process.wait(), seen.decode("utf-8")
