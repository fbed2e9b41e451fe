"""The user's own key and the keys the user trusts, in the configuration directory.

- ``key.pem`` (mode 0600) and ``key.pub`` are the user's own; ``trusted/*.pub`` are other
  people's. Whoever may write there decides what verifies, so a directory that others may write
  to is refused.
- The own key is made on first use and never replaced; two processes that do so at once end up
  with the same key.
- Where the directory is, is decided by the caller's environment, passed in.
"""

from __future__ import annotations

import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbuild.attest.keys import PublicKey, canonical_public_pem, distinct, load_public_key
from vbuild.attest.pem import MAX_PEM
from vbuild.attest.private import PrivateKey, generate, load_private_key
from vbuild.errors import InvalidInput, Unavailable
from vbuild.files import make_directories, os_error, read_small, write_atomic

__all__ = [
    "UserKey",
    "default_config_dir",
    "load_or_create_user_key",
    "read_public_key",
    "trusted_keys",
]

PRIVATE: Final = "key.pem"
PUBLIC: Final = "key.pub"
TRUSTED: Final = "trusted"


@dataclass(frozen=True, slots=True)
class UserKey:
    """The user's own key, where it lies, and whether it was made just now."""

    key: PrivateKey
    path: Path
    created: bool


def default_config_dir(environment: Mapping[str, str]) -> Path:
    """``$XDG_CONFIG_HOME/vbuild``, or ``~/.config/vbuild`` where that is unset or relative.

    Unavailable (``no-home``) if neither variable says where.
    """
    base = environment.get("XDG_CONFIG_HOME", "")
    if Path(base).is_absolute():  # the XDG specification: relative paths are to be ignored
        return Path(base) / "vbuild"
    home = environment.get("HOME", "")
    if not Path(home).is_absolute():
        raise Unavailable(
            "no-home",
            "there is no home directory to keep keys in",
            hint="set HOME or XDG_CONFIG_HOME, or give the key with --key",
        )
    return Path(home) / ".config" / "vbuild"


def _check_directory(directory: Path) -> None:
    try:
        mode = stat.S_IMODE(directory.stat().st_mode)
    except OSError as e:
        raise os_error(e, str(directory), "read") from e
    if mode & 0o022:
        raise InvalidInput(
            "key-permissions",
            "others may write to the directory that says which keys are trusted",
            where=str(directory),
            got=f"mode {mode:04o}",
            hint=f"chmod go-w {shlex.quote(str(directory))}",
        )


def load_or_create_user_key(config_dir: Path, passphrase: bytes | None = None) -> UserKey:
    """The user's own key; on first use it is made, unencrypted, in a directory of mode 0700.

    ``passphrase`` opens a key that the user encrypted. ``load_private_key``'s errors;
    InvalidInput ``key-permissions``; Unavailable if nothing can be written there.
    """
    path = config_dir / PRIVATE
    created = False
    try:
        make_directories(config_dir, 0o700)  # as the XDG specification asks
    except OSError as e:
        raise os_error(e, str(config_dir), "create") from e
    _check_directory(config_dir)
    try:
        if not path.exists():
            write_atomic(path, generate().pem(), mode=0o600, overwrite=False)
            created = True
    except FileExistsError:
        created = False  # another process was faster: its key is the user's key
    except OSError as e:
        raise os_error(e, str(path), "write") from e
    key = load_private_key(path, passphrase)
    public = config_dir / PUBLIC
    try:
        if not public.exists():
            write_atomic(public, canonical_public_pem(key.public_key))
    except OSError as e:
        raise os_error(e, str(public), "write") from e
    return UserKey(key, path, created)


def _is_there(path: Path) -> bool:
    """Whether ``path`` exists; Unavailable where that cannot be found out."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as e:
        raise os_error(e, str(path), "read") from e
    return True


def read_public_key(path: Path) -> PublicKey:
    """The public key in the file ``path``; ``load_public_key``'s errors, Unavailable."""
    return load_public_key(read_small(path, str(path), MAX_PEM), str(path))


def trusted_keys(config_dir: Path) -> tuple[PublicKey, ...]:
    """The user's own key and ``trusted/*.pub``, in order of name, each key once; none if the
    directory is not there.

    A file that is not a public key is an error, not skipped: the user meant to trust something.
    ``load_public_key``'s errors; InvalidInput ``key-permissions``; Unavailable.
    """
    if not _is_there(config_dir):
        return ()
    _check_directory(config_dir)
    own = config_dir / PUBLIC
    paths = [own] if _is_there(own) else []
    others = config_dir / TRUSTED
    if _is_there(others):
        _check_directory(others)
        try:
            paths += sorted(path for path in others.iterdir() if path.suffix == ".pub")
        except OSError as e:
            raise os_error(e, str(others), "read") from e
    return tuple(distinct(read_public_key(path) for path in paths).values())
