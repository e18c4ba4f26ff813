"""One tensor's verdict: exact zeros, and the place of what is wrong."""

from oracle.problems import all_of, judged, with_drops

from switch_np import oracle

_, REF = with_drops()


def test_exact_zeros_are_demanded():
    wrong = REF.grads["w_in"].copy()
    wrong[3] = 1e-300
    report = judged(REF, all_of(REF, w_in=wrong))
    assert not report.ok and "want exactly 0" in str(report)
    assert "not zero for experts without tokens (3)" in report.diagnosis[0]


def test_what_no_family_explains_is_located():
    wrong = REF.grads["w_in"].copy()
    wrong[1, 2, 3] += 1
    report = judged(REF, all_of(REF, w_in=wrong))
    assert report.diagnosis == (
        "unknown: d_w_in is wrong only in expert 1; y, balance_loss, z_loss, d_x, d_w_router, "
        "d_w_out are right",)
    tensor = report.tensors["d_w_in"]
    assert tensor.at == (1, 2, 3) and tensor.blocks == ("expert 1",)
    assert "at [1, 2, 3] (expert 1," in str(report)


def test_tokens_slots_and_experts_are_named():
    wrong = REF.y.copy()
    token = int(REF.plan.token[3])
    wrong[token, 1] += 1
    text = str(oracle.compare(REF, y=wrong))
    places = [f"expert {e} slot {s}" if s >= 0 else f"expert {e} dropped"
              for e, s in zip(REF.plan.expert[token], REF.plan.slot[token])]
    assert f"[{token}, 1] (token {token}, {', '.join(places)})" in text
    assert len(text.splitlines()) <= 6
