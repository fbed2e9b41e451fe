import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attest.material import KEYS, public
from vbuild.attest.keys import canonical_public_pem
from vbuild.attest.trust import default_config_dir, load_or_create_user_key, trusted_keys
from vbuild.errors import InvalidInput, Unavailable

ROOT = Path(__file__).parents[2]


def test_the_key_is_made_once_and_is_trusted(tmp_path):
    config = tmp_path / "home" / ".config" / "vbuild"
    first = load_or_create_user_key(config)
    assert first.created
    assert first.path == config / "key.pem"
    assert config.stat().st_mode & 0o777 == 0o700
    assert first.path.stat().st_mode & 0o777 == 0o600
    again = load_or_create_user_key(config)
    assert not again.created
    assert again.key.public_key == first.key.public_key
    assert trusted_keys(config) == (first.key.public_key,)


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_the_umask_has_no_say_case_87(tmp_path, umask):
    config = tmp_path / "a" / "b"
    before = os.umask(umask)
    try:
        made = load_or_create_user_key(config)
    finally:
        os.umask(before)
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert config.stat().st_mode & 0o777 == 0o700


FIRST_USE = """
import sys
from pathlib import Path
from vbuild.attest.keys import fingerprint
from vbuild.attest.trust import load_or_create_user_key
sys.stdin.read()
print(fingerprint(load_or_create_user_key(Path(sys.argv[1])).key.public_key))
"""


def test_processes_that_start_together_end_up_with_one_key(tmp_path):
    command = [sys.executable, "-c", FIRST_USE, str(tmp_path / "c")]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    processes = [subprocess.Popen(command, **options) for _ in range(3)]
    for process in processes:
        process.stdin.close()
    printed = {process.stdout.read() for process in processes}
    for process in processes:
        process.stdout.close()
        assert process.wait() == 0
    assert len(printed) == 1
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["key.pem", "key.pub"]


def test_a_lost_public_half_is_made_again(tmp_path):
    key = load_or_create_user_key(tmp_path / "c").key.public_key
    (tmp_path / "c/key.pub").unlink()
    assert load_or_create_user_key(tmp_path / "c").key.public_key == key
    assert (tmp_path / "c/key.pub").read_bytes() == canonical_public_pem(key)


def test_trusted_keys_come_by_name_and_once(tmp_path):
    (tmp_path / "trusted").mkdir()
    for name, key in (("b.pub", "p256"), ("a.pub", "p521"), ("c.pub", "p521")):
        (tmp_path / "trusted" / name).write_text(KEYS[f"{key}-public"])
    (tmp_path / "trusted/notes.txt").write_text("not a key")
    (tmp_path / "key.pub").write_text(KEYS["p384-public"])
    assert trusted_keys(tmp_path) == (public("p384"), public("p521"), public("p256"))


def test_no_directory_means_no_trusted_key(tmp_path):
    assert trusted_keys(tmp_path / "none") == ()


def test_what_cannot_be_looked_at_is_unavailable_and_not_an_empty_list(tmp_path):
    with pytest.raises(Unavailable) as info:
        trusted_keys(tmp_path / ("x" * 300))
    assert (info.value.code, info.value.exit_status) == ("io-error", 3)


def test_a_trusted_file_that_is_no_key_is_an_error(tmp_path):
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted/a.pub").write_text(KEYS["rsa-public"])
    with pytest.raises(InvalidInput) as info:
        trusted_keys(tmp_path)
    assert info.value.code == "key-unsupported"
    assert "trusted/a.pub" in info.value.message


@pytest.mark.parametrize("name", [".", "trusted"])
def test_a_directory_that_others_may_write_to_is_refused_case_81(tmp_path, name):
    (tmp_path / "trusted").mkdir()
    (tmp_path / name).chmod(0o777)
    with pytest.raises(InvalidInput) as info:
        trusted_keys(tmp_path)
    assert (info.value.code, info.value.exit_status) == ("key-permissions", 2)
    assert "chmod go-w" in info.value.hint


def test_a_user_key_that_others_can_read_is_refused_case_81(tmp_path):
    path = load_or_create_user_key(tmp_path / "c").path
    path.chmod(0o644)
    with pytest.raises(InvalidInput) as info:
        load_or_create_user_key(tmp_path / "c")
    assert info.value.code == "key-permissions"


def test_a_configuration_path_that_cannot_be_made_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        load_or_create_user_key(tmp_path / "file" / "vbuild")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}, "/x/vbuild"),
        ({"XDG_CONFIG_HOME": "relative", "HOME": "/h"}, "/h/.config/vbuild"),
        ({"XDG_CONFIG_HOME": "", "HOME": "/h"}, "/h/.config/vbuild"),
        ({"HOME": "/h"}, "/h/.config/vbuild"),
    ],
)
def test_the_directory_follows_the_xdg_specification(environment, expected):
    assert str(default_config_dir(environment)) == expected


@pytest.mark.parametrize("environment", [{}, {"HOME": ""}, {"HOME": "h"}])
def test_without_a_home_there_is_no_directory(environment):
    with pytest.raises(Unavailable) as info:
        default_config_dir(environment)
    assert info.value.code == "no-home"
