# SPDX-License-Identifier: Apache-2.0
"""Does a hull continue playlists better than a mean? Measured on generated albums, of which half the songs are hidden.

    python benchmarks/playlists.py                       on mel statistics
    python benchmarks/playlists.py --model FOLDER        on the embeddings of a model
    python benchmarks/playlists.py --print               the table, from what was measured before

Three kinds of playlists: *album*, half an album, to be continued by its other half; *mixed*, songs of two albums of two
bands; *theme*, songs of one vibe and tempo class by many bands. Every way to rank chooses its settings on the bands of
validation, and is measured on other bands. Results go to benchmarks/playlists.json and, as a table, to playlists.md.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from playlist_ranking import METRICS, WAYS, Playlist, rank_all
from run import environment, render_environment
from timing import table

from hf_mathrock.metrics.bootstrap import bootstrap_intervals
from hf_mathrock.playlists.whitening import Whitening
from hf_mathrock.synthesis.albums import AlbumSong, draw_albums, facts_of_song

RESULTS, TABLE = Path(__file__).with_name("playlists.json"), Path(__file__).with_name("playlists.md")
KINDS = ("album", "mixed", "theme")
BANDS = {"validation": 12, "test": 24}
SONGS_PER_ALBUM, SECONDS = 10, 24.0
GIVEN_OF_THEME = 8
_SEEDS = {"validation": 501, "test": 502}
_TITLES = {"r_precision": "R-precision", "recall_at_20": "recall@20", "reciprocal_rank": "MRR"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="folder or Hub name of a model; default: mel statistics")
    parser.add_argument("--how", choices=("whole", "chunks"), default="whole", help="what a model hears at a time")
    parser.add_argument("--name", help="what the results are called; default: the folder's name and --how")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "hf-mathrock-playlists")
    parser.add_argument("--print", action="store_true", dest="only_print", help="measure nothing")
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    if not args.only_print:
        name = args.name or (f"{Path(args.model).name}, {args.how}" if args.model else "mel statistics")
        results[name] = measure(args.model, args.how, args.work)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    text = render(results)
    TABLE.write_text(text, "utf-8")
    print(text)


def measure(model: str | None, how: str, work: Path) -> dict[str, Any]:
    """Embed both sets of bands, choose settings on one, and measure on the other."""
    sets = {}
    for part, num_bands in BANDS.items():
        songs = [
            song
            for album in draw_albums(_SEEDS[part], num_bands, songs_per_album=SONGS_PER_ALBUM, seconds=SECONDS)
            for song in album.songs
        ]
        embeddings = embed(songs, model, how, work / part).astype(np.float64)
        sets[part] = (songs, embeddings, Whitening.fit(embeddings), draw_playlists(songs))
    result: dict[str, Any] = {
        "num_songs": {part: len(songs) for part, (songs, *_) in sets.items()},
        "num_playlists": {
            part: {kind: sum(p.kind == kind for p in playlists) for kind in KINDS}
            for part, (*_, playlists) in sets.items()
        },
        "embedding_size": sets["test"][1].shape[1],
        "environment": environment(),
        "ways": {},
    }
    found = {}
    for name, way in WAYS.items():
        _, embeddings, whitening, playlists = sets["validation"]
        usable = [s for s in way.settings if (s.num_dimensions or 0) <= whitening.num_dimensions]
        tried = {s: rank_all(way, s, embeddings, whitening, playlists) for s in usable}
        validation = {s: _mean_of_kinds(values[:, 0], playlists) for s, values in tried.items()}
        setting = max(validation, key=lambda s: validation[s])
        _, embeddings, whitening, playlists = sets["test"]
        found[name] = rank_all(way, setting, embeddings, whitening, playlists)
        result["ways"][name] = {
            "setting": str(setting),
            "validation": validation[setting],
            "all_settings": {str(s): value for s, value in validation.items()},
            "kinds": {kind: _with_intervals(found[name], playlists, kind) for kind in KINDS},
        }
        print(f"{way.title}: {setting}, {validation[setting]:.3f} on validation", flush=True)
    result["comparison"] = compare(found, result["ways"], sets["test"][3])
    result["chance"] = {
        kind: float(
            np.mean([len(p.wanted) / (len(sets["test"][0]) - len(p.given)) for p in playlists if p.kind == kind])
        )
        for kind in KINDS
    }
    return result


def compare(
    found: Mapping[str, np.ndarray], ways: Mapping[str, Any], playlists: Sequence[Playlist]
) -> dict[str, dict[str, Any]]:
    """By kind, R-precision of the hull that was best on validation, less that of every other way."""
    hull = max((name for name in ways if WAYS[name].is_hull), key=lambda name: ways[name]["validation"])
    compared = {}
    for kind in KINDS:
        chosen = [i for i, playlist in enumerate(playlists) if playlist.kind == kind]
        groups = [playlists[i].group for i in chosen]
        others = {}
        for name in ways:
            if not WAYS[name].is_hull:
                difference = (found[hull] - found[name])[chosen, 0]
                others[name] = [float(difference.mean()), _interval(difference, groups)]
        wins = all(interval is not None and interval[0] > 0 for _, interval in others.values())
        compared[kind] = {"hull": hull, "others": others, "wins": wins}
    return compared


def draw_playlists(songs: Sequence[AlbumSong]) -> list[Playlist]:
    """Playlists of all kinds among a set of songs, the same for the same songs."""
    rng = np.random.default_rng(len(songs))
    albums: dict[tuple[str, str], list[int]] = {}
    themes: dict[tuple[str, str], list[int]] = {}
    for place, song in enumerate(songs):
        albums.setdefault((song.artist, song.album), []).append(place)
        facts = facts_of_song(song)
        themes.setdefault((str(facts["vibe"]), str(facts["tempo"])), []).append(place)
    playlists = []
    for (artist, _), places in albums.items():
        for _ in range(2):
            shuffled = rng.permutation(places)
            half = len(places) // 2
            playlists.append(Playlist("album", shuffled[:half], shuffled[half:], artist))
    pairs = [(a, b) for a, b in itertools.combinations(albums, 2) if a[0] != b[0]]
    for index in rng.permutation(len(pairs))[: 2 * len(albums)]:
        halves = [rng.permutation(albums[key]) for key in pairs[index]]
        given, wanted = (np.concatenate([half[part] for half in halves]) for part in (slice(0, 4), slice(4, None)))
        playlists.append(Playlist("mixed", given, wanted, pairs[index][0][0]))
    for theme, places in themes.items():
        # A theme of one band would be an album under another name.
        if len(places) >= 2 * GIVEN_OF_THEME and len({songs[i].artist for i in places}) >= 4:
            for _ in range(6):
                shuffled = rng.permutation(places)
                group = " ".join(theme)
                playlists.append(Playlist("theme", shuffled[:GIVEN_OF_THEME], shuffled[GIVEN_OF_THEME:], group))
    return playlists


def embed(songs: Sequence[AlbumSong], model: str | None, how: str, work: Path) -> np.ndarray:
    """Embeddings of songs, `(num_songs, embedding_size)`; spectrograms are kept in `work`."""
    from hf_mathrock.data.mel_cache import MelCache, decibel_settings, write_mel_cache
    from hf_mathrock.data.tracks import Track
    from hf_mathrock.evaluation.track_embeddings import embed_tracks, mel_statistics
    from hf_mathrock.models.feature_extraction_myna import MynaFeatureExtractor

    def cache(extractor: Any) -> MelCache:
        settings = json.dumps(decibel_settings(extractor), sort_keys=True, default=str)
        folder = work / hashlib.blake2b(settings.encode(), digest_size=6).hexdigest()
        tracks = [
            Track(
                f"{song.artist}/{song.album}/{song.number:02d}",
                replace(song, sampling_rate=extractor.sampling_rate),
                artist=song.artist,
                album=song.album,
            )
            for song in songs
        ]
        return write_mel_cache(folder, tracks, extractor)

    if model is None:
        return mel_statistics(cache(MynaFeatureExtractor.from_preset("default")))
    import hf_mathrock

    hf_mathrock.register()
    from transformers import AutoFeatureExtractor, AutoModel

    extractor, encoder = AutoFeatureExtractor.from_pretrained(model), AutoModel.from_pretrained(model)
    if hasattr(extractor, "decibels"):
        return embed_tracks(encoder, extractor, cache(extractor), how=how)
    heard = [replace(song, sampling_rate=extractor.sampling_rate) for song in songs]
    return embed_tracks(encoder, extractor, heard, how="chunks", chunk_seconds=extractor.window_seconds)


def render(results: Mapping[str, Any]) -> str:
    """All results as Markdown."""
    parts = [
        "# Continuing playlists",
        "Made by `benchmarks/playlists.py`; the numbers are in `benchmarks/playlists.json`.",
    ]
    for name, result in results.items():
        parts += [f"## {name}", _protocol(result)]
        for kind in KINDS:
            rows = [_row(way, result["ways"][way], kind) for way in result["ways"]]
            header = [f"{kind} playlists", *(f"{_TITLES[metric]} (95 %)" for metric in METRICS), "setting"]
            chance = f"An order at random has an R-precision of {result['chance'][kind]:.3f}."
            parts += [table(header, rows), f"{_verdict(result['comparison'][kind])} {chance}"]
        parts.append(render_environment(result["environment"]))
    return "\n\n".join(parts) + "\n"


def _protocol(result: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} {kind}" for kind, count in result["num_playlists"]["test"].items())
    return (
        f"{result['num_songs']['test']} songs of {BANDS['test']} generated bands, two albums each, some "
        f"{SECONDS:.0f} s a song; {result['embedding_size']} dimensions; playlists: {counts}. Settings were chosen by "
        f"the mean R-precision of the kinds on {result['num_songs']['validation']} songs of {BANDS['validation']} "
        "other bands. "
        "Songs of an album share instruments, room and master beside vibes, tempo and keys, as on real albums. "
        "Intervals: bootstrap over bands (themes: over themes)."
    )


def _row(name: str, way: Mapping[str, Any], kind: str) -> list[str]:
    cells = []
    for metric in METRICS:
        value, interval = way["kinds"][kind][metric]
        cells.append(f"{value:.3f}" + (f" ({interval[0]:.3f}–{interval[1]:.3f})" if interval else ""))
    return [WAYS[name].title, *cells, way["setting"]]


def _verdict(comparison: Mapping[str, Any]) -> str:
    """In R-precision; a hull that does not surely beat every other way is experimental."""
    said = []
    for name, (difference, interval) in comparison["others"].items():
        limits = f" ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else ""
        said.append(f"{difference:+.3f}{limits} to {WAYS[name].title}")
    head = "The hull wins" if comparison["wins"] else "The hull does not surely win: experimental"
    return f"**{head}.** R-precision of {WAYS[comparison['hull']].title}, chosen on validation: {', '.join(said)}."


def _mean_of_kinds(values: np.ndarray, playlists: Sequence[Playlist]) -> float:
    """Every kind counts alike, however many playlists it has."""
    kinds = np.array([playlist.kind for playlist in playlists])
    return float(np.mean([values[kinds == kind].mean() for kind in KINDS if (kinds == kind).any()]))


def _with_intervals(values: np.ndarray, playlists: Sequence[Playlist], kind: str) -> dict[str, Any]:
    chosen = [i for i, playlist in enumerate(playlists) if playlist.kind == kind]
    groups = [playlists[i].group for i in chosen]
    return {
        metric: [float(values[chosen, column].mean()), _interval(values[chosen, column], groups)]
        for column, metric in enumerate(METRICS)
    }


def _interval(values: np.ndarray, groups: Sequence[str]) -> list[float] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = bootstrap_intervals(lambda drawn: {"mean": float(values[drawn].mean())}, len(values), groups=groups)
    return [float(limit) for limit in found["mean"]] if "mean" in found else None


if __name__ == "__main__":
    main()
