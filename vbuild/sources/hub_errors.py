"""What goes wrong with the Hub, as one line that says what to do.

- Loaded with the client, whose exceptions it knows.
- Whatever the Hub or the network does means that nothing could be found out (exit status 3). Only a
  digest or a size that is not the pinned one is an answer (1), and that is judged elsewhere.
"""

from __future__ import annotations

from typing import Final

import httpx2
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from vbuild.errors import InvalidInput, Unavailable, VbuildError
from vbuild.files import os_error
from vbuild.sources.hub import Repository

__all__ = ["CLIENT_ERRORS", "as_error", "pause"]

CLIENT_ERRORS: Final = (
    httpx2.HTTPError,
    httpx2.InvalidURL,
    OSError,  # also of the client: HfHubHTTPError, LocalEntryNotFoundError, a failed length check
    ValueError,  # of an answer that is no JSON, or has other values than it must have
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,  # of a deeply nested answer
    ImportError,  # of a package that only some proxies need
)
"""What a call of the client can raise because of the Hub, the network or the disk."""

LONGEST_PAUSE: Final = 60
"""Seconds; a server that asks for more is an error, which says how long to wait."""

_LOGIN: Final = "log in with `hf auth login`, or set HF_TOKEN"


def pause(e: Exception, usual: float | None) -> float | None:
    """Seconds to wait before asking again, or None if that would not help.

    ``usual`` is how long to wait if the server does not say, None after the last try.
    """
    if usual is None or isinstance(e, httpx2.UnsupportedProtocol):
        return None
    if isinstance(e, httpx2.TransportError):
        return usual
    if isinstance(e, HfHubHTTPError) and _passes(e.response.status_code):
        asked = _retry_after(e)
        return usual if asked is None else asked if asked <= LONGEST_PAUSE else None
    return None


def _passes(status: int) -> bool:
    """Whether it is the server's trouble, which passes."""
    return status in (408, 429) or status >= 500


def _retry_after(e: HfHubHTTPError) -> int | None:
    text = e.response.headers.get("Retry-After", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


def as_error(e: Exception, repository: Repository, file: str | None = None) -> VbuildError:
    """``e``, raised by the client when it was asked for ``file``, in vbuild's words."""
    where = repository.uri + (f"/{file}" if file else "")
    if isinstance(e, LocalEntryNotFoundError) and isinstance(e.__cause__, Exception):
        return as_error(e.__cause__, repository, file)  # the client's words for "and not cached"
    if isinstance(e, HfHubHTTPError):
        return _refusal(e, repository, where)
    if isinstance(e, OfflineModeIsEnabled):
        return Unavailable(
            "hub-offline",
            "the Hub is not asked, because HF_HUB_OFFLINE is set",
            where=where,
            hint="unset HF_HUB_OFFLINE, then run the same command again",
        )
    if isinstance(e, httpx2.TransportError):
        return _network(e, where)
    if isinstance(e, UnicodeEncodeError) and e.encoding == "ascii":  # a header's value
        what = "the token has characters that no token has"
        return Unavailable("hub-unauthorized", what, where=where, hint=_LOGIN)
    if isinstance(e, ImportError) or (isinstance(e, FileNotFoundError) and e.filename is None):
        return Unavailable(
            "hub-client",
            f"the client of the Hub cannot work: {_line(e)}",
            where=where,
            hint="look at the proxy's variables, SSL_CERT_FILE and SSL_CERT_DIR",
        )
    if isinstance(e, HFValidationError):
        return InvalidInput("bad-uri", f"not a repository of the Hub: {_line(e)}", where=where)
    if type(e) is OSError and e.errno is None:  # how the client says that a length is wrong
        return Unavailable(
            "hub-length",
            "the Hub sends less than it has announced",
            where=where,
            hint="run the same command again",
        )
    if isinstance(e, OSError) and e.errno is not None:
        name = e.filename2 or e.filename  # of a renaming: the new name
        return os_error(e, name if isinstance(name, str) else where, "write")
    return Unavailable(
        "hub-answer",
        f"the answer is not one of a Hub: {type(e).__name__}: {_line(e)}",
        where=where,
        hint="look at HF_ENDPOINT, at the proxy, and whether the network asks for a login",
    )


def _refusal(e: HfHubHTTPError, repository: Repository, where: str) -> Unavailable:
    """The error for an answer with an HTTP status that is not success."""
    status = e.response.status_code
    page = f"https://huggingface.co/{repository.id}"
    if isinstance(e, GatedRepoError):
        code, what = "hub-gated", "access to this repository has to be granted"
        hint = f"ask for access at {page}, then {_LOGIN}"
    elif isinstance(e, RevisionNotFoundError):
        code, what = "hub-no-revision", "the repository has no such revision"
        hint = f"look at {page}/commits/main"
    elif isinstance(e, RemoteEntryNotFoundError):
        code, what = "hub-no-file", "the repository has no such file at this revision"
        hint = f"look at {page}/tree/{repository.revision or 'main'}"
    elif isinstance(e, RepositoryNotFoundError) or status == 404:
        code, what = "hub-no-repository", "there is no such repository, or it is private"
        hint = f"check the name; if it is private, {_LOGIN}"
    elif status == 401:
        code, what = "hub-unauthorized", "the Hub does not accept the token"
        hint = _LOGIN
    elif status == 403:
        code, what = "hub-forbidden", "the token does not permit it"
        hint = f"use a token that may read this repository: {_LOGIN}"
    elif status == 429:
        asked = _retry_after(e)
        code, what = "hub-rate-limit", "the Hub has had too many requests"
        hint = "run the same command again " + (f"after {asked} seconds" if asked else "later")
    elif _passes(status):
        code, what = "hub-unavailable", "the Hub has trouble"
        hint = "run the same command again later; what has been downloaded is kept"
    else:
        code, what = "hub-answer", "the Hub refuses the request"
        hint = "look at HF_ENDPOINT and at the proxy"
    return Unavailable(code, what, where=where, got=f"status {status}", hint=hint)


def _network(e: httpx2.TransportError, where: str) -> Unavailable:
    reason = _line(e) or type(e).__name__
    hint = "check the network, then run the same command again: it goes on where it stopped"
    if isinstance(e, httpx2.UnsupportedProtocol):
        hint = "look at HF_ENDPOINT: it begins with https:// or http://"
    return Unavailable(
        "network",
        f"the Hub cannot be reached: {reason}",
        where=where,
        hint=hint,
    )


def _line(e: Exception) -> str:
    """The first line of a foreign message, not too long."""
    return str(e).strip().partition("\n")[0][:200]
