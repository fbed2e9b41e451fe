"""``vbuild doctor``: what runs here, and what is missing."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from vbuild import _core
from vbuild.attest.trust import default_config_dir
from vbuild.commands.buildinfo import cpu_model
from vbuild.digest import kernels
from vbuild.errors import VbuildError

__all__ = ["Finding", "doctor"]

_NEEDED = ("click", "huggingface_hub", "msgspec", "pycryptodome", "rich", "sentencepiece", "tomli")
_OPTIONAL = {"gguf": "GGUF output"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``status`` is ``ok``, ``note`` (works, could be better) or ``problem``."""

    topic: str
    status: str
    detail: str


def doctor(environment: Mapping[str, str] = os.environ) -> tuple[Finding, ...]:
    """Look at the machine, the kernels, the packages and the keys."""
    return (
        Finding("vbuild", "ok", _core.VERSION),
        Finding("python", "ok", f"{platform.python_version()} on {sys.platform}"),
        Finding("cpu", "ok", f"{cpu_model()}, {len(os.sched_getaffinity(0))} processor(s) to use"),
        *_kernels(environment),
        *(_package(name, None) for name in _NEEDED),
        *(_package(name, use) for name, use in sorted(_OPTIONAL.items())),
        _keys(environment),
    )


def _kernels(environment: Mapping[str, str]) -> list[Finding]:
    try:
        own = kernels()
    except VbuildError as e:
        return [Finding("kernels", "problem", e.message)]
    used = set(own.features)
    sha = "SHA-NI" if "shani" in used else "ARMv8 SHA2" if "arm-sha2" in used else "portable"
    wide = ", AVX-512 for 13 and more streams" if {"avx512", "shani"} <= used else ""
    add = next((n for n in ("avx512", "avx2", "neon") if n in used), "portable")
    forced = environment.get("VBUILD_ISA")
    findings = [
        Finding("sha-256", "ok" if sha != "portable" else "note", sha + wide),
        Finding("arithmetic", "ok" if add != "portable" else "note", add),
        _self_test(own),
    ]
    if forced:
        findings.append(Finding("VBUILD_ISA", "note", f"forces {forced}"))
    return findings


def _self_test(own: _core.Kernels) -> Finding:
    """The kernels against what is known: hashlib, and the portable kernels."""
    message = bytes(range(256)) * 33
    portable = _core.Kernels("portable")
    same_sum = own.add(_core.F16, message, _core.F16, message[::-1]) == portable.add(
        _core.F16, message, _core.F16, message[::-1]
    )
    if own.sha256([message] * 5) == [hashlib.sha256(message).digest()] * 5 and same_sum:
        return Finding("self-test", "ok", "hashes equal hashlib, sums equal the portable kernels")
    return Finding("self-test", "problem", "the kernels give other bits than they must: report it")


def _package(name: str, use: str | None) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        if use is None:
            return Finding(name, "problem", f"missing: pip install {name}")
        return Finding(name, "note", f"not installed (only for {use})")


def _keys(environment: Mapping[str, str]) -> Finding:
    try:
        directory = default_config_dir(environment)
    except VbuildError as e:
        return Finding("keys", "note", e.message)
    if (directory / "key.pem").exists():
        return Finding("keys", "ok", f"own key in {directory}")
    return Finding("keys", "note", f"no own key yet; the first signature makes one in {directory}")
