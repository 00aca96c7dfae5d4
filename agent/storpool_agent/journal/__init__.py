# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent must not forget: requests, replies, notes, generations, guests to wait for. The only SQLite here."""
