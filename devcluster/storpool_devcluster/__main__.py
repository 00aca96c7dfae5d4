# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m storpool_devcluster`."""

from storpool_devcluster.cli import main

main(prog_name="storpool-devcluster")
