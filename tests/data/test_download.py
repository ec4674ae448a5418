"""Against a server on this machine that misbehaves in the ways that servers do."""

import hashlib
import io
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from milr.data import download, sources, unpack
from milr.data.unpack import UnpackError

CONTENT = bytes(range(256)) * 4000
DIGEST = "md5:" + hashlib.md5(CONTENT).hexdigest()


@dataclass
class Behaviour:
    """What the server sends, and how; `requests` holds the headers of what it was asked."""

    content: bytes = CONTENT
    status: int | None = None
    version: str = '"first"'
    break_after: list[int] = field(default_factory=list)  # bytes, one for each of the first calls
    knows_ranges: bool = True
    tells_length: bool = True
    encoding: str = ""
    refuses_ranges: bool = False
    told: str | None = None  # what it then says of the file's length
    length: str = ""  # what it says of the length of what it sends
    off_by: int = 0  # bytes between the start that was asked for and that of what is sent
    requests: list[dict] = field(default_factory=list)
    sent: int = 0


@pytest.fixture
def server():
    """(address, behaviour) of a server in a thread of its own."""
    behaviour = Behaviour()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            behaviour.requests.append(dict(self.headers))
            if behaviour.status:
                self.send_error(behaviour.status)
                return
            if behaviour.refuses_ranges and self.headers.get("Range"):
                self.send_response(416)
                if behaviour.told:
                    self.send_header("Content-Range", behaviour.told)
                self.end_headers()
                return
            start = self.start()
            if start > len(behaviour.content) or (start and start == len(behaviour.content)):
                self.send_response(416)
                if behaviour.tells_length:
                    self.send_header("Content-Range", f"bytes */{len(behaviour.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            begin = start + behaviour.off_by if start else 0
            body = behaviour.content[begin:]
            if behaviour.tells_length:
                self.send_header("Content-Length", behaviour.length or str(len(body)))
            if behaviour.encoding:
                self.send_header("Content-Encoding", behaviour.encoding)
            if behaviour.version:
                self.send_header("ETag", behaviour.version)
            if start:
                last = len(behaviour.content) - 1
                self.send_header("Content-Range", f"bytes {begin}-{last}/{last + 1}")
            self.end_headers()
            stop = behaviour.break_after.pop(0) if behaviour.break_after else len(body)
            behaviour.sent += len(body[:stop])  # before the client can have it all
            self.wfile.write(body[:stop])

        def start(self) -> int:
            wanted = self.headers.get("Range")
            if not wanted or not behaviour.knows_ranges:
                return 0
            if self.headers.get("If-Range", behaviour.version) != behaviour.version:
                return 0
            return int(wanted.removeprefix("bytes=").removesuffix("-"))

        def log_message(self, *arguments):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/file", behaviour
    http.shutdown()
    http.server_close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(download, "WAIT", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def names(folder):
    # Apart from locks, which stay, hidden.
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_file_arrives_whole_and_leaves_nothing_else(server, tmp_path):
    address, _ = server
    download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert names(tmp_path) == ["file"]


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    address, behaviour = server
    (tmp_path / "file").write_bytes(CONTENT)
    download.fetch(address, tmp_path / "file", DIGEST)
    assert behaviour.requests == []


def test_a_file_that_is_there_is_only_read(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(CONTENT)
    monkeypatch.setattr(download, "hold", None)  # no lock: the folder may be read-only
    assert download.fetch(server[0], tmp_path / "file", DIGEST) == tmp_path / "file"


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(server, tmp_path):
    address, behaviour = server
    behaviour.break_after = [600_000, 100_000]
    download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(behaviour.requests) == 3
    resumed = int(behaviour.requests[1]["Range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < resumed <= 600_000
    assert behaviour.requests[1]["If-Range"] == '"first"'
    assert behaviour.sent < 1.5 * len(CONTENT)


def test_a_killed_download_is_resumed_by_the_next_run(server, tmp_path):
    address, behaviour = server
    (tmp_path / "file.part").write_bytes(CONTENT[:700_000])
    download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert behaviour.sent == len(CONTENT) - 700_000


def test_a_file_that_changed_on_the_server_is_fetched_from_its_start(server, tmp_path):
    address, behaviour = server
    (tmp_path / "file.part").write_bytes(b"of the old file" * 1000)
    (tmp_path / "file.part.version").write_text('"older"')
    download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_is_read_from_its_start(server, tmp_path):
    address, behaviour = server
    behaviour.knows_ranges = False
    behaviour.break_after = [600_000]
    download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_part_that_was_whole_already_is_kept(server, tmp_path):
    address, behaviour = server
    (tmp_path / "file.part").write_bytes(CONTENT)
    download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert behaviour.sent == 0


def test_a_part_that_is_whole_is_not_asked_for_again(server, tmp_path):
    """Some servers say of such a range that there is none, and not how long the file is."""
    address, behaviour = server
    behaviour.tells_length = False
    (tmp_path / "file.part").write_bytes(CONTENT)
    download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert behaviour.requests == [] and names(tmp_path) == ["file"]


@pytest.mark.parametrize("encoding", ["x-gzip", "gzip"])
def test_an_archive_that_the_server_calls_an_encoding_arrives_as_it_is(server, tmp_path, encoding):
    address, behaviour = server
    behaviour.content, behaviour.encoding = packed(("Birds/images.txt", b"1 a.jpg\n")), encoding
    download.get(archive_source(address, behaviour.content), tmp_path)
    assert (tmp_path / "Birds/images.txt").read_bytes() == b"1 a.jpg\n"
    assert behaviour.requests[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_what_ends_early_and_has_not_told_its_length_goes_on(server, tmp_path, knows_ranges):
    address, behaviour = server
    behaviour.tells_length, behaviour.knows_ranges = False, knows_ranges
    behaviour.break_after = [400_000, 500_000]
    download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT and names(tmp_path) == ["file"]
    assert (behaviour.sent == len(CONTENT)) is knows_ranges


def test_what_ends_early_and_has_not_told_its_length_is_kept_for_the_next_run(server, tmp_path):
    address, behaviour = server
    behaviour.tells_length, behaviour.break_after = False, [400_000]
    with pytest.raises(download.DownloadError, match="not told its length.*400,000 bytes are kept"):
        download.fetch(address, tmp_path / "file", DIGEST, attempts=1)
    download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT and behaviour.sent == len(CONTENT)


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_wrong_bytes_of_a_length_not_told_are_set_aside(server, tmp_path, knows_ranges):
    """Once it is known that no more come."""
    address, behaviour = server
    behaviour.tells_length, behaviour.knows_ranges = False, knows_ranges
    behaviour.content = b"<html>Please log in</html>"
    with pytest.raises(download.DownloadError, match="set aside"):
        download.fetch(address, tmp_path / "file", DIGEST)
    assert names(tmp_path) == ["file.wrong"]
    assert (tmp_path / "file.wrong").read_bytes() == behaviour.content
    assert len(behaviour.requests) <= 3


@pytest.mark.parametrize("off_by", [-700_000, -1, 1])
def test_another_range_than_was_asked_for_is_not_appended(server, tmp_path, off_by):
    address, behaviour = server
    behaviour.off_by = off_by
    (tmp_path / "file.part").write_bytes(CONTENT[:700_000])
    download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert "Range" not in behaviour.requests[1]


def test_two_that_fetch_one_file_take_turns(server, tmp_path, monkeypatch, capsys):
    address, behaviour = server
    receive, together = download._receive, threading.Event()

    def slowly(*arguments):
        together.wait(0.5)  # long enough for the other to come to the same place
        receive(*arguments)

    monkeypatch.setattr(download, "_receive", slowly)
    with ThreadPoolExecutor(2) as pool:
        asked = address, tmp_path / "file", DIGEST
        found = [pool.submit(download.fetch, *asked) for _ in range(2)]
    assert {one.result().read_bytes() for one in found} == {CONTENT}
    assert behaviour.sent == len(CONTENT) and names(tmp_path) == ["file"]
    assert "being fetched by another process; waiting" in capsys.readouterr().err


def test_a_part_longer_than_the_file_is_dropped(server, tmp_path):
    address, _ = server
    (tmp_path / "file.part").write_bytes(CONTENT + b"more")
    download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_page_with_a_message_does_not_take_the_place_of_what_came(server, tmp_path):
    address, behaviour = server
    (tmp_path / "file.part").write_bytes(CONTENT[:600_000])
    behaviour.content, behaviour.knows_ranges = b"<html>Please log in.</html>", False
    with pytest.raises(download.DownloadError, match="27 bytes .* fewer .* 600,000 bytes are kept"):
        download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:600_000]
    behaviour.content, behaviour.knows_ranges = CONTENT, True
    assert download.fetch(address, tmp_path / "file", DIGEST).read_bytes() == CONTENT
    assert behaviour.sent < len(CONTENT)


@pytest.mark.parametrize("told", [None, "bytes */2000000"])
def test_a_server_that_refuses_ranges_takes_nothing_away(server, tmp_path, told):
    address, behaviour = server
    (tmp_path / "file.part").write_bytes(CONTENT[:600_000])
    behaviour.refuses_ranges = True
    behaviour.told = told
    with pytest.raises(download.DownloadError):
        download.fetch(address, tmp_path / "file", DIGEST)
    (left,) = [path for path in tmp_path.glob("file.*") if path.suffix in (".part", ".wrong")]
    assert left.read_bytes() == CONTENT[:600_000]


def test_a_length_that_is_no_number_is_as_good_as_none(server, tmp_path):
    address, behaviour = server
    behaviour.length = "abc"
    assert download.fetch(address, tmp_path / "file", DIGEST).read_bytes() == CONTENT


def test_a_setting_that_names_no_certificates_is_not_taken_for_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "absent.pem"))
    with pytest.raises(download.DownloadError, match="could not be asked for.*absent.pem"):
        download.fetch("https://127.0.0.1:9/file", tmp_path / "file", DIGEST)


def test_offline_nothing_is_asked_for(server, tmp_path, monkeypatch):
    address, behaviour = server
    monkeypatch.setenv("MILR_OFFLINE", "1")
    with pytest.raises(download.DownloadError, match="MILR_OFFLINE"):
        download.fetch(address, tmp_path / "file", DIGEST)
    assert behaviour.requests == []


def test_a_file_that_was_there_is_not_said_to_have_come(server, tmp_path):
    (tmp_path / "file").write_bytes(b"my own")
    with pytest.raises(download.DownloadError, match="which was there, has the digest") as caught:
        download.fetch(server[0], tmp_path / "file", DIGEST)
    assert "What came" not in str(caught.value)
    assert (tmp_path / "file.wrong").read_bytes() == b"my own"


def test_wrong_bytes_are_set_aside_and_both_digests_named(server, tmp_path):
    address, behaviour = server
    behaviour.content = b"<html>Please log in</html>"
    with pytest.raises(download.DownloadError, match=DIGEST) as error:
        download.fetch(address, tmp_path / "file", DIGEST)
    assert hashlib.md5(behaviour.content).hexdigest() in str(error.value)
    assert names(tmp_path) == ["file.wrong"]
    behaviour.content = CONTENT
    download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_an_absent_file_is_said_with_what_to_do(server, tmp_path):
    address, behaviour = server
    behaviour.status = 404
    with pytest.raises(download.DownloadError, match="404.*as file, and run this again"):
        download.fetch(address, tmp_path / "file", DIGEST)
    assert len(behaviour.requests) == 1
    assert names(tmp_path) == []


def test_a_server_that_always_breaks_off_keeps_what_came(server, tmp_path):
    address, behaviour = server
    behaviour.break_after = [300_000] + [0] * 20
    with pytest.raises(download.DownloadError, match="goes on from there"):
        download.fetch(address, tmp_path / "file", DIGEST)
    assert not (tmp_path / "file").exists()
    assert (tmp_path / "file.part").stat().st_size > 0


def test_a_server_without_ranges_that_never_comes_further_is_given_up(server, tmp_path):
    address, behaviour = server
    behaviour.knows_ranges = False
    behaviour.break_after = [300_000, 500_000] + [100_000, 400_000] * 50
    with pytest.raises(download.DownloadError, match="breaks off"):
        download.fetch(address, tmp_path / "file", DIGEST)
    # The second came further than the first, and so began the count anew.
    assert len(behaviour.requests) == 1 + download.ATTEMPTS


def test_a_line_that_breaks_every_few_kilobytes_comes_to_the_end(server, tmp_path):
    address, behaviour = server
    behaviour.content = CONTENT[:400_000]
    behaviour.break_after = [40_000] * 40
    digest = "md5:" + hashlib.md5(behaviour.content).hexdigest()
    download.fetch(address, tmp_path / "file", digest)
    assert (tmp_path / "file").read_bytes() == behaviour.content
    assert len(behaviour.requests) < 20


def test_a_bar_shows_how_much_has_come(server, tmp_path, capfd):
    download.fetch(server[0], tmp_path / "file", DIGEST)
    said = capfd.readouterr()
    assert "file: 100%" in said.err and "1.02M/1.02M" in said.err and said.out == ""


def test_it_is_given_up_after_so_many_attempts(server, tmp_path):
    address, behaviour = server
    behaviour.break_after = [300_000] + [0] * 20
    with pytest.raises(download.DownloadError, match="goes on from there"):
        download.fetch(address, tmp_path / "file", DIGEST, attempts=2)
    assert len(behaviour.requests) == 2


def test_no_server_is_said_and_leaves_nothing(tmp_path):
    with pytest.raises(download.DownloadError, match="does not answer"):
        download.fetch("http://127.0.0.1:9/file", tmp_path / "file", DIGEST)
    assert names(tmp_path) == []


def test_a_disk_too_small_is_said_before_anything_is_fetched(server, tmp_path):
    address, behaviour = server
    source = archive_source(address, CONTENT, space=10**18)
    with pytest.raises(download.DownloadError, match="another disk"):
        download.get(source, tmp_path)
    assert behaviour.requests == []


def test_what_is_there_already_needs_no_more_room(server, tmp_path, monkeypatch):
    address, behaviour = server
    behaviour.content = packed(("Birds/images.txt", b"1 a.jpg\n"))
    (tmp_path / "birds.tgz").write_bytes(behaviour.content)
    asked = []
    monkeypatch.setattr(download, "check_space", lambda folder, needed: asked.append(needed))
    download.get(archive_source(address, behaviour.content, space=10**6), tmp_path)
    assert asked == [10**6 - len(behaviour.content)]
    assert names(tmp_path) == ["Birds"]


def test_a_busy_server_is_asked_again(server, tmp_path, monkeypatch):
    address, behaviour = server
    behaviour.status = 503

    def calm(seconds):
        behaviour.status = None

    monkeypatch.setattr(download.time, "sleep", calm)
    download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT and len(behaviour.requests) == 2


def test_a_disk_that_fills_up_is_said_and_what_came_is_kept(server, tmp_path, monkeypatch):
    address, _ = server
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_write", full)
    with pytest.raises(download.DownloadError, match="No space left.*1,000 bytes are kept"):
        download.fetch(address, tmp_path / "file", DIGEST)
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:1000]


def test_an_archive_that_the_disk_has_no_room_for_is_kept(server, tmp_path, monkeypatch):
    address, behaviour = server
    behaviour.content = packed(("Birds/images.txt", b"1 a.jpg\n"))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with pytest.raises(UnpackError, match="No space left.*make room"):
        download.get(archive_source(address, behaviour.content), tmp_path)
    assert names(tmp_path) == ["birds.tgz"]


def archive_source(address, content, space=1):
    file = sources.File(address, "birds.tgz", "sha256:" + hashlib.sha256(content).hexdigest())
    return sources.Source(
        "birds", "Birds", "download", "none", "none",
        folder="Birds", space=space, files=(file,), unpack=True,
    )  # fmt: skip


def packed(*members: tuple[str, bytes | tarfile.TarInfo]) -> bytes:
    """A tar.gz of files, and of ready-made members."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


def member(kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, link
    return info


def test_an_archive_is_unpacked_and_removed(server, tmp_path, capsys):
    address, behaviour = server
    behaviour.content = packed(
        ("attributes.txt", b"beside"),
        ("Birds/images.txt", b"1 a.jpg\n"),
        ("Birds/copy.txt", member(tarfile.SYMTYPE, "images.txt")),
    )
    source = archive_source(address, behaviour.content)
    assert download.get(source, tmp_path) == tmp_path / "Birds"
    assert names(tmp_path) == ["Birds"]
    assert (tmp_path / "Birds/copy.txt").read_bytes() == b"1 a.jpg\n"
    assert "Licence" in capsys.readouterr().out
    download.get(source, tmp_path)
    assert len(behaviour.requests) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("../outside.txt", b"x"),
        ("Birds/../../outside.txt", b"x"),
        ("/tmp/outside.txt", b"x"),
        ("..\\outside.txt", b"x"),
        ("Birds/link", member(tarfile.SYMTYPE, "../../outside.txt")),
        ("Birds/link", member(tarfile.SYMTYPE, "/etc/hostname")),
        ("Birds/link", member(tarfile.LNKTYPE, "../outside.txt")),
        ("Birds/device", member(tarfile.CHRTYPE)),
        ("Birds/pipe", member(tarfile.FIFOTYPE)),
    ],
)
@pytest.mark.parametrize("filters", [True, False])
def test_an_archive_that_reaches_outside_its_folder_is_refused(
    server, tmp_path, monkeypatch, name, content, filters
):
    """Also by a Python whose tarfile knows no filters yet (before 3.11.4)."""
    address, behaviour = server
    if not filters:
        monkeypatch.setattr(unpack, "_FILTER", {})
        monkeypatch.setattr(unpack, "_REFUSED", ())
    behaviour.content = packed(("Birds/images.txt", b"1 a.jpg\n"), (name, content))
    root = tmp_path / "root"
    with pytest.raises(UnpackError, match="not to be trusted"):
        download.get(archive_source(address, behaviour.content), root)
    assert names(root) == ["birds.tgz"]
    assert names(tmp_path) == ["root"]


UP = ("Birds/x/y/up", member(tarfile.SYMTYPE, "../.."))  # to Birds


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([UP, ("Birds/x/y/out", member(tarfile.SYMTYPE, "up/../../.."))], "goes back from a name"),
        ([("Birds/x/y/out", member(tarfile.SYMTYPE, "up/../../..")), UP], "goes back from a name"),
        ([UP, ("Birds/hard", member(tarfile.LNKTYPE, "Birds/x/y/up"))], "through another link"),
        ([UP, ("Birds/x/y/up/a.txt", b"x")], "its path goes through a link"),
        ([UP, ("Birds/x/./y/up", b"x")], "its path goes through a link"),
    ],
)
def test_links_that_lead_outside_together_are_refused(tmp_path, monkeypatch, members, said):
    """Each for itself looks as if it stayed inside."""
    monkeypatch.setattr(unpack, "_FILTER", {})
    monkeypatch.setattr(unpack, "_REFUSED", ())
    (tmp_path / "birds.tgz").write_bytes(packed(*members))
    with pytest.raises(UnpackError, match=f"not to be trusted.*{said}"):
        unpack.unpack(tmp_path / "birds.tgz", tmp_path / "Birds")
    assert names(tmp_path) == ["birds.tgz"]


def test_links_up_and_behind_one_another_inside_are_unpacked(tmp_path):
    link = ("Birds/x/link", member(tarfile.SYMTYPE, "../a.txt"))
    other = ("Birds/other", member(tarfile.SYMTYPE, "x/link"))
    (tmp_path / "birds.tgz").write_bytes(packed(("Birds/a.txt", b"a"), link, other))
    unpack.unpack(tmp_path / "birds.tgz", tmp_path / "Birds")
    assert (tmp_path / "Birds/other").read_bytes() == b"a"


def test_an_archive_cut_short_leaves_no_folder(server, tmp_path):
    address, behaviour = server
    noise = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(256))
    behaviour.content = packed(("Birds/a", noise), ("Birds/b", noise))[:-3000]
    with pytest.raises(UnpackError, match="damaged"):
        download.get(archive_source(address, behaviour.content), tmp_path)
    assert names(tmp_path) == ["birds.tgz"]


def test_what_a_killed_unpacking_left_is_not_taken_for_the_data(server, tmp_path):
    address, behaviour = server
    behaviour.content = packed(("Birds/images.txt", b"whole"))
    (tmp_path / ".Birds.unpacking/Birds").mkdir(parents=True)
    (tmp_path / ".Birds.unpacking/Birds/images.txt").write_bytes(b"ha")
    download.get(archive_source(address, behaviour.content), tmp_path)
    assert (tmp_path / "Birds/images.txt").read_bytes() == b"whole"
    assert names(tmp_path) == ["Birds"]


def test_an_archive_without_its_folder_is_refused(server, tmp_path):
    address, behaviour = server
    behaviour.content = packed(("Fish/images.txt", b"x"))
    with pytest.raises(UnpackError, match="holds no folder Birds"):
        download.get(archive_source(address, behaviour.content), tmp_path)


def test_the_command_fetches_plain_files_into_the_data_root(server, tmp_path, monkeypatch):
    address, _ = server
    source = sources.Source(
        "notes", "Notes", "download", "none", "none",
        folder="notes", space=1, files=(sources.File(address, "notes.txt", DIGEST),),
    )  # fmt: skip
    monkeypatch.setattr(download, "read", lambda: {"notes": source})
    monkeypatch.setenv("MILR_DATA", str(tmp_path))
    assert download.main(["notes"]) == 0
    assert (tmp_path / "notes/notes.txt").read_bytes() == CONTENT


def test_the_command_says_where_it_could_not_write(server, tmp_path, monkeypatch, capsys):
    address, _ = server
    monkeypatch.setattr(download, "read", lambda: {"birds": archive_source(address, CONTENT)})
    (tmp_path / "file").touch()
    monkeypatch.setenv("MILR_DATA", str(tmp_path / "file"))
    assert download.main(["birds"]) == 1
    said = capsys.readouterr().err
    assert "Birds: " in said and "MILR_DATA names the folder" in said


def test_the_command_ends_with_an_error_that_names_the_set(server, tmp_path, monkeypatch, capsys):
    address, behaviour = server
    behaviour.status = 503
    source = archive_source(address, CONTENT)
    monkeypatch.setattr(download, "read", lambda: {"birds": source})
    monkeypatch.setenv("MILR_DATA", str(tmp_path))
    assert download.main(["birds"]) == 1
    assert "Birds: " in capsys.readouterr().err
