# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One GET of an http(s) URL, through its redirects. Neither proxies nor cookies nor credentials take part."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from storpool_agent.images.foreign.addresses import Allowed
from storpool_agent.images.foreign.reply import Code, Refusal

MAX_REDIRECTS = 5
CONNECT_TIMEOUT_S = 10.0
REDIRECTS = {301, 302, 303, 307, 308}
GONE = {404, 410}
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""The server, or the proxy before it, may do better in a while."""
GOOD = {200, 206, 416}
PORTS = {"http": 80, "https": 443}


class Broken(Exception):
    """Another try may succeed: a connection that cannot be made or has ended, a server that is not ready."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Web:
    allowed: Allowed
    context: ssl.SSLContext
    read_timeout_s: float
    """Of each wait for bytes."""

    def get(self, url: str, headers: Mapping[str, str]) -> BaseHTTPResponse:
        """An answer of GOOD status, to be read and closed. Raises Broken, and Refusal for all that will not change."""
        for _ in range(MAX_REDIRECTS + 1):
            response = self._request(_checked(url), headers)
            if response.status in GOOD:
                return response
            response.close()
            if response.status not in REDIRECTS:
                raise _failure(url, response.status)
            url = _redirected(url, response.headers.get("Location", ""))
        raise Refusal("download-failed", f"{shown(url)}: more than {MAX_REDIRECTS} redirects", url=shown(url))

    def _request(self, url: SplitResult, headers: Mapping[str, str]) -> BaseHTTPResponse:
        host, port = url.hostname or "", url.port or PORTS[url.scheme]
        try:
            addresses = self.allowed.addresses(host, port)
        except OSError as error:
            raise Broken(f"{host} cannot be resolved: {error.strerror}") from error
        except UnicodeError:
            raise Refusal("download-failed", f"{host} cannot be the name of a host") from None
        broken = Broken(f"{host} has no address")
        for address in addresses:
            try:
                return self._send(self._pool(url.scheme, address, port, host), url, headers)
            except HTTPError as error:
                broken = _broken(error, f"{host} ({address} port {port})")
        raise broken

    def _pool(self, scheme: str, address: str, port: int, host: str) -> urllib3.HTTPConnectionPool:
        """To the address that was judged; the certificate has to be for the name."""
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=self.read_timeout_s)
        if scheme == "http":
            return urllib3.HTTPConnectionPool(address, port, timeout=timeout, maxsize=1)
        return urllib3.HTTPSConnectionPool(
            address,
            port,
            timeout=timeout,
            maxsize=1,
            cert_reqs="CERT_REQUIRED",
            ssl_context=self.context,
            server_hostname=host,
        )

    @staticmethod
    def _send(pool: urllib3.HTTPConnectionPool, url: SplitResult, headers: Mapping[str, str]) -> BaseHTTPResponse:
        """`identity`, because it is the file that is wanted, and its bytes that ranges and checksums count."""
        return pool.urlopen(
            "GET",
            (url.path or "/") + (f"?{url.query}" if url.query else ""),
            headers={"Host": url.netloc, "Accept-Encoding": "identity", "User-Agent": "storpool-agent", **headers},
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
        )


def shown(url: str) -> str:
    """For messages. A query may carry a signature that lets everybody in."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _checked(url: str) -> SplitResult:
    """A server may redirect to anything."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in PORTS and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        raise Refusal("download-failed", "the server redirects to what is no URL") from None
    if not good or "@" in parts.netloc or not (url.isascii() and url.isprintable() and " " not in url):
        raise Refusal("download-failed", f"{shown(url)!r} is no http(s) URL that can be fetched")
    return parts


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
        down = urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http"
    except ValueError:
        target, down = "", False
    if not location or not target:
        raise Refusal("download-failed", f"{shown(url)} redirects to nowhere", url=shown(url))
    if down:
        raise Refusal(
            "download-failed",
            f"{shown(url)} redirects from https to http, which anybody on the way can change",
            url=shown(url),
        )
    return target


def _failure(url: str, status: int) -> Exception:
    message = f"{shown(url)} answers with status {status}"
    if status in PASSING:
        return Broken(message, status)
    code: Code = "image-not-found" if status in GONE else "download-failed"
    return Refusal(code, message, url=shown(url), status=status)


def _broken(error: HTTPError, server: str) -> Broken:
    """Raises Refusal for a certificate that is not trusted: it will not be next time either."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise Refusal(
                "download-failed", f"{server}: its certificate is not trusted: {cause.verify_message}"
            ) from error
    return Broken(f"{server}: {reason(error)}")


def reason(error: BaseException) -> str:
    """In few words: urllib3 wraps the error of the operating system, whose text is the useful one."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if isinstance(cause, TimeoutError):
            return "nothing came for too long"
    return str(error.args[-1]) if error.args and isinstance(error.args[-1], str) else type(error).__name__


def _causes(error: BaseException) -> "list[BaseException]":
    """From the innermost."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    return causes[::-1]
