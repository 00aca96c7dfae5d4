# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What docs/protocol.md shows is what an agent says: every example is sent, in the order of the document."""

from protocol_examples import DOCUMENT, examples, lasting, stage


def test_every_example_of_the_protocol_brings_the_reply_that_it_shows() -> None:
    shown = examples(DOCUMENT.read_text())
    assert all(example.reply is not None for example in shown), "make protocol writes replies"
    with stage() as played:
        for example in shown:
            said = played.ask(example.request)
            assert example.reply is not None
            assert lasting(said) == lasting(example.reply), f"make protocol, if {said} is right"
