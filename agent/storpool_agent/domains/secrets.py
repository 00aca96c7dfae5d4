# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""libvirt's secrets: what it opens an encrypted disk with.

Ephemeral: libvirt keeps them in memory alone, so that they are gone when its daemon is restarted. Private: nobody can
read them back. A running machine needs none; its next start does, and a migration at its destination.
"""

from xml.etree.ElementTree import Element, SubElement, tostring

import libvirt
from pydantic import SecretBytes

from storpool_agent.domains.model import secret_uuid


def put(connection: libvirt.virConnect, global_id: str, path: str, passphrase: SecretBytes) -> None:
    """The same again is a success; another passphrase replaces the one that is there."""
    uuid = secret_uuid(global_id)
    present = _find(connection, uuid)
    if present is not None and present.usageID() != path:  # libvirt changes the usage of none
        present.undefine()
        present = None
    secret = connection.secretDefineXML(_element(uuid, path)) if present is None else present
    secret.setValue(passphrase.get_secret_value())


def remove(connection: libvirt.virConnect, global_id: str) -> None:
    """None such is a success."""
    found = _find(connection, secret_uuid(global_id))
    if found is not None:
        found.undefine()


def _find(connection: libvirt.virConnect, uuid: str) -> libvirt.virSecret | None:
    try:
        return connection.secretLookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SECRET:
            return None
        raise


def _element(uuid: str, path: str) -> str:
    root = Element("secret", ephemeral="yes", private="yes")
    SubElement(root, "uuid").text = uuid
    SubElement(root, "description").text = "a volume's passphrase, by storpool-agent"
    usage = SubElement(root, "usage", type="volume")
    SubElement(usage, "volume").text = path
    return tostring(root, encoding="unicode")
