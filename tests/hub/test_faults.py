"""Whatever the Hub or the network does ends in one clear line that says what to do."""

import errno
import json
import os
import socket
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.support.commands import run_vbuild
from tests.support.hub import sha256

PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"


def error(ran, status):
    """Code and hint of the one error that a command has ended with."""
    assert ran.status == status, ran.err
    assert "Traceback" not in ran.err
    assert sum(line.startswith("error: ") for line in ran.err.splitlines()) == 1
    found = json.loads(ran.out)
    assert found["exit_status"] == status
    assert found["what"] in ran.err
    return found


@pytest.mark.parametrize(
    ("status", "header", "code", "hint"),
    [
        (401, "", "hub-unauthorized", "hf auth login"),
        (401, "RepoNotFound", "hub-no-repository", "check the name"),
        (401, "GatedRepo", "hub-gated", "ask for access at https://huggingface.co/org/delta"),
        (403, "GatedRepo", "hub-gated", "ask for access at https://huggingface.co/org/delta"),
        (403, "", "hub-forbidden", "a token that may read"),
        (404, "RepoNotFound", "hub-no-repository", "check the name"),
        (404, "RevisionNotFound", "hub-no-revision", "commits/main"),
        (404, "EntryNotFound", "hub-no-file", "/tree/"),
        (404, "", "hub-no-repository", "check the name"),
        (429, "", "hub-rate-limit", "later"),
        (500, "", "hub-unavailable", "what has been downloaded is kept"),
        (503, "", "hub-unavailable", "what has been downloaded is kept"),
        (418, "", "hub-answer", "HF_ENDPOINT"),
    ],
)
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_case_82_every_refusal_is_explained(job, vb, method, status, header, code, hint):
    headers = {"X-Error-Code": header} if header else {}
    job.hub.fault(f"{method} /org/delta", status=status, times=999, headers=headers)
    found = error(vb("fetch", job.manifest, "--json"), 3)
    assert (found["code"], found["got"]) == (code, f"status {status}")
    assert hint in found["hint"]
    assert found["where"].startswith(f"{job.uri}/part-")


@pytest.mark.parametrize(
    ("status", "header", "code"),
    [
        (401, "RepoNotFound", "hub-no-repository"),
        (401, "", "hub-unauthorized"),
        (403, "", "hub-forbidden"),
        (404, "RevisionNotFound", "hub-no-revision"),
        (429, "", "hub-rate-limit"),
        (502, "", "hub-unavailable"),
    ],
)
def test_case_82_lock_explains_refusals_too(job, vb, status, header, code):
    headers = {"X-Error-Code": header} if header else {}
    job.hub.fault("GET /api", status=status, times=999, headers=headers)
    found = error(vb("lock", job.manifest, "--json"), 3)
    assert (found["code"], found["where"]) == (code, job.uri)


def test_a_private_repository_needs_the_token(job, vb, monkeypatch):
    job.hub.repos["org/delta"].token = "hf_right"
    assert error(vb("fetch", job.manifest, "--json"), 3)["code"] == "hub-no-repository"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert error(vb("fetch", job.manifest, "--json"), 3)["code"] == "hub-no-repository"
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert vb("fetch", job.manifest).status == 0


def test_a_token_never_stands_in_a_message(job, vb, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    job.hub.fault("/org/delta", status=401, times=999)
    ran = vb("fetch", job.manifest, "--json")
    assert ran.status == 3 and "hf_secret" not in ran.out + ran.err


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_trouble_that_passes_is_waited_for(job, vb, method, status):
    job.hub.fault(f"{method} /org/delta/resolve", status=status, times=2)
    assert vb("fetch", job.manifest).status == 0
    assert job.cached(job.weights).read_bytes() == job.files[job.weights]


def test_case_82_a_rate_limit_says_how_long_to_wait(job, vb):
    job.hub.fault("HEAD", status=429, times=999, headers={"Retry-After": "300"})
    found = error(vb("fetch", job.manifest, "--json"), 3)
    assert found["hint"] == "run the same command again after 300 seconds"
    assert len(job.hub.lines("HEAD")) <= len(job.files)  # nobody asks again before that


def test_case_82_the_client_waits_as_long_as_the_hub_says_for_a_body(job, vb, waits):
    job.hub.fault("GET", status=429, headers={"Retry-After": "7"})
    assert vb("fetch", job.manifest).status == 0
    assert waits == [8.0]


@pytest.mark.parametrize("endpoint", ["refused", "name", "http://", "ftp://127.0.0.1", "nonsense"])
def test_case_82_no_network(job, vb, monkeypatch, endpoint):
    if endpoint == "refused":
        with socket.create_server(("127.0.0.1", 0)) as s:
            endpoint = f"http://127.0.0.1:{s.getsockname()[1]}"
    elif endpoint == "name":
        endpoint = "http://hub.invalid"
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    for command in ("fetch", "lock"):
        found = error(vb(command, job.manifest, "--json"), 3)
        assert found["code"] in ("network", "hub-answer")


def test_offline_mode_of_the_client_is_named(job, vb, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = error(vb("fetch", job.manifest, "--json"), 3)
    assert (found["code"], job.hub.seen) == ("hub-offline", [])


def test_a_login_page_of_the_network_is_not_taken_for_the_hub(job, vb):
    job.hub.fault("/", status=200, body=PAGE, times=999, headers={"Content-Type": "text/html"})
    assert error(vb("fetch", job.manifest, "--json"), 3)["code"] == "hub-answer"
    assert error(vb("lock", job.manifest, "--json"), 3)["code"] == "hub-answer"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_ENDPOINT", "http://[::1"),
        ("HF_ENDPOINT", "http://x:99999"),
        ("HF_HUB_ETAG_TIMEOUT", "x"),
    ],
)
def test_settings_that_the_client_does_not_load_with_are_named(job, tmp_path, name, value):
    ran = run_vbuild("fetch", job.manifest, "--json", config=tmp_path / "keys", **{name: value})
    found = error(SimpleNamespace(status=ran.returncode, out=ran.stdout, err=ran.stderr), 3)
    assert found["code"] == "hub-client" and "HF_" in found["hint"]


def test_a_proxy_that_needs_a_package_is_named(job, vb, monkeypatch):
    def refuse(*arguments, **options):
        raise ImportError("Using SOCKS proxy, but the 'socksio' package is not installed.")

    monkeypatch.setattr("vbuild.sources.hub_client.get_hf_file_metadata", refuse)
    found = error(vb("fetch", job.manifest, "--json"), 3)
    assert found["code"] == "hub-client" and "'socksio' package" in found["what"]


def test_a_certificate_file_that_is_not_there_is_no_missing_input(job, vb, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    huggingface_hub.close_session()
    try:
        found = error(vb("fetch", job.manifest, "--json"), 3)
    finally:
        huggingface_hub.close_session()
    assert found["code"] == "hub-client" and "SSL_CERT_FILE" in found["hint"]


def test_a_token_that_no_header_can_have_is_named(job, vb, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_\u00e4secret")
    for command in ("fetch", "lock"):
        ran = vb(command, job.manifest, "--json")
        found = error(ran, 3)
        assert found["code"] == "hub-unauthorized" and "hf auth login" in found["hint"]
        assert "secret" not in ran.out + ran.err


@pytest.mark.parametrize("endpoint", ["127.0.0.1:80", "ftp://127.0.0.1"])
def test_an_endpoint_without_http_is_not_called_a_broken_network(job, vb, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    found = error(vb("fetch", job.manifest, "--json"), 3)
    assert found["hint"] == "look at HF_ENDPOINT: it begins with https:// or http://"


ID = "0" * 40


def listing(*files):
    commit = "e48d6969dca25e544499e2018bc0fa17ec0c5312"
    return json.dumps({"id": "org/delta", "sha": commit, "siblings": files}).encode()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"null",
        b'{"id": 3}',
        b'{"id": "org/delta", "sha": "main", "siblings": []}',
        b'{"id": "org/delta", "siblings": [{"rfilename": "a"}]}',
        b'{"id": "org/delta", "siblings": [{}]}',
        b'{"id": "org/delta", "siblings": [{"rfilename": "a", "size": -1}]}',
        b'{"id": "org/delta", "siblings": [{"rfilename": "a", "size": "9", "blobId": "x"}]}',
        b'{"id": "org/delta", "siblings": [{"rfilename": "a", "size": 1, "lfs": {"sha256": "x"}}]}',
        b'{"id": "org/delta", "siblings": 3}',
        b"{" * 100_000,
        b"[" * 100_000,
        listing({"rfilename": "a", "size": 1, "blobId": "0" * 64}),
        listing({"rfilename": "a", "size": 1, "blobId": None}),
        listing({"rfilename": "a", "size": 1 << 63, "blobId": "0" * 40}),
        listing({"rfilename": 5, "size": 1, "blobId": "0" * 40}),
        listing({"rfilename": "a", "lfs": {"sha256": "0" * 40, "size": 1, "pointerSize": 1}}),
        listing(*[{"rfilename": "a", "size": n, "blobId": str(n) * 40} for n in (1, 2)]),
        listing({"rfilename": "a", "lfs": {"sha256": 1, "size": 1, "pointerSize": 1}}),
    ],
)
def test_a_listing_that_is_none_is_refused(job, vb, answer):
    job.hub.fault("GET /api", status=200, body=answer, times=9)
    before = job.manifest.read_bytes()
    assert error(vb("lock", job.manifest, "--json"), 3)["code"] == "hub-answer"
    assert job.manifest.read_bytes() == before


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Repo-Commit": "0" * 40},
        {"X-Linked-Etag": '"../../../evil"'},
        {"X-Linked-Etag": '"W/abc"'},
        {"X-Linked-Etag": '""', "ETag": '""'},
    ],
)
def test_case_82_a_wrong_etag_or_commit_is_refused(job, vb, headers, tmp_path):
    job.hub.fault("HEAD", headers=headers, times=99)
    assert error(vb("fetch", job.manifest, "--json"), 3)["code"] == "hub-answer"
    assert not list(tmp_path.rglob("*evil*"))
    assert not job.cached(job.weights).exists()


def test_case_82_another_file_is_known_before_a_byte_comes(job, vb):
    job.hub.fault("HEAD", headers={"X-Linked-Etag": f'"{"0" * 64}"'}, times=99)
    found = error(vb("fetch", job.manifest, "--json"), 1)
    assert (found["code"], found["got"]) == ("digest-mismatch", "0" * 64)
    assert "correct the pin" in found["hint"]
    job.hub.faults.clear()
    job.hub.fault("HEAD", headers={"X-Linked-Size": "5"}, times=99)
    found = error(vb("fetch", job.manifest, "--json"), 1)
    assert (found["code"], found["got"]) == ("size-mismatch", "5 bytes")
    assert job.hub.lines("GET") == []


def test_a_listing_that_makes_sense_is_accepted(job, vb):
    job.hub.fault("GET /api", status=200, body=listing({"rfilename": "a", "size": 1, "blobId": ID}))
    assert error(vb("lock", job.manifest, "--json"), 3)["code"] == "hub-no-file"


def body_fault(job, data, **what):
    job.hub.fault(f"GET /org/delta/resolve/{job.commit}/{job.weights}", body=data, **what)


def nothing_kept(job):
    """The spoilt file is neither in the cache nor half of it."""
    folder = job.cached("x").parents[2] / "blobs"
    assert not job.cached(job.weights).exists()
    assert not list(folder.glob(f"{sha256(job.files[job.weights])}*"))
    return True


def test_case_82_a_corrupt_body_of_the_right_length_is_not_accepted(job, vb):
    wrong = bytearray(job.files[job.weights])
    wrong[100] ^= 1
    body_fault(job, bytes(wrong))
    found = error(vb("fetch", job.manifest, "--json"), 1)
    assert (found["code"], found["got"]) == ("digest-mismatch", sha256(wrong))
    assert found["where"] == f"delta/{job.weights}"
    assert nothing_kept(job)
    assert vb("fetch", job.manifest).status == 0


@pytest.mark.parametrize("page", [PAGE, POINTER], ids=["html", "lfs"])
def test_cases_32_and_33_something_else_instead_of_weights_is_called_what_it_is(job, vb, page):
    padded = page + b" " * (len(job.files[job.weights]) - len(page))
    body_fault(job, padded)
    found = error(vb("fetch", job.manifest, "--json"), 1)
    assert found["code"] == "digest-mismatch"
    assert ("HTML" if page is PAGE else "Git-LFS pointer") in found["hint"]
    assert nothing_kept(job)


@pytest.mark.parametrize("page", [PAGE, POINTER], ids=["html", "lfs"])
def test_case_82_a_file_that_is_shorter_than_announced(job, vb, page):
    body_fault(job, page, times=99, headers={"Content-Length": str(len(page))})
    found = error(vb("fetch", job.manifest, "--json"), 3)
    assert found["code"] == "hub-length"
    assert ("HTML" if page is PAGE else "Git-LFS pointer") in found["hint"]
    assert nothing_kept(job)


def test_case_82_a_file_that_is_longer_than_announced_does_not_fill_the_disk(job, vb):
    long = job.files[job.weights] + b"x" * 1000
    body_fault(job, long, times=99, headers={"Content-Length": str(len(long))})
    found = error(vb("fetch", job.manifest, "--json"), 3)
    assert found["code"] == "hub-length"
    assert nothing_kept(job)


def test_case_82_a_connection_that_is_always_cut_ends_and_keeps_what_came(job, vb):
    body_fault(job, None, cut=500)
    body_fault(job, None, cut=0, times=999)
    found = error(vb("fetch", job.manifest, "--json"), 3)
    assert found["code"] == "network" and "it goes on where it stopped" in found["hint"]
    folder = job.cached("x").parents[2] / "blobs"
    partial = folder / f"{sha256(job.files[job.weights])}.vbuild.incomplete"
    data = partial.read_bytes()
    assert data and job.files[job.weights].startswith(data)
    job.hub.faults.clear()
    assert vb("fetch", job.manifest).status == 0


def test_the_clients_own_warnings_do_not_come_between(job, vb, caplog):
    body_fault(job, None, cut=500, times=2)
    ran = vb("fetch", job.manifest)
    assert ran.status == 0
    assert len(ran.err.splitlines()) == 2 and "Trying to resume" not in ran.err
    assert not [r for r in caplog.records if r.name.startswith("huggingface_hub")]


def test_case_27_a_cache_that_cannot_be_written_is_named(job, vb, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    assert error(vb("fetch", job.manifest, "--json"), 3)["code"] in ("io-error", "file-missing")


def test_case_27_a_full_disk_is_said_before_a_byte_comes(job, vb, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=9))
    found = error(vb("fetch", job.manifest, "--json"), 3)
    assert (found["code"], job.hub.seen) == ("disk-full", [])
    assert "HF_HUB_CACHE" in found["hint"]


def test_case_27_what_is_on_the_disk_already_needs_no_room(job, vb, monkeypatch):
    assert vb("fetch", job.manifest).status == 0
    blob = job.cached(job.weights).resolve()
    kept = blob.with_name(f"{blob.name}.vbuild.incomplete")
    blob.rename(kept)
    size = len(job.files[job.weights])
    os.truncate(kept, size - 9)
    for path in job.cached("x").parent.iterdir():
        path.unlink()
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=8))
    found = error(vb("fetch", job.manifest, "--json"), 3)
    assert (found["code"], found["expected"]) == ("disk-full", "9 bytes free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=9))
    assert vb("fetch", job.manifest).status == 0
    assert job.cached(job.weights).read_bytes() == job.files[job.weights]


def test_case_27_a_disk_that_fills_up_is_named(job, vb, monkeypatch):
    def full(fd, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vbuild.sources.partial.os.pwrite", full)
    found = error(vb("fetch", job.manifest, "--json"), 3)
    assert found["code"] == "disk-full"


def test_a_file_that_plain_http_does_not_serve_is_refused(job, vb):
    size = len(job.files[job.weights])
    huge = 50_000_000_001
    text = job.manifest.read_text().replace(f"size = {size},", f"size = {huge},")
    job.manifest.write_text(text)
    job.hub.fault(job.weights, headers={"X-Linked-Size": str(huge)}, times=9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1 << 60))
        found = error(vb("fetch", job.manifest, "--json"), 3)
    assert found["code"] == "hub-too-large" and "hf download" in found["hint"]


def test_an_error_in_one_file_ends_the_others(job, vb):
    first = min(job.files)
    job.hub.fault(f"HEAD /org/delta/resolve/{job.commit}/{first}", status=403, times=99)
    assert error(vb("fetch", job.manifest, "--json"), 3)["code"] == "hub-forbidden"
    assert not job.cached(first).exists()
