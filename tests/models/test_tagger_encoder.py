# SPDX-License-Identifier: Apache-2.0
"""The transformer encoder of the taggers."""

import pytest
import torch
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEncoder

from hf_mathrock.models.tagger_encoder import TaggerEncoder


def test_the_post_norm_encoder_is_berts():
    torch.manual_seed(0)
    ours = TaggerEncoder(32, 2, 4, 48, norm="post", layer_norm_eps=1e-12).eval()
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    config._attn_implementation = "eager"
    theirs = BertEncoder(config).eval()
    for layer, bert in zip(ours.layers, theirs.layer, strict=True):
        parts = [getattr(bert.attention.self, name) for name in ("query", "key", "value")]
        layer.attention.qkv.weight.data = torch.cat([part.weight.data for part in parts])
        layer.attention.qkv.bias.data = torch.cat([part.bias.data for part in parts])
        layer.attention.output.load_state_dict(bert.attention.output.dense.state_dict())
        layer.attention_norm.load_state_dict(bert.attention.output.LayerNorm.state_dict())
        layer.intermediate.load_state_dict(bert.intermediate.dense.state_dict())
        layer.output.load_state_dict(bert.output.dense.state_dict())
        layer.output_norm.load_state_dict(bert.output.LayerNorm.state_dict())
    tokens = torch.randn(2, 7, 32)
    with torch.no_grad():
        expected = theirs(torch.cat([ours.class_token.expand(2, 1, -1), tokens], dim=1)).last_hidden_state
        torch.testing.assert_close(ours(tokens).states, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_attention_with_its_weights_equals_fused_attention(norm):
    torch.manual_seed(0)
    encoder = TaggerEncoder(16, 3, 4, 24, norm=norm, num_positions=9, attention_dropout=0.5, hidden_dropout=0.4).eval()
    tokens = 2 * torch.randn(2, 9, 16)
    with torch.no_grad():
        plain = encoder(tokens)
        full = encoder(tokens, output_hidden_states=True, output_attentions=True)
    assert plain.hidden_states is None and plain.attentions is None
    torch.testing.assert_close(full.states, plain.states, atol=1e-5, rtol=0)
    assert len(full.hidden_states) == 4 and torch.equal(full.hidden_states[-1], full.states)
    assert [weights.shape for weights in full.attentions] == [(2, 4, 10, 10)] * 3
    for weights in full.attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 10))
    assert max(weights.std() for weights in full.attentions) > 0.02


def test_in_training_attention_drops_out_where_asked_to():
    torch.manual_seed(0)
    tokens = torch.randn(2, 9, 16)
    for dropout, equal in ((0.0, True), (0.5, False)):
        encoder = TaggerEncoder(16, 1, 4, 24, attention_dropout=dropout).train()
        for output_attentions in (True, False):
            first, second = (encoder(tokens, output_attentions=output_attentions).states for _ in range(2))
            assert torch.equal(first, second) == equal


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"norm": "middle"}, "'middle'"),
        ({"num_heads": 3}, "16 wide and has 3 heads"),
        ({"num_layers": 0}, "0 layers"),
    ],
)
def test_an_impossible_encoder_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TaggerEncoder(**{"hidden_size": 16, "num_layers": 1, "num_heads": 4, "intermediate_size": 8, **arguments})


def test_more_tokens_than_positions_are_refused_by_the_encoder():
    with pytest.raises(ValueError, match="5 tokens came, and there are positions for 4"):
        TaggerEncoder(16, 1, 4, 8, num_positions=4)(torch.zeros(1, 5, 16))
