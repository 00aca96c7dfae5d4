# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Send one command for somebody who waits, and say how it ended."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.text import Text

from storpool_commands import envelope, topology
from storpool_commands.client.cli import asking, bar, render
from storpool_commands.client.cli.sending import Sending
from storpool_commands.client.errors import CallError, CommandFailed, NoReply
from storpool_commands.client.request import Options, check_addressee, exchange_of
from storpool_commands.wire import CommandModel

SUCCESS, FAILED, USAGE, NO_REPLY, INTERRUPTED = 0, 1, 2, 3, 130

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def run(command: CommandModel[Any], sending: Sending, request_id: UUID, exchange: str | None) -> int:
    """Returns the exit status."""
    if sending.host is None:
        return complain("--host is needed", USAGE)
    try:
        reply = _reply(command, sending, request_id, exchange or exchange_of(command), sending.host)
    except CommandFailed as error:
        _print(error.reply, sending)
        return FAILED
    except CallError as error:
        status = complain(str(error), NO_REPLY)
        queried = isinstance(error, NoReply) and exchange_of(command) == topology.COMMANDS
        return _hint(sending, request_id, status) if queried else status
    except (ValueError, OSError) as error:
        return complain(str(error), USAGE)
    except KeyboardInterrupt:
        err.print("Interrupted. If the request was sent, the command goes on on the host.")
        return _hint(sending, request_id, INTERRUPTED)
    _print(reply, sending)
    return SUCCESS


def _reply(
    command: CommandModel[Any], sending: Sending, request_id: UUID, exchange: str, host: str
) -> envelope.Success:
    """Closing the client ends the call in the other thread, for which the pool then waits."""
    check_addressee(command, host, exchange)
    display = bar.display(err, quiet=bool(sending.quiet), json=bool(sending.json))
    with ThreadPoolExecutor(1, "storpool-ask") as pool, sending.client() as client, display as shown:
        options = _options(sending, request_id, shown)
        if not isinstance(shown, bar.Bar) or not asking.can_ask(command):
            return client.ask(command, host=host, exchange=exchange, **options)
        waiting = pool.submit(client.ask, command, host=host, exchange=exchange, **options)
        interruptions = asking.Interruptions(client, shown, err, request_id, host)
        return asking.reply_of(waiting, interruptions.one)


def complain(what: str, status: int) -> int:
    err.print(Text(render.plain(what), style="red"), soft_wrap=True)
    return status


def _options(sending: Sending, request_id: UUID, shown: bar.Bar | bar.Lines) -> Options:
    # Progress is always asked for: a request that is sent again with its id has to be the same.
    options = Options(request_id=request_id, on_progress=shown.show, deadline=sending.deadline)
    options["dry_run"] = bool(sending.dry_run)
    options["timeout_s"] = sending.timeout
    return options


def _print(reply: envelope.Success | envelope.Failure, sending: Sending) -> None:
    if sending.json:
        print(reply.model_dump_json(by_alias=True), flush=True)  # noqa: T201
    elif isinstance(reply, envelope.Success):
        render.success(out, reply)
    else:
        render.failure(err, reply)


def _hint(sending: Sending, request_id: UUID, status: int) -> int:
    if sending.host == topology.ANY_HOST:
        hint = f"Ask for it: the same command again with --id {request_id}; it is not done twice"
    else:
        hint = f"Ask for it: storpool-ctl query-command --host {sending.host} --id {request_id}"
    err.print(hint, soft_wrap=True)
    return status
