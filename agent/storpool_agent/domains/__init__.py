# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Virtual machines and their disks. The only package that knows libvirt."""
