# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""`make demo`: the agent's main job, end to end, with real parts and one line for each command."""
