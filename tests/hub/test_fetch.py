"""Files of the Hub come into the client's cache: verified, resumed, and only those missing."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from huggingface_hub import constants, scan_cache_dir, try_to_load_from_cache

from tests.support.commands import ROOT, run_vbuild
from tests.support.hub import CHUNK, sha256


def test_a_build_downloads_what_it_needs_and_then_asks_nobody(job, vb):
    ran = vb("apply", job.manifest, "--unsigned")
    assert ran.status == 0, ran.err
    size = sum(map(len, job.files.values()))
    assert ran.err.startswith(
        f"license: test licence\ndownloading 2 files, {size / 1000:.2f} kB, from {job.uri} into "
    )
    for name, data in job.files.items():
        assert job.cached(name).read_bytes() == data
    job.hub.seen.clear()
    assert vb("apply", job.manifest, "--unsigned", "--force").status == 0
    assert job.hub.seen == []


def test_the_cache_is_the_clients_own(job, vb):
    assert vb("fetch", job.manifest).status == 0
    for name, data in job.files.items():
        path = try_to_load_from_cache("org/delta", name, os.environ["HF_HUB_CACHE"], job.commit)
        assert path == str(job.cached(name))
        assert job.cached(name).is_symlink()
        assert job.cached(name).resolve().name == sha256(data)
    found = scan_cache_dir(os.environ["HF_HUB_CACHE"])
    assert found.warnings == []
    (repo,) = found.repos
    assert (repo.repo_id, repo.size_on_disk) == ("org/delta", sum(map(len, job.files.values())))


def test_the_hub_is_asked_once_about_a_file(job, vb):
    assert vb("fetch", job.manifest).status == 0
    assert len(job.hub.lines("HEAD")) == len(job.hub.lines("GET")) == len(job.files)


def test_several_files_come_at_a_time(job, vb, monkeypatch):
    together = threading.Barrier(2, timeout=20)
    note = job.hub.note

    def wait(seen):
        if seen.line.startswith("GET"):
            together.wait()
        return note(seen)

    monkeypatch.setattr(job.hub, "note", wait)
    assert vb("fetch", job.manifest).status == 0
    assert not together.broken


def test_the_licence_can_be_shown_before_anything_is_asked(job):
    from vbuild import fetch

    asked = []
    fetch(job.manifest, on_start=lambda loaded, pending: asked.append(list(job.hub.seen)))
    assert asked == [[]] and job.hub.seen != []


def test_without_links_the_cache_has_copies_and_a_damaged_one_is_repaired(job, vb, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    assert vb("fetch", job.manifest).status == 0
    path = job.cached(job.weights)
    assert not path.is_symlink()
    path.write_bytes(bytes(len(job.files[job.weights])))
    assert vb("fetch", job.manifest, "--refetch").status == 0
    assert path.read_bytes() == job.files[job.weights] and not path.is_symlink()


@pytest.mark.parametrize("hub", [True], indirect=True, ids=["cdn"])
def test_the_token_goes_to_the_hub_and_not_to_where_it_redirects(job, vb, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    job.hub.repos["org/delta"].token = "hf_secret"
    assert vb("fetch", job.manifest).status == 0
    storage = [s for s in job.hub.seen if "/storage/" in s.line]
    assert len(storage) >= len(job.files)
    for seen in job.hub.seen:
        token = seen.headers.get("authorization")
        assert token == (None if seen in storage else "Bearer hf_secret")


def test_fetch_says_what_it_has_done(job, vb):
    first, second = sorted(job.files)
    assert vb("fetch", job.manifest).out == (
        f"delta/{first}: downloaded\ndelta/{second}: downloaded\n"
        "2 files in the cache, 2 of them downloaded\n"
    )
    job.cached(first).resolve().unlink()
    assert vb("fetch", job.manifest).out == (
        f"delta/{first}: downloaded\ndelta/{second}: cached\n"
        "2 files in the cache, 1 of them downloaded\n"
    )
    found = json.loads(vb("fetch", job.manifest, "--json").out)
    assert (found["downloaded"], [f["status"] for f in found["files"]]) == (0, ["cached"] * 2)


def test_a_local_copy_is_not_downloaded(job, vb, tmp_path):
    (tmp_path / "copy").mkdir()
    for name, data in job.files.items():
        (tmp_path / "copy" / name).write_bytes(data)
    assert vb("apply", job.manifest, "--unsigned", "--delta", "copy").status == 0
    assert vb("fetch", job.manifest, "--delta", "copy").out == (
        "nothing to download: every input is on this machine\n"
    )
    assert job.hub.seen == []


@pytest.mark.parametrize("command", ["apply", "plan", "verify"])
def test_offline_nothing_is_asked_and_the_command_is_named(job, vb, command):
    options = ["--offline", "--unsigned"] if command == "apply" else []
    ran = vb(command, job.manifest, *options)
    assert ran.status == 3
    assert f"it has not been downloaded yet from {job.uri}" in ran.err
    assert f"hint: vbuild fetch {job.manifest}" in ran.err
    assert job.hub.seen == []
    assert vb("fetch", job.manifest).status == 0
    job.hub.seen.clear()
    assert vb(command, job.manifest, *options).status == 0
    assert job.hub.seen == []


def test_case_82_a_branch_is_refused_when_locked(job, vb):
    text = job.manifest.read_text()
    job.manifest.write_text(text.replace(f"@{job.commit}", "@main"))
    for command in ("apply", "fetch", "plan", "verify"):
        ran = vb(command, job.manifest)
        assert ran.status == 4, ran.err
        assert "the revision is not a commit" in ran.err and "got main" in ran.err
    assert job.hub.seen == []


def test_case_19_a_damaged_cached_file_is_named_and_refetch_repairs_it(job, vb):
    assert vb("fetch", job.manifest).status == 0
    name = job.weights
    blob = job.cached(name).resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    ran = vb("apply", job.manifest, "--unsigned")
    assert ran.status == 1
    assert f"error: delta/{name}: the file is not the one that the manifest pins" in ran.err
    assert f"hint: the cached file is damaged, get it again: vbuild fetch {job.manifest}" in ran.err
    job.hub.seen.clear()
    ran = vb("fetch", job.manifest, "--refetch")
    assert f"delta/{name}: repaired\n" in ran.out
    assert len(job.hub.lines("GET")) == 1
    assert blob.read_bytes() == job.files[name]
    assert vb("apply", job.manifest, "--unsigned", "--offline").status == 0


def test_case_18_a_cached_file_of_another_size_is_repaired_by_apply(job, vb):
    assert vb("fetch", job.manifest).status == 0
    job.cached(job.weights).resolve().write_bytes(b"short")
    ran = vb("apply", job.manifest, "--unsigned")
    assert ran.status == 1 and f"delta/{job.weights}: the file does not have the size" in ran.err
    ran = vb("apply", job.manifest, "--unsigned", "--refetch")
    assert ran.status == 0, ran.err
    assert job.cached(job.weights).read_bytes() == job.files[job.weights]


def test_a_cache_without_links_is_repaired_too(job, vb):
    assert vb("fetch", job.manifest).status == 0
    path = job.cached(job.weights)
    path.resolve().unlink()
    path.unlink()
    path.write_bytes(b"a copy, and damaged")
    assert vb("fetch", job.manifest, "--refetch").status == 0
    assert path.read_bytes() == job.files[job.weights]


def test_case_19_verify_names_a_damaged_cached_file_and_says_how_to_repair_it(job, vb):
    assert vb("fetch", job.manifest).status == 0
    path = job.cached(job.weights)
    path.resolve().write_bytes(bytes(len(job.files[job.weights])))
    ran = vb("verify", job.manifest)
    assert ran.status == 1 and f"delta/{job.weights}: FAILED\n" in ran.out
    assert ran.err.endswith(f"vbuild fetch {job.manifest} --refetch\n")
    path.unlink()
    path.mkdir()
    ran = vb("verify", job.manifest)
    assert ran.status == 1 and f"delta/{job.weights}: not a regular file\n" in ran.err
    assert ran.err.endswith(f"vbuild fetch {job.manifest} --refetch\n")


@pytest.mark.parametrize("planted", ["copy", "link", "fifo", "dangling"])
def test_case_21_an_entry_that_is_not_the_blob_is_replaced(job, vb, tmp_path, planted):
    assert vb("fetch", job.manifest).status == 0
    path = job.cached(job.weights)
    path.unlink()
    other = tmp_path / "other"
    other.write_bytes(bytes(len(job.files[job.weights])))
    if planted == "copy":
        path.write_bytes(other.read_bytes())
    elif planted == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(other if planted == "link" else "../../blobs/none")
    job.hub.seen.clear()
    assert vb("fetch", job.manifest, "--refetch").status == 0
    assert path.read_bytes() == job.files[job.weights]
    assert other.read_bytes() == bytes(len(job.files[job.weights]))
    assert job.hub.lines("GET") == []  # the blob was right


@pytest.mark.parametrize("planted", ["entry", "blob"])
def test_case_20_a_directory_in_a_files_place_is_named(job, vb, planted):
    assert vb("fetch", job.manifest).status == 0
    entry = job.cached(job.weights)
    place = entry if planted == "entry" else entry.resolve()
    place.unlink()
    place.mkdir()
    for option in ((), ("--refetch",)):
        ran = vb("fetch", job.manifest, *option)
        assert ran.status == 3
        assert f"error: {place}: could not write it: Is a directory\n" in ran.err


def test_a_wrong_pin_of_a_small_file_is_not_called_damage(job, vb):
    data = b'{"vocab_size": 31}'
    commit = job.hub.repos["org/delta"].commit({**job.files, "config.json": data})
    pin = f'"config.json" = {{ sha256 = "{"0" * 64}" }}\n'
    text = job.manifest.read_text().replace(job.commit, commit)
    job.manifest.write_text(text.replace("[delta.files]\n", f"[delta.files]\n{pin}"))
    ran = vb("fetch", job.manifest)
    assert ran.status == 1
    assert "error: delta/config.json: the file is not the one that the manifest pins" in ran.err
    assert f"got {sha256(data)}" in ran.err and "correct the pin" in ran.err
    job.hub.fault("GET /org/delta/resolve", times=9, body=b"?" * len(data))
    assert "damaged on its way" in vb("fetch", job.manifest).err


def test_case_82_a_connection_that_is_cut_is_resumed(job, vb):
    cut = len(job.files[job.weights]) // 2
    job.hub.fault(f"GET /org/delta/resolve/{job.commit}/{job.weights}", cut=cut, times=2)
    ran = vb("fetch", job.manifest)
    assert (ran.status, job.cached(job.weights).read_bytes()) == (0, job.files[job.weights])
    ranges = [s.headers.get("range") for s in job.hub.seen if s.line.startswith("GET")]
    assert ranges.count(f"bytes={cut - cut % CHUNK}-") == 1


def start_fetch(job):
    """A child that downloads, in small pieces, as soon as the server has been asked for a body."""
    program = (
        "import sys\nfrom huggingface_hub import constants\nfrom vbuild.cli import main\n"
        f"constants.DOWNLOAD_CHUNK_SIZE = {CHUNK}\n"
        f"sys.exit(main(['fetch', {str(job.manifest)!r}]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 20
    while not partial_size(job):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    return process


def partial_of(job):
    folder = job.cached("x").parents[2] / "blobs"
    return folder / f"{sha256(job.files[job.weights])}.vbuild.incomplete"


def partial_size(job):
    path = partial_of(job)
    return path.stat().st_size if path.exists() else 0


def test_a_download_goes_on_in_another_process(job, vb):
    body = f"GET /org/delta/resolve/{job.commit}/{job.weights}"
    pause = threading.Event()
    job.hub.fault(body, cut=1000, pause=pause)
    process = start_fetch(job)
    process.kill()
    process.communicate()
    pause.set()
    kept = partial_size(job)
    assert 0 < kept <= 1000 and kept % CHUNK == 0
    job.hub.seen.clear()
    assert vb("fetch", job.manifest).status == 0
    ranges = [s.headers.get("range") for s in job.hub.seen if s.line == body]
    assert ranges == [f"bytes={kept}-"]
    assert job.cached(job.weights).read_bytes() == job.files[job.weights]
    assert not partial_of(job).exists()


def test_what_a_crash_has_spoilt_is_downloaded_from_the_beginning(job, vb):
    data = job.files[job.weights]
    folder = job.cached("x").parents[2] / "blobs"
    folder.mkdir(parents=True)
    (folder / f"{sha256(data)}.vbuild.incomplete").write_bytes(bytes(len(data) // 2))
    assert vb("fetch", job.manifest).status == 0
    assert job.cached(job.weights).read_bytes() == data


def test_a_server_without_ranges_sends_it_again(job, vb):
    data = job.files[job.weights]
    folder = job.cached("x").parents[2] / "blobs"
    folder.mkdir(parents=True)
    (folder / f"{sha256(data)}.vbuild.incomplete").write_bytes(data[: len(data) // 2])
    job.hub.fault(f"{job.weights}", ignore_range=True, times=9)
    assert vb("fetch", job.manifest).status == 0
    assert job.cached(job.weights).read_bytes() == data


def test_ctrl_c_ends_a_download_at_once_and_keeps_it(job):
    pause = threading.Event()
    job.hub.fault("GET /org/delta/resolve", cut=1000, times=99, pause=pause)
    process = start_fetch(job)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    pause.set()
    assert process.returncode == 130
    assert "error: interrupted; what has been downloaded is kept\n" in err
    assert "Traceback" not in err
    assert partial_size(job)


def test_a_file_that_two_inputs_need_is_downloaded_once(job, vb):
    name = job.weights
    pin = f'{{ size = {len(job.files[name])}, sha256 = "{sha256(job.files[name])}" }}'
    text = job.manifest.read_text().replace(
        "[apply]", f'[[delta]]\nuri = "{job.uri}"\n[delta.files]\n"{name}" = {pin}\n[apply]'
    )
    job.manifest.write_text(text)
    assert vb("fetch", job.manifest).status == 0
    assert len([x for x in job.hub.lines("GET") if name in x]) == 1


def test_a_snapshot_of_the_cache_is_a_directory_like_any_other(job, vb):
    assert vb("fetch", job.manifest).status == 0
    snapshot = job.cached(job.weights).parent
    assert all(path.is_symlink() for path in snapshot.iterdir())
    job.manifest.write_text(job.manifest.read_text().replace(job.uri, f"file:{snapshot}"))
    assert vb("verify", job.manifest).status == 0
    assert vb("apply", job.manifest, "--unsigned").status == 0
    assert (
        vb("apply", job.manifest, "--unsigned", "--out", "again", "--delta", snapshot).status == 0
    )
    job.manifest.write_text(job.manifest.read_text().replace(" = { size", " = { } # { size"))
    assert vb("lock", job.manifest).status == 0
    assert vb("lock", job.manifest, "--check").status == 0


def test_no_client_is_loaded_by_a_build_whose_files_are_there(job, vb, tmp_path):
    assert vb("fetch", job.manifest).status == 0
    out = str(tmp_path / "out")
    program = (
        "import sys\nfrom vbuild.cli import main\n"
        f"assert main(['apply', {str(job.manifest)!r}, '--unsigned', '--out', {out!r}]) == 0\n"
        "assert not {'huggingface_hub', 'httpx2', 'hf_xet'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_a_download_loads_no_xet(job, tmp_path):
    program = (
        "import sys\nfrom vbuild.cli import main\n"
        f"assert main(['fetch', {str(job.manifest)!r}]) == 0\n"
        "assert 'huggingface_hub' in sys.modules and 'hf_xet' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_progress_counts_the_bytes_that_come(job, vb):
    from vbuild import fetch

    class Heard:
        def __init__(self):
            self.total, self.seen, self.ended = [], [], 0

        def begin(self, total):
            self.total.append(total)

        def at(self, done):
            self.seen.append(done)

        def end(self):
            self.ended += 1

    heard = Heard()
    size = sum(map(len, job.files.values()))
    fetch(job.manifest, progress=heard)
    assert (heard.total, heard.seen[-1], heard.ended) == ([size], size, 1)
    assert heard.seen == sorted(heard.seen)


def test_a_blob_that_is_there_counts_as_come(job, vb):
    from vbuild import fetch

    assert vb("fetch", job.manifest).status == 0
    commit = job.hub.repos["org/delta"].commit(job.files, "next")
    job.manifest.write_text(job.manifest.read_text().replace(job.commit, commit))
    seen = []
    heard = SimpleNamespace(begin=lambda total: None, at=seen.append, end=lambda: None)
    fetch(job.manifest, progress=heard)
    assert seen[-1] == sum(map(len, job.files.values()))


def test_the_whole_program_works_as_a_user_starts_it(job, tmp_path):
    ran = run_vbuild("apply", job.manifest, config=tmp_path / "keys", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert (
        run_vbuild("verify", "build/test-model", config=tmp_path / "keys", cwd=tmp_path).returncode
        == 0
    )
