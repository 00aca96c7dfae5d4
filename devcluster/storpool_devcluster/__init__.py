# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A development StorPool: the JSON API over HTTP, with real block devices."""
