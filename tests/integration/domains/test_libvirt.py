# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""libvirt's machines keep the contract that the fake ones are held to."""

import pytest

from domains_contract import DomainsContract

pytestmark = pytest.mark.long


class TestHypervisor(DomainsContract):
    pass
