# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Packages as files."""

import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    file: Path

    @classmethod
    def find(cls, name: str, suffix: str) -> "Package":
        """That of the present version in dist."""
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        found = list(DIST.glob(f"{name}[-_]{version}[-_]*{suffix}"))
        assert len(found) == 1, f"make {suffix[1:]} first: {found}"
        return cls(name, version, found[0])


def output(*argv: str | Path) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{argv[0]}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def relabelled(package: Package, version: str, directory: Path) -> Package:
    """A Debian package of the same program that says it is of another version, with another comment in its settings."""
    tree = directory / f"{package.name}-{version}"
    output("dpkg-deb", "--raw-extract", package.file, tree)
    [metadata] = tree.glob("opt/*/lib/python3.*/site-packages/storpool_agent-*.dist-info/METADATA")
    _replace(tree / "DEBIAN" / "control", f"Version: {package.version}-1", f"Version: {version}-1")
    _replace(metadata, f"Version: {package.version}", f"Version: {version}")
    with (tree / "etc" / "storpool-agent" / "agent.toml").open("a") as settings:
        settings.write(f"# Thus in {version}.\n")
    file = directory / f"{package.name}_{version}.deb"
    output("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, file)
    return Package(package.name, version, file)


def _replace(file: Path, line: str, other: str) -> None:
    text = file.read_text()
    assert text.count(f"\n{line}\n") == 1, (file, line)
    file.write_text(text.replace(f"\n{line}\n", f"\n{other}\n"))
