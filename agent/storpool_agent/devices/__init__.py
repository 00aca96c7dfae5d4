# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Device nodes under /dev/storpool. The only package that knows udev."""
