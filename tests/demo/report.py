# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the reader of the demo gets to see."""

import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from demo.stage import Stage, cluster_id, vhost
from demo.tap import Message
from storpool_commands import topology

ABOUT = """\
A management plane publishes JSON to RabbitMQ; the agent of this host does what it says, and answers.
[dim]All is real but the StorPool cluster, a development one: broker, block devices, udev, libvirt, QEMU and its guest.
Each row is a command; what StorPool, the host and the guest say was asked after its reply. ms: published -> reply.[/]
"""

LOG_LINES = 12
LEVELS = {"debug": "dim", "info": "green", "warning": "yellow", "error": "red"}
SHOWN_COMMAND = "attachDisk"

WHERE_NEXT = {
    "README.md": "publish such a message yourself, with any AMQP client",
    "docs/protocol.md": "every exchange, queue, command and reply",
    "docs/operating.md": "from a bare host to the first volume; log events; error codes",
    "agent/storpool_agent/handlers/": "what each command does, one short story each",
    "make test": "the same with everything that can go wrong",
}


def opening(console: Console, name: str) -> None:
    console.print(ABOUT)
    console.print(f"[dim]starting: vhost {vhost(name)}, cluster {cluster_id(name)}[/]\n")


class Rows:
    """A table whose rows appear as they happen, on a terminal and in a pipe alike."""

    COLUMNS = (("command", 33, "left"), ("StorPool", 25, "left"), ("host", 18, "left"), ("guest", 30, "left"))
    MS_WIDTH = 7

    def __init__(self, console: Console) -> None:
        self._console = console

    def begin(self) -> None:
        self._print([f"[bold]{title}[/]" for title, *_ in self.COLUMNS], "[bold]ms[/]")
        self._rule()

    def add(self, command: str, storpool: str, host: str, guest: str, took_ms: float) -> None:
        """A command; the milliseconds are from publishing it to having its reply."""
        self._print([command, storpool, host, guest], f"{took_ms:.0f}")

    def event(self, what: str, guest: str, took_ms: float) -> None:
        """Something that the guest did."""
        self._print([f"[italic]{what}[/]", "", "", guest], f"[dim]{took_ms:.0f}[/]")

    def end(self) -> None:
        self._rule()

    def _rule(self) -> None:
        widths = [width for _, width, _ in self.COLUMNS]
        self._console.print("[dim]" + "─" * (sum(widths) + self.MS_WIDTH + 2 * len(widths)) + "[/]")

    def _print(self, cells: list[str], took: str) -> None:
        row = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for _, width, _ in self.COLUMNS:
            row.add_column(width=width)
        row.add_column(width=self.MS_WIDTH, justify="right")
        row.add_row(*cells, took)
        self._console.print(row)


def agent_log(console: Console, stage: Stage) -> None:
    """The last lines, as `journalctl -u storpool-agent` would have them, made readable."""
    events = stage.stack.agent.events()
    console.print(f"\n[bold]the agent's log[/] [dim](the last {LOG_LINES} of {len(events)} events)[/]")
    for event in events[-LOG_LINES:]:
        console.print(_log_line(event), soft_wrap=True)


def one_exchange(console: Console, stage: Stage) -> None:
    """One request and its reply, as they went over the bus."""
    seen = stage.tap.messages()
    request = next(one for one in seen if one.body.get("body", {}).get("command") == SHOWN_COMMAND)
    reply = next(one for one in seen if one.exchange == topology.REPLIES and one.body["id"] == request.body["id"])
    _message(console, "a request", request)
    _message(console, "its reply", reply)


def where_next(console: Console) -> None:
    console.print("\n[bold]where to look next[/]")
    for place, what in WHERE_NEXT.items():
        console.print(f"  [cyan]{place:<32}[/] {what}")


def _message(console: Console, title: str, message: Message) -> None:
    properties = f", reply_to {message.reply_to}" if message.reply_to else ""
    console.print(
        f"\n[bold]{title}[/] [dim]exchange {message.exchange}, routing key {message.routing_key}{properties}[/]"
    )
    console.print(Syntax(json.dumps(message.body, indent=2), "json", background_color="default", word_wrap=True))


def _log_line(event: dict[str, Any]) -> str:
    rest = {key: value for key, value in event.items() if key not in {"timestamp", "level", "event"}}
    words = " ".join(f"[dim]{key}=[/]{escape(str(value))}" for key, value in rest.items())
    time = str(event["timestamp"])[11:23]
    level = str(event["level"])
    return (
        f"[dim]{time}[/] [{LEVELS.get(level, 'red')}]{level:<7}[/] [bold]{escape(str(event['event'])):<18}[/] {words}"
    )
