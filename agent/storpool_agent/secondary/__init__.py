# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Secondary storage: mounted while it is needed, and the files on it. The only package that mounts anything."""
