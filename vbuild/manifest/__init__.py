"""The manifest: what goes into a build, which rule applies, what must come out.

- ``schema.py`` is the language, ``check.py`` its rules across keys, ``load.py`` the way in;
  ``lock.py`` pins, ``schema_export.py`` describes the language to editors; these two are imported
  by the commands that need them only.
- Reads TOML text and, to lock, the inputs' directories and what the Hub says; knows nothing of
  tensors' bytes.
"""

from vbuild.manifest.check import outputs
from vbuild.manifest.globs import glob_match
from vbuild.manifest.load import (
    LoadedManifest,
    load_manifest,
    parse_manifest,
    require_locked,
    unpinned,
)
from vbuild.manifest.paths import check_collisions, clean_relative_path
from vbuild.manifest.presets import load_preset, preset_names
from vbuild.manifest.schema import (
    Apply,
    Base,
    Config,
    Delta,
    FilePin,
    Manifest,
    Output,
    OutputPin,
    Rule,
    Tokenizer,
    TokenizerAdd,
)

__all__ = [
    "Apply",
    "Base",
    "Config",
    "Delta",
    "FilePin",
    "LoadedManifest",
    "Manifest",
    "Output",
    "OutputPin",
    "Rule",
    "Tokenizer",
    "TokenizerAdd",
    "check_collisions",
    "clean_relative_path",
    "glob_match",
    "load_manifest",
    "load_preset",
    "outputs",
    "parse_manifest",
    "preset_names",
    "require_locked",
    "unpinned",
]
