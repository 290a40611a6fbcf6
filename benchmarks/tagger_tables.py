# SPDX-License-Identifier: Apache-2.0
"""The two tables of taggers in recipes/README.md: what `taggers.py` measured, and what others published."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from run import render_environment
from timing import table

TITLES = {
    "logistic_regression": "logistic regression on mel statistics",
    "music_tagging_transformer": "Music Tagging Transformer",
    "cnnsa": "CNNSA (self-attention)",
    "sample_se": "Sample-level CNN + SE",
    "crnn": "CRNN",
    "fcn": "FCN",
    "harmonic": "Harmonic CNN",
    "short_chunk": "Short-chunk CNN",
    "short_chunk_res": "Short-chunk CNN + Res",
    "sample": "Sample-level CNN",
    "sincnet_hybrid": "SincNet hybrid",
    "tcn_hybrid": "TCN hybrid",
    "conv1d_hybrid": "waveform Conv1D hybrid",
    "logmel_hybrid": "log-mel Conv2D hybrid",
    "musicnn": "MusiCNN",
    "musicnn_vgg": "MusiCNN's vgg",
}
# ROC-AUC and PR-AUC on MagnaTagATune, the Million Song Dataset and MTG-Jamendo; `published` says from where.
PUBLISHED: dict[str, tuple[str, str, str]] = {
    "FCN": (".9005 / .4295", ".8744 / .2970", ".8255 / .2801"),
    "FCN, 128 mel bands": (".8994 / .4236", ".8742 / .2963", ".8245 / .2792"),
    "MusiCNN (re-made in PyTorch)": (".9106 / .4493", ".8803 / .2983", ".8226 / .2713"),
    "MusiCNN (re-made), 128 mel bands": (".9092 / .4546", ".8788 / .3036", ".8275 / .2810"),
    "Sample-level CNN": (".9058 / .4422", ".8789 / .2959", ".8208 / .2742"),
    "Sample-level CNN + SE": (".9103 / .4520", ".8838 / .3109", ".8233 / .2784"),
    "CRNN": (".8722 / .3625", ".8499 / .2469", ".7978 / .2358"),
    "CRNN, 128 mel bands": (".8703 / .3601", ".8460 / .2330", ".7984 / .2378"),
    "CNNSA": (".9077 / .4445", ".8810 / .3103", ".8261 / .2883"),
    "Harmonic CNN": (".9127 / .4611", ".8898 / .3298", ".8322 / .2956"),
    "Short-chunk CNN": (".9126 / .4590", ".8883 / .3251", ".8324 / .2976"),
    "Short-chunk CNN + Res": (".9129 / .4614", ".8898 / .3280", ".8316 / .2951"),
    "Music Tagging Transformer": ("", ".8916 / .3358", ""),
}
# The result files beside the published weights of musicnn (Pons and Serra, 2019).
PUBLISHED_MUSICNN: dict[str, tuple[str, str]] = {
    "MTT_musicnn": ("MagnaTagATune with untagged clips", ".9067 / .3831"),
    "MTT_vgg": ("MagnaTagATune with untagged clips", ".9030 / .3823"),
    "MSD_musicnn": ("Million Song Dataset, conventional split", ".8802 / .2891"),
    "MSD_musicnn_big": ("Million Song Dataset, conventional split", ".8841 / .3003"),
    "MSD_vgg": ("Million Song Dataset, conventional split", ".8768 / .2819"),
}


def trained(results: Mapping[str, Any]) -> str:
    """What was measured here: two paragraphs, the table, and on what."""
    models, budget, timing = results["models"], results["budget"], results["timing"]
    learned = [result for result in models.values() if "num_windows" in result]
    fastest = min(clip["median"] for clip in timing["models"].values())
    rows = []
    for name, result in sorted(models.items(), key=lambda item: -item[1]["map"]):
        low, high = result["map_interval"]
        clip = timing["models"].get(name)
        rows.append(
            [
                TITLES[name],
                f"{result['map']:.3f} ({low:.3f}–{high:.3f})",
                f"{result['roc_auc']:.3f}",
                f"{result['num_parameters']:,}",
                f"{result['input_seconds']:.2f} s" if "input_seconds" in result else "",
                f"{result['training_seconds'] / 60:.1f} min",
                f"{1e3 * clip['median']:.0f} ms" if clip else "",
                f"{clip['median'] / fastest:.1f}" if clip else "",
            ]
        )
    rows.append(["chance: the share of pieces with a tag", f"{learned[0]['chance_map']:.3f}", "0.500", *[""] * 5])
    clip = f"{timing['clip_seconds']:.0f} s clip"
    header = ["", "mAP (95 %)", "ROC-AUC", "parameters", "input", "training", clip, "× the fastest"]
    return "\n\n".join(
        [
            _wrapped(_protocol(learned[0], results["recipe"], budget)),
            _wrapped(_fairness(learned)),
            table(header, rows),
            _wrapped(
                f"Training: one thread, {results['workers']} models at a time. A clip: from its FLAC file to its tags, "
                f"median of {timing['num_rounds']} rounds in which the models took turns, {timing['threads']} threads."
            ),
            render_environment(results["environment"]),
        ]
    )


def _protocol(one: Mapping[str, Any], recipe: Mapping[str, Any], budget: Mapping[str, Any]) -> str:
    silent = f" No test piece has {', '.join(one['left_out'])}; these do not count." if one["left_out"] else ""
    return (
        f"Every architecture learned {one['num_labels']} tags from the same {budget['num_train']:,} generated pieces "
        f"of some {budget['seconds']:.0f} s by `recipes/generated-tags.yaml`: {one['num_steps']:,} steps of "
        f"{recipe['per_device_train_batch_size']} windows, each drawn at random from its piece, AdamW with a rate of "
        f"up to {recipe['learning_rate']:g}, one seed, no augmentation. Measured on {budget['num_test']} pieces of "
        "other seeds; a piece's score is the mean probability of its whole windows, one after the other. In brackets "
        "95 % intervals of the bootstrap over pieces: of these weights, for another seed of training was not tried."
        f"{silent}"
    )


def _fairness(learned: Sequence[Mapping[str, Any]]) -> str:
    shortest, longest = (limit(result["input_seconds"] for result in learned) for limit in (min, max))
    return (
        "Alike for all is the number of labelled windows and of steps, as in the published comparisons, where an epoch "
        f"is one excerpt of each song. A model of {longest:.0f} s therefore hears {longest / shortest:.0f} times the "
        f"audio of one of {shortest:.0f} s, and training takes what its operations cost; with the same audio it would "
        "have as many times fewer labels to learn from. Tags are those of the whole piece, and what sounds for a "
        "moment may not be in a short window: that is a price of short inputs, and is not taken off them. Batch norms "
        "remember a tenth of each step's statistics, those of musicnn too, whose own hundredth is for long trainings. "
        "The logistic regression, for scale, has statistics of the whole of each piece, ten times the audio of a short "
        "window, and nothing to learn but weights. "
        f"**{learned[0]['num_windows']:,} windows are few: the table says which architectures learn fast, not which is "
        "best.** For that, see the published figures."
    )


def published() -> str:
    """What others measured on recordings, with its source."""
    return "\n\n".join(
        [
            "ROC-AUC / PR-AUC, means over 50 tags. Nothing of this was measured by this project.",
            table(
                ["", "MagnaTagATune", "Million Song Dataset", "MTG-Jamendo"],
                [[name, *cells] for name, cells in PUBLISHED.items()],
            ),
            _wrapped(
                'Source: Won, Ferraro, Bogdanov and Serra, "Evaluation of CNN-based automatic music tagging models", '
                "SMC 2020, and for the transformer Won, Choi and Serra, ISMIR 2021, as the tutorial on music "
                "classification of ISMIR 2021 tables them. MagnaTagATune is without its untagged clips, by the first "
                "author's word in issue 25 of their code, though the paper says otherwise; the Million Song Dataset "
                "has its conventional split, with artists on both sides; MTG-Jamendo is split 0. Somebody who trained "
                "the Harmonic CNN again on MagnaTagATune got .9148 to .9157 / .4617 to .4666 (issue 5), so "
                "differences of .003 in ROC-AUC are no more than those between versions of libraries."
            ),
            table(
                ["musicnn's own weights", "measured on", "ROC-AUC / PR-AUC"],
                [[name, *cells] for name, cells in PUBLISHED_MUSICNN.items()],
            ),
            _wrapped(
                "Source: the result files of jordipons/musicnn. With untagged clips PR-AUC is lower, so the first two "
                "rows do not compare with the column above."
            ),
        ]
    )


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, 130, break_long_words=False, break_on_hyphens=False)


def filled(text: str, results: Mapping[str, Any]) -> str:
    """The README with its slots filled.

    Raises:
        ValueError: A slot is not there exactly once.
    """
    for name, content in {"trained": trained(results), "published": published()}.items():
        pattern = rf"(<!-- {name}:start -->).*?(<!-- {name}:end -->)"
        text, count = re.subn(
            pattern, lambda match, c=content: f"{match[1]}\n\n{c.strip()}\n\n{match[2]}", text, flags=re.S
        )
        if count != 1:
            raise ValueError(f"recipes/README.md has {count} slots named {name!r}; expected one")
    return text
