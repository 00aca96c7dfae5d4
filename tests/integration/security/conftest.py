# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One broker of these tests' own, provisioned as docs/security.md says: TLS, certificates, and storpool-ctl."""

from collections.abc import Iterator

import pytest

from integration.security.provisioned import Provisioned
from private_rabbit import private_rabbit


@pytest.fixture(scope="session")
def provisioned(run_directory: object, services: None) -> Iterator[Provisioned]:
    """Two hosts, two publishers, a reader of events, and who made the objects."""
    with private_rabbit() as broker:
        made = Provisioned(broker)
        made.users("administrator", "provisioner")
        made.objects("kvm1", "kvm2")
        made.users("host", "kvm1", "kvm2")
        made.users("publisher", "cloud", "backup")
        made.users("reader", "monitor")
        yield made
