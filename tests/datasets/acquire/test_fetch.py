"""Downloads from a real server that has good and bad days."""

import hashlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from same_files import FILES, as_zip, contents, wanted
from web_server import Site, serve

from msclnet.datasets.acquire.fetch import fetch
from msclnet.datasets.acquire.pack import pack
from msclnet.datasets.acquire.place import read_place
from msclnet.errors import UserError

CONTENT = random.Random(0).randbytes(300_000)
CHANGED = random.Random(1).randbytes(310_000)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(Site(CONTENT)) as served:
        yield served


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "work" / "images.zip"


def assert_complete(target: Path, content: bytes = CONTENT) -> None:
    assert target.read_bytes() == content
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def interrupt(site: Site, target: Path, *, after: int = 100_000) -> None:
    site.cut_after.append(after)
    with pytest.raises(
        UserError, match=f"broke after {after} of {len(site.content)} bytes; started again, .* goes on"
    ):
        fetch(site.url, target, sha256=sha256(CONTENT))
    assert not target.exists()
    assert target.with_name("images.zip.part").stat().st_size == after


def test_download(site: Site, target: Path) -> None:
    assert fetch(site.url, target, sha256=sha256(CONTENT)) == target
    assert_complete(target)
    assert site.ranges_asked() == [None]


def test_a_complete_file_is_not_fetched_again(site: Site, target: Path) -> None:
    fetch(site.url, target, sha256=sha256(CONTENT))
    fetch(site.url, target, sha256=sha256(CONTENT))
    assert len(site.requests) == 1
    target.write_bytes(b"damaged since")
    fetch(site.url, target, sha256=sha256(CONTENT))
    assert len(site.requests) == 2
    assert_complete(target)


def test_an_interrupted_download_goes_on(site: Site, target: Path) -> None:
    interrupt(site, target)
    site.cut_after.append(50_000)
    with pytest.raises(UserError, match="broke after 150000 of 300000 bytes"):
        fetch(site.url, target, sha256=sha256(CONTENT))
    fetch(site.url, target, sha256=sha256(CONTENT))
    assert_complete(target)
    assert site.ranges_asked() == [None, "bytes=100000-", "bytes=150000-"]
    assert [headers.get("If-Range") for _, headers in site.requests] == [None, '"1"', '"1"']


def test_without_etag_the_date_names_the_version(site: Site, target: Path) -> None:
    site.etag, site.modified = 'W/"weak"', "Wed, 01 Nov 2017 10:00:00 GMT"
    interrupt(site, target)
    fetch(site.url, target, sha256=sha256(CONTENT))
    assert_complete(target)
    assert site.requests[1][1]["If-Range"] == site.modified
    assert site.requests[1][1]["Range"] == "bytes=100000-"


def test_without_any_version_it_goes_on_as_well(site: Site, target: Path) -> None:
    site.etag = None
    interrupt(site, target)
    fetch(site.url, target, sha256=sha256(CONTENT))
    assert_complete(target)
    assert site.ranges_asked() == [None, "bytes=100000-"]


def test_a_server_without_ranges_sends_it_anew(site: Site, target: Path) -> None:
    site.ranges = False
    interrupt(site, target)
    fetch(site.url, target, sha256=sha256(CONTENT))
    assert_complete(target)
    assert site.ranges_asked() == [None, "bytes=100000-"]


@pytest.mark.parametrize("believes", [True, False])
def test_a_file_that_changed_in_between_is_fetched_anew(site: Site, target: Path, believes: bool) -> None:
    """The user asks for the new version; the part is one of the old version."""
    site.cut_after.append(100_000)
    with pytest.raises(UserError, match="broke after"):
        fetch(site.url, target, sha256=sha256(CHANGED))
    site.content, site.etag, site.believes_if_range = CHANGED, '"2"', believes
    fetch(site.url, target, sha256=sha256(CHANGED))
    assert_complete(target, CHANGED)


def test_a_part_that_is_longer_than_the_file(site: Site, target: Path) -> None:
    site.etag = None
    interrupt(site, target, after=200_000)
    site.content = CONTENT[:150_000]
    with pytest.raises(
        UserError, match=f"what arrived is {sha256(CONTENT[:150_000])}, expected was {sha256(CONTENT)}"
    ):
        fetch(site.url, target, sha256=sha256(CONTENT))
    assert site.ranges_asked() == [None, "bytes=200000-", None]
    assert list(target.parent.iterdir()) == []


def test_a_part_for_another_sha256_is_not_used(site: Site, target: Path) -> None:
    interrupt(site, target)
    site.content = CHANGED
    fetch(site.url, target, sha256=sha256(CHANGED))
    assert_complete(target, CHANGED)
    assert site.ranges_asked() == [None, None]


@pytest.mark.parametrize("note", [b"", b"{", b"[1]", b'{"sha256": 3}', None])
def test_a_part_without_a_sound_note_is_not_used(site: Site, target: Path, note: bytes | None) -> None:
    interrupt(site, target)
    path = target.with_name("images.zip.part.json")
    path.unlink() if note is None else path.write_bytes(note)
    fetch(site.url, target, sha256=sha256(CONTENT))
    assert_complete(target)
    assert site.ranges_asked() == [None, None]


def test_a_whole_part_needs_no_server(site: Site, target: Path) -> None:
    """Killed between the last byte and the move."""
    interrupt(site, target, after=299_999)
    with target.with_name("images.zip.part").open("ab") as file:
        file.write(CONTENT[-1:])
    fetch(site.url, target, sha256=sha256(CONTENT))
    assert_complete(target)
    assert len(site.requests) == 1


def test_a_wrong_checksum_removes_what_arrived(site: Site, target: Path) -> None:
    with pytest.raises(UserError) as caught:
        fetch(site.url, target, sha256=sha256(CHANGED))
    assert f"is {sha256(CONTENT)}, expected was {sha256(CHANGED)}" in str(caught.value)
    assert list(target.parent.iterdir()) == []


def test_a_part_damaged_on_the_disk_is_removed_in_the_end(site: Site, target: Path) -> None:
    interrupt(site, target)
    part = target.with_name("images.zip.part")
    part.write_bytes(bytes(1) + part.read_bytes()[1:])
    with pytest.raises(UserError, match="removed"):
        fetch(site.url, target, sha256=sha256(CONTENT))
    fetch(site.url, target, sha256=sha256(CONTENT))
    assert_complete(target)


def test_a_page_to_log_in_is_recognised(site: Site, target: Path) -> None:
    site.content, site.kind = b"<html>Please log in</html>", "text/html; charset=utf-8"
    with pytest.raises(UserError, match="the server sent a web page, perhaps one to log in"):
        fetch(site.url, target, sha256=sha256(CONTENT))


def test_a_server_that_does_not_tell_the_size(site: Site, target: Path) -> None:
    site.chunked = True
    fetch(site.url, target, sha256=sha256(CONTENT))
    assert_complete(target)
    target.unlink()
    site.cut_after.append(0)
    with pytest.raises(UserError, match="the connection failed"):
        fetch(site.url, target, sha256=sha256(CONTENT))
    fetch(site.url, target, sha256=sha256(CONTENT))
    assert_complete(target)


def test_a_server_that_falls_silent(site: Site, target: Path) -> None:
    site.silent = True
    with pytest.raises(UserError, match=r"the connection failed \(.*timed out\); started again, .* goes on"):
        fetch(site.url, target, sha256=sha256(CONTENT), timeout=0.2)
    site.silent = False
    fetch(site.url, target, sha256=sha256(CONTENT))
    assert_complete(target)


def test_more_than_allowed(site: Site, target: Path) -> None:
    with pytest.raises(UserError, match="announces 300000 bytes, more than the 299999"):
        fetch(site.url, target, sha256=sha256(CONTENT), most=299_999)
    site.chunked = True
    with pytest.raises(UserError, match=f"what arrived is {sha256(CONTENT[:1000])}"):
        fetch(site.url, target, sha256=sha256(CONTENT), most=1000)
    fetch(site.url, target, sha256=sha256(CONTENT), most=300_000)
    assert_complete(target)


@pytest.mark.parametrize(
    ("status", "words"), [(401, "password"), (403, "not allowed"), (404, "nothing at this"), (503, "later")]
)
def test_refusals(site: Site, target: Path, status: int, words: str) -> None:
    site.status = status
    with pytest.raises(UserError, match=f"the server answers {status}; .*{words}"):
        fetch(site.url, target, sha256=sha256(CONTENT))
    assert not target.exists()


def test_a_refusal_keeps_the_part(site: Site, target: Path) -> None:
    interrupt(site, target)
    site.status = 503
    with pytest.raises(UserError, match="the server answers 503"):
        fetch(site.url, target, sha256=sha256(CONTENT))
    site.status = 0
    fetch(site.url, target, sha256=sha256(CONTENT))
    assert_complete(target)
    assert site.ranges_asked()[-1] == "bytes=100000-"


def test_nobody_listens(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(
        UserError, match=rf"http://127\.0\.0\.1:{port}/x\.zip: the connection failed \(.*refused\)"
    ):
        fetch(f"http://127.0.0.1:{port}/x.zip", target, sha256=sha256(CONTENT))


def test_redirects(site: Site, target: Path) -> None:
    site.redirects = {"/data/images.zip": "/mirror/images.zip?signature=hush"}
    interrupt(site, target)
    fetch(site.url, target, sha256=sha256(CONTENT))
    assert_complete(target)
    assert [path for path, _ in site.requests] == [
        "/data/images.zip",
        "/mirror/images.zip?signature=hush",
    ] * 2
    assert site.ranges_asked()[-1] == "bytes=100000-"


@pytest.mark.parametrize(
    "where", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x", "s3://bucket/x"]
)
def test_redirects_to_other_schemes(site: Site, target: Path, where: str) -> None:
    site.redirects = {"/data/images.zip": where}
    with pytest.raises(UserError, match="neither http nor https"):
        fetch(site.url, target, sha256=sha256(CONTENT))
    assert not target.exists()


@pytest.mark.parametrize(
    "where", ["http://[::1/x", "http://host:port/x", "http://a b/x", "http://me:pw@127.0.0.1/x"]
)
def test_redirects_to_nowhere(site: Site, target: Path, where: str) -> None:
    site.redirects = {"/data/images.zip": where}
    with pytest.raises(UserError, match="the connection failed"):
        fetch(site.url, target, sha256=sha256(CONTENT))


def test_letters_beyond_ascii_in_an_address(site: Site, target: Path) -> None:
    fetch(site.url.replace("/data/", "/Übung/人%20x/") + "?q=ä&r=%2F", target, sha256=sha256(CONTENT))
    assert_complete(target)
    assert site.requests[0][0] == "/%C3%9Cbung/%E4%BA%BA%20x/images.zip?q=%C3%A4&r=%2F"


def test_redirects_in_a_circle(site: Site, target: Path) -> None:
    site.redirects = {"/data/images.zip": site.url}
    with pytest.raises(UserError, match="the server answers 302; it leads in a circle"):
        fetch(site.url, target, sha256=sha256(CONTENT))
    assert len(site.requests) < 12


def test_passwords_go_to_their_own_host_only(site: Site, target: Path) -> None:
    site.login = "me:p@ss:w/rd"
    url = site.url.replace("http://", "http://me:p%40ss%3Aw%2Frd@")
    site.redirects = {"/data/images.zip": "/elsewhere.zip"}
    fetch(url, target, sha256=sha256(CONTENT))
    assert_complete(target)
    target.unlink()
    with serve(Site(CONTENT)) as other:
        site.redirects = {"/data/images.zip": other.url}
        fetch(url, target, sha256=sha256(CONTENT))
        assert_complete(target)
        assert [headers.get("Authorization") for _, headers in other.requests] == [None]


@pytest.mark.parametrize("trouble", ["401", "cut", "digest", "silent", "ftp", "big", "refused"])
def test_no_message_shows_a_secret(
    site: Site, target: Path, trouble: str, capfd: pytest.CaptureFixture[str]
) -> None:
    url = site.url.replace("http://", "http://somebody:hunter2@") + "?token=opensesame#fragment"
    if trouble == "401":
        site.login = "other:password"
    elif trouble == "cut":
        site.cut_after.append(10)
    elif trouble == "silent":
        site.silent = True
    elif trouble == "ftp":
        site.redirects = {"/data/images.zip": "ftp://somebody:hunter2@host/?token=opensesame"}
    elif trouble == "refused":
        url = url.replace(f":{site.url.split(':')[2].split('/')[0]}/", ":1/")
    limits = {"most": 10} if trouble == "big" else {}
    with pytest.raises(UserError) as caught:
        fetch(url, target, sha256=sha256(CHANGED), timeout=0.5, **limits)
    shown = str(caught.value) + "".join(capfd.readouterr())
    assert "/data/images.zip?***" in shown
    assert not any(secret in shown for secret in ("somebody", "hunter2", "opensesame"))
    assert not any(b"hunter2" in path.read_bytes() for path in target.parent.iterdir())


def test_pack_from_an_address(tmp_path: Path) -> None:
    archive = as_zip(tmp_path / "a.zip", FILES).read_bytes()
    with serve(Site(archive)) as site:
        place = read_place(site.url, sha256=sha256(archive))
        for _ in range(2):
            count = pack(place, tmp_path / "raw/images.zip", wanted=wanted, workspace=tmp_path / "work")
            assert count == len(FILES)
            assert contents(tmp_path / "raw/images.zip") == FILES
        assert len(site.requests) == 1
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["images.zip"]


def test_pack_from_an_address_that_is_no_archive(tmp_path: Path) -> None:
    with serve(Site(CONTENT)) as site, pytest.raises(UserError, match="is not a zip, tar"):
        pack(
            read_place(site.url, sha256=sha256(CONTENT)),
            tmp_path / "a.zip",
            wanted=wanted,
            workspace=tmp_path / "w",
        )
    assert not (tmp_path / "a.zip").exists()
