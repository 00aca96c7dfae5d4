# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The daemon on each KVM host, and the admin's CLI beside it."""
