import shutil
import subprocess

import pytest

from tests.attest.material import digest_of, hash_files
from vbuild.attest.sums import format_sums
from vbuild.errors import InvalidInput

NAMES = ["model.safetensors", "a b", " leading", "*star", "é", "sub/x", "-dash", "#hash"]


def test_the_text_is_sorted_with_two_spaces():
    d = digest_of("x")
    assert format_sums([("b", d), ("a", d)]) == f"{d}  a\n{d}  b\n".encode()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_sha256sum_reads_and_writes_the_same_text(tmp_path):
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    text = format_sums([(n, hash_files([tmp_path / n])[0]) for n in NAMES])
    run = {"cwd": tmp_path, "input": text, "capture_output": True, "check": False}
    assert subprocess.run(["sha256sum", "-c", "--strict"], **run).returncode == 0
    theirs = subprocess.run(["sha256sum", "--", *sorted(NAMES)], cwd=tmp_path, capture_output=True)
    assert theirs.stdout == text
    (tmp_path / "*star").write_text("tampered")
    assert subprocess.run(["sha256sum", "-c", "--strict"], **run).returncode == 1


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\rb", "../a", "/a", "a\udcff"])
def test_a_name_that_would_need_an_escape_is_refused(name):
    with pytest.raises(InvalidInput) as info:
        format_sums([(name, digest_of("x"))])
    assert (info.value.code, info.value.exit_status) == ("name-unsafe", 2)
