# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the development StorPool cannot do: answers that are no HTTP, heads that drip, too much of everything."""

import socket
from threading import Event
from time import monotonic, sleep

import pytest
from pydantic import SecretStr

from storpool_agent.deadline import Deadline
from storpool_agent.errors import StorPoolBadAnswer, StorPoolTimeout, StorPoolUnavailable
from storpool_agent.storpool import transport
from storpool_agent.storpool.cluster import Cluster
from storpool_agent.storpool.model import Attachment

from .stub import answering, serving

EMPTY = b'{"generation": 1, "data": []}'


def cluster(api: str) -> Cluster:
    return Cluster(api, SecretStr("secret"), 1, Event())


def test_a_head_that_drips_does_not_stretch_the_deadline() -> None:
    def drip(connection: socket.socket) -> None:
        for byte in b"HTTP/1.0 200 OK\r\nX-Header: " + b"x" * 1000:
            connection.sendall(bytes([byte]))
            sleep(0.02)

    with serving(drip) as api:
        began = monotonic()
        with pytest.raises(StorPoolTimeout):
            cluster(api).attachments(Deadline.after(0.5))
        assert monotonic() - began < 5


def test_what_is_no_http_is_no_answer() -> None:
    with (
        serving(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")) as api,
        pytest.raises(StorPoolTimeout, match="SSH"),
    ):
        cluster(api).attachments(Deadline.after(0.3))


def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER", 1000)
    with serving(answering(b"x" * 2000)) as api, pytest.raises(StorPoolBadAnswer, match="longer than 1000"):
        cluster(api).attachments(Deadline.after(0.3))


def test_an_answer_whose_end_is_missing_was_not_answered() -> None:
    def cut(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n" + EMPTY)

    with serving(cut) as api, pytest.raises(StorPoolTimeout, match="bytes of the answer are missing"):
        cluster(api).attachments(Deadline.after(0.3))


def test_chunks_and_an_answer_without_length_are_read() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(EMPTY), EMPTY)
    for answer in (chunked, b"HTTP/1.0 200 OK\r\n\r\n" + EMPTY):
        with serving(lambda connection, answer=answer: connection.sendall(answer)) as api:  # type: ignore[misc]
            assert cluster(api).attachments(Deadline.after(5)) == ()


def test_numbers_in_quotes_and_members_of_a_newer_storpool_are_read() -> None:
    body = b'{"data": [{"globalId": "d.n.a1", "client": "7", "rights": "ro", "snapshot": true, "new": {"x": 1}}]}'
    with serving(answering(body)) as api:
        assert cluster(api).attachments(Deadline.after(5)) == (Attachment("d.n.a1", 7, "ro", snapshot=True),)


def test_a_certificate_that_nobody_signed_is_refused_before_the_token_is_sent() -> None:
    received: list[bytes] = []
    with (
        serving(lambda connection: received.append(connection.recv(65536))) as api,
        pytest.raises(StorPoolUnavailable, match="cannot be reached at https://"),
    ):
        cluster(f"https://{api}").attachments(Deadline.after(0.3))
    assert b"secret" not in b"".join(received)


def test_nothing_is_sent_after_the_deadline() -> None:
    with serving(answering(EMPTY)) as api, pytest.raises(StorPoolUnavailable, match=r"no time|not sent"):
        cluster(api).wait_for_client(Deadline.after(0))


def test_whether_it_answered_the_last_time_can_be_asked() -> None:
    silent = cluster("127.0.0.1:1")
    assert silent.trouble is None, "it was not asked yet"
    with pytest.raises(StorPoolUnavailable):
        silent.attachments(Deadline.after(0.1))
    assert silent.trouble == "StorPool's API could not be reached at the last call"
    with serving(answering(EMPTY)) as api:
        there = cluster(api)
        there._api.last.note("storpool-timeout")
        assert list(there.attachments(Deadline.after(5))) == []
        assert there.trouble is None
