import hashlib
import json
import math

import pytest
import torch

from bundle.site.release import tensor_digest


def test_it_is_the_hash_of_the_documented_bytes():
    tensor = torch.tensor([[1, 2, 3]], dtype=torch.int16)
    parts = b'["int16",[1,3],6]\n' + bytes([1, 0, 2, 0, 3, 0]) + b'["json",7]\n' + json.dumps({"a": 1}).encode()
    parts = parts.replace(b'{"a": 1}', b'{"a":1}')
    assert tensor_digest(tensor, {"a": 1}) == hashlib.sha256(parts).hexdigest()


def test_equal_contents_have_one_digest():
    tensor = torch.randn(2, 3, 4)
    strided = tensor.transpose(0, 2).contiguous().transpose(0, 2)
    assert not strided.is_contiguous()
    assert tensor_digest(tensor) == tensor_digest(strided) == tensor_digest(tensor.clone().requires_grad_(True))
    assert tensor_digest({"a": 1, "b": (2.5, None)}) == tensor_digest({"b": [2.5, None], "a": 1})


def test_different_contents_have_different_digests():
    zeros = torch.zeros(2, 3)
    contents = [
        (),
        (zeros,),
        (zeros, zeros),
        (torch.zeros(4, 3),),
        (zeros.T,),
        (zeros.flatten(),),
        (zeros.int(),),
        (zeros.half(),),
        (zeros.bfloat16(),),
        (-zeros,),
        (torch.full((2, 3), math.nan),),
        (torch.zeros(()),),
        (torch.zeros(0, 3),),
        (torch.zeros(3, 0),),
        (zeros.bool(),),
        ("a", "b"),
        ("ab",),
        (["a", "b"],),
        (1,),
        (1.0,),
        ("1",),
        (True,),
        (None,),
        (zeros.tolist(),),
        ("reply", zeros),
        (zeros, "reply"),
    ]
    assert len({tensor_digest(*content) for content in contents}) == len(contents)


def test_what_is_not_plain_is_refused():
    with pytest.raises(ValueError, match=r"content\[1\].losses: expected plain JSON, got nan"):
        tensor_digest(1, {"losses": math.nan})
