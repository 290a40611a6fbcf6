# SPDX-License-Identifier: Apache-2.0
"""MTG-Jamendo, MagnaTagATune and mirdata's corpora, from tiny local copies in the published layouts."""

from __future__ import annotations

import json
import socket
import warnings
from pathlib import Path

import numpy as np
import pytest

from fake_corpora import JAMENDO, audio, jamendo, magna, text
from hf_mathrock.data import magnatagatune, mtg_jamendo
from hf_mathrock.data.corpora import CORPORA, corpus_rows
from hf_mathrock.data.labels import UNKNOWN, encode_labels
from hf_mathrock.data.mirdata_corpora import KEYS, MIRDATA_CORPORA, parse_key


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Reading a corpus fetches nothing; whatever tries fails here, and by its name."""

    def refuse(*_, **__):
        pytest.fail("something reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# --- the table -------------------------------------------------------------------------------------------------------


def test_an_unknown_corpus_is_refused_with_the_nearest_and_all_names(tmp_path):
    with pytest.raises(ValueError) as error:
        corpus_rows("gtzan", tmp_path)
    assert "did you mean 'gtzan_genre'" in str(error.value)
    assert all(name in str(error.value) for name in CORPORA)


def test_a_loader_of_mirdata_without_track_labels_is_refused_too(tmp_path):
    with pytest.raises(ValueError, match="there is no corpus 'guitarset'.*tonality_classicaldb"):
        corpus_rows("guitarset", tmp_path)


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ValueError, match="does not exist; `folder` is a local copy"):
        corpus_rows("magnatagatune", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="does not exist"):
        corpus_rows("gtzan_genre", "s3://bucket/gtzan")


def test_a_misspelt_option_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="no option 'subsets'; did you mean 'subset'"):
        corpus_rows("mtg-jamendo", tmp_path, subsets="genre")
    with pytest.raises(ValueError, match="write gtzan_genre:option=value"):
        corpus_rows("gtzan_genre:mini", tmp_path)


def test_every_corpus_of_the_table_has_a_reader():
    assert {name for name, reader in CORPORA.items() if reader.startswith("mirdata")} == set(MIRDATA_CORPORA)


# --- MTG-Jamendo -----------------------------------------------------------------------------------------------------


@pytest.fixture
def whole_jamendo(monkeypatch):
    """As if four tags were all that are published."""
    monkeypatch.setitem(mtg_jamendo.NUM_TAGS, "moodtheme", 4)


@pytest.mark.parametrize(("suffix", "audio_folder"), [(".mp3", "audio"), (".low.mp3", "audio-low"), (".mp3", "")])
def test_jamendo_gives_the_published_split_and_artists(tmp_path, whole_jamendo, suffix, audio_folder):
    corpus = corpus_rows("mtg-jamendo", jamendo(tmp_path, suffix, audio_folder))
    assert [(row["song"], row["split"], row["artist"], row["album"]) for row in corpus.rows] == [
        ("48/948.mp3", "train", "artist_000087", "album_000149"),
        ("00/1100.mp3", "train", "artist_000088", "album_000150"),
        ("01/1201.mp3", "validation", "artist_000090", "album_000160"),
        ("02/1302.mp3", "test", "artist_000091", "album_000161"),
    ]
    assert corpus.rows[0]["audio"] == str(tmp_path / audio_folder / f"48/948{suffix}")
    assert corpus.notes == []


def test_jamendo_labels_are_in_the_order_of_label_binarizer(tmp_path, whole_jamendo):
    from sklearn.preprocessing import LabelBinarizer

    corpus = corpus_rows("mtg-jamendo", jamendo(tmp_path))
    (task,) = corpus.tasks
    tags = [tag for part in JAMENDO.values() for *_, tags in part for tag in tags]
    assert task["labels"] == LabelBinarizer().fit(tags).classes_.tolist()
    assert (task["name"], task["type"]) == ("moodtheme", "multi_label")
    encoded = encode_labels(corpus.tasks, corpus.rows[1])["moodtheme"]
    assert [label for label, value in zip(task["labels"], encoded, strict=True) if value] == [
        "mood/theme---dark",
        "mood/theme---film",
    ]


def test_jamendo_options_choose_subset_and_split_also_from_the_name(tmp_path, monkeypatch):
    monkeypatch.setitem(mtg_jamendo.NUM_TAGS, "genre", 4)
    jamendo(tmp_path, subset="genre", split=3)
    corpus = corpus_rows("mtg-jamendo:subset=genre,split=3", tmp_path)
    assert corpus.tasks[0]["name"] == "genre" and corpus.source == "mtg-jamendo genre, split 3"
    with pytest.raises(ValueError, match="autotagging_moodtheme-train.tsv is missing"):
        corpus_rows("mtg-jamendo", tmp_path)


def test_jamendo_says_what_is_missing(tmp_path, whole_jamendo):
    jamendo(tmp_path)
    (tmp_path / "audio/48/948.mp3").unlink()
    with pytest.warns(UserWarning, match=r"1 of 4 audio files are not in .*48/948.mp3"):
        assert len(corpus_rows("mtg-jamendo", tmp_path).rows) == 3
    for path in list((tmp_path / "audio").rglob("*.mp3")):
        path.unlink()
    with pytest.raises(ValueError, match="none of the 4 audio files"):
        corpus_rows("mtg-jamendo", tmp_path)


def test_jamendo_with_other_tags_than_published_is_said(tmp_path):
    with pytest.warns(UserWarning, match="have 4 tags of moodtheme; published are 56"):
        corpus_rows("mtg-jamendo", jamendo(tmp_path))


def test_jamendo_counts_the_tracks_of_the_fifty_tags(tmp_path, monkeypatch):
    monkeypatch.setitem(mtg_jamendo.NUM_TAGS, "top50tags", 4)
    jamendo(tmp_path, subset="top50tags")
    with pytest.warns(UserWarning, match="have 4 tracks of top50tags; published are 54,380"):
        corpus = corpus_rows("mtg-jamendo:subset=top50tags", tmp_path)
    assert len(corpus.notes) == 1
    monkeypatch.setitem(mtg_jamendo.NUM_TRACKS, "top50tags", 4)
    assert corpus_rows("mtg-jamendo:subset=top50tags", tmp_path).notes == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("track\tartist\talbum\t00/1.mp3\t1.0\tsad", "has the tag 'sad'; tags begin with genre---"),
        ("track\tartist\talbum\t../../x.mp3\t1.0\tmood/theme---sad", "lies outside"),
        ("track\tartist\talbum\t/etc/x.mp3\t1.0\tmood/theme---sad", "lies outside"),
        ("track\tartist\talbum\t00/1.mp3\t1.0", "line 2 has 5 columns"),
    ],
)
def test_jamendo_files_that_were_changed_are_refused(tmp_path, line, said):
    path = jamendo(tmp_path) / "data/splits/split-0/autotagging_moodtheme-test.tsv"
    path.write_text(path.read_text().splitlines()[0] + "\n" + line + "\n")
    with pytest.raises(ValueError, match=said):
        corpus_rows("mtg-jamendo", tmp_path)


# --- MagnaTagATune ---------------------------------------------------------------------------------------------------


@pytest.fixture
def whole_magna(monkeypatch):
    """As if these few clips were all that are published."""
    counts = {"drop": {"train": 2, "validation": 1, "test": 1}, "keep": {"train": 2, "validation": 1, "test": 2}}
    monkeypatch.setattr(magnatagatune, "PUBLISHED", counts)


def test_magnatagatune_labels_are_in_the_order_of_musicnn(tmp_path, whole_magna):
    path = Path(__file__).parents[3] / "shared/reference/musicnn/golden.npz"
    if not path.is_file():
        pytest.skip("the reference ../shared/reference/musicnn is not here")
    (task,) = corpus_rows("magnatagatune", magna(tmp_path)).tasks
    with np.load(path) as golden:
        assert task["labels"] == golden["tags_MTT"].tolist()


def test_magnatagatune_with_other_clips_than_published_is_said(tmp_path, monkeypatch):
    counts = {"drop": {"train": 2, "validation": 5, "test": 1}, "keep": {"train": 6, "validation": 1, "test": 2}}
    monkeypatch.setattr(magnatagatune, "PUBLISHED", counts)
    with pytest.warns(UserWarning, match="has 1 clips for validation .untagged='drop'., published are 5"):
        assert len(corpus_rows("magnatagatune", magna(tmp_path)).notes) == 1
    with pytest.warns(UserWarning, match="has 2 clips for train .untagged='keep'., published are 6"):
        assert len(corpus_rows("magnatagatune", tmp_path, untagged="keep").notes) == 1


@pytest.mark.parametrize("audio_folder", ["mp3", "audio", ""])
def test_magnatagatune_is_split_by_folder_without_the_untagged_and_the_unreadable(tmp_path, audio_folder, whole_magna):
    corpus = corpus_rows("magnatagatune", magna(tmp_path, audio_folder))
    assert [(row["clip_id"], row["split"], sorted(row["tag"])) for row in corpus.rows] == [
        ("2", "test", ["female voice", "violin"]),
        ("14", "validation", ["ambient", "no vocals"]),
        ("25", "train", ["guitar"]),
        ("99", "train", ["choral"]),
    ]
    assert corpus.notes == []


def test_magnatagatune_keeps_the_untagged_as_negatives_if_asked(tmp_path, whole_magna):
    corpus = corpus_rows("magnatagatune", magna(tmp_path), untagged="keep")
    (row,) = [row for row in corpus.rows if row["clip_id"] == "6"]
    np.testing.assert_array_equal(encode_labels(corpus.tasks, row)["tag"], np.zeros(50))
    assert "35644" not in {row["clip_id"] for row in corpus.rows}


def test_clips_of_one_song_are_one_work_and_albums_of_one_artist_share_him(tmp_path, whole_magna):
    rows = {row["clip_id"]: row for row in corpus_rows("magnatagatune", magna(tmp_path), untagged="keep").rows}
    assert rows["2"]["work"] == rows["6"]["work"] != rows["25"]["work"]
    assert rows["2"]["artist"] == rows["25"]["artist"] == "american_bach_soloists"
    assert rows["99"]["artist"] is None and rows["99"]["work"] == "odd.mp3"


def test_magnatagatune_in_another_form_is_refused(tmp_path):
    path = magna(tmp_path) / "annotations_final.csv"
    content = path.read_text()
    path.write_text(content.replace("\t", ","))
    with pytest.raises(ValueError, match="has no column .*clip_id"):
        corpus_rows("magnatagatune", tmp_path)
    path.write_text(content.replace("c/lvx", "../c/lvx"))
    with pytest.raises(ValueError, match="clips lie in folders 0 to f"):
        corpus_rows("magnatagatune", tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="annotations_final.csv is missing"):
        corpus_rows("magnatagatune", tmp_path)


# --- mirdata ---------------------------------------------------------------------------------------------------------


def jams(bpm, confidence=(1.0,), genre="techno"):
    tempi = bpm if isinstance(bpm, tuple) else (bpm,)
    data = [
        {"time": 0.0, "duration": 120.0, "value": value, "confidence": sure}
        for value, sure in zip(tempi, confidence, strict=True)
    ]
    return json.dumps(
        {
            "annotations": [
                {"data": data},
                {"data": [{"time": 0.0, "duration": 120.0, "value": genre, "confidence": 1.0}]},
            ]
        }
    )


def index(folder, name, tracks):
    """A mirdata index in the folder of the corpus; every audio file it names is made."""
    text(
        folder / name,
        json.dumps(
            {
                "version": "1.0",
                "tracks": {
                    track: {kind: [path, "0" * 32] for kind, path in files.items()} for track, files in tracks.items()
                },
            }
        ),
    )
    for files in tracks.values():
        if files["audio"] is not None:
            audio(folder / files["audio"])


def gtzan(folder):
    tracks = {}
    for genre, number, bpm in (("blues", 0, "94.9\n"), ("hiphop", 1, "140.5"), ("rock", 2, None)):
        tracks[f"{genre}.0000{number}"] = {
            "audio": f"gtzan_genre/genres/{genre}/{genre}.0000{number}.wav",
            "beats": f"gtzan_tempo_beat-main/beats/gtzan_{genre}_0000{number}.beats",
            "tempo": f"gtzan_tempo_beat-main/tempo/gtzan_{genre}_0000{number}.bpm",
        }
        if bpm:
            text(folder / f"gtzan_tempo_beat-main/tempo/gtzan_{genre}_0000{number}.bpm", bpm)
    index(folder, "gtzan_genre_index_1.0.json", tracks)
    return folder


def giantsteps_tempo(folder):
    home = "giantsteps-tempo-dataset-0b7d47ba8cae59d3535a02e3db69e2cf6d0af5bb/annotations"
    tracks = {}
    facts = {
        "28952": (jams(137.6), jams(95.0)),
        "1": (jams(60.0), jams((70.0, 141.0), (0.2, 0.8))),
        "3": (jams(1.0), "{}"),
    }
    for track, (first, second) in facts.items():
        tracks[track] = {
            "audio": f"audio/{track}.LOFI.mp3",
            "annotation_v1": f"{home}/jams/{track}.LOFI.jams",
            "annotation_v2": f"{home}_v2/jams/{track}.LOFI.jams",
        }
        text(folder / tracks[track]["annotation_v1"], first)
        text(folder / tracks[track]["annotation_v2"], second)
    index(folder, "giantsteps_tempo_index_2.0.json", tracks)
    return folder


def keyed(folder, index_name, keys, meta):
    tracks = {}
    for track, key in keys.items():
        tracks[track] = {"audio": f"audio/{track}.mp3", "key": f"keys/{track}.txt"}
        text(folder / tracks[track]["key"], key)
        if meta:
            tracks[track]["meta"] = f"meta/{track}.json"
            content = {
                "bpm": 128,
                "genres": [{"name": "House"}],
                "sub_genres": [],
                "artists": [{"name": "A"}, {"name": "B"}],
            }
            text(folder / tracks[track]["meta"], json.dumps(content))
        else:
            tracks[track] |= {"spectrum": "s", "mb": "m", "HPCP": "h"}
    index(folder, index_name, tracks)
    return folder


def fma_keys(folder):
    index(folder, "fma_keys_index_1.0.json", {"10": {"audio": "000/000010.mp3"}, "141": {"audio": "000/000141.mp3"}})
    text(folder / "fma_keys_metadata.csv", "track_id,spotify_uri,key_and_mode\n10,u,C# minor\n141,v,Bb Major\n")
    return folder


def ballroom(folder):
    tracks = {}
    for dance, bpm in (("Rumba-American", "104"), ("ChaChaCha", "128")):
        tracks[dance] = {
            "audio": f"B_1.0/audio/{dance}/{dance}-1.wav",
            "beats": None,
            "tempo": f"B_1.0/annotations/tempo/{dance}-1.bpm",
        }
        text(folder / tracks[dance]["tempo"], bpm)
    index(folder, "ballroom_full_index_1.0.json", tracks)
    return folder


def rhythm(folder, root, index_name):
    track = {"audio": f"{root}/audio/a.wav", "beats": None, "tempo": f"{root}/annotations/tempo/a.bpm"}
    text(folder / track["tempo"], "171.5\n")
    index(folder, index_name, {"a": track})
    return folder


def irmas(folder):
    train = "IRMAS-TrainingData/gel/[gel][dru][pop_roc]0829__2.wav"
    test = "IRMAS-TestingData-Part1/Part1/02 - And The Body Will Die-8"
    text(folder / f"{test}.txt", "gel\t\nvoi\t\n")
    index(
        folder,
        "irmas_index_1.0.json",
        {"0829__2": {"audio": train, "annotation": train}, "1": {"audio": f"{test}.wav", "annotation": f"{test}.txt"}},
    )
    return folder


def medley_solos_db(folder):
    index(
        folder,
        "medley_solos_db_index_1.2.json",
        {
            "aa": {"audio": "audio/Medley-solos-DB_training-2_aa.wav"},
            "bb": {"audio": "audio/Medley-solos-DB_test-7_bb.wav"},
        },
    )
    text(
        folder / "annotation/Medley-solos-DB_metadata.csv",
        "subset,instrument,instrument_id,song_id,uuid4\ntraining,female singer,2,11,aa\ntest,violin,7,12,bb\n",
    )
    return folder


def openmic2018(folder):
    keys = {"000046_3840": "train", "000135_483840": "test"}
    index(
        folder,
        "openmic2018_index_1.0.json",
        {key: {"audio": f"audio/000/{key}.ogg", "vggish": f"vggish/000/{key}.json"} for key in keys},
    )
    rows = "".join(f"{key[:6]},Artist {key[:6]},[],Title,{key},3.84\n" for key in keys)
    # mirdata takes the last column but one as the index.
    text(
        folder / "openmic-2018-metadata.csv",
        "track_id,artist_name,track_genres,track_title,sample_key,start_time\n" + rows,
    )
    text(
        folder / "openmic-2018-aggregated-labels.csv",
        "sample_key,instrument,relevance,num_responses\n"
        "000046_3840,clarinet,0.171,3\n000046_3840,flute,0.9,3\n000135_483840,voice,0.5,3\n",
    )
    for key, split in keys.items():
        text(folder / f"partitions/split01_{split}.csv", f"{key}\n")
    return folder


COPIES = {
    "ballroom": ballroom,
    "beatport_key": lambda folder: keyed(
        folder, "beatport_key_index_1.0.0.json", {"one": "D minor", "two": "C major|A minor", "three": "Unknown"}, True
    ),
    "brid": lambda folder: rhythm(folder, "BRID_1.0", "brid_full_index_1.0.json"),
    "cuidado": lambda folder: rhythm(folder, "C_1.0", "cuidado_index_1.0.json"),
    "fma_keys": fma_keys,
    "giantsteps_key": lambda folder: keyed(
        folder, "giantsteps_key_index_+.json", {"one": "F# minor\n", "two": "Gb major\t", "three": "D dorian"}, True
    ),
    "giantsteps_tempo": giantsteps_tempo,
    "gtzan_genre": gtzan,
    "hainsworth": lambda folder: rhythm(folder, "H_1.0", "hainsworth_full_index_1.0.json"),
    "irmas": irmas,
    "medley_solos_db": medley_solos_db,
    "openmic2018": openmic2018,
    "tonality_classicaldb": lambda folder: keyed(
        folder, "tonality_classicaldb_index_1.0.json", {"one": "F\tmajor", "two": "Eb minor"}, False
    ),
}
# Per corpus: the labels and other facts that its copy above must give, by track.
EXPECTED = {
    "ballroom": {
        "Rumba-American": {"genre": "rumba", "tempo": "moderate", "bpm": 104.0},
        "ChaChaCha": {"genre": "chachacha", "tempo": "moderate", "bpm": 128.0},
    },
    "beatport_key": {
        "one": {"key": "D minor", "bpm": 128, "artist": "A, B", "beatport_genre": "House"},
        "two": {"key": None},
        "three": {"key": None},
    },
    "brid": {"a": {"tempo": "fast", "bpm": 171.5}},
    "cuidado": {"a": {"tempo": "fast", "bpm": 171.5}},
    "fma_keys": {"10": {"key": "Db minor"}, "141": {"key": "Bb major"}},
    "giantsteps_key": {
        "one": {"key": "F# minor", "bpm": 128, "artist": "A, B"},
        "two": {"key": "F# major"},
        "three": {"key": None},
    },
    "giantsteps_tempo": {
        "28952": {"tempo": "moderate", "bpm": 95.0, "bpm_v1": 137.6, "beatport_genre": "techno"},
        "1": {"tempo": "fast", "bpm": 141.0, "bpm_v1": 60.0},
        "3": {"tempo": None, "bpm": None, "bpm_v1": 1.0},
    },
    "gtzan_genre": {
        "blues.00000": {"genre": "blues", "tempo": "slow", "bpm": 94.9},
        "hiphop.00001": {"genre": "hip-hop", "tempo": "fast", "bpm": 140.5},
        "rock.00002": {"genre": "rock", "tempo": None, "bpm": None},
    },
    "hainsworth": {"a": {"tempo": "fast", "bpm": 171.5}},
    "irmas": {
        "0829__2": {"instrument": ["gel"], "genre": "pop_roc", "split": "train", "work": "train 0829"},
        "1": {"instrument": ["gel", "voi"], "genre": None, "split": "test", "work": "02 - And The Body Will Die"},
    },
    "medley_solos_db": {
        "aa": {"instrument": "female singer", "split": "train", "work": "female singer 11"},
        "bb": {"instrument": "violin", "split": "test"},
    },
    "openmic2018": {
        "000046_3840": {"split": "train", "work": "000046", "artist": "Artist 000046"},
        "000135_483840": {"split": "test"},
    },
    "tonality_classicaldb": {"one": {"key": "F major"}, "two": {"key": "Eb minor"}},
}


def read(name, folder, **options):
    pytest.importorskip("mirdata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return corpus_rows(name, COPIES[name](folder), **options)


@pytest.mark.parametrize("name", sorted(MIRDATA_CORPORA))
def test_the_real_loader_reads_a_local_copy(tmp_path, name):
    corpus = read(name, tmp_path)
    rows = {row["track_id"]: row for row in corpus.rows}
    assert {track: {key: rows[track][key] for key in facts} for track, facts in EXPECTED[name].items()} == EXPECTED[
        name
    ]
    assert set(rows) == set(EXPECTED[name])
    assert all(
        (tmp_path / row["song"]).is_file() and row["audio"] == str(tmp_path / row["song"]) for row in corpus.rows
    )
    for row in corpus.rows:
        encode_labels(corpus.tasks, row)  # every label is one of its task
    assert name in corpus.source


def test_partial_labels_of_openmic_stay_unknown(tmp_path):
    corpus = read("openmic2018", tmp_path)
    labels = corpus.tasks[0]["labels"]
    encoded = dict(zip(labels, encode_labels(corpus.tasks, corpus.rows[0])["instrument"], strict=True))
    assert (encoded["clarinet"], encoded["flute"]) == (0, 1)
    assert {value for name, value in encoded.items() if name not in ("clarinet", "flute")} == {UNKNOWN}


def test_an_annotation_that_mirdata_cannot_read_is_unknown_and_counted(tmp_path):
    pytest.importorskip("mirdata")
    with pytest.warns(UserWarning, match="tempo is unknown for 1 of 3 tracks .rock.00002"):
        corpus = corpus_rows("gtzan_genre", gtzan(tmp_path))
    assert any("bpm is unknown for 1 of 3" in note for note in corpus.notes)


def test_gtzan_takes_the_fault_filtered_lists_where_they_lie(tmp_path):
    assert any("no published split" in note for note in read("gtzan_genre", tmp_path).notes)
    text(tmp_path / "train_filtered.txt", "blues/blues.00000.wav\nblues/blues.00077.wav\n")
    text(tmp_path / "valid_filtered.txt", "")
    text(tmp_path / "test_filtered.txt", "hiphop/hiphop.00001.wav\n")
    corpus = read("gtzan_genre", tmp_path)
    assert {row["track_id"]: row["split"] for row in corpus.rows} == {"blues.00000": "train", "hiphop.00001": "test"}
    assert any("1 recordings are in none of the fault-filtered lists" in note for note in corpus.notes)


def test_audio_that_is_not_there_is_counted_and_none_at_all_refused(tmp_path):
    pytest.importorskip("mirdata")
    (gtzan(tmp_path) / "gtzan_genre/genres/blues/blues.00000.wav").unlink()
    with pytest.warns(UserWarning, match="1 of 3 audio files are not in .*blues.00000.wav"):
        assert len(corpus_rows("gtzan_genre", tmp_path).rows) == 2
    for path in list(tmp_path.rglob("*.wav")):
        path.unlink()
    with pytest.raises(ValueError, match="none of the 3 audio files.*gtzan_genre/genres/<genre>/"):
        corpus_rows("gtzan_genre", tmp_path)


def test_a_missing_index_is_said_by_name_with_what_fetches_it(tmp_path):
    pytest.importorskip("mirdata")
    with pytest.raises(ValueError) as error:
        corpus_rows("giantsteps_key", tmp_path)
    assert "giantsteps_key_index_+.json" in str(error.value)
    assert "mirdata.initialize('giantsteps_key').download(['index'])" in str(error.value)


def test_the_index_may_lie_elsewhere(tmp_path):
    folder = gtzan(tmp_path / "data")
    moved = (folder / "gtzan_genre_index_1.0.json").rename(tmp_path / "mine.json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(corpus_rows("gtzan_genre", folder, index=moved).rows) == 3
    with pytest.raises(ValueError, match="does not know the version '9'"):
        corpus_rows("gtzan_genre", folder, version="9")


@pytest.mark.parametrize("path", ["../out.wav", "/etc/passwd", "a/../../out.wav"])
def test_an_index_never_leads_out_of_the_folder(tmp_path, path):
    pytest.importorskip("mirdata")
    folder = gtzan(tmp_path / "data")
    file = folder / "gtzan_genre_index_1.0.json"
    content = json.loads(file.read_text())
    content["tracks"]["rock.00002"]["tempo"][0] = path
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="lies outside"):
        corpus_rows("gtzan_genre", folder)


def test_a_damaged_index_is_refused(tmp_path):
    pytest.importorskip("mirdata")
    text(tmp_path / "gtzan_genre_index_1.0.json", "[]")
    with pytest.raises(ValueError, match="is not an index of mirdata's"):
        corpus_rows("gtzan_genre", tmp_path)


@pytest.mark.parametrize(
    ("written", "key"),
    [
        *((key, key) for key in KEYS),
        ("a minor", "A minor"),
        ("Cb major", "B major"),
        ("B# minor", "C minor"),
        ("E♭:maj", "Eb major"),
        ("Dbm", "Db minor"),
        ("D\tminor\n", "D minor"),
        ("D phrygian", None),
        ("H major", None),
        ("major", None),
        ("X", None),
        (None, None),
    ],
)
def test_keys_are_read_as_people_write_them(written, key):
    assert parse_key(written) == key
