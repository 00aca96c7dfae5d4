# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The StorPool cluster, through its JSON API. The only package that speaks HTTP."""
