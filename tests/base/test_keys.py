"""Names by content."""

import hashlib
import json

import pytest
import torch

from fairveil.base.keys import content_key


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (b"\x00\xff", b"\x00\xff"),
        ("Łódź", "Łódź".encode()),
        ("\udcff.jpg", b"\xff.jpg"),  # a file name of bytes that are no text
        ({"b": [1, None], "a": 0.5}, b'{"a": 0.5, "b": [1, null]}'),
        (torch.tensor([1, 2], dtype=torch.int16), b"\x01\x00\x02\x00"),
        (torch.tensor([[1, 2], [3, 4]], dtype=torch.int8).T, b"\x01\x03\x02\x04"),
    ],
)
def test_a_key_is_the_beginning_of_the_sha256_of_the_content(part, content):
    assert content_key(part) == hashlib.sha256(content).hexdigest()[:20]


def test_parts_are_hashed_one_after_the_other():
    parts = ["said", {"of": 1}, torch.tensor([1.0], requires_grad=True)]
    content = b"said" + json.dumps({"of": 1}).encode() + torch.tensor([1.0]).numpy().tobytes()
    assert content_key(*parts, digits=64) == hashlib.sha256(content).hexdigest()
    assert len(content_key(*parts, digits=8)) == 8
