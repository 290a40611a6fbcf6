# SPDX-License-Identifier: Apache-2.0
"""Full-size backbones, MP3 to scores: this package beside the reference's wiring of stock parts, same weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from timing import REST, Stage, run_in_stages, spread, summarise_runs, table, take_turns
from transformers import ClapFeatureExtractor, Wav2Vec2FeatureExtractor, WavLMModel
from transformers.models.clap.modeling_clap import ClapAudioModel

from hf_mathrock import MathRockAffectPipeline, MathRockConfig, MathRockFeatureExtractor, MathRockForAudioClassification
from hf_mathrock.models import (
    audio_input,
    audio_reading,
    audio_windows,
    feature_extraction_mathrock,
    modeling_wavlm_sdpa,
    pipeline_recordings,
)

SECONDS, NUM_ROUNDS = 45.0, 5
MIN_RATIO, MAX_LOGIT_DIFFERENCE = 1.25, 1e-4
DECODE, RESAMPLE, MEL, WAVLM, CLAP = "decode", "resample", "extractors", "WavLM", "CLAP"
WINDOWS = "down-mix, check, cut"
STAGES = [
    Stage(DECODE, audio_reading.SoundFileReader, "blocks"),
    Stage(RESAMPLE, audio_windows.ResampledTrack, "push"),
    Stage(WINDOWS, audio_input, "cut_windows"),
    Stage(MEL, feature_extraction_mathrock.MathRockFeatureExtractor, "featurize"),
    Stage(WAVLM, modeling_wavlm_sdpa.SdpaWavLMModel, "forward"),
    Stage(CLAP, ClapAudioModel, "forward"),
]
REFERENCE_STAGES = [
    Stage(DECODE, soundfile, "read"),
    Stage(RESAMPLE, soxr, "resample"),
    Stage(MEL, Wav2Vec2FeatureExtractor, "__call__"),
    Stage(MEL, ClapFeatureExtractor, "__call__"),
    Stage(WAVLM, WavLMModel, "forward"),
    Stage(CLAP, ClapAudioModel, "forward"),
]


class ReferenceWiring:
    """How the reference tags a song: stock backbones, stock extractors, one window at a time.

    Its weights, and the layers behind the backbones, are those of the given model.
    """

    def __init__(self, model: MathRockForAudioClassification) -> None:
        self.model = model.eval()
        self.wavlm = WavLMModel(model.config.wavlm_config).eval()
        self.wavlm.load_state_dict(model.mathrock.wavlm.state_dict())
        self.waveform_extractor = Wav2Vec2FeatureExtractor()
        self.waveform_extractor.do_normalize = False  # as `microsoft/wavlm-base` says
        self.mel_extractor = ClapFeatureExtractor(truncation="rand_trunc")

    def window_logits(self, at_16k: np.ndarray, at_48k: np.ndarray) -> dict[str, torch.Tensor]:
        """Logits per task of one window, `(1, num_labels)`, from its samples at 16 and at 48 kHz."""
        base = self.model.mathrock
        waveform = self.waveform_extractor(at_16k, sampling_rate=16_000, return_tensors="pt")
        mel = self.mel_extractor(at_48k, sampling_rate=48_000, return_tensors="pt")
        frames = self.wavlm(waveform["input_values"]).last_hidden_state
        clap = base.clap_audio(mel["input_features"]).pooler_output
        streams = (
            base.activation(base.wavlm_projection(frames.mean(dim=1))),
            base.activation(base.clap_audio_projection(clap)),
        )
        embedding = base.fusion(torch.cat(streams, dim=-1))
        return {name: head(embedding) for name, head in self.model.heads.items()}

    @torch.no_grad()
    def logits(self, path: Path, times: Sequence[tuple[float, float]]) -> dict[str, torch.Tensor]:
        """Logits per task, `(num_windows, num_labels)`, of the windows from start to end seconds."""
        audio, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
        mono = audio.mean(axis=1)
        # What librosa's `resample` calls, without its detours.
        tracks = {wanted: soxr.resample(mono, rate, wanted, quality="HQ") for wanted in (16_000, 48_000)}
        windows = [
            self.window_logits(
                *(track[round(start * wanted) : round(end * wanted)] for wanted, track in tracks.items())
            )
            for start, end in times
        ]
        return {name: torch.cat([window[name] for window in windows]) for name in windows[0]}

    def scores(self, path: Path, times: Sequence[tuple[float, float]]) -> dict[str, torch.Tensor]:
        """Scores per task of the song, `(num_labels,)`: the mean over its windows."""
        logits = self.logits(path, times)
        types = {task["name"]: task["type"] for task in self.model.config.tasks}
        return {
            name: (values.sigmoid() if types[name] == "multi_label" else values.softmax(dim=-1)).mean(dim=0)
            for name, values in logits.items()
        }


@torch.no_grad()
def our_logits(
    model: MathRockForAudioClassification, extractor: MathRockFeatureExtractor, path: Path
) -> tuple[list[tuple[float, float]], dict[str, torch.Tensor]]:
    """Times of the windows, and logits per task `(num_windows, num_labels)`, in the pipeline's batches."""
    with audio_input.open_audio(path) as source:
        windows = list(source.windows(extractor.window_seconds, extractor.hop_seconds, extractor.sampling_rates))
    size = pipeline_recordings.DEFAULT_BATCH_SIZE
    outputs = [
        model(**extractor.featurize(windows[first : first + size])).task_logits
        for first in range(0, len(windows), size)
    ]
    logits = {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}
    return [(window.start, window.end) for window in windows], logits


def largest_difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Between any two numbers of the same task and place."""
    return max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)


def score_difference(result: dict[str, Any], scores: dict[str, torch.Tensor], config: MathRockConfig) -> float:
    """Between a pipeline's result and a song's scores per task."""
    return max(
        abs(entry["score"] - float(values[config.task(name)["labels"].index(entry["label"])]))
        for name, values in scores.items()
        for entry in result[name]
    )


def measure(folder: Path, quick: bool, config: MathRockConfig | None = None) -> dict[str, Any]:
    """Time both, in turns.

    Args:
        folder: For temporary files.
        quick: A short song and one round.
        config: Of the model; default the published backbones' sizes.
    """
    from material import write_song

    path = write_song(folder / "song.mp3", 15.0 if quick else SECONDS)
    torch.manual_seed(0)
    model = MathRockForAudioClassification(config or MathRockConfig()).eval()
    extractor = MathRockFeatureExtractor()
    reference = ReferenceWiring(model)
    times, logits = our_logits(model, extractor, path)
    difference = largest_difference(logits, reference.logits(path, times))

    full = MathRockAffectPipeline(model=model, feature_extractor=extractor)
    half = MathRockAffectPipeline(model=copy.deepcopy(model).to(torch.bfloat16), feature_extractor=extractor)
    runs = take_turns(
        {
            "reference": lambda: run_in_stages(lambda: reference.scores(path, times), REFERENCE_STAGES),
            "float32": lambda: run_in_stages(lambda: full(str(path)), STAGES),
            "bfloat16": lambda: run_in_stages(lambda: half(str(path)), STAGES),
        },
        1 if quick else NUM_ROUNDS,
    )
    results = {name: summarise_runs(timed) for name, timed in runs.items()}
    scores = reference.scores(path, times)
    for name, pipe in (("float32", full), ("bfloat16", half)):
        results[name]["ratio"] = results["reference"]["median"] / results[name]["median"]
        results[name]["largest_score_difference"] = score_difference(pipe(str(path)), scores, model.config)
    return {
        "audio_seconds": 15.0 if quick else SECONDS,
        "num_windows": len(times),
        "num_rounds": 1 if quick else NUM_ROUNDS,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "largest_logit_difference": difference,
        **results,
    }


def render(result: dict[str, Any]) -> str:
    """The section of BENCHMARKS.md."""
    reference, names = result["reference"], {"float32": "ours, float32", "bfloat16": "ours, bfloat16"}
    rows = [["reference wiring, float32", spread(reference), "1.00", "", ""]]
    for name, title in names.items():
        ours = result[name]
        rows.append(
            [
                title,
                spread(ours),
                f"**{ours['ratio']:.2f}**",
                f"{result['largest_logit_difference']:.1e}" if name == "float32" else "",
                f"{ours['largest_score_difference']:.1e}",
            ]
        )
    stages = [DECODE, RESAMPLE, WINDOWS, MEL, WAVLM, CLAP, REST]
    columns = [reference["stages"], *(result[name]["stages"] for name in names)]
    parts = [[stage, *(f"{column[stage]:.3f} s" if stage in column else "" for column in columns)] for stage in stages]
    return "\n\n".join(
        [
            "## Full-size backbones against the reference wiring",
            f"{result['num_parameters'] / 1e6:.0f} M parameters, random weights; an MP3 of {result['audio_seconds']:g} "
            f"s to its scores, {result['num_windows']} windows of 10 s; {result['num_rounds']} warm rounds in turns. "
            "The reference wiring: stock `WavLMModel` and `ClapAudioModel` with the same weights, stock feature "
            "extractors, one window at a time, the whole file decoded by soundfile and resampled by soxr. "
            f"Aim: a ratio of {MIN_RATIO} in float32, logits within {MAX_LOGIT_DIFFERENCE:.0e}.",
            table(
                ["", "median (min–max)", "times as fast", "largest logit difference", "largest score difference"], rows
            ),
            "Where the time goes (medians):",
            table(["stage", "reference", *names.values()], parts),
        ]
    )
