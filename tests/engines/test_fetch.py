"""Fetching from a real server that misbehaves."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from filelock import FileLock

from engines import models
from engines.__main__ import main
from engines.engine import open_engine
from engines.errors import ModelFileError
from engines.intake.download import Unreachable, download
from engines.intake.fetch import Fetched, already_here, downloads_dir, fetch, offer
from engines.intake.https import FetchError, Transport, remote_size
from engines.intake.unpack import member
from engines.models import known_model
from engines.store import CACHE_VARIABLE, DATA_VARIABLE, find_model, place_of
from tests.engines.foreign_networks import content
from tests.http_server import Behaviour, HttpServer

BODY = np.random.default_rng(0).bytes(300_000)
SUM = hashlib.sha256(BODY).hexdigest()
LOCAL = Transport(timeout_s=0.3, waits_s=(0.0, 0.0, 0.0), loopback_http=True)
NETWORK = content(opset=11, ir=6, batch=1, flatten="Reshape")
MEMBER = "w600k.onnx"
ROOT = Path(__file__).resolve().parents[2]


def ignore(done: int, total: int | None) -> None:
    """No progress shown."""


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer({"/file": BODY}) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "file"


def get(server: HttpServer, target: Path, transport: Transport = LOCAL, sha256: str = SUM) -> None:
    download(server.url + "/file", target, sha256, transport=transport, progress=ignore)


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


# one file


def test_a_file_comes_whole_and_leaves_nothing_else(server: HttpServer, target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    download(server.url + "/file", target, SUM, transport=LOCAL, progress=lambda *at: seen.append(at))
    assert target.read_bytes() == BODY
    assert left(target) == ["file"]
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (len(BODY), len(BODY))


def test_a_cut_line_is_gone_on_with(server: HttpServer, target: Path) -> None:
    server.behaviour.cut_after, server.behaviour.misbehaving = 100_000, 2
    get(server, target)
    assert target.read_bytes() == BODY
    assert server.asked("Range") == [None, "bytes=100000-", "bytes=200000-"]
    assert server.asked("If-Range") == [None, '"1"', '"1"']


def test_a_stall_is_gone_on_with(server: HttpServer, target: Path) -> None:
    server.behaviour.stall_after, server.behaviour.misbehaving = 50_000, 1
    get(server, target)
    assert target.read_bytes() == BODY
    assert server.asked("Range") == [None, "bytes=50000-"]


def test_a_line_that_stays_broken_is_one_sentence_and_the_part_is_kept(server: HttpServer, target: Path) -> None:
    server.behaviour.stall_after = 0
    server.files["/file"] = BODY
    target.with_name("file.part").write_bytes(BODY[:1000])
    with pytest.raises(FetchError, match=r"/file: broken off 4 times \(timed out\); 0\.0 MB are kept, and the same"):
        get(server, target)
    assert target.with_name("file.part").read_bytes() == BODY[:1000]
    server.behaviour.stall_after = None
    get(server, target)
    assert target.read_bytes() == BODY


def test_a_trickle_is_a_stall(server: HttpServer, target: Path) -> None:
    server.behaviour.trickle_s = 0.05
    with pytest.raises(FetchError, match=r"broken off 2 times \(\d+ bytes in 0 s\)"):
        get(server, target, Transport(timeout_s=0.3, waits_s=(0.0,), loopback_http=True))


def test_the_waits_grow_and_begin_anew_after_a_megabyte(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("engines.intake.download.time.sleep", waited.append)
    body = b"x" * 5_500_000
    with HttpServer({"/file": body}, Behaviour(cut_after=1_100_000)) as server:
        transport = Transport(waits_s=(1.0, 2.0), loopback_http=True)
        get(server, target, transport, hashlib.sha256(body).hexdigest())
        assert waited == [1.0] * 4
        waited.clear()
        server.behaviour.cut_after = 10
        with pytest.raises(FetchError, match="broken off 3 times"):
            get(server, target.with_name("other"), transport)
    assert waited == [1.0, 2.0]


def test_a_part_of_another_version_is_not_continued(server: HttpServer, target: Path) -> None:
    server.behaviour.cut_after, server.behaviour.misbehaving = 100_000, 1
    newer = BODY[::-1]
    with pytest.raises(FetchError, match="broken off 1 times"):
        get(server, target, Transport(waits_s=(), loopback_http=True))
    server.files["/file"], server.behaviour.etag = newer, '"2"'
    get(server, target, sha256=hashlib.sha256(newer).hexdigest())
    assert target.read_bytes() == newer
    assert server.asked("If-Range") == [None, '"1"']  # refused by the server: it sent the whole


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_a_mark_the_sum_finds_the_mixture_and_it_begins_again(
    server: HttpServer, target: Path, etag: str | None
) -> None:
    server.behaviour.etag = etag
    target.with_name("file.part").write_bytes(b"of something else")
    get(server, target)
    assert target.read_bytes() == BODY
    assert server.asked("Range") == ["bytes=17-", None]
    assert server.asked("If-Range") == [None, None]


def test_a_server_without_ranges_begins_again(server: HttpServer, target: Path) -> None:
    server.behaviour = Behaviour(ranges=False, cut_after=100_000, misbehaving=1)
    get(server, target)
    assert target.read_bytes() == BODY


def test_a_server_that_sends_another_range_is_not_believed(server: HttpServer, target: Path) -> None:
    server.behaviour.shift = 7
    target.with_name("file.part").write_bytes(BODY[:1000])
    get(server, target)
    assert target.read_bytes() == BODY


def test_a_part_that_is_whole_is_taken(server: HttpServer, target: Path) -> None:
    """Stopped between the last byte and the new name."""
    target.with_name("file.part").write_bytes(BODY)
    get(server, target)
    assert target.read_bytes() == BODY


def test_a_part_that_is_too_long_is_thrown_away(server: HttpServer, target: Path) -> None:
    target.with_name("file.part").write_bytes(BODY + b"more")
    get(server, target)
    assert target.read_bytes() == BODY


def test_without_a_length_the_sum_decides(server: HttpServer, target: Path) -> None:
    server.behaviour.lengthless = True
    get(server, target)
    assert target.read_bytes() == BODY


def test_wrong_bytes_are_thrown_away_and_both_sums_named(server: HttpServer, target: Path) -> None:
    wrong = b"<html>please log in</html>"
    server.files["/file"] = wrong
    with pytest.raises(FetchError, match=f"has sha256 {hashlib.sha256(wrong).hexdigest()}, not {SUM}"):
        get(server, target)
    assert left(target) == []


def test_a_busy_server_is_asked_again(server: HttpServer, target: Path) -> None:
    server.behaviour.codes = [503, 429]
    get(server, target)
    assert len(server.requests) == 3


@pytest.mark.parametrize("code", [403, 404, 410])
def test_a_refusal_is_final(server: HttpServer, target: Path, code: int) -> None:
    server.behaviour.codes = [code]
    with pytest.raises(FetchError, match=rf"/file: the server answers {code} .*--mirror"):
        get(server, target)
    assert len(server.requests) == 1


@pytest.mark.parametrize("size", ["said", "not said", "a lie"])
def test_too_much_is_refused(server: HttpServer, target: Path, size: str) -> None:
    server.behaviour.lengthless = size == "not said"
    server.behaviour.claimed = 1 << 40 if size == "a lie" else None
    with pytest.raises(FetchError, match=r"(has|more than the) \d+ bytes"):
        get(server, target, Transport(max_bytes=200_000, loopback_http=True))
    assert left(target) in ([], ["file.part.etag"])


def test_a_redirection_is_followed(server: HttpServer, target: Path) -> None:
    server.behaviour.redirects = {"/file": "/there?signature=secret"}
    server.files["/there?signature=secret"] = BODY
    server.behaviour.cut_after, server.behaviour.misbehaving = 1000, 1
    get(server, target)
    assert target.read_bytes() == BODY
    assert server.requests[-1][1]["range"] == "bytes=1000-"


@pytest.mark.parametrize(
    "address", ["http://example.org/file?key=secret", "file:///etc/hostname", "ftp://example.org/file", "data:,hello"]
)
def test_a_redirection_away_from_https_is_refused(server: HttpServer, target: Path, address: str) -> None:
    server.behaviour.redirects = {"/file": address}
    with pytest.raises(FetchError, match=r"is not https|redirects without end or to what is not https") as caught:
        get(server, target)
    assert "secret" not in str(caught.value)
    assert left(target) == []


def test_redirections_without_end_are_refused(server: HttpServer, target: Path) -> None:
    server.behaviour.redirects = {"/file": "/file"}
    with pytest.raises(FetchError, match="redirects without end"):
        get(server, target)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org/file", "http://example.org/file is not https"),
        ("http://127.0.0.1:1/file", "is not https"),
        ("file:///etc/hostname", "is not https"),
        ("/etc/hostname", "'/etc/hostname' is not https"),
        ("https://", "is not https"),
        ("https://ana:secret@example.org/", "may hold no user name"),
        ("https://example.org:port/", "is no address"),
        ("https://example.org/a b", "is no address"),
        ("https://example.org/a\r\nX: y", "is no address"),
        ("https://[::1/", "is no address"),
    ],
)
def test_addresses_that_are_not_https_are_refused(target: Path, url: str, words: str) -> None:
    """As everybody runs it: the exception for loopback is only for these tests."""
    with pytest.raises(FetchError, match=words) as caught:
        download(url, target, SUM, transport=Transport(), progress=ignore)
    assert "secret" not in str(caught.value)
    with pytest.raises(FetchError):
        remote_size(url, Transport())


def test_nobody_there_is_said_at_once(target: Path) -> None:
    with HttpServer({}) as server:
        url = server.url
    with pytest.raises(Unreachable, match=r"/file cannot be reached \(Connection refused\)"):
        download(url + "/file", target, SUM, transport=Transport(loopback_http=True), progress=ignore)
    assert remote_size(url + "/file", LOCAL) is None


def test_the_size_is_asked_without_taking_the_file(server: HttpServer) -> None:
    assert remote_size(server.url + "/file", LOCAL) == len(BODY)
    server.behaviour.ranges = False
    assert remote_size(server.url + "/file", LOCAL) == len(BODY)
    assert remote_size(server.url + "/none", LOCAL) is None
    assert server.asked("Range") == ["bytes=0-0"] * 3


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX's")
def test_a_full_disk_is_one_sentence(server: HttpServer, target: Path) -> None:
    """A real write that fails: the process may write 100 kB a file."""
    code = f"""
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        from pathlib import Path
        from engines.intake.download import download
        from engines.intake.https import FetchError, Transport
        try:
            download({server.url + "/file"!r}, Path({str(target)!r}), {SUM!r}, progress=lambda *_: None,
                     transport=Transport(loopback_http=True))
        except FetchError as err:
            print(err)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True)
    assert re.search(r"file\.part: cannot be written \(File too large\); make room", done.stdout), done.stderr
    get(server, target)  # with room, it goes on
    assert server.asked("Range")[-1] is not None
    assert target.read_bytes() == BODY


# one member of an archive


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def test_a_member_is_taken_by_its_exact_name() -> None:
    archive = zipped({"../a.onnx": b"slip", "x/a.onnx": b"deeper", "a.onnx": b"right"})
    assert member(archive, "a.onnx", "a.zip") == b"right"


def test_a_bomb_is_not_unpacked() -> None:
    archive = zipped({"a.onnx": b"\0" * 10_000_000})
    assert len(archive) < 20_000
    with pytest.raises(FetchError, match=r"a\.zip: a\.onnx has 10000000 bytes unpacked, more than 1000000"):
        member(archive, "a.onnx", "a.zip", limit=1_000_000)


def test_an_archive_that_lies_about_a_size_is_refused() -> None:
    archive = bytearray(zipped({"a.onnx": b"\0" * 100_000}))
    for at in (archive.index(b"PK\x03\x04") + 22, archive.index(b"PK\x01\x02") + 24):
        archive[at : at + 4] = (10).to_bytes(4, "little")
    with pytest.raises(FetchError, match=r"a\.zip: a\.onnx (cannot be unpacked|unpacks to another size)"):
        member(bytes(archive), "a.onnx", "a.zip")


@pytest.mark.parametrize("damage", ["cut", "flipped", "no zip", "empty", "encrypted"])
def test_damaged_archives_are_refused(damage: str) -> None:
    archive = bytearray(zipped({"a.onnx": BODY}, zipfile.ZIP_STORED))
    if damage == "cut":
        archive = archive[:-30]
    elif damage == "flipped":
        archive[1000] ^= 1
    elif damage == "encrypted":
        archive[archive.index(b"PK\x01\x02") + 8] |= 1
    else:
        archive = bytearray(b"" if damage == "empty" else BODY)
    with pytest.raises(FetchError, match=r"^a\.zip: a\.onnx cannot be unpacked"):
        member(bytes(archive), "a.onnx", "a.zip")


def test_missing_and_double_members_are_said() -> None:
    with pytest.raises(FetchError, match=r"holds 0 files called 'a\.onnx' \(it holds b\.onnx, c\.onnx\)"):
        member(zipped({"b.onnx": b"", "c.onnx": b""}), "a.onnx", "a.zip")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.onnx", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.onnx", b"2")
    with pytest.raises(FetchError, match="holds 2 files"):
        member(stream.getvalue(), "a.onnx", "a.zip")


# a known model


@pytest.fixture
def archive() -> bytes:
    return zipped({"det.onnx": b"a detector", MEMBER: NETWORK})


@pytest.fixture
def shop(archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
    """A server with two models, a table that names them, and an empty cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    with HttpServer({"/pack.zip": archive, "/alone.onnx": NETWORK}) as server:
        write_table(tmp_path, server.url, archive)
        monkeypatch.setattr(models, "configs_dir", lambda: tmp_path)
        yield server


def write_table(folder: Path, url: str, archive: bytes, **changes: object) -> None:
    common = {
        "weights_sha256": hashlib.sha256(NETWORK).hexdigest(),
        "network": "tiny",
        "onnx": {"layout": "nchw", "mean": 127.5, "std": 127.5, "colour": "rgb"},
        "template": "arcface_112",
        "dimensions": 16,
        "unit_length": True,
        "mirrored": False,
        "threshold": 1.2,
        "threshold_fmr": None,
        "threshold_source": "not calibrated",
        "licence": "research only",
        "training_set": "faces",
    }
    pack = {"url": f"{url}/pack.zip", "archive_sha256": hashlib.sha256(archive).hexdigest(), "weights": MEMBER}
    hand = {"by_hand": "ask the author", "weights": "backbone.pth", "licence": "?"}
    table = {
        "shop/pack": {**common, **pack, "must_accept": True, **changes},
        "shop/alone": {**common, "url": f"{url}/alone.onnx", "weights": "alone.onnx"},
        "shop/hand": {key: value for key, value in {**common, **hand}.items() if key != "onnx"},
    }
    (folder / "models.yaml").write_text(yaml.safe_dump(table))


def bring(name: str = "shop/pack") -> Fetched:
    return fetch(offer(name, transport=LOCAL), accept_licence=True, transport=LOCAL)


def test_a_model_is_fetched_adopted_and_found_by_its_name(shop: HttpServer) -> None:
    with pytest.raises(
        ModelFileError, match=r"shop/pack: is not here yet; run `python -m engines fetch shop/pack --acc"
    ):
        find_model("shop/pack")
    found = bring()
    assert found.new
    assert found.path == place_of("shop/pack")
    manifest = find_model("shop/pack").manifest
    assert (manifest.name, manifest.licence, manifest.threshold) == ("shop/pack", "research only", 1.2)
    assert manifest.weights_sha256 == hashlib.sha256(NETWORK).hexdigest()
    embeddings = open_engine("shop/pack", runtime="onnxruntime").run(np.zeros((2, 112, 112, 3), np.uint8))
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1)
    assert [path.name for path in downloads_dir().iterdir() if path.suffix != ".lock"] == []


def test_what_is_here_is_not_fetched_again(shop: HttpServer) -> None:
    first = bring("shop/alone")
    asked = len(shop.requests)
    again = fetch(offer("shop/alone", transport=LOCAL), accept_licence=False, transport=LOCAL)
    assert not again.new
    assert again.model == first.model
    assert [path for path, _ in shop.requests[asked:]] == ["/alone.onnx"]  # the offer's question about the size
    assert shop.asked("Range")[asked:] == ["bytes=0-0"]
    first.path.write_bytes(b"damaged")
    assert already_here(known_model("shop/alone")) is None
    assert bring("shop/alone").new


def test_a_licence_must_be_accepted(shop: HttpServer) -> None:
    with pytest.raises(FetchError, match=r"its licence is 'research only'; .*fetch shop/pack --accept-licence`"):
        fetch(offer("shop/pack", transport=LOCAL), accept_licence=False, transport=LOCAL)
    assert [headers.get("range") for _, headers in shop.requests] == ["bytes=0-0"]
    assert not place_of("shop/pack").exists()


def test_the_offer_says_size_and_source(shop: HttpServer, archive: bytes) -> None:
    offered = offer("shop/pack", transport=LOCAL)
    assert (offered.size, offered.url) == (len(archive), shop.url + "/pack.zip")
    assert offer("shop/pack", mirror=shop.url + "/sub/", transport=LOCAL).url == shop.url + "/sub/pack.zip"
    with pytest.raises(FetchError, match="is not https"):
        offer("shop/pack", mirror="http://example.org/pack.zip", transport=LOCAL)


def test_a_mirror_serves_the_same_file_or_none(shop: HttpServer, archive: bytes) -> None:
    shop.files = {"/elsewhere/copy": archive}
    wanted = offer("shop/pack", mirror=shop.url + "/elsewhere/copy", transport=LOCAL)
    assert fetch(wanted, accept_licence=True, transport=LOCAL).new
    place_of("shop/pack").unlink()
    shop.files["/elsewhere/copy"] = archive + b"!"
    with pytest.raises(FetchError, match="has sha256"):
        fetch(wanted, accept_licence=True, transport=LOCAL)
    assert not place_of("shop/pack").exists()


def test_offline_says_which_file_to_put_where_and_takes_it(shop: HttpServer, archive: bytes) -> None:
    shop.close()
    place = downloads_dir() / "pack.zip"
    wanted = offer("shop/pack", transport=LOCAL)
    assert wanted.size is None
    with pytest.raises(FetchError, match=rf"cannot be reached .*sha256 {hashlib.sha256(archive).hexdigest()}.*{place}"):
        fetch(wanted, accept_licence=True, transport=LOCAL)
    place.write_bytes(archive)
    assert fetch(wanted, accept_licence=True, transport=LOCAL).new
    assert place.read_bytes() == archive  # a person's file stays


def test_the_weights_by_themselves_are_taken_from_a_hand_too(shop: HttpServer) -> None:
    shop.close()
    downloads_dir().mkdir(parents=True)
    (downloads_dir() / MEMBER).write_bytes(NETWORK)
    assert bring().new


@pytest.mark.parametrize("name", ["pack.zip", MEMBER])
def test_a_wrong_file_from_a_hand_is_refused_and_left(shop: HttpServer, name: str) -> None:
    downloads_dir().mkdir(parents=True)
    (downloads_dir() / name).write_bytes(b"something else")
    with pytest.raises(FetchError, match=rf"{name}: has sha256 {hashlib.sha256(b'something else').hexdigest()}, not"):
        bring()
    assert (downloads_dir() / name).exists()


def test_a_member_with_another_sum_is_refused(shop: HttpServer, archive: bytes, tmp_path: Path) -> None:
    write_table(tmp_path, shop.url, archive, weights_sha256="0" * 64)
    with pytest.raises(FetchError, match=f"its {MEMBER} has sha256 {hashlib.sha256(NETWORK).hexdigest()}, not 0000"):
        bring()


def test_a_right_file_that_is_no_embedding_network_is_refused(shop: HttpServer, tmp_path: Path) -> None:
    wrong = zipped({MEMBER: b"no network"})
    shop.files["/pack.zip"] = wrong
    write_table(tmp_path, shop.url, wrong, weights_sha256=hashlib.sha256(b"no network").hexdigest())
    with pytest.raises(ModelFileError, match="shop/pack: is not a whole ONNX file"):
        bring()


def test_a_table_that_promises_something_else_is_said(shop: HttpServer, archive: bytes, tmp_path: Path) -> None:
    write_table(tmp_path, shop.url, archive, dimensions=512)
    with pytest.raises(ModelFileError, match="takes 112 pixels and gives 16 numbers, not 112 and 512"):
        bring()


def test_a_model_that_is_brought_by_hand_says_how(shop: HttpServer) -> None:
    words = "ask the author, then run `python -m engines import backbone.pth --network tiny --name shop/hand`"
    with pytest.raises(ModelFileError, match=f"shop/hand: cannot be fetched: {words}"):
        offer("shop/hand")
    with pytest.raises(ModelFileError, match=f"shop/hand: is not here yet; {words}"):
        find_model("shop/hand")


def test_a_place_that_cannot_be_written_is_one_sentence(
    shop: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in the way").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "in the way"))
    with pytest.raises(FetchError, match=f"downloads: cannot be written .*{CACHE_VARIABLE}"):
        bring()


# several processes, and stops

FETCH = """
import sys
from pathlib import Path
from engines import models
from engines.intake.fetch import fetch, offer
from engines.intake.https import Transport
models.configs_dir = lambda: Path(sys.argv[1])
local = Transport(loopback_http=True, timeout_s=30)
found = fetch(offer("shop/pack", transport=local), accept_licence=True, transport=local,
              progress=lambda done, total: print("some", flush=True))
print("new" if found.new else "here")
"""


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(folder)], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_two_processes_download_once(shop: HttpServer, tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert sorted(out.split()[-1] for out, _ in said) == ["here", "new"]
    assert [headers.get("range") for _, headers in shop.requests].count(None) == 1


def test_waiting_for_another_process_is_said(shop: HttpServer) -> None:
    downloads_dir().mkdir(parents=True)
    other, said = FileLock(downloads_dir() / "pack.zip.lock"), list[str]()
    other.acquire()

    def tell(text: str) -> None:
        said.append(text)
        other.release()

    assert fetch(offer("shop/pack", transport=LOCAL), accept_licence=True, transport=LOCAL, tell=tell).new
    assert said == ["shop/pack: another process is fetching it; waiting"]


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_a_stop_keeps_the_part_and_leaves_no_half_file(shop: HttpServer, tmp_path: Path, archive: bytes) -> None:
    import signal

    shop.behaviour.stall_after, shop.behaviour.misbehaving = 5000, 2  # the first is the question about the size
    process = start(tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "some\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in err
    part = downloads_dir() / "pack.zip.part"
    assert part.read_bytes() == archive[:5000]
    assert not (downloads_dir() / "pack.zip").exists()
    assert not place_of("shop/pack").exists()
    assert bring().new
    assert shop.asked("Range")[-1] == "bytes=5000-"


# the command


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["engines", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    code = stop.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of 127.0.0.1, trusted by this process."""
    path = tmp_path / "server.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    try:
        subprocess.run(
            [*command.split(), "-keyout", str(path), "-out", str(path) + ".crt"], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl to make a certificate with")
    path.write_text(path.read_text() + Path(str(path) + ".crt").read_text())
    return path


def test_the_command_over_real_https(
    shop: HttpServer,
    certificate: Path,
    archive: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with HttpServer({"/pack.zip": archive}, certificate=certificate) as secure:
        mirror = ("--mirror", secure.url + "/")
        assert call(monkeypatch, "fetch", "shop/pack", "--accept-licence", *mirror) == 1
        assert "its certificate is not trusted" in capsys.readouterr().err
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert call(monkeypatch, "fetch", "shop/pack", *mirror) == 1
        said = capsys.readouterr()
        assert f"shop/pack: tiny, {len(archive) / 1e6:.1f} MB, from {secure.url}/pack.zip" in said.out
        assert "licence research only; trained on faces" in said.out
        assert said.err.startswith("engines: shop/pack: its licence is 'research only'")
        assert call(monkeypatch, "fetch", "shop/pack", "--accept-licence", *mirror, "--json") == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["new"]
        assert printed["path"] == str(place_of("shop/pack"))
        secure.behaviour.redirects = {"/pack.zip": shop.url + "/pack.zip"}
        place_of("shop/pack").unlink()
        assert call(monkeypatch, "fetch", "shop/pack", "--accept-licence", *mirror) == 1
        assert "redirects to http://127.0.0.1, which is not https" in capsys.readouterr().err


def test_the_command_says_what_is_here(
    shop: HttpServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bring()
    assert call(monkeypatch, "fetch", "shop/pack") == 0
    assert f"is here already: {place_of('shop/pack')}" in capsys.readouterr().out
    assert call(monkeypatch, "list", "--json") == 0
    states = {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)}
    assert states == {"shop/pack": "here", "shop/alone": "to fetch", "shop/hand": "by hand"}


def test_the_command_without_tls_is_refused(
    shop: HttpServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table's own address is plain http here: what the tests may do, the command may not."""
    assert call(monkeypatch, "fetch", "shop/alone") == 1
    assert capsys.readouterr().err.strip().endswith("/alone.onnx is not https; nothing was taken")
    assert shop.requests == []


def test_a_stop_is_said(shop: HttpServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(*_: object, **__: object) -> Fetched:
        raise KeyboardInterrupt

    monkeypatch.setattr("engines.intake.fetch.offer", lambda name, mirror: offer(name, transport=LOCAL))
    monkeypatch.setattr("engines.intake.fetch.fetch", stopped)
    assert call(monkeypatch, "fetch", "shop/pack", "--accept-licence") == 130
    assert "stopped; what has come is kept" in capsys.readouterr().err
