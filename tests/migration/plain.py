# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A migration by libvirt alone: what the tests of the agents rely on is proven without them."""

import libvirt

from kvm_host import KvmHost
from traveller import Traveller

FLAGS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
)


def migrate(guest: Traveller, destination: KvmHost) -> None:
    """As a source's agent has its libvirtd do it; the volumes are attached to both hosts."""
    parameters: dict[str, str | int] = {libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{destination.address}"}
    guest.domain.migrateToURI3(destination.uri, parameters, FLAGS)
