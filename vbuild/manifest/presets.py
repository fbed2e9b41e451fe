"""Named lists of rules, one readable TOML file each in ``presets/``.

- A preset is the rule of an existing tool, written down; adding one is adding a file.
- Its rules are the same language as a manifest's; ``vbuild plan`` shows them.
"""

from __future__ import annotations

from importlib import resources

import msgspec
import tomli

from vbuild.manifest.schema import Preset

__all__ = ["load_preset", "preset_names"]

_SUFFIX = ".toml"


def preset_names() -> tuple[str, ...]:
    """The names of all presets, sorted."""
    files = resources.files("vbuild.manifest").joinpath("presets").iterdir()
    names = (file.name for file in files)
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)))


def load_preset(name: str) -> Preset:
    """The preset ``name``, one of :func:`preset_names`."""
    file = resources.files("vbuild.manifest").joinpath("presets", name + _SUFFIX)
    return msgspec.convert(tomli.loads(file.read_text(encoding="utf-8")), Preset)
