# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m storpool_agent`."""

from storpool_agent.cli import main

main()
