# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The broker, made ready: exchanges and queues by AMQP, users and what they may by rabbitmqctl."""
