# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""StorPoolCreateTagsCmd, StorPoolDeleteTagsCmd, and the tags of attach and detach."""

from storpool_agent.attempt import Attempt
from storpool_agent.host import Host
from storpool_commands.tags import CreatedTags, DeletedTags, StorPoolCreateTags, StorPoolDeleteTags


def create(command: StorPoolCreateTags, host: Host, attempt: Attempt) -> CreatedTags:
    """Set tags on all volumes."""
    raise NotImplementedError


def delete(command: StorPoolDeleteTags, host: Host, attempt: Attempt) -> DeletedTags:
    """Remove tags from all volumes."""
    raise NotImplementedError
