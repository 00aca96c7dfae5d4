# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Authorities and certificates for tests, made by openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

OPENSSL_TIMEOUT_S = 60.0
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
LIFE_DAYS = 2
EXPIRED = -1
"""Days of life of a certificate that ended yesterday."""


@dataclass(frozen=True)
class Certificate:
    """With its key, which is for its owner alone."""

    cert: Path
    key: Path

    def put_over(self, other: "Certificate") -> None:
        """As a renewal does it: the same paths, other contents."""
        for mine, theirs in ((self.cert, other.cert), (self.key, other.key)):
            fresh = theirs.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_bytes(mine.read_bytes())
            fresh.replace(theirs)


class Authority:
    """Signs certificates. Each has a directory of its own."""

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir()
        self._directory = directory
        self.cert = directory / "ca.pem"
        self._key = directory / "ca.key"
        _openssl("req", "-x509", *KEY, "-days", str(LIFE_DAYS), "-subj", f"/CN={name}", *self._files("ca"))

    def issue(
        self, common_name: str, *, file: str | None = None, address: str | None = None, days: int = 2
    ) -> Certificate:
        """`address` such as `IP:127.0.0.1`: a server's; `file` names the files where the common name does not."""
        name = file or common_name
        request, extensions = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        made = Certificate(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        extensions.write_text(f"subjectAltName={address}\n" if address else "extendedKeyUsage=clientAuth\n")
        _openssl("req", *KEY, "-subj", f"/CN={common_name}", "-keyout", str(made.key), "-out", str(request))
        signer = ["-CA", str(self.cert), "-CAkey", str(self._key), "-CAcreateserial", "-days", str(days)]
        _openssl("x509", "-req", "-in", str(request), *signer, "-extfile", str(extensions), "-out", str(made.cert))
        made.key.chmod(0o600)
        return made

    def _files(self, name: str) -> list[str]:
        return ["-keyout", str(self._directory / f"{name}.key"), "-out", str(self._directory / f"{name}.pem")]


def _openssl(*arguments: str) -> None:
    done = subprocess.run(
        ["openssl", *arguments], capture_output=True, text=True, check=False, timeout=OPENSSL_TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
