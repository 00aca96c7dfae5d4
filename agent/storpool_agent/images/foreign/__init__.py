# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Programs that touch what strangers have made: images, packed files, web servers. Each runs as a child of the agent,
imports little, and nothing of the agent but this package."""
