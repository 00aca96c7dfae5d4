# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is in the packages, and what they ask for."""

from package.packages import Package, output

CONFIG = "/etc/storpool-agent/agent.toml"
DOCUMENTS = ("/usr/share/doc/", "/usr/share/licenses/", "/usr/share/lintian/")


def test_lintian_finds_no_error(agent_deb: Package, ctl_deb: Package) -> None:
    output("lintian", "--fail-on", "error", "--allow-root", agent_deb.file, ctl_deb.file)


def test_the_settings_are_all_that_an_admin_edits(agent_deb: Package, agent_rpm: Package) -> None:
    assert output("dpkg-deb", "--info", agent_deb.file, "conffiles") == f"{CONFIG}\n"
    assert output("rpm", "--query", "--configfiles", "--package", agent_rpm.file) == f"{CONFIG}\n"


def test_both_formats_have_the_same_in_them(
    agent_deb: Package, ctl_deb: Package, agent_rpm: Package, ctl_rpm: Package
) -> None:
    assert files_of_deb(agent_deb) ^ files_of_rpm(agent_rpm) == set()
    assert files_of_deb(ctl_deb) ^ files_of_rpm(ctl_rpm) == set()


def test_they_ask_for_the_python_and_the_libvirt_that_they_were_made_for(
    agent_deb: Package, agent_rpm: Package
) -> None:
    depends = output("dpkg-deb", "--field", agent_deb.file, "Depends")
    assert {"libvirt0", "python3.11", "qemu-utils", "libudev1"} <= {each.split()[0] for each in depends.split(",")}
    requires = output("rpm", "--query", "--requires", "--package", agent_rpm.file)
    assert {"/usr/bin/python3.11", "qemu-img"} <= set(requires.splitlines())
    assert "libvirt.so.0" in requires


def test_the_command_line_needs_no_libvirt(ctl_deb: Package, ctl_rpm: Package) -> None:
    assert "libvirt" not in output("dpkg-deb", "--field", ctl_deb.file, "Depends")
    assert "libvirt" not in output("rpm", "--query", "--requires", "--package", ctl_rpm.file)


def files_of_deb(package: Package) -> set[str]:
    listed = output("sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar --list', "sh", package.file)
    return {common(line.removeprefix(".")) for line in listed.splitlines() if not line.endswith("/")} - {""}


def files_of_rpm(package: Package) -> set[str]:
    names = "[%{FILEMODES:perms} %{FILENAMES}\n]"
    listed = output("rpm", "--query", "--queryformat", names, "--package", package.file)
    return {common(line.split(" ", 1)[1]) for line in listed.splitlines() if not line.startswith("d")} - {""}


def common(path: str) -> str:
    """The path as both formats have it; nothing for what each keeps in its own way."""
    if path.startswith(DOCUMENTS):
        return ""
    return path.removesuffix(".gz").removeprefix("/usr") if "/systemd/" in path else path.removesuffix(".gz")
