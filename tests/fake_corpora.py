# SPDX-License-Identifier: Apache-2.0
"""Tiny local copies of tagging corpora in the layouts and formats that their publishers chose."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import soundfile

from hf_mathrock.data import magnatagatune
from hf_mathrock.data.million_song import UNREADABLE
from hf_mathrock.models.tag_vocabularies import MAGNATAGATUNE_TAGS


def audio(path, seconds=0.05):
    """Noise, another in each file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(path.name.encode())).uniform(-0.1, 0.1, round(seconds * 8000))
    soundfile.write(path, noise, 8000, format="WAV")


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8")


JAMENDO = {
    "train": [
        ("track_0000948", "artist_000087", "album_000149", "48/948.mp3", "212.7", ["mood/theme---happy"]),
        (
            "track_0001100",
            "artist_000088",
            "album_000150",
            "00/1100.mp3",
            "60.0",
            ["mood/theme---film", "mood/theme---dark"],
        ),
    ],
    "validation": [("track_0001201", "artist_000090", "album_000160", "01/1201.mp3", "61.5", ["mood/theme---dark"])],
    "test": [("track_0001302", "artist_000091", "album_000161", "02/1302.mp3", "99.9", ["mood/theme---Epic"])],
}


def jamendo(folder, suffix=".mp3", audio_folder="audio", subset="moodtheme", split=0, seconds=0.05):
    """MTG-Jamendo: one subset and split."""
    for part, tracks in JAMENDO.items():
        lines = ["TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"]
        for *fields, tags in tracks:
            lines.append("\t".join([*fields, *tags]))
            audio(folder / audio_folder / fields[3].replace(".mp3", suffix), seconds)
        text(
            folder / "data" / "splits" / f"split-{split}" / f"autotagging_{subset}-{part}.tsv", "\n".join(lines) + "\n"
        )
    return folder


CLIPS = {
    2: ("f/american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria-30-59.mp3", ["female voice", "violin"]),
    6: ("f/american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria-146-175.mp3", []),
    14: ("c/lvx_nova-lvx_nova-01-contimune-30-59.mp3", ["ambient", "no vocals"]),
    25: ("0/american_bach_soloists-j_s__bach__cantatas_volume_v-01-gleichwie_der_regen-0-29.mp3", ["guitar"]),
    99: ("b/odd.mp3", ["choral", "eastern"]),
    35644: (magnatagatune.UNREADABLE[35644], ["rock"]),
}


def magna(folder, audio_folder="mp3", seconds=0.05):
    """MagnaTagATune."""
    # The published columns go by no order that matters, and there are more tags than are used.
    tags = ["eastern", *sorted(MAGNATAGATUNE_TAGS)]
    lines = ["\t".join(f'"{name}"' for name in ("clip_id", *tags, "mp3_path"))]
    for clip, (path, its_tags) in CLIPS.items():
        lines.append("\t".join(f'"{cell}"' for cell in (clip, *(int(tag in its_tags) for tag in tags), path)))
        audio(folder / audio_folder / path, seconds)
    text(folder / "annotations_final.csv", "\n".join(lines) + "\n")
    return folder


TRAIN = ["TRAAAAW128F429D538", "TRAAABD128F429CF47", "TRAIISZ128F42684BB"]
VALIDATION = ["TRAADIN128F931D672"]
TEST = ["TRAADQW128F427CE68", "TRAADRX12903D0EFE8"]
TAGS = {
    "TRAAAAW128F429D538": [0, 17],
    "TRAAABD128F429CF47": [49],
    "TRAIISZ128F42684BB": [1],
    "TRAADIN128F931D672": [0, 2],
    "TRAADQW128F427CE68": [33],
    "TRAADRX12903D0EFE8": [0],
}


def python_2(text: str) -> str:
    return f"S{text!r}\n"


def list_pickle(entries: list[str]) -> bytes:
    """As cPickle of Python 2 writes a list of `str` in its first format."""
    return ("(lp1\n" + "".join(f"{python_2(entry)}p{n + 2}\na" for n, entry in enumerate(entries)) + ".").encode()


def vectors_pickle(tags: dict[str, list[int]], num_tags: int = 50) -> bytes:
    """Likewise a dict of arrays of shape (50, 1)."""
    made = "(dp1\n"
    for track, indices in tags.items():
        data = "".join("\\x01" if index in indices else "\\x00" for index in range(num_tags))
        made += (
            f"{python_2(track)}cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
            f"(I1\n(I{num_tags}\nI1\ntcnumpy\ndtype\n(S'b1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n"
            f"S'{data}'\ntbs"
        )
    return (made + ".").encode()


def by_track(track: str) -> str:
    return f"{track[2]}/{track[3]}/{track[4]}/{track}.mp3"


def conventional(folder: Path, place: str = "", naming=by_track, place_of_audio: str = "audio", seconds=0.05) -> Path:
    """The Million Song Dataset with the conventional split."""
    home = folder / place
    home.mkdir(parents=True, exist_ok=True)
    (home / "filtered_list_train.cP").write_bytes(list_pickle(TRAIN + VALIDATION))
    (home / "filtered_list_test.cP").write_bytes(list_pickle(TEST))
    (home / "msd_id_to_tag_vector.cP").write_bytes(vectors_pickle(TAGS))
    for track in TAGS:
        if track not in UNREADABLE:
            audio(folder / place_of_audio / naming(track), seconds)
    return folder


def cals(folder: Path, place: str = "splits", as_objects: bool = False, seconds=0.05) -> Path:
    """Likewise with the CALS split."""
    home = folder / place
    home.mkdir(parents=True)
    for name, tracks in (("train", TRAIN), ("valid", VALIDATION), ("test", TEST)):
        np.save(home / f"{name}_ids.npy", np.array(tracks, object if as_objects else None))
        vectors = np.array([[index in TAGS[track] for index in range(50)] for track in tracks])
        np.save(home / f"{name}_binaries.npy", vectors.astype("int64"))
    for track in TAGS:
        audio(folder / "audio" / by_track(track), seconds)
    return folder
