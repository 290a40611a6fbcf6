# SPDX-License-Identifier: Apache-2.0
"""What a tagger computes from its audio before the first layer, as a plain dict in its configuration."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from .configuration_values import is_number, is_size

_SPECTRUM: dict[str, Any] = {
    "n_fft": 512,
    "hop_length": 256,
    "pad_mode": "reflect",
    "compression": "db",
    "scale": 10_000.0,
}

# Every kind with the keys it has and their defaults, those of the sota-music-tagging-models family.
KINDS: dict[str, dict[str, Any]] = {
    "raw": {},
    "mel": {
        **_SPECTRUM,
        "win_length": None,
        "num_mel_bins": 128,
        "min_frequency_hz": 0.0,
        "max_frequency_hz": 8000.0,
        "mel_scale": "htk",
        "mel_norm": None,
    },
    "harmonic": {
        **_SPECTRUM,
        "num_harmonics": 6,
        "bands_per_semitone": 2,
        "min_frequency_hz": 32.703,
        "initial_q": 1.0,
        "learn_q": True,
    },
}

_CHOICES: dict[str, tuple[Any, ...]] = {
    "pad_mode": ("reflect", "constant"),
    "compression": ("db", "log10", "ln"),
    "mel_scale": ("htk", "slaney"),
    "mel_norm": (None, "slaney"),
    "learn_q": (True, False),
}
_COUNTS = ("n_fft", "hop_length", "num_mel_bins", "num_harmonics", "bands_per_semitone")
_POSITIVE = ("scale", "initial_q", "max_frequency_hz")


def check_names(given: Iterable[Any], known: Iterable[str], what: str) -> None:
    """Refuse the first name that is not known, and say which one it resembles.

    Args:
        given: The names that came.
        known: The names there are.
        what: What they name and where, such as "key of `feature`".

    Raises:
        ValueError: A name is not among the known ones.
    """
    known = list(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"Unknown {what}: {name!r}; {hint}Known are {', '.join(map(repr, sorted(known)))}.")


def fill_feature(feature: Mapping[str, Any]) -> dict[str, Any]:
    """A complete, valid copy of a feature's description.

    Args:
        feature: At least `kind`:

            * "raw": the waveform itself; no other keys.
            * "mel": power in mel bands, compressed. `n_fft` (even), `win_length` (of the periodic Hann window in the
              middle of a frame; `None`: `n_fft`), `hop_length`, `num_mel_bins`, `min_frequency_hz`,
              `max_frequency_hz`, `mel_scale` ("htk" or "slaney"), `mel_norm` (`None` or "slaney", area one), `pad_mode`
              ("reflect" or "constant", at both ends), `compression` ("db": 10 log10(max(x, 1e-10)); "log10":
              log10(scale x + 1); "ln": ln(scale x + 1)) and `scale`, which "db" does not use.
            * "harmonic": power in triangles around the multiples 1 to `num_harmonics` of notes, from the one nearest
              `min_frequency_hz` on, `bands_per_semitone` of them; their quality starts as `initial_q` and is a
              parameter if `learn_q`. `n_fft`, `hop_length`, `pad_mode`, `compression` and `scale` as above.

    Returns:
        The description with all keys of its kind and no other.

    Raises:
        ValueError: A key is unknown, or a value not allowed; the message names it.
    """
    if not isinstance(feature, Mapping):
        raise ValueError(f"`feature` is {feature!r}; it must be a dict such as {{'kind': 'mel', 'num_mel_bins': 128}}.")
    if "kind" not in feature:
        raise ValueError(f"`feature` lacks 'kind'; allowed: {', '.join(map(repr, KINDS))}.")
    kind = feature["kind"]
    check_names([kind], KINDS, "`feature['kind']`")
    check_names(feature, ["kind", *KINDS[kind]], f"key of `feature` of kind {kind!r}")
    filled = {"kind": kind, **KINDS[kind], **feature}
    for name, value in filled.items():
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ValueError(f"`feature[{name!r}]` is {value!r}; allowed: {', '.join(map(repr, _CHOICES[name]))}.")
        if name in _COUNTS and not is_size(value):
            raise ValueError(f"`feature[{name!r}]` is {value!r}; it must be a positive whole number.")
        if name in _POSITIVE and not (is_number(value) and value > 0):
            raise ValueError(f"`feature[{name!r}]` is {value!r}; it must be a positive number.")
    if kind != "raw" and filled["n_fft"] % 2:
        raise ValueError(f"`feature['n_fft']` is {filled['n_fft']}; it must be even, so that frames have a middle.")
    if kind != "raw" and filled["hop_length"] > filled["n_fft"]:
        raise ValueError(
            f"`feature['hop_length']` is {filled['hop_length']} and `n_fft` {filled['n_fft']}: what lies between two "
            "frames would go unheard. Lower the first, or raise the second."
        )
    length = filled.get("win_length")
    if length is not None and not (is_size(length) and length <= filled["n_fft"]):
        raise ValueError(
            f"`feature['win_length']` is {length!r}; it must be a whole number from 1 to `n_fft`, which is "
            f"{filled['n_fft']}, or None for all of it."
        )
    if kind == "mel" and not (
        is_number(filled["min_frequency_hz"]) and 0 <= filled["min_frequency_hz"] < filled["max_frequency_hz"]
    ):
        raise ValueError(
            f"`feature['min_frequency_hz']` is {filled['min_frequency_hz']!r}; it must lie in "
            f"[0, max_frequency_hz), and `max_frequency_hz` is {filled['max_frequency_hz']}."
        )
    if kind == "harmonic" and not (is_number(filled["min_frequency_hz"]) and filled["min_frequency_hz"] > 0):
        raise ValueError(f"`feature['min_frequency_hz']` is {filled['min_frequency_hz']!r}; it must be positive.")
    return filled


def filled_mel(defaults: Mapping[str, Any], given: Any = None) -> dict[str, Any]:
    """A complete description of kind "mel", for models that hear nothing else.

    Args:
        defaults: Of the model.
        given: Keys that differ, or `None`.

    Raises:
        ValueError: It is no dict, of another kind, or not well formed.
    """
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"`feature` is {given!r}; it must be a dict such as {{'num_mel_bins': 96}}.")
    merged = {**defaults, **(given or {})}
    if merged.get("kind") != "mel":
        raise ValueError(f"`feature['kind']` is {merged.get('kind')!r}; this model hears a 'mel' spectrogram.")
    return fill_feature(merged)


def check_below_half_the_rate(feature: Mapping[str, Any], sampling_rate: int) -> None:
    """Refuse mel bands of which audio at that rate holds nothing.

    Raises:
        ValueError: The highest band reaches above half the sampling rate.
    """
    if feature["kind"] == "mel" and feature["max_frequency_hz"] > sampling_rate / 2:
        raise ValueError(
            f"`feature['max_frequency_hz']` is {feature['max_frequency_hz']} Hz; audio at {sampling_rate} Hz holds "
            f"nothing above {sampling_rate / 2} Hz. Lower it, or raise `sampling_rate`."
        )


def harmonic_notes(feature: Mapping[str, Any], sampling_rate: int) -> tuple[int, int]:
    """MIDI numbers of the lowest note of a harmonic feature, and of the one above its highest band.

    The highest is the note nearest to `sampling_rate / (2 num_harmonics)`: its last harmonic is still heard.

    Raises:
        ValueError: There is no note between the two.
    """
    low = round(_midi(feature["min_frequency_hz"]))
    high = round(_midi(sampling_rate / (2 * feature["num_harmonics"])))
    if high <= low:
        raise ValueError(
            f"No band fits: at {sampling_rate} Hz the highest note with {feature['num_harmonics']} harmonics is MIDI "
            f"{high}, and the lowest, `min_frequency_hz`, is {low}. Ask for fewer harmonics or a lower frequency."
        )
    return low, high


def feature_shape(feature: Mapping[str, Any], sampling_rate: int, num_samples: int) -> tuple[int, ...]:
    """Shape of a clip's feature without the batch: `(1, num_samples)`, or `(channels, num_bands, num_frames)`.

    Args:
        feature: As `fill_feature` gives it.
        sampling_rate: Hz.
        num_samples: Length of the clip.

    Raises:
        ValueError: Its bands do not fit below half the rate.
    """
    check_below_half_the_rate(feature, sampling_rate)
    if feature["kind"] == "raw":
        return (1, num_samples)
    num_frames = 1 + num_samples // feature["hop_length"]
    if feature["kind"] == "mel":
        return (1, feature["num_mel_bins"], num_frames)
    low, high = harmonic_notes(feature, sampling_rate)
    return (feature["num_harmonics"], (high - low) * feature["bands_per_semitone"], num_frames)


def shortest_feature(feature: Mapping[str, Any]) -> int:
    """Samples below which a clip has no feature: the reflection at its ends needs more than half a window."""
    if feature["kind"] == "raw" or feature["pad_mode"] != "reflect":
        return 1
    return int(feature["n_fft"]) // 2 + 1


def _midi(frequency_hz: float) -> float:
    return 69.0 + 12.0 * math.log2(frequency_hz / 440.0)
