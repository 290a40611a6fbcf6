# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest


@pytest.fixture
def make_result():
    """Returns a function that makes a result as the pipeline gives it, with scores that follow slow waves."""

    def ranked(scores, multi_label):
        best = max(scores, key=scores.get)
        entries = [
            {"label": label, "score": round(score, 6), "active": score >= 0.5 if multi_label else label == best}
            for label, score in scores.items()
        ]
        return sorted(entries, key=lambda entry: -entry["score"])

    def score_window(labels, time, multi_label):
        waves = {label: math.sin(time / 17 + 1.7 * place) for place, label in enumerate(labels)}
        if multi_label:
            return {label: 1 / (1 + math.exp(-2 * wave)) for label, wave in waves.items()}
        total = sum(math.exp(2 * wave) for wave in waves.values())
        return {label: math.exp(2 * wave) / total for label, wave in waves.items()}

    def make(duration=29.3, multi=None, single=None, silent=(), file="song.mp3", quality=(), settings=True):
        multi = {"emotion": ["joy", "sadness", "anger", "disappointment"]} if multi is None else multi
        single = {"vibe": ["aggressive", "technical"], "tempo": ["slow", "fast"]} if single is None else single
        tasks = {**multi, **single}
        segments = []
        for number in range(max(1, math.ceil((duration - 10) / 5) + 1)):
            start = 5.0 * number
            segment = {"start": start, "end": min(start + 10, duration), "quality": []}
            for task, labels in tasks.items():
                heard = not any(low <= start and segment["end"] <= high for low, high in silent)
                segment[task] = ranked(score_window(labels, start, task in multi), task in multi) if heard else []
            segments.append(segment)
        result = {"file": file, "duration": duration, "sampling_rate": 44100, "quality": list(quality)}
        for task, labels in tasks.items():
            heard = [
                {entry["label"]: entry["score"] for entry in segment[task]} for segment in segments if segment[task]
            ]
            means = {label: sum(scores[label] for scores in heard) / len(heard) for label in labels} if heard else {}
            result[task] = ranked(means, task in multi) if heard else []
        result |= {"segments": segments, "model": {"name": "fake"}}
        if settings:
            result["settings"] = {"thresholds": dict.fromkeys(multi, 0.5)}
        return result

    return make
