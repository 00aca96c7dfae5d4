# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Programs that images.hashing runs. They import a few of Python's own modules and each other, nothing else: no
site-packages are there."""

ALGORITHMS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
"""For whole files."""
