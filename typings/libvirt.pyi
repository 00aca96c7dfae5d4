# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
VIR_CONNECT_LIST_DOMAINS_ACTIVE: int
VIR_DOMAIN_XML_INACTIVE: int

class virDomain:  # noqa: N801
    def UUIDString(self) -> str: ...  # noqa: N802
    def XMLDesc(self, flags: int = 0) -> str: ...  # noqa: N802
    def attachDevice(self, xml: str) -> int: ...  # noqa: N802
    def blockResize(self, disk: str, size: int, flags: int = 0) -> int: ...  # noqa: N802
    def create(self) -> int: ...
    def destroy(self) -> int: ...
    def detachDevice(self, xml: str) -> int: ...  # noqa: N802
    def isActive(self) -> int: ...  # noqa: N802
    def isPersistent(self) -> int: ...  # noqa: N802
    def reset(self, flags: int = 0) -> int: ...
    def resume(self) -> int: ...
    def suspend(self) -> int: ...
    def undefine(self) -> int: ...

class virConnect:  # noqa: N801
    def close(self) -> int: ...
    def createXML(self, xml: str, flags: int = 0) -> virDomain: ...  # noqa: N802
    def defineXML(self, xml: str) -> virDomain: ...  # noqa: N802
    def listAllDomains(self, flags: int = 0) -> list[virDomain]: ...  # noqa: N802

def open(name: str | None = None) -> virConnect: ...  # noqa: A001
