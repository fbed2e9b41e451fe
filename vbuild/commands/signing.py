"""Which key signs, and which keys are trusted.

- ``--key``, then ``VBUILD_KEY``, then the user's own key, which is made on first use; the
  passphrase comes from ``VBUILD_KEY_PASSPHRASE``, a file or a prompt, never from an argument.
- Trusted keys come from the command line or the user's configuration, never from a bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vbuild.attest.keys import PublicKey, fingerprint
from vbuild.attest.private import PrivateKey, load_private_key
from vbuild.attest.trust import (
    default_config_dir,
    load_or_create_user_key,
    read_public_key,
    trusted_keys,
)
from vbuild.errors import InvalidInput

__all__ = ["KEY_VARIABLE", "PASSPHRASE_VARIABLE", "SigningKey", "signing_key", "trust"]

KEY_VARIABLE = "VBUILD_KEY"
PASSPHRASE_VARIABLE = "VBUILD_KEY_PASSPHRASE"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key that signs; ``created`` is its path if it was made just now."""

    key: PrivateKey
    created: Path | None = None

    @property
    def fingerprint(self) -> str:
        """Of its public half."""
        return fingerprint(self.key.public_key)


def signing_key(
    key: Path | None,
    environment: Mapping[str, str],
    ask: Callable[[str], bytes] | None = None,
) -> SigningKey:
    """The key to sign with. ``ask(path)`` may prompt for a passphrase; without it, a key that needs
    one which the environment does not have is an error."""
    text = environment.get(PASSPHRASE_VARIABLE)
    passphrase = None if text is None else text.encode("utf-8", "surrogateescape")
    named = environment.get(KEY_VARIABLE)
    path = key or (Path(named) if named else None)
    try:
        return _load(path, passphrase, environment)
    except InvalidInput as e:
        if e.code != "passphrase-missing" or ask is None:
            raise
        return _load(path, ask(str(e.where)), environment)


def _load(
    path: Path | None, passphrase: bytes | None, environment: Mapping[str, str]
) -> SigningKey:
    """The key in ``path``, or the user's own without one."""
    if path is not None:
        return SigningKey(load_private_key(path, passphrase))
    own = load_or_create_user_key(default_config_dir(environment), passphrase)
    return SigningKey(own.key, own.path if own.created else None)


def trust(keys: Sequence[Path], environment: Mapping[str, str]) -> tuple[PublicKey, ...]:
    """The public keys in the files ``keys``, or the user's own and trusted ones without any."""
    if keys:
        return tuple(read_public_key(path) for path in keys)
    return trusted_keys(default_config_dir(environment))
