# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""storpool-ctl: one subcommand for every command of the wire, made from its model."""

from storpool_commands.client.cli.app import main

__all__ = ["main"]
