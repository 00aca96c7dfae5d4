# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""StorPool's errors by name, as the agent's."""

import pytest

from storpool_agent import errors
from storpool_agent.errors import AgentError
from storpool_agent.storpool import refusals
from storpool_agent.storpool.model import NewVolume, Volume
from storpool_agent.storpool.refusals import Refusal, Refused
from storpool_commands.references import Reference

VOLUME = Volume("a.b.c", "vm-1", 512, snapshot=False)
SNAPSHOT = Volume("a.b.d", "~a.b.d", 512, snapshot=True)
OPEN = "'vm-1' is open at client 19"


def refusal(name: str, descr: str = "because", *, status: int = 500, transient: bool = False) -> Refusal:
    return Refusal(Refused("sp:81", "MultiCluster/X", status, name, descr, transient))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            refusals.of_lookup(refusal("objectDoesNotExist"), Reference("id", "a.b.c"), snapshot=False),
            "VolumeNotFound",
        ),
        (refusals.of_attach(refusal("objectDoesNotExist"), SNAPSHOT, 1), "SnapshotNotFound"),
        (refusals.of_attach(refusal("invalidParam", "No such client registered"), VOLUME, 1), "ClientNotRegistered"),
        (refusals.of_attach(refusal("invalidParam", "no free slot"), VOLUME, 1), "NoAttachmentSlot"),
        (refusals.of_attach(refusal("busy", OPEN), VOLUME, 1), "VolumeBusy"),
        (refusals.of_attach(refusal("timeout"), VOLUME, 1), "StorPoolClientDown"),
        (refusals.of_detach(refusal("busy", OPEN), VOLUME, 1), "VolumeBusy"),
        (refusals.of_detach(refusal("invalidParam", OPEN), VOLUME, 1), "VolumeBusy"),
        (refusals.of_detach(refusal("invalidParam"), VOLUME, 1), "StorPoolRefused"),
        (refusals.of_create(refusal("objectDoesNotExist"), NewVolume(512, "t")), "TemplateNotFound"),
        (refusals.of_create(refusal("objectExists"), NewVolume(512, "t", name="x")), "NameTaken"),
        (refusals.of_create(refusal("insufficientResources"), NewVolume(512, "t")), "InsufficientResources"),
        (refusals.of_update(refusal("insufficientResources"), VOLUME, None), "InsufficientResources"),
        (refusals.of_update(refusal("objectDoesNotExist"), VOLUME, None), "VolumeNotFound"),
        (refusals.of_update(refusal("objectDoesNotExist"), VOLUME, "t"), "TemplateNotFound"),
        (refusals.of_update(refusal("invalidParam"), VOLUME, None), "StorPoolRefused"),
        (refusals.of_delete(refusal("busy"), VOLUME), "VolumeBusy"),
        (refusals.of_delete(refusal("busy", "'x' is still exported to far"), SNAPSHOT), "StillExported"),
        (refusals.of_create(refusal("objectDoesNotExist"), NewVolume(512, None)), "StorPoolRefused"),
        (refusals.of_snapshot(refusal("objectDoesNotExist"), VOLUME, None), "VolumeNotFound"),
        (refusals.of_snapshot(refusal("objectExists"), VOLUME, "x"), "NameTaken"),
        (refusals.of_snapshot(refusal("insufficientResources"), VOLUME, None), "InsufficientResources"),
        (refusals.of_group_snapshot(refusal("insufficientResources"), [VOLUME]), "InsufficientResources"),
        (refusals.of_group_snapshot(refusal("invalidParam"), [VOLUME]), "StorPoolRefused"),
        (refusals.of_revert(refusal("busy", OPEN), VOLUME, SNAPSHOT), "VolumeBusy"),
        (refusals.of_revert(refusal("invalidParam"), VOLUME, SNAPSHOT), "StorPoolRefused"),
        (refusals.of_release(refusal("busy", OPEN), [SNAPSHOT, VOLUME]), "VolumeBusy"),
        (refusals.of_release(refusal("timeout"), [VOLUME]), "StorPoolClientDown"),
        (refusals.of_release(refusal("invalidParam"), [VOLUME]), "StorPoolRefused"),
        (refusals.of_client(refusal("timeout"), 1), "StorPoolClientDown"),
    ],
)
def test_an_error_says_what_storpool_said(error: AgentError, expected: str) -> None:
    assert type(error) is getattr(errors, expected)
    assert {"api", "query", "error", "descr"} <= error.facts.keys()
    assert str(error.facts["descr"]) in str(error)


def test_a_busy_volume_names_the_client_that_has_it_open() -> None:
    error = refusals.of_detach(refusal("busy", OPEN), VOLUME, 1)
    assert (error.facts["client"], error.facts["volume"]) == (19, "a.b.c")


def test_of_several_volumes_the_one_that_is_open_is_named() -> None:
    error = refusals.of_release(refusal("busy", OPEN), [SNAPSHOT, VOLUME])
    assert (error.facts["client"], error.facts["volume"]) == (19, "a.b.c")


def test_some_errors_mean_the_same_whatever_the_call() -> None:
    unavailable = refusals.of_any_call(refusal("busy", transient=True))
    assert isinstance(unavailable, errors.StorPoolUnavailable)
    assert unavailable.facts["transient"] is True
    assert isinstance(refusals.of_any_call(refusal("whatever", status=403)), errors.StorPoolUnauthorized)
    assert isinstance(refusals.of_any_call(refusal("unauthorized")), errors.StorPoolUnauthorized)
    assert refusals.of_any_call(refusal("busy")) is None
