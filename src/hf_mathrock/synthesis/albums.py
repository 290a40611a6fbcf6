# SPDX-License-Identifier: Apache-2.0
"""Generated albums: songs of one band, that belong together as far as songs of one band do.

A band has its instruments, players and voice, a few vibes with one it favours, a tempo and a home on the circle of
fifths. An album has a room, a desk and a master, and narrows the band's habits: how fast, how loud and in which keys
this year. A song departs a little from its album, as its title does. So two albums of a band are near to each other,
songs of an album nearer, and some bands share everything but the amplifiers.

What belongs together is known here because it was drawn so. Real albums are held together by less, and by more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from . import RECIPE_VERSION, affect
from .chance import pick
from .composer import compose
from .damage import draw_damage
from .mastering import draw_master
from .renderer import render
from .room import draw_room
from .score import Piece
from .variation import Variation, draw_variation, perform

AudioFormat = Literal["flac", "wav"]
_TITLE_TAGS = ("title", "artist", "album", "tracknumber")
_TRIES = 60  # seeds that are tried for a song in a key of its album; one in four fits
_NEAR_FIFTHS = 1
_RELATIVE_MAJOR = {"major": 0, "lydian": 7, "mixolydian": 5, "dorian": 10, "minor": 3, "phrygian": 8}

_FIRST = (
    "Paper", "Second", "Quiet", "Northern", "Borrowed", "Glass", "Early", "Static", "Copper", "Distant", "Weekend",
    "Salt", "Inland", "Brittle", "Sunday", "Hollow", "Violet", "Minor", "Patient", "Tidal", "Late", "Amber", "Lesser",
    "Winter",
)  # fmt: skip
_SECOND = (
    "Harbour", "Cartographers", "Orchard", "Telegraph", "Houses", "Lanterns", "Weather", "Satellites", "Kitchens",
    "Rivers", "Swimmers", "Antennas", "Gardens", "Atlas", "Neighbours", "Engines", "Meadows", "Postcards", "Ladders",
    "Foxes", "Windows", "Signals", "Bicycles", "Parade",
)  # fmt: skip
_ALBUM = (
    "Letters from {}", "A Map of {}", "{} at Night", "The Year of {}", "Notes for {}", "How to Leave {}", "Almost {}",
    "{}, Again", "Songs about {}", "All the {}",
)  # fmt: skip
_PLACES = (
    "Small Rooms", "the Suburbs", "Empty Pools", "Other People", "the Lakes", "Winter Coats", "Home Movies",
    "Long Drives", "Friends", "Open Tunings", "Back Gardens", "the Attic", "Slow Trains", "Odd Numbers", "Kind Words",
    "July",
)  # fmt: skip
_SONG = (
    "{} in Seven", "I Was Told {}", "{} (for Later)", "Every {} Counts", "The Trouble with {}", "{} and Sleep",
    "Not Quite {}", "Call It {}", "{} on the Stairs", "Goodbye, {}", "{} Without You", "Two Times {}",
)  # fmt: skip
_THINGS = (
    "Rain", "Rust", "Thursday", "Gravity", "Honey", "Distance", "Static", "Snow", "Silence", "Arithmetic", "Smoke",
    "Daylight", "Paper", "October", "Luck", "Weather", "Memory", "Gold", "Water", "Dust",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AlbumSong:
    """One song; called, it gives its waveform, so that no file is needed. Small and picklable.

    Attributes:
        artist: Name of the band, unique in a set of bands.
        album: Title of the album, unique for its band.
        title: Of the song, unique on its album.
        number: On the album, from 1.
        band_seed: What the band was drawn from.
        album_seed: What the album was drawn from.
        seed: What its notes were drawn from.
        bpm: Quarters a minute.
        vibe: One of `affect.VIBES`.
        intensity: One of `affect.INTENSITIES`.
        seconds: Wished length.
        sampling_rate: Hz, of the waveform.
        recipe: What composer and renderer made of it, so that a cache notices when that changes.
    """

    artist: str
    album: str
    title: str
    number: int
    band_seed: int
    album_seed: int
    seed: int
    bpm: float
    vibe: str
    intensity: str
    seconds: float
    sampling_rate: int = 16_000
    recipe: int = RECIPE_VERSION

    def compose(self) -> Piece:
        """Its notes, before any recording."""
        return compose(self.seed, seconds=self.seconds, bpm=self.bpm, vibe=self.vibe, intensity=self.intensity)

    def variation(self) -> Variation:
        """Its recording: the band's instruments, the album's room, desk and master, and a little of its own."""
        band, album = draw_variation(self.band_seed), np.random.default_rng([self.album_seed, 0xA1B0])
        room, master, damage = draw_room(album), draw_master(album), draw_damage(album)
        own = np.random.default_rng([self.seed, 0xA1B1])
        balance = {stem: level + float(own.normal(0, 0.8)) for stem, level in band.balance_db.items()}
        touch = replace(band.touch, tuning_cents=band.touch.tuning_cents + float(own.normal(0, 3)))
        level = master.level_db + float(own.normal(0, 0.7))
        return replace(
            band,
            touch=touch,
            balance_db=balance,
            room=room,
            master=replace(master, level_db=level),
            damage=damage,
            drift_seconds=band.drift_seconds * float(own.uniform(-1, 1)),
        )

    def __call__(self) -> np.ndarray:
        """Compose and render: mono float32 `(num_samples,)`."""
        audio = render(self.compose(), sampling_rate=self.sampling_rate, seed=self.seed, variation=self.variation())
        return audio.mean(axis=0, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Album:
    """Songs in their order.

    Attributes:
        artist: Name of the band.
        title: Of the album.
        songs: From number 1.
    """

    artist: str
    title: str
    songs: tuple[AlbumSong, ...]


@dataclass(frozen=True, slots=True)
class _Habits:
    """How a band plays, or how it played on one album."""

    bpm: float
    fifths: int  # position of the notes' major key on the circle of fifths
    vibes: dict[str, float]
    loudness: float  # 0 all songs low, 1 all high


def draw_albums(
    seed: int, num_bands: int, *, albums_per_band: int = 2, songs_per_album: int = 10, seconds: float = 30.0
) -> list[Album]:
    """Draw bands and their albums; nothing is rendered, and notes are written only to find out their key.

    Args:
        seed: Not negative; another seed gives other bands.
        num_bands: 1 to 576, which is how many names there are.
        albums_per_band: 1 to 10.
        songs_per_album: 1 to 12.
        seconds: Wished length of a song, as for `compose`.

    Returns:
        Band by band.

    Raises:
        ValueError: An argument is out of range.
    """
    for name, value, most in (
        ("num_bands", num_bands, len(_FIRST) * len(_SECOND)),
        ("albums_per_band", albums_per_band, len(_ALBUM)),
        ("songs_per_album", songs_per_album, len(_SONG)),
    ):
        if not 1 <= value <= most:
            raise ValueError(f"{name} is {value}, allowed are 1 to {most}.")
    if seed < 0:
        raise ValueError(f"seed is {seed}, it must be 0 or more.")
    if not 4.0 <= seconds <= 3600.0:
        raise ValueError(f"seconds is {seconds}, allowed are 4 to 3600 (were milliseconds given?).")
    rng = np.random.default_rng([seed, 0xA1B2])
    names = rng.permutation(len(_FIRST) * len(_SECOND))[:num_bands]
    return [
        album
        for band, name in enumerate(names.tolist())
        for album in _draw_band(
            np.random.default_rng([seed, band, 0xA1B3]),
            f"{_FIRST[name // len(_SECOND)]} {_SECOND[name % len(_SECOND)]}",
            albums_per_band,
            songs_per_album,
            seconds,
        )
    ]


def write_albums(folder: str | Path, albums: list[Album], *, audio_format: AudioFormat = "flac") -> list[Path]:
    """Render albums into folders `artist/album/01 title.flac`, with the tags of a music player.

    Args:
        folder: Made if missing; songs that are there already are left as they are.
        albums: From `draw_albums`.
        audio_format: Container of the files.

    Returns:
        The files, in the order of the songs.
    """
    import soundfile

    paths = []
    for album in albums:
        for song in album.songs:
            path = Path(folder) / album.artist / album.title / f"{song.number:02d} {song.title}.{audio_format}"
            paths.append(path)
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}")
            audio = song()
            with soundfile.SoundFile(
                partial, "w", song.sampling_rate, 1, subtype="PCM_16", format=audio_format.upper()
            ) as sink:
                for tag, value in zip(
                    _TITLE_TAGS, (song.title, song.artist, song.album, str(song.number)), strict=True
                ):
                    setattr(sink, tag, value)
                sink.write(audio)
            partial.replace(path)
    return paths


def facts_of_song(song: AlbumSong) -> dict[str, str | float | int]:
    """What is known of a song, in values that JSON can hold; its notes are written for the key, nothing is rendered."""
    piece = perform(song.compose(), song.variation())
    return {
        "title": song.title,
        "bpm": song.bpm,
        "tempo": affect.tempo_class(song.bpm),
        "vibe": song.vibe,
        "intensity": song.intensity,
        "key": piece.key,
        "mode": piece.mode,
        "duration": round(piece.duration, 3),
    }


def _draw_band(rng: np.random.Generator, artist: str, num_albums: int, num_songs: int, seconds: float) -> list[Album]:
    vibes = rng.permutation(affect.VIBES)[: int(rng.integers(1, 4))].tolist()
    band = _Habits(
        bpm=float(np.exp(rng.uniform(math.log(80), math.log(165)))),
        fifths=int(rng.integers(12)),
        vibes=dict(zip(vibes, (0.6, 0.3, 0.1), strict=False)),
        loudness=float(rng.uniform(0.1, 0.9)),
    )
    band_seed = int(rng.integers(2**31))
    titles = rng.permutation(len(_ALBUM))[:num_albums]
    places = rng.permutation(len(_PLACES))[:num_albums]
    return [
        _draw_album(rng, artist, _title(_ALBUM[title], _PLACES[place]), band, band_seed, num_songs, seconds)
        for title, place in zip(titles.tolist(), places.tolist(), strict=True)
    ]


def _draw_album(
    rng: np.random.Generator, artist: str, title: str, band: _Habits, band_seed: int, num_songs: int, seconds: float
) -> Album:
    habits = replace(
        band,
        bpm=float(np.clip(band.bpm * np.exp(rng.normal(0, 0.08)), 65, 190)),
        fifths=(band.fifths + int(rng.integers(-1, 2))) % 12,
        loudness=float(np.clip(band.loudness + rng.normal(0, 0.15), 0.05, 0.95)),
    )
    album_seed = int(rng.integers(2**31))
    forms, things = rng.permutation(len(_SONG))[:num_songs], rng.permutation(len(_THINGS))[:num_songs]
    songs = []
    for number, (form, thing) in enumerate(zip(forms.tolist(), things.tolist(), strict=True), start=1):
        vibe = pick(rng, habits.vibes)
        bpm = round(float(np.clip(habits.bpm * np.exp(rng.normal(0, 0.12)), 60, 200)), 2)
        # Two tosses: low, medium or high, around the album's loudness.
        intensity = affect.INTENSITIES[int(rng.binomial(2, habits.loudness))]
        song = AlbumSong(
            artist=artist,
            album=title,
            title=_SONG[form].format(_THINGS[thing]),
            number=number,
            band_seed=band_seed,
            album_seed=album_seed,
            seed=0,
            bpm=bpm,
            vibe=vibe,
            intensity=intensity,
            seconds=seconds,
        )
        songs.append(_in_a_key_near(rng, song, habits.fifths))
    return Album(artist, title, tuple(songs))


def _in_a_key_near(rng: np.random.Generator, song: AlbumSong, fifths: int) -> AlbumSong:
    """The song with a seed whose notes are those of a key at most a fifth from the album's."""
    for _ in range(_TRIES):
        song = replace(song, seed=int(rng.integers(2**31)))
        # The key is drawn before the notes, so that a short piece tells it.
        piece = replace(song, seconds=4.0).compose()
        at = 7 * (piece.key + _RELATIVE_MAJOR[piece.mode]) % 12
        if min((at - fifths) % 12, (fifths - at) % 12) <= _NEAR_FIFTHS:
            break
    return song


def _title(form: str, place: str) -> str:
    title = form.format(place)
    return title[0].upper() + title[1:]
