# SPDX-License-Identifier: Apache-2.0
"""One recording and one model in, the evidence for some of its tags out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hf_mathrock.explanation.contribution import contribution_evidence, has_contributions
from hf_mathrock.explanation.listening import Listener, Tag
from hf_mathrock.explanation.occlusion import occlude_bands, occlude_stretches, stretches
from hf_mathrock.explanation.replacement import BASELINES, DEFAULT_BASELINE, band_baseline, mel_bands
from hf_mathrock.explanation.result import BandEvidence, Explanation
from hf_mathrock.models.audio_input import AudioSource, AudioWindow, open_audio

METHODS = ("auto", "contribution", "occlusion")
_LONGEST_STRETCH_SECONDS = 1.0
_STRETCHES_PER_WINDOW = 10
_STEPS_PER_STRETCH = 4


def explain(
    pipe: Any,
    audio: Any,
    labels: Sequence[str] | str | None = None,
    *,
    top_k: int = 5,
    task: str | None = None,
    method: str = "auto",
    start: float | None = None,
    whole: bool = False,
    width: float | None = None,
    step: float | None = None,
    bands: int = 0,
    baseline: str | None = None,
    batch_size: int = 8,
    sampling_rate: int | None = None,
    report_progress: Callable[[int], None] | None = None,
) -> Explanation:
    """Finds where in a recording the evidence for tags lies.

    A recording longer than the model's window is explained in one window: at `start`, or where the tags are most
    probable; or, with `whole`, in all of its windows.

    Args:
        pipe: A pipeline of this package, such as `pipeline("music-tagging", model=...)`; options it was made with that
            concern windows or results have no say here.
        audio: One recording in any form that `open_audio` takes.
        labels: Tags to explain, each as `label`, or as `task/label` where several tasks have it; `None`: those of the
            highest probability.
        top_k: How many tags to explain if none are named.
        task: The task that these come from; `None`: the first multi-label task, or else the first.
        method: "occlusion": works with every model; "contribution": models with attention over time; "auto":
            contribution where the model has it, unless an option of occlusion is given.
        start: Where the window to explain begins, in seconds.
        whole: Explain all windows.
        width: Of an occluded stretch in seconds; `None`: a tenth of the window, at most a second, and at least `step`.
        step: Seconds between the beginnings of neighbouring stretches; `None`: a quarter of the width.
        bands: Into how many bands of frequencies, equally wide on the mel scale, to cut the audio for an explanation by
            frequency, always by occlusion; 0: none.
        baseline: What stands in for what is occluded: "noise" (the default), "silence" or "surroundings"; `BASELINES`.
        batch_size: Windows in a forward pass; changes values by less than 1e-6.
        sampling_rate: Hz, of bare arrays; `None`: the extractor's.
        report_progress: Called with the number of windows heard so far, after each forward pass.

    Returns:
        See `Explanation`. The same input gives the same result: nothing is random.

    Raises:
        AudioReadError: The recording cannot be read (a `ValueError`).
        ValueError: The model has no such tag, task or method; an option is out of range; there is nothing to hear; or
            the audio is too short for the width.
    """
    _check_options(method, top_k, start, whole, bands, baseline, batch_size)
    listener = Listener(pipe, batch_size, report_progress)
    wanted = None if labels is None else listener.find([labels] if isinstance(labels, str) else labels)
    if wanted is not None and not wanted:
        raise ValueError("`labels` is empty; name at least one tag, or leave it out for the most probable ones")
    if task is not None:
        listener.config.task(task)
    method = _chosen_method(pipe.model, method, occludes=(width, step, baseline) != (None, None, None))
    baseline = DEFAULT_BASELINE if baseline is None else baseline

    with open_audio(audio, sampling_rate or listener.extractor.sampling_rate) as source:
        part = _Part(listener, source, start, whole)
        tags = part.choose(wanted, top_k, task)
        places = [tag.place for tag in tags]
        settings: dict[str, Any] = {"whole": whole, "start": start, "batch_size": batch_size}
        if method == "contribution":
            times, values = contribution_evidence(listener, part.windows())
            against = "the tag's probability if the model attended to this stretch alone"
        else:
            width, step = _grid(width, step, listener.extractor.window_seconds, part.windows_heard)
            settings |= {"width": width, "step": step, "baseline": baseline}
            times = stretches(part.windows_heard[0][0], part.windows_heard[-1][1], width, step)
            values, heard = occlude_stretches(listener, part.windows(), times, baseline)
            # What lies in silence, or hardly reaches out of it, was not heard.
            if not (heard > 0.5).any():
                raise ValueError(
                    f"no stretch of {width:g} s was heard by half, since silence surrounds what sounds: give a shorter "
                    "`width` than the sound lasts"
                )
            times, values = times[heard > 0.5], values[:, heard > 0.5]
            against = f"the stretch replaced by {BASELINES[baseline]}"
        by_band = None
        if bands:
            edges = mel_bands(bands, _highest_frequency(listener.extractor))
            of_bands = occlude_bands(listener, part.windows(), edges, baseline)
            by_band = BandEvidence(edges, of_bands[places], f"the band replaced by {band_baseline(baseline)}")
            settings["bands"] = bands
        return Explanation(
            file=source.info.file,
            duration=part.duration,
            start=part.start,
            end=part.end,
            labels=[tag.label for tag in tags],
            tasks=[tag.task for tag in tags],
            probabilities=part.probabilities[places],
            times=times,
            values=values[places],
            method=method,
            baseline=against,
            bands=by_band,
            model=dict(pipe.model_card),
            settings=settings,
        )


def _check_options(
    method: str,
    top_k: int,
    start: float | None,
    whole: bool,
    bands: int,
    baseline: str | None,
    batch_size: int,
) -> None:
    if method not in METHODS:
        raise ValueError(f"`method` is {method!r}; allowed: {', '.join(METHODS)}")
    if baseline is not None and baseline not in BASELINES:
        raise ValueError(f"`baseline` is {baseline!r}; allowed: {', '.join(BASELINES)}")
    if top_k < 1:
        raise ValueError(f"`top_k` is {top_k}; it must be at least 1")
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}; it must be at least 1")
    if bands < 0 or bands == 1:
        raise ValueError(f"`bands` is {bands}; it must be at least 2, since one band is all there is, or 0 for none")
    if start is not None and not 0 <= start < float("inf"):
        raise ValueError(f"`start` is {start}; it must be a number of seconds from 0 on")
    if start is not None and whole:
        raise ValueError("`start` chooses one window and `whole` takes all of them; give one of the two")


def _chosen_method(model: Any, method: str, occludes: bool) -> str:
    if method == "occlusion":
        return method
    if method == "auto":
        return "contribution" if has_contributions(model) and not occludes else "occlusion"
    if not has_contributions(model):
        raise ValueError(
            f"this {model.config.model_type} model has no attention over time to read contributions from (a "
            "music_tagging_transformer has, and a music_tagger with the architecture cnnsa); use method='occlusion' "
            "(--method occlusion)"
        )
    if occludes:
        raise ValueError("`width`, `step` and `baseline` are options of method='occlusion', not of 'contribution'")
    return method


def _grid(
    width: float | None, step: float | None, window_seconds: float, windows_heard: list[tuple[float, float]]
) -> tuple[float, float]:
    """Width and step of the stretches, in seconds."""
    if width is None:
        width = round(min(_LONGEST_STRETCH_SECONDS, window_seconds / _STRETCHES_PER_WINDOW), 2)
        heard = windows_heard[-1][1] - windows_heard[0][0]
        width = min(max(width, step or 0.0), heard / 2)
    return width, width / _STEPS_PER_STRETCH if step is None else step


def _highest_frequency(extractor: Any) -> float:
    """The highest frequency that the model hears, in Hz."""
    nyquist = max(extractor.sampling_rates) / 2
    return min(nyquist, getattr(extractor, "max_frequency_hz", None) or nyquist)


class _Part:
    """The part of a recording that is explained, and what the model says of it.

    Attributes:
        start: Seconds; of the whole recording 0.
        end: Seconds; of the whole recording its duration.
        duration: Of the whole recording, in seconds.
        windows_heard: Beginning and end of its sounding windows.
        probabilities: Of all labels: of its window, or the mean over its windows; final once `choose` was called.
    """

    def __init__(self, listener: Listener, source: AudioSource, start: float | None, whole: bool) -> None:
        self._listener = listener
        self._source = source
        self._whole = whole
        self._excerpt: AudioWindow | None = None
        self._indices: list[int] = []
        if start is None:
            self._survey()
        else:
            extractor = listener.extractor
            self._excerpt = source.excerpt(start, extractor.window_seconds, extractor.sampling_rates)
            if "silent" in self._excerpt.quality:
                raise ValueError(f"there is only silence at {start:g} s, and silence has no tags to explain")
            self.windows_heard = [(self._excerpt.start, self._excerpt.end)]
            self._scores = listener([self._excerpt])
            frames = source.info.claimed_frames
            self.duration = self._excerpt.end if frames is None else frames / source.info.sampling_rate
        self._settle()

    def _survey(self) -> None:
        """Hears the whole recording once."""
        self.windows_heard = []

        def sounding() -> Iterator[AudioWindow]:
            for window in self._windows_of_recording():
                if "silent" not in window.quality:
                    self._indices.append(window.index)
                    self.windows_heard.append((window.start, window.end))
                    yield window

        self._scores = self._listener(sounding())
        self.duration = self._source.report().duration
        if not self.windows_heard:
            raise ValueError("the recording is silent, and silence has no tags to explain")

    def _windows_of_recording(self) -> Iterator[AudioWindow]:
        return self._listener.extractor.windows(self._source)

    def _settle(self) -> None:
        self.start, self.end = (0.0, self.duration) if self._whole else self.windows_heard[0]
        self.probabilities = self._scores.mean(axis=0)

    def choose(self, wanted: list[Tag] | None, top_k: int, task: str | None) -> list[Tag]:
        """The tags to explain; of several windows, unless all are wanted, only that of the likeliest tags is kept."""
        tags = self._listener.best(self.probabilities, top_k, task) if wanted is None else wanted
        if not self._whole and self._excerpt is None:
            best = int(self._scores[:, [tag.place for tag in tags]].mean(axis=1).argmax())
            self.windows_heard, self._indices = [self.windows_heard[best]], [self._indices[best]]
            self._scores = self._scores[best : best + 1]
            self._settle()
        return tags

    def windows(self) -> Iterator[AudioWindow]:
        """Its sounding windows, read anew."""
        if self._excerpt is not None:
            yield self._excerpt
            return
        wanted = set(self._indices)
        for window in self._windows_of_recording():
            if window.index in wanted:
                yield window
            if window.index == self._indices[-1]:
                return
