# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Downloads from a real web server: whole or not at all, from allowed addresses alone, without a trace of the URL."""

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from image_files import Watched
from image_server import (
    Answer,
    Handler,
    WebSite,
    body,
    chunked,
    make_certificate,
    redirect,
    silence,
    silent_after,
    status,
    web_site,
)
from small_disk import small_disk
from storpool_agent.errors import (
    AgentError,
    Cancelled,
    CopyStalled,
    DownloadFailed,
    ImageNotFound,
    ImageTooLarge,
    ScratchFull,
    SecondaryNotAllowed,
)
from storpool_agent.images import fetching
from storpool_agent.images.fetching import Origins
from storpool_agent.images.foreign import downloader

MIB = 1 << 20
CONTENTS = os.urandom(3 * MIB + 77)
DAY = "Sat, 01 Nov 2025 10:00:00 GMT"


@dataclass(frozen=True)
class Target:
    descriptor: int
    job: Watched

    def fetch(self, url: str, origins: Origins, max_bytes: int = 10 * MIB) -> bytes:
        fetching.fetch(url, self.descriptor, self.job.task, max_bytes=max_bytes, origins=origins)
        return self.contents()

    def contents(self) -> bytes:
        return os.pread(self.descriptor, 1 << 30, 0)


@pytest.fixture
def target(job: Watched) -> Iterator[Target]:
    with tempfile.TemporaryFile() as file:
        yield Target(file.fileno(), job)


@pytest.fixture
def site() -> Iterator[WebSite]:
    with web_site() as made:
        yield made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"), "localhost", "DNS:localhost")


@pytest.fixture
def secure(certificate: Path) -> Iterator[WebSite]:
    with web_site(certificate=certificate) as made:
        yield made


HERE = Origins(allowed_hosts=("127.0.0.1",), pause_s=0.01)


def test_a_file_comes_as_it_is(site: WebSite, target: Target) -> None:
    url = site.serve("/image", body(CONTENTS))
    assert target.fetch(url, HERE) == CONTENTS
    ((_, headers),) = site.asked
    assert headers["Host"] == f"127.0.0.1:{site.port}"
    assert headers["Accept-Encoding"] == "identity"
    assert target.job.reports[-1][1] == len(CONTENTS)


def test_a_chunked_answer_is_taken(site: WebSite, target: Target) -> None:
    assert target.fetch(site.serve("/image", chunked(CONTENTS)), HERE) == CONTENTS


def test_the_query_is_asked_for_and_shown_to_nobody(site: WebSite, target: Target) -> None:
    shown: list[str] = []

    def look_around(handler: Handler) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                shown.append((process / "cmdline").read_text() + (process / "environ").read_text())
        status(403)(handler)

    url = site.serve("/image", look_around) + "?X-Signature=only-for-us&a=b"
    with pytest.raises(DownloadFailed, match=r"/image answers with status 403") as failed:
        target.fetch(url, HERE)
    assert site.asked[0][0] == "/image?X-Signature=only-for-us&a=b"
    assert any("storpool_agent.images.foreign.downloader" in one for one in shown)
    assert "only-for-us" not in f"{shown} {failed.value} {failed.value.facts}"
    assert failed.value.facts == {"url": site.url("/image"), "status": 403}


# --- addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"])
def test_loopback_is_refused_unless_it_is_allowed(host: str, site: WebSite, target: Target) -> None:
    site.serve("/image", body(CONTENTS))
    with pytest.raises(SecondaryNotAllowed, match="no public address"):
        target.fetch(site.url("/image", host), Origins())
    assert site.asked == []
    assert target.contents() == b""


@pytest.mark.parametrize("allowed", ["127.0.0.1", "localhost", "127.0.0.0/8"])
def test_what_is_allowed_is_reached_by_its_name(allowed: str, site: WebSite, target: Target) -> None:
    site.serve("/image", body(CONTENTS))
    assert target.fetch(site.url("/image", "localhost"), Origins(allowed_hosts=(allowed,))) == CONTENTS


def test_a_redirect_to_what_is_not_allowed_is_refused(site: WebSite, target: Target) -> None:
    with web_site("127.0.0.2") as other:
        url = site.serve("/image", redirect(other.serve("/inner", body(CONTENTS))))
        with pytest.raises(SecondaryNotAllowed, match=r"127\.0\.0\.2"):
            target.fetch(url, HERE)
        assert other.asked == []


def test_a_name_is_resolved_once_for_a_connection(site: WebSite, target: Target, mocker: MockerFixture) -> None:
    """A name server that says a public address first and the host's own next time gets no next time."""
    asked: list[str] = []

    def resolve(host: str, *_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host if host[0].isdigit() else "127.0.0.1", site.port))]

    site.serve("/image", body(CONTENTS))
    mocker.patch.object(socket, "getaddrinfo", side_effect=resolve)
    job = downloader.Job(site.url("/image", "web.test"), ["web.test"], MIB * 10, None, 5, 0.01, None)
    assert downloader.fetch(job, target.descriptor) == {"bytes": len(CONTENTS)}
    assert asked.count("web.test") == 1
    assert {*asked} == {"web.test", "127.0.0.1"}  # the second is urllib3's, of the address that was judged
    assert site.asked[0][1]["Host"] == f"web.test:{site.port}"


def test_a_name_that_nobody_knows_is_a_failed_download(target: Target) -> None:
    with pytest.raises(DownloadFailed, match=r"nowhere\.invalid cannot be resolved"):
        target.fetch("http://nowhere.invalid/image", HERE)


def test_a_server_that_is_not_there_is_a_failed_download(site: WebSite, target: Target) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(DownloadFailed, match=r"gave up after 5 tries: .*Connection refused"):
            target.fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/image", HERE)


# --- redirects


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed(code: int, site: WebSite, target: Target) -> None:
    site.serve("/image", body(CONTENTS))
    site.serve("/first", redirect("second?a=b", code))
    site.serve("/second", redirect(site.url("/image"), code))
    assert target.fetch(site.url("/first"), HERE) == CONTENTS
    assert [path for path, _ in site.asked] == ["/first", "/second?a=b", "/image"]


@pytest.mark.parametrize(
    ("to", "message"),
    [
        pytest.param("/first", "more than 5 redirects", id="in a circle"),
        pytest.param("file:///etc/shadow", "no http", id="to a file"),
        pytest.param("ftp://127.0.0.1/", "no http", id="to another protocol"),
        pytest.param("http://user:secret@127.0.0.1/", "no http", id="with a password"),
        pytest.param("http://[", "to nowhere", id="to no URL"),
        pytest.param("http://127.0.0.1:99999/", "no URL", id="to a port that is none"),
        pytest.param("", "to nowhere", id="to nowhere"),
        pytest.param(f"http://{'a' * 300}/", "cannot be the name", id="to a name that cannot be one"),
        pytest.param("http://b\xfccher.test/", "no http", id="to a name that is not encoded"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_refused(to: str, message: str, site: WebSite, target: Target) -> None:
    with pytest.raises(DownloadFailed, match=message) as failed:
        target.fetch(site.serve("/first", redirect(to)), HERE)
    assert "secret" not in str(failed.value)
    assert target.contents() == b""


# --- TLS


def test_a_certificate_is_verified_for_the_name(secure: WebSite, certificate: Path, target: Target) -> None:
    secure.serve("/image", body(CONTENTS))
    origins = Origins(("localhost",), authorities=certificate, pause_s=0.01)
    assert target.fetch(secure.url("/image", "localhost"), origins) == CONTENTS
    assert secure.names == ["localhost"]
    assert secure.asked[0][1]["Host"] == f"localhost:{secure.port}"


def test_a_certificate_of_another_name_is_not_trusted(secure: WebSite, certificate: Path, target: Target) -> None:
    url = secure.serve("/image", body(CONTENTS))
    with pytest.raises(DownloadFailed, match=r"not trusted: .*IP address mismatch"):
        target.fetch(url, replace(HERE, authorities=certificate))
    assert secure.asked == []


def test_a_certificate_that_nobody_signed_is_not_trusted(secure: WebSite, target: Target) -> None:
    secure.serve("/image", body(CONTENTS))
    with pytest.raises(DownloadFailed, match="not trusted: self-signed certificate"):
        target.fetch(secure.url("/image", "localhost"), Origins(("localhost",)))
    assert secure.asked == []


def test_from_http_to_https_is_followed_and_never_back(
    site: WebSite, secure: WebSite, certificate: Path, target: Target
) -> None:
    origins = Origins(("localhost", "127.0.0.1"), authorities=certificate, pause_s=0.01)
    site.serve("/image", body(CONTENTS))
    secure.serve("/image", body(CONTENTS))
    secure.serve("/back", redirect(site.url("/image")))
    assert target.fetch(site.serve("/up", redirect(secure.url("/image", "localhost"))), origins) == CONTENTS
    site.asked.clear()
    with pytest.raises(DownloadFailed, match="from https to http"):
        target.fetch(secure.url("/back", "localhost"), origins)
    assert site.asked == []


def test_a_connection_that_breaks_within_tls_is_taken_up_again(
    secure: WebSite, certificate: Path, target: Target
) -> None:
    secure.serve("/image", body(CONTENTS, breaks_after=MIB), body(CONTENTS))
    origins = Origins(("localhost",), authorities=certificate, pause_s=0.01)
    assert target.fetch(secure.url("/image", "localhost"), origins) == CONTENTS


# --- what breaks


@pytest.mark.parametrize(
    "validator",
    [pytest.param({"etag": '"1"'}, id="ETag"), pytest.param({"etag": None, "modified": DAY}, id="Last-Modified")],
)
def test_a_broken_connection_is_taken_up_where_it_broke(
    validator: dict[str, str | None], site: WebSite, target: Target
) -> None:
    breaks = body(CONTENTS, breaks_after=MIB, **validator)  # type: ignore[arg-type]
    assert target.fetch(site.serve("/image", breaks, breaks, breaks, breaks), HERE) == CONTENTS
    assert site.ranges() == [None, *(f"bytes={n * MIB}-" for n in (1, 2, 3))]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(body(CONTENTS, breaks_after=MIB, etag=None), id="no validator"),
        pytest.param(body(CONTENTS, breaks_after=MIB, etag='W/"1"'), id="weak validator"),
        pytest.param(body(CONTENTS[::-1], breaks_after=MIB, etag='"0"'), id="the file has changed since"),
        pytest.param(body(CONTENTS, breaks_after=MIB, ranges=False), id="server without ranges"),
    ],
)
def test_what_cannot_be_taken_up_is_begun_again(broken: Answer, site: WebSite, target: Target) -> None:
    assert target.fetch(site.serve("/image", broken, body(CONTENTS, ranges=False)), HERE) == CONTENTS
    assert len(site.asked) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(status(206, ("Content-Range", "bytes 0-9/10"), contents=bytes(10)), id="another place"),
        pytest.param(status(206, ("Content-Range", f"bytes {MIB}-9/{MIB + 10}")), id="another length"),
        pytest.param(status(206), id="no place"),
        pytest.param(
            status(206, ("Content-Range", f"bytes {MIB}-9/{len(CONTENTS)}"), ("ETag", '"2"')), id="another file"
        ),
        pytest.param(status(416), id="out of range"),
    ],
)
def test_a_wrong_rest_is_not_appended(wrong: Answer, site: WebSite, target: Target) -> None:
    url = site.serve("/image", body(CONTENTS, breaks_after=MIB), wrong, body(CONTENTS))
    assert target.fetch(url, HERE) == CONTENTS
    assert site.ranges() == [None, f"bytes={MIB}-", None]


def test_a_shorter_file_in_a_second_try_leaves_nothing_of_the_first(site: WebSite, target: Target) -> None:
    url = site.serve("/image", body(CONTENTS, breaks_after=2 * MIB), body(b"short", etag='"2"'))
    assert target.fetch(url, HERE) == b"short"


def test_less_than_was_announced_is_never_a_success(site: WebSite, target: Target) -> None:
    url = site.serve("/image", body(CONTENTS, length=len(CONTENTS) + 1, ranges=False))
    with pytest.raises(DownloadFailed, match="gave up after 5 tries: ") as failed:
        target.fetch(url, HERE)
    assert len(site.asked) == 5
    assert failed.value.facts == {"url": url, "bytes_done": len(CONTENTS)}


def test_a_chunked_answer_without_its_end_is_never_a_success(site: WebSite, target: Target) -> None:
    with pytest.raises(DownloadFailed, match="gave up after 5 tries"):
        target.fetch(site.serve("/image", chunked(CONTENTS, ends=False)), HERE)


def test_a_server_that_is_not_ready_is_asked_again(site: WebSite, target: Target) -> None:
    url = site.serve("/image", status(503), status(429), status(502), body(CONTENTS))
    assert target.fetch(url, HERE) == CONTENTS


def test_a_server_that_stays_unready_is_given_up(site: WebSite, target: Target) -> None:
    with pytest.raises(DownloadFailed, match="status 503") as failed:
        target.fetch(site.serve("/image", status(503)), HERE)
    assert failed.value.facts["status"] == 503


def test_progress_never_goes_back(site: WebSite, target: Target) -> None:
    """A server that has to begin again makes it stand still."""
    breaks = body(CONTENTS, breaks_after=2 * MIB, ranges=False)
    task = replace(target.job.task, bandwidth_bytes_s=4 * MIB)
    url = site.serve("/image", breaks, breaks, body(CONTENTS))
    fetching.fetch(url, target.descriptor, task, max_bytes=10 * MIB, origins=HERE)
    done = [done for done, _ in target.job.reports]
    assert done == sorted(done)
    assert target.contents() == CONTENTS


@pytest.mark.parametrize(
    "noise",
    [b"\0" * 4096, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n"],
)
def test_what_is_no_http_is_a_failed_download(noise: bytes, site: WebSite, target: Target) -> None:
    def answer(handler: Handler) -> None:
        handler.wfile.write(noise)

    with pytest.raises(DownloadFailed, match="gave up after 5 tries"):
        target.fetch(site.serve("/image", answer), HERE)


# --- what is refused


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(status(404), ImageNotFound, id="404"),
        pytest.param(status(410), ImageNotFound, id="410"),
        pytest.param(status(401), DownloadFailed, id="401"),
        pytest.param(status(204), DownloadFailed, id="204"),
        pytest.param(status(206, ("Content-Range", "bytes 0-1/2")), DownloadFailed, id="a part nobody asked for"),
        pytest.param(status(200, ("Content-Encoding", "gzip")), DownloadFailed, id="encoded"),
        pytest.param(lambda handler: handler.begin(200), DownloadFailed, id="no length"),
        pytest.param(
            lambda handler: handler.begin(200, ("Content-Length", "-5")), DownloadFailed, id="a length that is none"
        ),
        pytest.param(body(bytes(10 * MIB + 1)), ImageTooLarge, id="announced as too large"),
        pytest.param(chunked(bytes(11 * MIB)), ImageTooLarge, id="turns out too large"),
    ],
)
def test_a_useless_answer_is_refused_at_once(
    answer: Answer, error: type[AgentError], site: WebSite, target: Target
) -> None:
    with pytest.raises(error, match=r"^downloading http://127\.0\.0\.1:\d+/image: "):
        target.fetch(site.serve("/image", answer), HERE)
    assert len(site.asked) == 1
    assert len(target.contents()) <= 10 * MIB


def test_exactly_as_much_as_is_allowed_is_taken(site: WebSite, target: Target) -> None:
    assert target.fetch(site.serve("/image", body(CONTENTS)), HERE, len(CONTENTS)) == CONTENTS


@pytest.mark.parametrize("answer", [body(CONTENTS), chunked(CONTENTS)], ids=["announced", "turns out"])
def test_no_room_is_said_to_be_that(answer: Answer, site: WebSite, job: Watched) -> None:
    with small_disk(1) as disk, tempfile.TemporaryFile(dir=disk.path) as file:
        with pytest.raises(ScratchFull):
            Target(file.fileno(), job).fetch(site.serve("/image", answer), HERE)


def test_a_silent_server_stalls_the_download(site: WebSite, job: Watched, target: Target) -> None:
    """The connection is given up and made again meanwhile, since it may have been that."""
    url = site.serve("/image", silent_after(CONTENTS[:MIB], len(CONTENTS), threading.Event()), silence)
    with pytest.raises(CopyStalled, match="not a byte has moved"):
        fetching.fetch(url, target.descriptor, job.with_stall_timeout(2), max_bytes=10 * MIB, origins=HERE)


def test_a_silent_connection_is_made_again(site: WebSite, job: Watched, target: Target) -> None:
    url = site.serve("/image", silent_after(CONTENTS[:MIB], len(CONTENTS), threading.Event()), body(CONTENTS))
    fetching.fetch(url, target.descriptor, job.with_stall_timeout(6), max_bytes=10 * MIB, origins=HERE)
    assert target.contents() == CONTENTS
    assert site.ranges() == [None, f"bytes={MIB}-"]


def test_an_interrupt_ends_the_download(site: WebSite, target: Target) -> None:
    reached = threading.Event()
    url = site.serve("/image", silent_after(CONTENTS[:MIB], len(CONTENTS), reached))

    def cancel() -> None:
        reached.wait(10)
        target.job.interrupt.set(Cancelled("by its sender"))

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(Cancelled):
        target.fetch(url, HERE)
    thread.join()


def test_the_bandwidth_is_kept_to(site: WebSite, target: Target) -> None:
    """The child is given it; that its pace is held is a unit test of the clock."""
    task = replace(target.job.task, bandwidth_bytes_s=64 * MIB)
    url = site.serve("/image", body(CONTENTS))
    fetching.fetch(url, target.descriptor, task, max_bytes=10 * MIB, origins=HERE)
    assert target.contents() == CONTENTS
