# SPDX-License-Identifier: Apache-2.0
"""Pyjama annotations, and the HDF5 files of recordings that come with them, hostile ones too."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from hf_mathrock.data import hdf5_audio
from hf_mathrock.data.corpora import corpus_rows
from hf_mathrock.data.hdf5_audio import (
    DamagedRecordingError,
    Hdf5Audio,
    RefusedRecordingError,
    hdf5_key,
)
from hf_mathrock.data.pyjama import read_pyjama
from hf_mathrock.models.audio_input import AudioReadError, read_audio

h5py = pytest.importorskip("h5py")

# As two published corpora have them: camel case up to 1.31, snake case from 1.4 on.
OLD_KEYS = ("typeContent", "typeExtent", "typeConstraint", "columnName")
NEW_KEYS = ("type_content", "type_extent", "type_constraint", "row_name")
NEW_WORDS = {"filePath": "filepath", "valueInDictionary": "value_in_dictionary", "breakpointTime": "breakpoint_time"}


def definition(content, extent, constraint="free", dictionary=(), rows=(), new=False):
    keys = NEW_KEYS if new else OLD_KEYS
    words = (content, extent, constraint)
    words = tuple(NEW_WORDS.get(word, word) for word in words) if new else words
    return dict(zip(keys, (*words, list(rows)), strict=True)) | {"dictionary": list(dictionary), "isTable": True}


def collection(new=False):
    """Two entries; genre single, tag several, one of each kind of fact."""
    definitions = {
        "filepath": definition("text", "global", "filePath", new=new),
        "genre": definition("text", "global", "valueInDictionary", ["rock", "blues", "jazz"], new=new),
        "tag": definition("text", "global", "valueInDictionary", ["slow", "loud"], new=new),
        "tempo": definition("numeric", "global", "valueInDictionary", [30, 300], new=new),
        "performer": definition("text", "global", new=new),
        "work-id": definition("text", "global", new=new),
        "split": definition("text", "global", new=new),
        "beat": definition("numeric", "marker", new=new),
        "pitchmidi": definition("numeric", "segment", new=new),
        "f0multi": definition("numeric", "breakpoint", rows=["violin", "bassoon"], new=new),
    }
    first = {
        "filepath": [{"value": "a/one.wav"}],
        "genre": [{"value": "blues"}],
        "tag": [{"value": "loud"}, {"value": "slow"}],
        "tempo": [{"value": 125.5}],
        "performer": [{"value": "Ada"}],
        "work-id": [{"value": "w1"}],
        "split": [{"value": "valid"}],
        "beat": [{"value": 1, "time": 0.5}, {"value": 2, "time": 1.0}],
        "pitchmidi": [{"value": 60, "time": 0.0, "duration": 0.5, "confidence": 0.9}],
        "f0multi": [{"value": [[60.0, 61.0, 62.0], [40.0, 41.0, 42.0]], "time": [0.0, 0.1, 0.2]}],
    }
    second = {name: [] for name in definitions} | {"filepath": [{"value": "a/two.wav"}], "genre": [{"value": "rock"}]}
    return {
        "schemaversion": 1.41 if new else 1.31,
        "collection": {"descriptiondefinition": definitions, "entry": [first, second]},
    }


def write(folder, data, name="corpus.pyjama"):
    path = folder / name
    path.write_text(json.dumps(data), "utf-8")
    return path


def put(file, key, samples, sr_hz=22_050, **how):
    dataset = file.create_dataset(key, data=np.asarray(samples), **how)
    if sr_hz is not None:
        dataset.attrs["sr_hz"] = sr_hz
    return dataset


@pytest.fixture
def tones():
    time = np.arange(22_050) / 22_050
    return {name: 0.3 * np.sin(2 * np.pi * hz * time) for name, hz in (("a/one.wav", 220), ("a/two.wav", 330))}


@pytest.fixture
def pair(tmp_path, tones):
    """A folder with a pyjama file and the HDF5 file that belongs to it."""
    folder = tmp_path / "pair"
    folder.mkdir()
    write(folder, collection())
    with h5py.File(folder / "corpus_audio.hdf5", "w") as file:
        put(file, "a+++one.wav", tones["a/one.wav"].astype(np.float32), compression="gzip", shuffle=True)
        put(file, "a+++two.wav", tones["a/two.wav"])
    return folder


# --- the annotations -------------------------------------------------------------------------------------------------


def test_both_spellings_give_the_same_collection(tmp_path):
    old = read_pyjama(write(tmp_path, collection(), "old.pyjama"))
    new = read_pyjama(write(tmp_path, collection(new=True), "new.pyjama"))
    assert (old.version, new.version) == (1.31, 1.41)
    assert old.definitions == new.definitions
    assert old.definitions["filepath"].constraint == "filepath"
    assert old.definitions["genre"].dictionary == ("rock", "blues", "jazz")
    assert [sorted(entry) for entry in old.entries] == [sorted(entry) for entry in new.entries]
    assert old.entries[0]["pitchmidi"][0].duration == 0.5 and old.entries[0]["pitchmidi"][0].confidence == 0.9
    assert old.entries[1]["tag"] == ()


@pytest.mark.parametrize("turned", [False, True])
def test_a_matrix_is_dimension_by_time_whichever_way_it_was_written(tmp_path, turned):
    data = collection()
    atom = data["collection"]["entry"][0]["f0multi"][0]
    wanted = np.array(atom["value"])
    if turned:
        atom["value"] = wanted.T.tolist()
    (read,) = read_pyjama(write(tmp_path, data)).entries[0]["f0multi"]
    np.testing.assert_array_equal(read.value, wanted)
    np.testing.assert_array_equal(read.time, [0.0, 0.1, 0.2])


def test_a_square_matrix_is_taken_as_the_published_corpora_write_it(tmp_path):
    data = collection()
    data["collection"]["entry"][0]["f0multi"] = [{"value": [[1.0, 2.0], [3.0, 4.0]], "time": [0.0, 0.1]}]
    (read,) = read_pyjama(write(tmp_path, data)).entries[0]["f0multi"]
    np.testing.assert_array_equal(read.value, [[1, 2], [3, 4]])


def test_values_over_shared_times_get_these_times(tmp_path):
    data = collection()
    declared, entry = data["collection"]["descriptiondefinition"], data["collection"]["entry"][0]
    declared["clock"] = definition("numeric", "breakpointTime")
    declared["loudness"] = definition("numeric", "breakpointValue", rows=["loudness"])
    entry["clock"] = [{"value": [[0.0, 0.5, 1.0]]}]
    entry["loudness"] = [{"value": [[-3.0], [-4.0], [-5.0]]}]
    (read,) = read_pyjama(write(tmp_path, data)).entries[0]["loudness"]
    np.testing.assert_array_equal(read.value, [[-3, -4, -5]])
    np.testing.assert_array_equal(read.time, [0, 0.5, 1])


def set_in(entry_name, value):
    def change(data):
        data["collection"]["entry"][0][entry_name] = value

    return change


def redefine(name, **fields):
    def change(data):
        data["collection"]["descriptiondefinition"][name].update(fields)

    return change


def twice(data):
    data["collection"]["entry"][1]["filepath"] = [{"value": "a/one.wav"}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_in("mood", [{"value": "sad"}]), "entry 0 ('a/one.wav'): 'mood' is not declared"),
        (
            set_in("genre", [{"value": "polka"}]),
            "'genre', fact 0: 'polka' is not in its dictionary (rock, blues, jazz)",
        ),
        (set_in("tempo", [{"value": 900}]), "900 is not between 30 and 300"),
        (set_in("genre", [{"comment": "?"}]), "it has no `value`"),
        (set_in("genre", "blues"), "'genre' is a str; it must be a list"),
        (set_in("beat", [{"value": 1}]), "'beat', fact 0: its `time` is missing"),
        (set_in("beat", [{"value": 1, "time": 2.0}, {"value": 2, "time": 1.0}]), "the times of 'beat' fall"),
        (set_in("beat", [{"value": 1, "time": -1.0}]), "its `time` is -1.0"),
        (set_in("pitchmidi", [{"value": 60, "time": 0.0}]), "its `duration` is missing"),
        (set_in("pitchmidi", [{"value": 60, "time": 0.0, "duration": float("nan")}]), "its `duration` is nan"),
        (set_in("f0multi", [{"value": [[1, 2, 3]] * 2, "time": [0.0, 0.2, 0.1]}]), "falls at position 2"),
        (set_in("f0multi", [{"value": [[1, 2, 3]] * 2, "time": [0.0] * 4}]), "(2, 3) and has 4 times"),
        (
            set_in("f0multi", [{"value": [[1, 2, 3]] * 4, "time": [0.0, 0.1, 0.2]}]),
            "4 dimensions beside 3 times; 2 are",
        ),
        (set_in("f0multi", [{"value": [[1, 2], [3]], "time": [0.0, 0.1]}]), "rows of equal length"),
        (twice, "entry 1 has the `filepath` 'a/one.wav' of entry 0"),
        (redefine("genre", typeExtent="sometimes"), "'genre' has the `type_extent` 'sometimes'"),
        (redefine("genre", dictionary=["rock", "rock"]), "has a text twice"),
        (lambda data: data.update(schemaversion=7), "`schemaversion` is 7.0"),
        (lambda data: data["collection"].update(entry={}), "`collection.entry` is a dict"),
        (lambda data: data["collection"]["entry"].append(["x"]), "entry 2: it is a list"),
    ],
)
def test_what_is_wrong_is_said_with_its_entry(tmp_path, change, said):
    data = copy.deepcopy(collection())
    change(data)
    with pytest.raises(ValueError) as error:
        read_pyjama(write(tmp_path, data))
    assert said in str(error.value) and "corpus.pyjama" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not json", b"\xff\xfe\x00", b"[1, 2]", b"[" * 100_000])
def test_what_is_no_pyjama_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "x.pyjama"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_pyjama(path)
    assert "x.pyjama" in str(error.value) and len(str(error.value)) < 300


# --- rows ------------------------------------------------------------------------------------------------------------


def test_a_pair_becomes_rows_with_tasks_groups_and_split(pair, tmp_path, tones):
    corpus = corpus_rows("pyjama", pair, cache_dir=tmp_path / "cache")
    assert corpus.tasks == [
        {"name": "genre", "type": "single_label", "labels": ["rock", "blues", "jazz"]},
        {"name": "tag", "type": "multi_label", "labels": ["slow", "loud"]},
    ]
    first, second = corpus.rows
    assert first.pop("audio").startswith(str(tmp_path / "cache"))
    assert first == {
        "song": "a/one.wav",
        "genre": "blues",
        "tag": ["loud", "slow"],
        "bpm": 125.5,
        "artist": "Ada",
        "work": "w1",
        "split": "validation",
    }
    assert second["genre"] == "rock"
    assert second["tag"] is None and second["artist"] is None  # nobody said, which is not the same as none
    assert corpus.broken == [] and corpus.notes == []


@pytest.mark.parametrize("song", ["a/one.wav", "a/two.wav"])
def test_samples_survive_unpacking_bit_by_bit(pair, tmp_path, tones, song):
    import soundfile

    corpus = corpus_rows("pyjama", pair, cache_dir=tmp_path / "cache")
    (row,) = [row for row in corpus.rows if row["song"] == song]
    stored, rate = soundfile.read(row["audio"], dtype="float64")
    assert rate == 22_050
    exact = tones[song].astype(np.float32) if song == "a/one.wav" else tones[song]
    np.testing.assert_array_equal(stored, exact.astype(np.float64))


def test_a_pair_is_unpacked_once(pair, tmp_path):
    first = corpus_rows("pyjama", pair, cache_dir=tmp_path / "cache").rows[0]["audio"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    assert len([path for path in before if path.is_file()]) == 2
    assert corpus_rows("pyjama", pair, cache_dir=tmp_path / "cache").rows[0]["audio"] == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()}.items() <= (
        before.items()
    )
    # Another file of that name is not taken for the old one.
    with h5py.File(pair / "corpus_audio.hdf5", "a") as file:
        file["a+++two.wav"][:10] = 0.5
        put(file, "more", np.ones(4000))
    assert corpus_rows("pyjama", pair, cache_dir=tmp_path / "cache").rows[0]["audio"] != first


def test_recordings_that_are_missing_or_cut_short_are_counted_and_the_others_read(pair, tmp_path):
    data = collection()
    for name in ("absent.wav", "short.wav", "mute.wav"):
        data["collection"]["entry"].append({"filepath": [{"value": name}]})
    write(pair, data)
    with h5py.File(pair / "corpus_audio.hdf5", "a") as file:
        sparse = file.create_dataset("short.wav", (50_000,), dtype="f4", chunks=(1000,))
        sparse[:1000], sparse.attrs["sr_hz"] = 0.1, 22_050
        put(file, "mute.wav", np.zeros(4000), sr_hz=None)
    with pytest.warns(UserWarning, match="3 of 5 recordings are not usable"):
        corpus = corpus_rows("pyjama", pair, cache_dir=tmp_path / "cache")
    assert [row["song"] for row in corpus.rows] == ["a/one.wav", "a/two.wav"]
    errors = {entry["song"]: entry["error"] for entry in corpus.broken}
    assert "no dataset 'absent.wav'" in errors["absent.wav"]
    assert "1 of its 50 chunks are there" in errors["short.wav"]
    assert "no attribute `sr_hz`" in errors["mute.wav"]


def test_not_a_number_is_left_to_the_reader(pair, tmp_path):
    with h5py.File(pair / "corpus_audio.hdf5", "a") as file:
        file["a+++two.wav"][100:2100] = np.nan
    corpus = corpus_rows("pyjama", pair, cache_dir=tmp_path / "cache")
    with pytest.raises(AudioReadError) as error:
        read_audio(corpus.rows[1]["audio"], 16_000)
    assert error.value.reason == "non_finite"


def test_free_text_becomes_a_task_only_under_a_name_that_means_labels(pair, tmp_path):
    data = collection()
    declared = data["collection"]["descriptiondefinition"]
    declared["genre"] = definition("text", "global")
    declared["audio"] = definition("text", "global")
    data["collection"]["entry"][0]["audio"] = [{"value": "/etc/passwd"}]
    write(pair, data)
    corpus = corpus_rows("pyjama", pair, cache_dir=tmp_path / "cache")
    assert corpus.tasks[0] == {"name": "genre", "type": "single_label", "labels": ["blues", "rock"]}
    assert [task["name"] for task in corpus.tasks] == ["genre", "tag"]  # no `performer`, no `work-id`
    assert corpus.rows[0]["audio"].endswith(".wav") and corpus.rows[0]["pyjama_audio"] == "/etc/passwd"


def test_audio_files_beside_the_annotations_do_as_well(tmp_path, tones):
    import soundfile

    write(tmp_path, collection())
    (tmp_path / "a").mkdir()
    soundfile.write(tmp_path / "a" / "one.wav", tones["a/one.wav"], 22_050)
    with pytest.warns(UserWarning, match="1 of 2 audio files are not in"):
        corpus = corpus_rows("pyjama", tmp_path)
    assert [row["audio"] for row in corpus.rows] == [str(tmp_path / "a" / "one.wav")]


@pytest.mark.parametrize("path", ["../secret.wav", "/etc/passwd", "a/../../secret.wav"])
def test_a_file_path_never_leaves_the_folder(tmp_path, path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (tmp_path / "secret.wav").write_bytes(b"x")
    data = collection()
    data["collection"]["entry"][0]["filepath"] = [{"value": path}]
    write(folder, data)
    with pytest.raises(ValueError, match="lies outside"):
        corpus_rows("pyjama", folder)


def test_a_key_never_becomes_a_path_of_the_cache(pair, tmp_path):
    data = collection()
    data["collection"]["entry"][0]["filepath"] = [{"value": "../../escape.wav"}]
    write(pair, data)
    with h5py.File(pair / "corpus_audio.hdf5", "a") as file:
        put(file, hdf5_key("../../escape.wav"), np.full(4000, 0.1))
    corpus = corpus_rows("pyjama", pair, cache_dir=tmp_path / "deep" / "cache")
    assert len(corpus.rows) == 2
    assert not list(tmp_path.rglob("*escape*"))
    assert all(row["audio"].startswith(str(tmp_path / "deep" / "cache")) for row in corpus.rows)


# --- hostile containers ----------------------------------------------------------------------------------------------


def external_storage(file, canary):
    file.create_dataset("x", (64,), dtype="f4", external=[(str(canary), 0, 256)]).attrs["sr_hz"] = 22_050


def external_link(file, canary):
    with h5py.File(canary.with_suffix(".h5"), "w") as other:
        put(other, "x", np.full(64, 7.0))
    file["x"] = h5py.ExternalLink(str(canary.with_suffix(".h5")), "/x")


def soft_link(file, canary):
    external_storage(file, canary)
    file.move("x", "hidden")
    file["x"] = h5py.SoftLink("/hidden")


def soft_link_loop(file, canary):
    file["x"], file["y"] = h5py.SoftLink("/y"), h5py.SoftLink("/x")


def virtual(file, canary):
    with h5py.File(canary.with_suffix(".h5"), "w") as other:
        put(other, "x", np.full(64, 7.0))
    layout = h5py.VirtualLayout((64,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(canary.with_suffix(".h5")), "x", shape=(64,))
    file.create_virtual_dataset("x", layout).attrs["sr_hz"] = 22_050


def text(file, canary):
    file.create_dataset("x", data=["a", "b"], dtype=h5py.string_dtype()).attrs["sr_hz"] = 22_050


def references(file, canary):
    file.create_dataset("x", data=np.array([file.ref], dtype=h5py.ref_dtype)).attrs["sr_hz"] = 22_050


def terabytes(file, canary):
    file.create_dataset("x", (2**40,), dtype="f4", chunks=(4096,)).attrs["sr_hz"] = 22_050


def huge_chunks(file, canary):
    file.create_dataset("x", (1000,), dtype="f4", chunks=(2**25,), maxshape=(None,)).attrs["sr_hz"] = 22_050


def bomb(file, canary):
    # The file is small, the recording long: what a zip bomb is.
    put(file, "x", np.zeros(hdf5_audio.MAX_PACKED_SAMPLES + 1, dtype=np.float16), compression="gzip", chunks=(2**20,))


def odd_filter(file, canary):
    put(file, "x", np.arange(100.0), scaleoffset=2)


def group(file, canary):
    put(file, "x/y", np.ones(10))


def matrix(file, canary):
    put(file, "x", np.ones((2, 100)))


def rate_as_text(file, canary):
    put(file, "x", np.ones(100), sr_hz="22050" * 1000)


def rate_as_array(file, canary):
    put(file, "x", np.ones(100), sr_hz=np.ones(8000))


def no_rate_at_all(file, canary):
    put(file, "x", np.ones(100), sr_hz=float("nan"))


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (external_storage, "external storage"),
        (external_link, "ExternalLink"),
        (soft_link, "SoftLink"),
        (soft_link_loop, "SoftLink"),
        (virtual, "virtual dataset"),
        (text, "its values are object"),
        (references, "its values are object"),
        (terabytes, "claims 1099511627776 samples"),
        (huge_chunks, "its chunks are of 134217728 bytes"),
        (bomb, "more than 100 times"),
        (odd_filter, "packed by filter 6"),
        (group, "it is a group"),
        (matrix, "recordings are mono"),
        (rate_as_text, "its `sr_hz` is object"),
        (rate_as_array, "of shape (8000,)"),
        (no_rate_at_all, "its `sr_hz` is nan"),
    ],
)
def test_a_hostile_container_is_refused_before_a_byte_is_read(tmp_path, attack, said, monkeypatch):
    canary = tmp_path / "canary"
    canary.write_bytes(b"SECRET!!" * 32)
    data = collection()
    data["collection"]["entry"] = [{"filepath": [{"value": "x"}]}]
    folder = tmp_path / "corpus"
    folder.mkdir()
    write(folder, data)
    with h5py.File(folder / "corpus.hdf5", "w") as file:
        attack(file, canary)
    # If the check came too late, reading would be possible, and this would say so.
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("samples were read"))
    with Hdf5Audio(folder / "corpus.hdf5") as hdf5:
        for call in (hdf5.recording, lambda name: next(hdf5.blocks(name))):
            with pytest.raises(RefusedRecordingError) as error:
                call("x")
            assert said in str(error.value) and len(str(error.value)) < 600
    with pytest.raises(RefusedRecordingError):
        corpus_rows("pyjama", folder, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.wav"))
    assert b"SECRET" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*.wav"))


def test_the_attacks_are_real_without_the_checks(tmp_path):
    # Otherwise the test above would hold for files that nobody needs to fear.
    canary = tmp_path / "canary"
    canary.write_bytes(b"SECRET!!" * 32)
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        external_storage(file, canary)
    with h5py.File(tmp_path / "x.hdf5", "r") as file:
        assert file["x"][:].tobytes() == canary.read_bytes()


@pytest.mark.parametrize("name", ["", ".", "..", "./x", "a/b", "\0", "x" * 100_000])
def test_a_key_that_is_not_there_is_missing_whatever_it_looks_like(tmp_path, name):
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        put(file, "x", np.ones(100))
    with Hdf5Audio(tmp_path / "x.hdf5") as hdf5:
        assert name not in hdf5
        with pytest.raises(KeyError):
            hdf5.recording(name)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_floats_of_every_width_and_order_are_read(tmp_path, dtype):
    samples = np.linspace(-1, 1, 5000).astype(dtype)
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        put(file, "x", samples, sr_hz=16_000.0, compression="lzf", fletcher32=True)
    with Hdf5Audio(tmp_path / "x.hdf5") as hdf5:
        assert hdf5.keys() == ["x"]
        recording = hdf5.recording("x")
        assert (recording.num_samples, recording.sampling_rate) == (5000, 16_000)
        np.testing.assert_array_equal(np.concatenate(list(hdf5.blocks("x"))), samples)


def test_a_long_recording_comes_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_audio, "BLOCK_SAMPLES", 1000)
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        put(file, "x", np.arange(2500.0))
    with Hdf5Audio(tmp_path / "x.hdf5") as hdf5:
        blocks = list(hdf5.blocks("x"))
    assert [len(block) for block in blocks] == [1000, 1000, 500]
    np.testing.assert_array_equal(np.concatenate(blocks), np.arange(2500))


def test_damaged_samples_are_an_error_of_their_recording(tmp_path):
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        put(
            file,
            "x",
            np.random.default_rng(0).standard_normal(20_000),
            compression="gzip",
            fletcher32=True,
            chunks=True,
        )
        where = file["x"].id.get_chunk_info(0)
    content = bytearray((tmp_path / "x.hdf5").read_bytes())
    for offset in range(where.byte_offset + 10, where.byte_offset + where.size - 10):
        content[offset] ^= 0xFF
    (tmp_path / "x.hdf5").write_bytes(content)
    with Hdf5Audio(tmp_path / "x.hdf5") as hdf5, pytest.raises(DamagedRecordingError, match="cannot be read"):
        list(hdf5.blocks("x"))


def test_bytes_changed_at_random_never_give_more_than_an_error(tmp_path):
    random = np.random.default_rng(1)
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        put(file, "x", random.standard_normal(2000), compression="gzip")
        put(file, "y", random.standard_normal(2000))
    original = (tmp_path / "x.hdf5").read_bytes()
    outcomes = set()
    for number in range(150):
        content = bytearray(original[: random.integers(64, len(original))] if number % 5 == 0 else original)
        for _ in range(8):
            content[random.integers(min(len(content), 4000))] = random.integers(256)
        path = tmp_path / f"{number}.hdf5"
        path.write_bytes(content)
        try:
            with Hdf5Audio(path) as hdf5:
                for name in hdf5.keys():  # noqa: SIM118  (not a dict)
                    outcomes.add(sum(map(len, hdf5.blocks(name))))
        except (ValueError, KeyError) as error:
            outcomes.add(type(error).__name__)
    assert "ValueError" in outcomes and 2000 in outcomes


def test_a_full_disk_is_said_before_anything_is_written(pair, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(ValueError, match="has 1 free"):
        corpus_rows("pyjama", pair, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.wav"))


def test_what_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "x.hdf5").write_bytes(b"RIFF" * 100)
    with pytest.raises(ValueError, match="cannot be opened as HDF5"):
        Hdf5Audio(tmp_path / "x.hdf5")
