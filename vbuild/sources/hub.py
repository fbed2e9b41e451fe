"""``hf:``: a repository of the Hugging Face Hub, ``hf://ORG/REPO@REVISION``.

- Only the form is known here. The revision may be missing (the default branch is meant) or be the
  name of a branch or tag; ``vbuild lock`` replaces it by the commit, because only a commit says
  which files are meant (bad-inputs.md, 82).
- Names are the Hub's own: letters, digits, ``.``, ``_`` and ``-``, without ``--`` and ``..``. They
  become names of directories in the client's cache.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vbuild.errors import InvalidInput, NotLocked

__all__ = ["Repository", "check", "parse"]

_NAME = r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?"
_REPOSITORY = re.compile(
    rf"//(?P<id>{_NAME}/{_NAME})(?:@(?P<revision>[\w./-]{{1,255}}))?", re.ASCII
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository, ``ORG/REPO``, at a revision (None: its default branch)."""

    id: str
    revision: str | None

    @property
    def uri(self) -> str:
        """As a manifest has it."""
        return f"hf://{self.id}" + (f"@{self.revision}" if self.revision else "")

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    def commit(self, where: str | None = None) -> str:
        """The commit; NotLocked if the revision is none. ``where`` is the input in errors."""
        if self.revision is None or not self.is_commit:
            raise NotLocked(
                "not-locked",
                "the revision is not a commit, so what is in it can change",
                where=where or self.uri,
                expected="hf://ORG/REPO@COMMIT, 40 hexadecimal digits",
                got=self.revision or "no revision",
                hint="vbuild lock MANIFEST writes the commit into the manifest",
            )
        return self.revision

    def at(self, commit: str) -> Repository:
        """The same repository at ``commit``."""
        return Repository(self.id, commit)


def parse(rest: str, where: str | None = None) -> Repository:
    """The repository that ``hf:`` + ``rest`` names; InvalidInput (``bad-uri``) otherwise."""
    match = _REPOSITORY.fullmatch(rest)
    if match is None or ".." in rest or "--" in match["id"]:
        raise InvalidInput(
            "bad-uri",
            "not a repository of the Hub",
            where=where,
            expected="hf://ORG/REPO@COMMIT",
            got=f"hf:{rest}",
        )
    return Repository(match["id"], match["revision"])


def check(rest: str, where: str | None = None) -> None:
    """Refuse (``bad-uri``) what is not of the form; ``rest`` is what follows the colon."""
    parse(rest, where)
