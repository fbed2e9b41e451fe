"""A download from the Hub: what is said before it starts, and its result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vbuild.report.apply import license_line
from vbuild.report.document import Value
from vbuild.report.lines import Line, line, styled
from vbuild.report.units import counted, size

if TYPE_CHECKING:
    from vbuild.manifest import Manifest
    from vbuild.sources.fetch import Fetched, Pending

__all__ = ["document", "lines", "opening"]


def opening(manifest: Manifest, pending: Pending) -> Iterator[Line]:
    """The licence, then what is going to be downloaded, from where and to where."""
    yield license_line(manifest.license)
    count = counted(len(pending.files), "file")
    origin = " and ".join(sorted({wanted.repository.uri for wanted in pending.files}))
    yield line(f"downloading {count}, {size(pending.bytes)}, from {origin} into {pending.cache}")


def lines(fetched: Sequence[Fetched]) -> Iterator[Line]:
    """A line per file, then how many there are."""
    if not fetched:
        yield line("nothing to download: every input is on this machine")
        return
    for file in fetched:
        status = file.status if file.status == "cached" else styled(file.status, "good")
        yield line(f"{file.wanted.label}: ", status)
    total = f"{counted(len(fetched), 'file')} in the cache"
    new = sum(file.status != "cached" for file in fetched)
    yield line(f"{total}, {new} of them downloaded" if new else total)


def document(manifest: Path, fetched: Sequence[Fetched]) -> dict[str, Value]:
    """The fields of ``vbuild.fetch/1``."""
    return {
        "manifest": manifest,
        "downloaded": sum(file.status != "cached" for file in fetched),
        "files": [
            {
                "name": file.wanted.label,
                "status": file.status,
                "repository": file.wanted.repository.id,
                "commit": file.wanted.repository.revision,
                "path": file.path,
                "sha256": file.wanted.sha256,
            }
            for file in fetched
        ],
    }
