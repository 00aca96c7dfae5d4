# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Fired fault actions, sorted by what they touch: the devices, the answer, or all calls for a while."""

from collections.abc import Iterable
from dataclasses import replace

from storpool_devcluster import fault_actions as act
from storpool_devcluster.effects import Effects
from storpool_devcluster.server import Dripped, Lost, Reply, Truncated, Withheld


def on_devices(actions: Iterable[act.Action]) -> Effects:
    effects = Effects()
    for action in actions:
        match action:
            case act.StaleGeneration():
                effects = replace(effects, config_lag_s=action.seconds)
            case act.LateLink():
                effects = replace(effects, link_delay_s=action.seconds)
            case act.WrongLink():
                effects = replace(effects, wrong_link_s=action.seconds)
            case act.LateCapacity():
                effects = replace(effects, capacity_delay_s=action.seconds)
            case act.ReadOnly():
                effects = replace(effects, read_only=True)
            case act.LostLink():
                effects = replace(effects, link_lost_after_s=action.after_s)
            case act.DeviceErrors():
                effects = replace(effects, device_errors_after_s=action.after_s)
            case _:
                pass
    return effects


def on_answer(actions: Iterable[act.Action], reply: Reply) -> Reply:
    for action in actions:
        match action:
            case act.Hang():
                reply = replace(reply, delivery=Withheld())
            case act.ResetAfter():
                reply = replace(reply, delivery=Lost(reset=True))
            case act.CloseAfter():
                reply = replace(reply, delivery=Lost())
            case act.TruncateBody():
                reply = replace(reply, delivery=Truncated(action.bytes))
            case act.Drip():
                reply = replace(reply, delivery=Dripped(action.bytes_per_s))
            case act.Raw():
                reply = Reply(action.status, action.body.encode(), reply.delivery, action.content_type)
            case _:
                pass
    return reply


def is_unprocessed(action: act.Action) -> bool:
    return isinstance(action, act.Hang | act.Raw) and not action.processed
