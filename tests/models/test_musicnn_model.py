# SPDX-License-Identifier: Apache-2.0
"""musicnn and its vgg: the published sizes, the published activations, and lengths."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from hf_mathrock.conversion.musicnn import convert_musicnn
from hf_mathrock.models.configuration_musicnn import POOLING, MusicnnConfig
from hf_mathrock.models.feature_extraction_music_tagging import MusicTaggingFeatureExtractor
from hf_mathrock.models.modeling_musicnn import MusicnnBranch, MusicnnForAudioClassification, MusicnnModel
from tiny_taggers import tiny_tagger

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "musicnn"
PUBLISHED = ["MTT_musicnn", "MSD_musicnn", "MTT_vgg", "MSD_vgg"]
TINY = {
    "input_samples": 16_128,
    "feature": {"num_mel_bins": 24},
    "timbral_filters": 6,
    "temporal_filters": 4,
    "temporal_kernels": [16, 8],
    "width": 8,
    "dense_size": 12,
}
VGG = {
    "variant": "vgg",
    "width": 6,
    "feature": {"num_mel_bins": 12},
    "input_samples": 8 * 256,
    "pooling": [{"kernel": [2, 3], "stride": [2, 3]}, {"kernel": [4, 1], "stride": [2, 2]}],
}


@pytest.fixture(scope="session")
def musicnn_reference():
    """The published tensors and what the published graphs made of them; they are not part of this repository."""
    if not REFERENCE.is_dir():
        pytest.skip("the reference folder ../shared/reference/musicnn is not here")
    return REFERENCE


@pytest.fixture(scope="session")
def golden(musicnn_reference):
    return np.load(musicnn_reference / "golden.npz")


@pytest.fixture(scope="session")
def converted(musicnn_reference, tmp_path_factory):
    """Folders of the four published models."""
    root = tmp_path_factory.mktemp("musicnn")
    for name in PUBLISHED:
        convert_musicnn(musicnn_reference / f"{name}.safetensors", root / name)
    return root


def tiny(variant="musicnn", **settings):
    torch.manual_seed(0)
    fields = copy.deepcopy(TINY if variant == "musicnn" else VGG)
    return MusicnnForAudioClassification(MusicnnConfig(**{**fields, "num_labels": 5, **settings})).eval()


def shake(model):
    """Statistics and slopes as training leaves them: some filters fall where they match."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return model


# The published sizes.


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 787_159),
        ({"width": 512, "dense_size": 500}, 7_980_235),
        ({"variant": "vgg"}, 605_748),
        ({"variant": "vgg", "pooling": "MSD"}, 605_748),
    ],
)
def test_parameters_are_as_many_as_published(settings, count):
    with torch.device("meta"):
        model = MusicnnForAudioClassification(MusicnnConfig(**settings))
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == count


# The published activations.


def states_of(name):
    return ["frontend", "cnn1", "cnn2", "cnn3"] if "musicnn" in name else [f"pool{number}" for number in range(1, 6)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_stage_equals_the_published_graph(name, converted, golden):
    model = AutoModelForAudioClassification.from_pretrained(converted / name)
    with torch.no_grad():
        output = model(input_features=torch.from_numpy(golden["logmel_batch"]), output_hidden_states=True)
    assert len(output.hidden_states) == len(states_of(name))
    for stage, state in zip(states_of(name), output.hidden_states, strict=True):
        expected = golden[f"{name}.{stage}"]
        found = state.numpy()[: len(expected), : expected.shape[1]].reshape(expected.shape)
        # Where values reach 80 the published graph itself is 5e-4 away from what double precision gives.
        np.testing.assert_allclose(found, expected, atol=1e-3, err_msg=stage)
    embedding = golden[f"{name}.penultimate"] if "musicnn" in name else golden[f"{name}.pool5"].reshape(3, 256)
    np.testing.assert_allclose(output.embeddings.numpy(), embedding, atol=1e-4)
    np.testing.assert_allclose(output.logits.numpy(), golden[f"{name}.logits"], atol=1e-4)
    np.testing.assert_allclose(output.logits.sigmoid().numpy(), golden[f"{name}.probs"], atol=1e-5)


@pytest.mark.parametrize("name", ["MTT_musicnn", "MSD_musicnn"])
def test_pooled_maxima_and_means_stand_side_by_side(name, converted, golden):
    model = AutoModelForAudioClassification.from_pretrained(converted / name)
    seen = []
    model.musicnn.trunk.pooled_norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(input_features=torch.from_numpy(golden["logmel_batch"]))
    np.testing.assert_allclose(seen[0].numpy(), golden[f"{name}.flat"], atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_from_the_waveform_the_taggram_is_the_published_one(name, converted, golden):
    model = AutoModelForAudioClassification.from_pretrained(converted / name)
    extractor = AutoFeatureExtractor.from_pretrained(converted / name)
    inputs = extractor(golden["waveform"], sampling_rate=16_000)
    # The last two of 563 frames fill no patch.
    assert inputs.pop("windows_per_clip").tolist() == [3]
    np.testing.assert_allclose(inputs["input_features"].numpy(), golden["logmel_batch"], atol=5e-4)
    with torch.no_grad():
        taggram = model(**inputs).logits.sigmoid()
        song = model(**inputs, windows_per_clip=torch.tensor([3])).logits.sigmoid()
        first = model(torch.from_numpy(golden["waveform"][:47_872])[None]).logits.sigmoid()
    np.testing.assert_allclose(taggram.numpy(), golden[f"{name}.probs"], atol=1e-4)
    np.testing.assert_allclose(song[0].numpy(), golden[f"{name}.probs"].mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(first.numpy(), golden[f"{name}.probs"][:1], atol=1e-4)


def test_msd_vgg_pools_as_it_was_trained_not_as_the_released_code_does(converted, golden):
    name = "MSD_vgg"
    model = AutoModelForAudioClassification.from_pretrained(converted / name)
    released = MusicnnConfig.from_pretrained(converted / name, pooling="MTT")
    other = AutoModelForAudioClassification.from_pretrained(converted / name, config=released)
    assert model.config.pooling == POOLING["MSD"] and other.config.pooling == POOLING["MTT"]
    with torch.no_grad():
        found = other(input_features=torch.from_numpy(golden["logmel_batch"])).logits.sigmoid()
    np.testing.assert_allclose(found.numpy(), golden[f"{name}.probs_released_pooling"], atol=1e-5)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "joram-solipsism-30s.mp3",
            ["techno", "electronic", "synth", "fast", "beat", "drums", "no vocals", "no vocal", "dance", "ambient"],
        ),
        ("TRWJAZW128F42760DD.mp3", ["guitar", "piano", "fast"]),
    ],
)
def test_the_demo_clips_have_the_published_tags_in_order(file, expected, converted, real_audio):
    from transformers import pipeline

    pipe = pipeline("music-tagging", model=str(converted / "MTT_musicnn"))
    tags = pipe(str(real_audio / file), top_k=10)["tags"]
    assert [tag["label"] for tag in tags][: len(expected)] == expected


# What the graphs compute, in small.


@pytest.mark.parametrize("kernel", [(7, 9), (16, 1), (5, 1), (7, 24)])
def test_a_branch_gives_the_best_match_of_each_filter_at_any_height(kernel):
    branch = MusicnnBranch(MusicnnConfig(**TINY), kernel, 6)
    shake(branch)
    features = torch.randn(2, 1, 40, 24)
    padded = F.pad(features, (0, 0, (kernel[0] - 1) // 2, kernel[0] // 2))
    plain = F.batch_norm(
        F.relu(F.conv2d(padded, branch.convolution.weight, branch.convolution.bias)),
        branch.norm.running_mean,
        branch.norm.running_var,
        branch.norm.weight,
        branch.norm.bias,
        eps=1e-3,
    ).amax(dim=3)
    assert (branch.norm.weight < 0).any() and (branch.norm.weight > 0).any()
    branch.eval()
    torch.testing.assert_close(branch(features), plain)
    with torch.no_grad():
        torch.testing.assert_close(branch(features), plain)


def test_a_few_frames_at_a_time_give_what_all_at_once_do(monkeypatch):
    from hf_mathrock.models import modeling_musicnn

    model = shake(tiny())
    features = torch.rand(2, 50, 24)
    with torch.no_grad():
        whole = model(input_features=features).logits
        monkeypatch.setattr(modeling_musicnn, "_FLOATS_AT_ONCE", 2000)
        torch.testing.assert_close(model(input_features=features).logits, whole)


def test_training_and_evaluation_agree_where_the_statistics_are_those_of_the_batch():
    model = shake(tiny(dropout=0.0))
    model.train()
    features = torch.rand(4, 40, 24)
    counts = {}
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # a plain mean, of this batch only
            module.reset_running_stats()
            module.register_forward_pre_hook(
                lambda module, inputs: counts.update({module: inputs[0].numel() / inputs[0].shape[1]})
            )
    expected = model(input_features=features).logits
    for module, count in list(counts.items()):
        module.running_var *= (count - 1) / count  # torch keeps the unbiased variance, and divides by the other
    model.eval()
    torch.testing.assert_close(model(input_features=features).logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", ["musicnn", "vgg"])
def test_every_parameter_has_a_gradient(variant):
    model = tiny(variant)
    model.train()
    waveform = 0.1 * torch.randn(4, model.config.input_samples)
    model(waveform, labels=torch.randint(0, 2, (4, 5)).float()).loss.backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    zero = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0]
    # What a norm takes away again: a constant before it.
    assert without == [] and [name for name in zero if "bias" not in name] == []


@pytest.mark.parametrize("variant", ["musicnn", "vgg"])
def test_states_and_embedding_have_the_shapes_that_are_written_down(variant):
    model = tiny(variant)
    config = model.config
    output = model(torch.randn(2, config.input_samples), output_hidden_states=True)
    shapes = [tuple(state.shape) for state in output.hidden_states]
    if variant == "musicnn":
        assert shapes == [(2, 63, 20), (2, 63, 8), (2, 63, 8), (2, 63, 8)]
    else:
        assert shapes == [(2, 4, 4, 6), (2, 1, 2, 6)]
    assert output.embeddings.shape == (2, config.embedding_size) and output.logits.shape == (2, 5)
    base = MusicnnModel(config)
    assert base(torch.randn(2, config.input_samples)).hidden_states is None


# Lengths.


def test_musicnn_hears_any_length_from_a_frame_on():
    model = tiny()
    for num_samples in (512, 5_000, 40_000):
        output = model(torch.randn(1, num_samples), output_hidden_states=True)
        assert output.hidden_states[0].shape[1] == num_samples // 256 and output.logits.isfinite().all()
    assert model(input_features=torch.rand(1, 1, 24)).logits.isfinite().all()
    with pytest.raises(ValueError, match="at least 257 samples"):
        model(torch.randn(1, 256))
    with pytest.raises(ValueError, match=r"\(1, 0, 24\)"):
        model(input_features=torch.rand(1, 0, 24))
    with pytest.raises(ValueError, match=r"\(1, 4, 96\); expected \(batch_size, num_frames, 24\)"):
        model(input_features=torch.rand(1, 4, 96))


def test_a_vgg_says_which_length_it_hears():
    model = tiny("vgg")
    assert not model.config.accepts_any_length
    for features in (7, 9):
        with pytest.raises(ValueError, match=rf"exactly 8 frames .*2048 samples\), and was given {features}"):
            model(input_features=torch.rand(1, features, 12))
    with pytest.raises(ValueError, match="was given 9"):
        model(torch.randn(1, 9 * 256))


def test_padding_changes_nothing():
    model = shake(tiny())
    long, short = torch.randn(10_000), torch.randn(6_000)
    batch = torch.stack([long, F.pad(short, (0, 4_000), value=3.0)])
    mask = torch.ones(2, 10_000, dtype=torch.long)
    mask[1, 6_000:] = 0
    with torch.no_grad():
        together = model(batch, attention_mask=mask, output_hidden_states=True)
        alone = model(short[None], output_hidden_states=True)
        torch.testing.assert_close(together.logits[1:], alone.logits, atol=1e-5, rtol=1e-5)
        assert together.hidden_states[0].shape[1] == 39
        assert not together.hidden_states[0][1, 23:].any()


@pytest.mark.parametrize("variant", ["musicnn", "vgg"])
def test_windows_of_a_file_are_patches_of_its_whole_spectrogram(variant):
    model = tiny(variant)
    extractor = MusicTaggingFeatureExtractor.for_config(model.config)
    frames = model.config.num_frames
    waveform = np.random.default_rng(0).normal(size=3 * frames * 256 + 700).astype(np.float32) * 0.1
    patches = extractor(waveform, sampling_rate=16_000)["input_features"]
    assert patches.shape[:2] == (3, frames)
    from hf_mathrock.models.tagger_features import mel_spectrogram

    whole = mel_spectrogram(torch.from_numpy(waveform)[None], model.config.feature, 16_000)[0].T
    torch.testing.assert_close(patches.flatten(0, 1), whole[: 3 * frames])


# The config.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "vggish"}, "`variant` is 'vggish'.*'musicnn', 'vgg'"),
        ({"pooling": "MTG"}, "`pooling` is 'MTG'.*MTT, MSD"),
        ({"variant": "vgg", "pooling": [{"kernel": [4, 4]}]}, r"`pooling\[0\]`.*`kernel` and `stride`"),
        ({"variant": "vgg", "pooling": [{"kernel": [4, 4], "stride": [0, 4]}]}, r"`pooling\[0\]`.*positive"),
        ({"variant": "vgg", "pooling": []}, "`pooling` is empty"),
        ({"variant": "vgg", "input_samples": 4096}, r"`pooling\[3\]` pools \[2, 2\] of what is left .*\[1, 12\]"),
        ({"width": 0}, "`width` is 0"),
        ({"dropout": 1.0}, "`dropout` is 1.0"),
        ({"feature": {"kind": "raw"}}, "'raw'; this model hears a 'mel' spectrogram"),
        ({"feature": {"mels": 4}}, "mels"),
        ({"timbral_kernels": [[7, 97]]}, r"\[7, 97\].*96 bands"),
        ({"timbral_kernels": [], "temporal_kernels": []}, "nothing to hear with"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        MusicnnConfig(**settings)


def test_a_field_of_the_config_changes_what_is_built():
    config = MusicnnConfig(feature={"num_mel_bins": 40}, temporal_kernels=[16], width=8, tasks=None, num_labels=3)
    assert config.timbral_kernels == [[7, 16], [7, 28]]
    model = MusicnnForAudioClassification(config)
    assert model.musicnn.trunk.convolutions[0].weight.shape == (8, 204 + 204 + 51, 7)
    assert MusicnnConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()


def test_a_saved_model_is_the_same_after_loading(tmp_path):
    model = shake(tiny("vgg"))
    model.save_pretrained(tmp_path)
    again = MusicnnForAudioClassification.from_pretrained(tmp_path)
    base, info = MusicnnModel.from_pretrained(tmp_path, output_loading_info=True)
    waveform = torch.randn(2, model.config.input_samples)
    with torch.no_grad():
        assert torch.equal(again(waveform).logits, model(waveform).logits)
        assert torch.equal(base(waveform).embeddings, model(waveform).embeddings)
    assert not info["missing_keys"]


def test_who_listens_to_a_branch_changes_nothing_and_hears_it():
    model = tiny_tagger("musicnn")
    branch = model.musicnn.trunk.branches[0]
    audio, calls = torch.randn(2, 8192), []
    with torch.no_grad():
        expected = model(audio).logits
        branch.convolution.register_forward_hook(lambda *_: calls.append(None))
        torch.testing.assert_close(model(audio).logits, expected, atol=1e-5, rtol=1e-5)
        assert calls
        branch.norm.train()
        model(audio)
        assert branch.norm.num_batches_tracked == 1
