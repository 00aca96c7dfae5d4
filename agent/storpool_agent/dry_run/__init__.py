# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A host that lets itself be looked at, and takes every change for made without making it.

A handler that runs on it makes its checks on what is really there. What it would have changed is remembered for the
length of the request, so that its later looks see it.
"""
