# SPDX-License-Identifier: Apache-2.0
"""Tiny local copies of the benchmarks that encoders are probed on, in their publishers' layouts.

The label of a recording can be heard: its pitch.
"""

from __future__ import annotations

import zlib

import numpy as np
import soundfile

from fake_corpora import text

RATE = 8000
GTZAN_LISTS = {"train": "train_filtered.txt", "validation": "valid_filtered.txt", "test": "test_filtered.txt"}


def tone(path, pitch, seconds=1.0):
    """A tone in semitones above 220 Hz with a little noise, another in each file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    times = np.arange(round(seconds * RATE)) / RATE
    sound = 0.3 * np.sin(2 * np.pi * 220 * 2 ** (pitch / 12) * times + rng.uniform(0, 6))
    soundfile.write(path, sound + rng.normal(0, 0.01, len(times)), RATE, format="WAV")


def gtzan(folder, genres=("blues", "jazz", "rock"), per_genre=10, seconds=1.0, lists=True):
    """Of each genre 6, 2 and 2 of ten clips in the three lists."""
    lines = {split: [] for split in GTZAN_LISTS}
    for number, genre in enumerate(genres):
        for clip in range(per_genre):
            name = f"{genre}.{clip:05d}.wav"
            tone(folder / "genres" / genre / name, 9 * number, seconds)
            split = "train" if clip % 10 < 6 else "validation" if clip % 10 < 8 else "test"
            lines[split].append(f"{genre}/{name}")
    # The published lists leave clips out, as this one.
    tone(folder / "genres" / genres[0] / f"{genres[0]}.00099.wav", 0, seconds)
    for split, name in GTZAN_LISTS.items() if lists else ():
        text(folder / name, "\n".join(lines[split]) + "\n")
    return folder


# Artists by where their name's hash puts them: SHA-1 modulo 116, 100 and above is validation.
TRAIN_ARTISTS = ("Kraftwerk", "Underworld", "Orbital")
MTG_SONGS = [
    # ID, artists, manual key, confidence
    ("5061", "{train0}", "D# minor", "2"),
    ("5881", "{train1}", "A major", "2"),
    ("7217", "{validation}", "F minor", "2"),
    ("10359", "{validation}, {train2}", "D minor", "2"),
    ("10981", "{train2}, Third", "C major", "2"),  # over the one before
    ("11077", "{train0}", "-", "0"),
    ("16484", "{train0}", "A minor", "1"),
    ("61578", "{train0}", "C minor / F# minor", "2"),
]
TEST_SONGS = [("1234749", "Bb major"), ("1725800", "G minor"), ("3687442", "F# minor")]


def giantsteps(folder, train, validation, seconds=1.0, suffix=".wav"):
    """Both corpora; `train` are three artists of the training set, `validation` is one of the other."""
    names = {"validation": validation, **{f"train{number}": name for number, name in enumerate(train)}}
    home = folder / "giantsteps-mtg-key-dataset-master"
    lines, annotations = ["ID\tARTIST\tTITLE"], ["ID\tMANUAL KEY\tC"]
    for number, (song, artists, key, confidence) in enumerate(MTG_SONGS):
        lines.append(f"{song}\t{artists.format(**names)}\tSome title")
        annotations.append(f"{song}\t{key}\t{confidence}")
        tone(home / "audio" / f"{song}.LOFI{suffix}", number, seconds)
    text(home / "annotations" / "beatport_metadata.txt", "\n".join(lines) + "\n")
    text(home / "annotations" / "annotations.txt", "\n".join(annotations) + "\n")
    home = folder / "giantsteps-key-dataset"
    for number, (song, key) in enumerate(TEST_SONGS):
        text(home / "annotations" / "key" / f"{song}.LOFI.key", key)
        tone(home / "audio" / f"{song}.LOFI{suffix}", number, seconds)
    return folder


def emomusic(folder, num_songs=12, seconds=0.2):
    """Every third song is of the evaluation set; arousal is the pitch, valence falls with it."""
    info = ["song_id,file_name,Artist,Song title,start of the segment (min.sec),Genre,Mediaeval 2013 set"]
    ratings = ["song_id,mean_arousal,std_arousal,mean_valence,std_valence"]
    for song in range(2, 2 + num_songs):
        place = "evaluation" if song % 3 == 0 else "development"
        info.append(f"{song},{song}.mp3,\tArtist No. {song},\tA title\t,0.0,Blues,{place}")
        ratings.append(f"{song},{1 + song / 4},0.5,{9 - song / 8},0.5")
        tone(folder / "clips_45seconds" / f"{song}.mp3", 2 * song, seconds)
    text(folder / "annotations" / "songs_info.csv", "\n".join(info) + "\n")
    text(folder / "annotations" / "static_annotations.csv", "\n".join(ratings) + "\n")
    return folder
