# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""An audit that could not be made is not one that found nothing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[3] / "scripts" / "audit"
FINDS_NOTHING = "exit 0"
FINDS_SOMETHING = 'while [ "$1" != --output ]; do shift; done; echo "pika 1.0 CVE-2026-1" >"$2"; exit 1'
REACHES_NOTHING = "echo 'no such host' >&2; exit 1"
AUDIT_TIMEOUT_S = 30.0


def audited(directory: Path, pip_audit: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script, over a pip-audit that does this."""
    scripts = directory / "scripts"
    scripts.mkdir()
    shutil.copy(AUDIT, scripts)
    for name, body in (("release-tools", f"echo {directory}"), ("../pip-audit", pip_audit)):
        program = scripts / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    return subprocess.run(
        [scripts / "audit"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=AUDIT_TIMEOUT_S,
    )


@pytest.mark.parametrize(
    ("pip_audit", "offline", "status", "says"),
    [
        pytest.param(FINDS_NOTHING, "", 0, "no known vulnerability", id="nothing known"),
        pytest.param(FINDS_SOMETHING, "", 1, "CVE-2026-1", id="something known"),
        pytest.param(FINDS_SOMETHING, "1", 1, "CVE-2026-1", id="something known, whatever is passed over"),
        pytest.param(REACHES_NOTHING, "", 2, "NOT DONE, the database", id="nobody to ask"),
        pytest.param(REACHES_NOTHING, "1", 0, "NOT DONE, the database", id="nobody to ask, as one knows"),
    ],
)
def test_how_an_audit_ends(tmp_path: Path, pip_audit: str, offline: str, status: int, says: str) -> None:
    done = audited(tmp_path, pip_audit, OFFLINE=offline)
    assert done.returncode == status
    assert says in done.stdout + done.stderr
