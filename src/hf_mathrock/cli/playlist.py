# SPDX-License-Identifier: Apache-2.0
"""Make a playlist: songs that lie among some songs, just beyond them, or on the way to others."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mathrock.cli.terminal import (
    UsageError,
    positive_float,
    positive_int,
    probability,
    results_console,
    say,
    show_own_warnings,
)

if TYPE_CHECKING:
    from hf_mathrock.library.playlist_files import PlaylistEntry

SUMMARY = "make a playlist from embeddings (experimental): fill, expand, or bridge to other songs"
MODES = ("fill", "expand", "bridge")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `hf-mathrock playlist`."""
    unset: dict[str, Any] = {"default": argparse.SUPPRESS}  # the function's own value is used
    parser.add_argument(
        "--like", nargs="+", required=True, metavar="SONG", help="songs, folders or playlists (.m3u8, .xspf)"
    )
    parser.add_argument(
        "--from", dest="runs", nargs="+", required=True, metavar="RUN", help="what `hf-mathrock embed` wrote"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="list.m3u8 or list.xspf")
    parser.add_argument(
        "--mode",
        choices=MODES,
        help="fill: among the songs (default); expand: just beyond them; bridge: on the way to --to",
        **unset,
    )
    parser.add_argument("--to", nargs="+", metavar="SONG", help="where a bridge leads", **unset)
    parser.add_argument("--num", type=positive_int, metavar="N", default=20, help="how many new songs (20)")
    what = parser.add_argument_group("which songs")
    what.add_argument("--max-per-artist", type=positive_int, metavar="N", help="new songs of one artist (1)", **unset)
    what.add_argument("--diversity", type=probability, metavar="X", help="fill: 0 alike, 1 varied (0.3)", **unset)
    what.add_argument("--reach", type=positive_float, metavar="X", help="expand: how far, above 1 (1.3)", **unset)
    what.add_argument(
        "--geometry", choices=("cone", "euclidean"), default="cone", help="what songs are to each other (cone)"
    )
    shown = parser.add_argument_group("output")
    shown.add_argument("--explain", action="store_true", help="show all that is known of why a song was chosen")
    shown.add_argument("--json", action="store_true", help="print one line of JSON per new song instead of the table")
    shown.add_argument("--picture", type=Path, metavar="PNG", help="draw the songs and the choice", **unset)
    shown.add_argument("--only-new", action="store_true", help="leave --like and --to out of the playlist")
    shown.add_argument("--relative", action="store_true", help="name songs relative to the playlist's folder")
    model = parser.add_argument_group("songs that are not in RUN are embedded by its model")
    model.add_argument("--model", help="where that is, if not where it was", **unset)
    model.add_argument("--device", help="where the model runs, e.g. cpu, cuda:0, mps", **unset)


def run(args: argparse.Namespace) -> int:
    """Writes the playlist, and returns 1 if a song of `--like` or `--to` could not be used."""
    from hf_mathrock.library.embedding import read_embeddings
    from hf_mathrock.library.playlist_files import checked_suffix, write_playlist

    given = vars(args)
    mode = given.get("mode") or ("bridge" if "to" in given else "fill")
    if (mode == "bridge") != ("to" in given):
        raise UsageError("--mode bridge leads from --like to --to; give both, or neither")
    for option, of in (("diversity", "fill"), ("reach", "expand")):
        if option in given and mode != of:
            raise UsageError(f"--{option} belongs to --mode {of}, not {mode}")
    try:
        checked_suffix(args.out)
    except ValueError as error:
        raise UsageError(str(error)) from error
    show_own_warnings()
    library = read_embeddings(*args.runs)
    seeds = Seeds(library, given, debug=args.debug)
    like, to = seeds.find(args.like, "--like"), seeds.find(given.get("to", []), "--to")
    picks, hull, songs = _choose(mode, like, to, library, args)
    if not picks:
        raise ValueError(f"no song of {' '.join(args.runs)} is left to choose; embed more music")
    chosen = [library_entry(library, pick.index) for pick in picks]
    labels = _labels([*like.entries, *to.entries, *chosen])
    told = [replace(entry, note=_because(pick.because, labels)) for pick, entry in zip(picks, chosen, strict=True)]
    # A song that is gone still says where to look, but nobody can play it.
    start, end = ([entry for entry in given_songs.entries if os.path.isfile(entry.file)] for given_songs in (like, to))
    entries = told if args.only_new else [*start, *told, *end]
    write_playlist(args.out, entries, relative=args.relative)
    if args.json:
        for pick, entry in zip(picks, told, strict=True):
            print(json.dumps(_plain(pick, entry, labels), allow_nan=False))
    else:
        _print_table(picks, told, labels, mode, args.explain)
    if "picture" in given:
        _draw(args.picture, hull, songs, picks, labels)
    given_too = "" if args.only_new else f" and {len(entries) - len(told)} given"
    say(f"wrote {args.out}: {len(told)} new song(s){given_too}")
    return 1 if seeds.num_failed else 0


class Songs:
    """Songs with their embeddings."""

    def __init__(self) -> None:
        self.entries: list[PlaylistEntry] = []
        self.embeddings: list[Any] = []

    @property
    def names(self) -> list[str]:
        """Their paths."""
        return [str(entry.file) for entry in self.entries]

    def add(self, entry: PlaylistEntry, embedding: Any) -> None:
        self.entries.append(entry)
        self.embeddings.append(embedding)


class Seeds:
    """Finds the embeddings of songs that the user names: in the library, or by its model."""

    def __init__(self, library: Any, given: dict[str, Any], *, debug: bool) -> None:
        self._library = library
        self._given = given
        self._debug = debug
        self._rows = {file: row for row, file in enumerate(library.files)}
        self._pipe: Any = None
        self.num_failed = 0

    def find(self, paths: Sequence[str], option: str) -> Songs:
        """The songs that paths mean; those that cannot be used are told, and left out.

        Raises:
            UsageError: A path is no song, or the library's model is needed and cannot be found, or is another.
            ValueError: None of the songs can be used.
        """
        songs = Songs()
        files = _named(paths)
        for file in files:
            row = self._rows.get(file, self._rows.get(os.path.realpath(file)))
            if row is not None:
                songs.add(replace(library_entry(self._library, row), file=file), self._library.embeddings[row])
            else:
                self._embed(file, songs)
        if files and not songs.entries:
            raise ValueError(f"none of the songs of {option} can be used; give others")
        return songs

    def _embed(self, file: str, songs: Songs) -> None:
        from hf_mathrock.library.embedding import chunk_seconds_of, embed_files
        from hf_mathrock.library.playlist_files import PlaylistEntry

        if not os.path.isfile(file):
            in_run = self._library.left_out.get(file)
            raise UsageError(
                f"{file} is neither a file here nor has it an embedding in the run ({in_run or 'unknown'})"
            )
        chunk_seconds = chunk_seconds_of(self._library.space)
        self._pipe = self._pipe or self._load(file, chunk_seconds)
        (record,) = embed_files(self._pipe, [file], chunk_seconds=chunk_seconds)
        if record.get("error") is not None or record["embedding"] is None:
            self.num_failed += 1
            say(f"error: {record.get('error') or f'{file} is silent and says nothing'}; it is left out")
            return
        facts = {name: record[name] for name in ("title", "artist", "album", "duration")}
        songs.add(PlaylistEntry(file, **facts), record["embedding"])

    def _load(self, file: str, chunk_seconds: float | None) -> Any:
        from hf_mathrock.cli.embed import load_embedder
        from hf_mathrock.library.embedding import differences

        space, checkpoint = self._library.space, self._library.checkpoint
        where = self._given.get("model") or checkpoint.get("folder") or checkpoint.get("name")
        if not where or ("folder" in checkpoint and where == checkpoint["folder"] and not os.path.isdir(where)):
            raise UsageError(
                f"{file} is not in the run, and its model, {space.get('model')!r}, is not where it was "
                f"({where or 'unknown'}) to embed it; say where it is by --model, or embed the song into the run"
            )
        options = {"device": self._given.get("device"), "revision": None if os.path.isdir(where) else space["revision"]}
        try:
            pipe = load_embedder(where, options, debug=self._debug)
        except UsageError as error:
            raise UsageError(f"{file} is not in the run and has to be embedded, but {error}") from error
        show_own_warnings()  # loading has quietened them
        if found := differences(space, pipe.space(chunk_seconds)):
            raise UsageError(
                f"{file} is not in the run, and {where} is no longer the model that embedded it: they differ in "
                f"{', '.join(found[:3])}; give that model by --model, or embed everything again"
            )
        return pipe


def library_entry(library: Any, row: int) -> PlaylistEntry:
    """A song of a library as a playlist names it."""
    from hf_mathrock.library.playlist_files import PlaylistEntry

    facts = library.facts[row]
    return PlaylistEntry(library.files[row], facts["title"], facts["artist"], facts["album"], facts["duration"])


def _named(paths: Sequence[str]) -> list[str]:
    """The files that are meant, as absolute paths, each once."""
    from hf_mathrock.library.playlist_files import READABLE, read_playlist
    from hf_mathrock.library.scan import scan

    files: list[str] = []
    for path in paths:
        if Path(path).suffix.lower() in READABLE:
            files += read_playlist(path)
        else:
            found = scan([path])
            if found.errors:
                raise UsageError("; ".join(f"{folder}: {error}" for folder, error in found.errors.items()))
            files += [os.path.abspath(file) for file in found.files]
    once = {os.path.realpath(file): file for file in reversed(files)}
    if len(once) < len(files):
        say(f"note: {len(files) - len(once)} song(s) were named more than once and count once")
    return list(reversed(once.values()))


def _choose(mode: str, like: Songs, to: Songs, library: Any, args: argparse.Namespace) -> tuple[list[Any], Any, Any]:
    """The picks, the hull of the songs that were given, and the library."""
    from hf_mathrock.playlists.hull import PlaylistHull
    from hf_mathrock.playlists.songs import SongLibrary

    given = vars(args)
    artists = [_known(facts["artist"]) for facts in library.facts]
    songs = SongLibrary(library.embeddings, library.files, artists)
    gone = [file for file in library.files if not os.path.isfile(file)]
    if len(gone) == len(library.files):
        raise ValueError(
            f"none of the {len(gone)} songs of the run is where it was, {gone[0]} for one; a run names songs relative "
            "to where it lies: was one of the two moved? Move it back, or embed the music again"
        )
    if gone:
        say(f"note: {len(gone)} song(s) of the run are no longer where they were, {gone[0]} for one; they are left out")
    ways: dict[str, Any] = {"exclude": [*gone, *like.names, *to.names]}
    ways |= {"max_per_artist": args.max_per_artist} if "max_per_artist" in given else {}
    fitted: dict[str, Any] = {"library": songs, "mode": args.geometry}
    hull = PlaylistHull.fit(like.embeddings, like.names, **fitted)
    if mode == "bridge":
        other = PlaylistHull.fit(to.embeddings, to.names, **fitted)
        picks = hull.interpolate(other, args.num, songs, **ways)
        return picks, PlaylistHull.fit([*like.embeddings, *to.embeddings], [*like.names, *to.names], **fitted), songs
    if mode == "expand":
        ways |= {"s": args.reach} if "reach" in given else {}
        return hull.beyond(songs, args.num, **ways), hull, songs
    ways |= {"diversity": args.diversity} if "diversity" in given else {}
    return hull.fill(songs, args.num, **ways), hull, songs


def _known(artist: str | None) -> str | None:
    """An artist to be compared; what stands for many is none."""
    name = (artist or "").casefold().strip()
    return None if name in ("", "various artists", "various", "va", "unknown", "unknown artist") else name


def _labels(entries: Sequence[PlaylistEntry]) -> dict[str, str]:
    """What songs are called in the table: artist and title, or where these repeat their paths."""
    counts = Counter(label for label in {str(entry.file): entry.label for entry in entries}.values())
    return {str(entry.file): entry.label if counts[entry.label] == 1 else str(entry.file) for entry in entries}


def _because(shares: Sequence[tuple[str, float]], labels: dict[str, str], most: int | None = None) -> str:
    from hf_mathrock.playlists.explaining import describe

    return describe([(labels.get(name, name), share) for name, share in shares[:most]])


def _plain(pick: Any, entry: PlaylistEntry, labels: dict[str, str]) -> dict[str, Any]:
    numbers = {name: getattr(pick, name) for name in ("distance", "percentile", "gauge", "step")}
    return {
        "file": entry.file,
        "artist": entry.artist,
        "title": entry.title,
        "duration": entry.duration,
        "because": [{"file": name, "share": round(share, 4)} for name, share in pick.because],
        "within": pick.within,
        **{
            name: None if value is None or not math.isfinite(value) else round(float(value), 6)
            for name, value in numbers.items()
        },
    }


def _print_table(
    picks: Sequence[Any], entries: Sequence[PlaylistEntry], labels: dict[str, str], mode: str, explain: bool
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("", justify="right")
    table.add_column("song", overflow="fold")
    table.add_column("like", overflow="fold")
    table.add_column("on the way" if mode == "bridge" else "percentile", justify="right", no_wrap=True)
    if explain:
        table.add_column("distance", justify="right", no_wrap=True)
        table.add_column("gauge", justify="right", no_wrap=True)
    for number, (pick, entry) in enumerate(zip(picks, entries, strict=True), start=1):
        where = f"{100 * pick.step:.0f} %" if pick.step is not None else _number(pick.percentile, ".0f")
        cells = [str(number), labels[str(entry.file)], _because(pick.because, labels, None if explain else 2)]
        cells.append(where + ("" if pick.within else " *"))
        if explain:
            cells += [_number(pick.distance, ".3f"), _number(pick.gauge, ".2f")]
        table.add_row(*map(Text, cells))
    results_console().print(table)
    if not all(pick.within for pick in picks):
        print("* farther than was looked for: nothing nearer was left")


def _number(value: float, form: str) -> str:
    return "-" if not math.isfinite(value) else format(value, form)


def _draw(path: Path, hull: Any, songs: Any, picks: Sequence[Any], labels: dict[str, str]) -> None:
    from hf_mathrock.playlists.plane import plane_of
    from hf_mathrock.report.hull import draw_hull

    plane = plane_of(hull, songs, picks)
    for entry in (*plane["songs"], *plane["picks"]):
        entry["name"] = labels[entry["name"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_hull(plane, path)
