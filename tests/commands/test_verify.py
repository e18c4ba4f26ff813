"""`vectors` writes cases, and `verify` judges what was computed for one."""

import numpy as np


def test_vectors_are_written_and_judged(call):
    out, _ = call("vectors", "--out", "cases", "--cases", "switch_drops", "padding")
    assert "2 cases" in out and "in cases" in out
    case = "cases/switch_drops.npz"
    with np.load(case) as arrays:
        right = {name[4:]: arrays[name] for name in arrays.files if name.startswith("ref.")
                 and name[4:] not in ("probs", "logits", "gates")}
    np.savez("right.npz", **right)
    assert call("verify", "right.npz", case)[0].startswith("pass")
    np.savez("wrong.npz", **{**right, "d_w_in": 2 * right["d_w_in"]})
    out, _ = call("verify", "wrong.npz", case, status=1)
    assert out.startswith("fail") and "d_w_in" in out
    for words, message in ((["nowhere.npz", case], "nowhere.npz"),
                           (["right.npz", "right.npz"], "right.npz must be a case of `vectors`"),
                           (["text.txt", case], "text.txt must end in .npz or .safetensors")):
        assert message in call("verify", *words, status=2)[1]
    assert "names must be among" in call("vectors", "--out", "x", "--cases", "none", status=2)[1]
