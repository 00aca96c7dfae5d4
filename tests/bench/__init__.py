# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent costs over bare floors and peers. Ratios are to be read, not milliseconds."""
