# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""oslo.messaging's RPC server with one method. Runs in a venv of its own; arguments: the broker's URL, the server."""

import sys

import oslo_messaging  # type: ignore[import-not-found]
from oslo_config import cfg  # type: ignore[import-not-found]

REPLY = {"host": "oslo", "version": "0.1.0", "time": "2026-01-01T00:00:00.000000Z"}


class Endpoint:
    target = oslo_messaging.Target(version="1.0")

    def ping(self, _context: object) -> dict[str, str]:
        return REPLY


def main() -> None:
    url, name = sys.argv[1:]
    conf = cfg.CONF
    conf([])
    transport = oslo_messaging.get_rpc_transport(conf, url=url)
    target = oslo_messaging.Target(topic="bench", server=name)
    server = oslo_messaging.get_rpc_server(transport, target, [Endpoint()], executor="threading")
    server.start()
    print("{}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
