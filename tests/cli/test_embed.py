# SPDX-License-Identifier: Apache-2.0
"""`hf-mathrock embed`, end to end with a tiny encoder."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from hf_mathrock.library.embedding import read_embeddings


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    from tiny_myna import tiny_myna, tiny_myna_extractor

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_myna().save_pretrained(folder)
    tiny_myna_extractor().save_pretrained(folder)
    return folder


@pytest.fixture
def music(tmp_path):
    """Three songs of noise, one of silence, one of 20 ms, and one that is none."""
    folder = tmp_path / "music"
    folder.mkdir()
    for number in range(3):
        noise = 0.1 * np.random.default_rng(number).standard_normal(16_000 * (number + 2))
        soundfile.write(folder / f"Band {number} - Song.wav", noise, 16_000)
    soundfile.write(folder / "silence.wav", np.zeros(16_000), 16_000)
    soundfile.write(folder / "tiny.wav", 0.1 * np.random.default_rng(9).standard_normal(320), 16_000)
    (folder / "text.mp3").write_text("words, nothing but words, and no music at all")
    return folder


@pytest.mark.parametrize("name", ["run", "run.parquet"])
def test_a_folder_becomes_a_run_and_each_problem_a_line(command, music, encoder, tmp_path, name):
    code, out, err = command("embed", music, "--model", encoder, "--out", tmp_path / name)
    assert code == 1 and out == ""
    lines = err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("error: cannot read") and "text.mp3" in lines[0] and "it is text" in lines[0]
    assert lines[1] == f"note: {music / 'silence.wav'} is silent and has no embedding"
    assert lines[2] == f"wrote {tmp_path / name}: 4 new embedding(s)" and lines[3] == "1 of 6 failed"
    library = read_embeddings(tmp_path / name)
    assert library.embeddings.shape == (4, 24) and set(library.left_out) == {
        str(music / "silence.wav"),
        str(music / "text.mp3"),
    }
    assert library.facts[0]["artist"] == "Band 0" and library.facts[0]["duration"] == 2.0
    assert library.space["how"] == "whole" and library.checkpoint == {"folder": str(encoder)}

    (music / "text.mp3").unlink()
    shutil.copy(music / "tiny.wav", music / "other.wav")
    code, _, err = command("embed", music, "--model", encoder, "--out", tmp_path / name)
    assert code == 0
    assert err == f"wrote {tmp_path / name}: 1 new embedding(s), 5 were there already\n"
    assert len(read_embeddings(tmp_path / name)) == 5


def test_the_run_holds_what_the_pipeline_says(command, music, encoder, tmp_path):
    import hf_mathrock

    pipe = hf_mathrock.pipeline("music-embedding", model=str(encoder), device="cpu")
    song = music / "Band 1 - Song.wav"
    for options, chunk_seconds in (([], None), (["--how", "chunks"], 3.0), (["--chunk-seconds", "1"], 1.0)):
        out = tmp_path / f"run {chunk_seconds}"
        assert command("embed", song, "--model", encoder, "--out", out, *options)[0] == 0
        library = read_embeddings(out)
        expected = pipe(str(song), chunk_seconds=chunk_seconds)["embedding"]
        np.testing.assert_allclose(library.embeddings[0], expected, atol=1e-6)
        assert library.space == pipe.space(chunk_seconds)


def test_models_of_a_few_seconds_are_heard_in_chunks(command, music, saved_model, tmp_path):
    song = music / "Band 1 - Song.wav"
    code, _, err = command("embed", song, "--model", saved_model, "--how", "whole", "--out", tmp_path / "run")
    assert code == 2 and "hears 10 s at a time, not whole songs; say --how chunks" in err
    assert command("embed", song, "--model", saved_model, "--out", tmp_path / "run")[0] == 0
    assert read_embeddings(tmp_path / "run").embeddings.shape == (1, 16)


def test_without_a_model_the_one_inside_is_used(command, music, tmp_path):
    from hf_mathrock.cli.embed import DEFAULT_MODEL

    assert command("embed", music / "tiny.wav", "--out", tmp_path / "run")[0] == 0
    library = read_embeddings(tmp_path / "run")
    assert library.checkpoint == {"name": DEFAULT_MODEL} and library.space["model"] == DEFAULT_MODEL


def test_another_space_is_refused_with_exit_code_2(command, music, encoder, tmp_path):
    song = music / "Band 1 - Song.wav"
    command("embed", song, "--model", encoder, "--out", tmp_path / "run")
    code, _, err = command("embed", song, "--model", encoder, "--how", "chunks", "--out", tmp_path / "run")
    assert code == 2 and "how ('whole' and 'chunks')" in err and "give another --out" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--how", "whole", "--chunk-seconds", "3"], 2, "--how whole has no chunks"),
        (["--chunk-seconds", "0.01"], 2, "`chunk_seconds` is 0.01; it must be at least 0.1 s"),
        (["--device", "cuda:99"], 2, "--device cuda:99 cannot be used here"),
        (["--model", "./nowhere"], 2, "there is no folder './nowhere'"),
    ],
)
def test_a_wrong_command_line_is_one_line(command, music, encoder, tmp_path, arguments, code, said):
    song = music / "Band 1 - Song.wav"
    got, _, err = command("embed", song, "--model", encoder, "--out", tmp_path / "run", *arguments)
    assert got == code and said in err and len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_without_audio_writes_nothing(command, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = command("embed", tmp_path / "empty", "--out", tmp_path / "run")
    assert code == 1 and "there is no audio in this folder" in err
    assert not (tmp_path / "run").exists()


def test_help_and_start_cost_no_library():
    code = (
        "import sys; from hf_mathrock.cli.main import main\n"
        "try: main(['embed', '--help'])\n"
        "except SystemExit: pass\n"
        "try: main(['playlist', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('numpy', 'torch', 'transformers', 'pyarrow', 'scipy', 'rich', 'soundfile', 'xml')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
