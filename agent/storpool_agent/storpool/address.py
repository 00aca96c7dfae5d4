# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where a StorPool API is served."""

from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_PORT = 81  # of StorPool's own API, which speaks no TLS; https is for a proxy before it
HTTPS_PORT = 443


@dataclass(frozen=True)
class Address:
    """Host, port, and whether to speak TLS."""

    host: str
    port: int
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `host`, `host:port` or an http(s) URL without a path. Raises ValueError."""
        url = urlsplit(text if "://" in text else f"http://{text}")
        extra = url.path.strip("/") or url.query or url.fragment or "@" in url.netloc
        if url.scheme not in ("http", "https") or not url.hostname or extra:
            raise ValueError("the address of a StorPool API is host:port, http://host:port or https://host:port")
        tls = url.scheme == "https"
        return cls(url.hostname, url.port or (HTTPS_PORT if tls else DEFAULT_PORT), tls)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}" if self.tls else f"{host}:{self.port}"
