# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""oslo.messaging's RPC client: a thread for each outstanding call. Runs in a venv of its own.

Arguments: the broker's URL, the server's name. Each line in is a job: `repeat` calls, `window` outstanding.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import oslo_messaging  # type: ignore[import-not-found]
from oslo_config import cfg  # type: ignore[import-not-found]


def main() -> None:
    url, name = sys.argv[1:]
    conf = cfg.CONF
    conf([])
    transport = oslo_messaging.get_rpc_transport(conf, url=url)
    client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="bench", server=name, version="1.0"))

    def call(_number: int) -> float:
        started = perf_counter()
        client.call({}, "ping")
        return (perf_counter() - started) * 1000

    call(0)
    print("{}", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        with ThreadPoolExecutor(job["window"]) as pool:
            started = perf_counter()
            latencies_ms = list(pool.map(call, range(job["repeat"])))
            elapsed_s = perf_counter() - started
        print(json.dumps({"elapsed_s": elapsed_s, "latencies_ms": latencies_ms, "failures": []}), flush=True)


if __name__ == "__main__":
    main()
