# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""An image as QEMU's programs are told of it: by descriptor, with every driver named, so that nothing is guessed.

A source is a `json:` pseudo-filename, because only there can the backing file of a qcow2 be said to be none; the
programs take it wherever they take a file's name. A target is a list of options (--target-image-opts), which can
carry the throttling filter.
"""

import json
import os

from storpool_agent.images.model import Image

THROTTLE_GROUP = "limit"
KEY = "key"
"""The object that holds a passphrase. A command has one at most."""


def path(image: Image) -> str:
    """Names an open file, in every process that has inherited it under its number."""
    return f"/proc/self/fd/{image.descriptor}"


def source(image: Image) -> str:
    """Whatever its header says of a backing file, none is opened: what is not in the image itself reads as zeroes."""
    node: dict[str, object] = {
        "driver": _driver(image),
        "file": {"driver": _protocol(image), "filename": path(image)},
    }
    if image.luks is not None:
        node["key-secret"] = KEY
    if image.format == "qcow2":
        node["backing"] = None
    return f"json:{json.dumps(node, separators=(',', ':'))}"


def target(image: Image, *, limited: bool) -> str:
    """With `limited`, what is written to the file itself goes through THROTTLE_GROUP."""
    options: dict[str, str] = {"driver": _driver(image)}
    if image.luks is not None:
        options["key-secret"] = KEY
    below = "file."
    if limited:
        options |= {"file.driver": "throttle", "file.throttle-group": THROTTLE_GROUP}
        below = "file.file."
    options |= {f"{below}driver": _protocol(image), f"{below}filename": path(image)}
    return ",".join(f"{name}={value}" for name, value in options.items())


def objects(*images: Image) -> tuple[str, ...]:
    """What a command needs besides, to open those of the images that are encrypted."""
    keys = [image.luks for image in images if image.luks is not None]
    return tuple(word for key in keys for word in ("--object", f"secret,id={KEY},format=raw,file=/proc/self/fd/{key}"))


def files(image: Image) -> dict[int, str]:
    """The descriptors that a command has to inherit, and what messages call them."""
    key = {} if image.luks is None else {image.luks: "the passphrase"}
    return {image.descriptor: image.name, **key}


def cache(image: Image, *, writing: bool) -> str:
    """`none` where the file system can do that (O_DIRECT), which only opening tells; else `writeback`.

    Both flush what they wrote, unlike qemu-img's own default for a target, `unsafe`.
    """
    return "none" if direct(image, writing=writing) else "writeback"


def direct(image: Image, *, writing: bool = False) -> bool:
    """Whether it can be opened past the page cache. tmpfs cannot, nor can some network file systems (EINVAL)."""
    try:
        opened = os.open(path(image), (os.O_RDWR if writing else os.O_RDONLY) | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return False
    os.close(opened)
    return True


def _protocol(image: Image) -> str:
    return "host_device" if image.device else "file"


def _driver(image: Image) -> str:
    return image.format if image.luks is None else "luks"
