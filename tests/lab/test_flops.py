"""Counts that others have published, and the rules that they follow."""

import dataclasses

import pytest

from lab.flops import parameters, train_flops, train_flops_per_token
from lab.spec import ModelSpec
from tests.lab.building import BATCH, TINY, phase, run_of, shares

LLAMA_7B = ModelSpec(4096, 32, 32, 11008, context=2048, vocabulary=32_000)
LLAMA_13B = ModelSpec(5120, 40, 40, 13_824, context=2048, vocabulary=32_000)
# GPT-3's MLP has two matrices of 4 D; ours has three, so 8/3 D gives as many parameters.
GPT_3 = ModelSpec(12_288, 96, 96, 32_768, context=2048, vocabulary=50_257)


@pytest.mark.parametrize(
    ("model", "published"), [(LLAMA_7B, 6_738_415_616), (LLAMA_13B, 13_015_864_320)]
)
def test_llama_has_as_many_parameters_as_its_checkpoint(model: ModelSpec, published: int) -> None:
    assert parameters(model).total == published


def test_parameters_add_up_by_role() -> None:
    count = parameters(LLAMA_7B)
    assert count.embedding == count.head == 32_000 * 4096
    assert count.gains == 65 * 4096
    assert count.matrices == 32 * (4 * 4096**2 + 3 * 4096 * 11_008)
    assert count.non_embedding == count.total - 2 * 32_000 * 4096
    tied = parameters(dataclasses.replace(LLAMA_7B, tied_embedding=True))
    assert (tied.head, tied.total) == (0, count.total - count.head)


def test_without_attention_and_head_it_is_6_n() -> None:
    flops = train_flops_per_token(GPT_3, attention=False, head=False)
    assert flops == 6 * parameters(GPT_3).matrices
    assert flops == pytest.approx(6 * 174e9, rel=2e-3)
    # 3.14e23 FLOPs for 300 G tokens: Brown et al., 2005.14165, table D.1
    assert flops * 300e9 == pytest.approx(3.14e23, rel=5e-3)


def test_attention_and_head_are_counted_by_their_own_switch() -> None:
    bare = train_flops_per_token(GPT_3, attention=False, head=False)
    attention = train_flops_per_token(GPT_3, head=False) - bare
    head = train_flops_per_token(GPT_3, attention=False) - bare
    # 12 L H Q T: Chowdhery et al., 2204.02311, appendix B
    assert attention == 12 * 96 * 96 * (12_288 // 96) * 2048
    assert head == 6 * 50_257 * 12_288
    assert train_flops_per_token(GPT_3) == bare + attention + head
    tied = dataclasses.replace(GPT_3, tied_embedding=True)
    assert train_flops_per_token(tied) == train_flops_per_token(GPT_3)  # tying saves no product


def test_a_run_costs_its_tokens() -> None:
    run = run_of(phase("p", 9, shares(a=1.0)))
    token = train_flops_per_token(TINY)
    assert train_flops(run) == 9 * BATCH * TINY.context * token
    assert train_flops(run, 2) == 2 * BATCH * TINY.context * token
    assert train_flops(run, 0) == 0
