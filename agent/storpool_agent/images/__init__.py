# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Images of disks: looked into, copied, hashed, fetched. The only package that runs qemu-img and its relatives."""
