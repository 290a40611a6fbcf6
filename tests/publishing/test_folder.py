# SPDX-License-Identifier: Apache-2.0
"""The folder that is published: complete, private about this machine, and the same for who has not this package."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hf_mathrock.publishing import assemble
from hf_mathrock.publishing.privacy import check_no_paths, places_of_this_machine, without_paths

REPO = "ada/shelf"
CODE = {"configuration_mathrock.py", "feature_extraction_mathrock.py", "modeling_mathrock.py", "scoring.py"}
COLD = """
import json, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hf_mathrock":
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Block())
from transformers import pipeline
pipe = pipeline("mathrock-affect", model=".", trust_remote_code=True, device="cpu")
print(json.dumps(pipe(sys.argv[1], return_segments=True)))
"""


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to reach anything ends the test."""
    from huggingface_hub import constants

    def refuse(*args, **_):
        raise AssertionError(f"the network was used: {args}")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # this switch must not be what keeps it quiet
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def scores(answer):
    return {(task, e["label"]): e["score"] for task in ("emotion", "vibe", "tempo") for e in answer[task]}


def test_the_embedded_checkpoint_gives_a_whole_folder_without_a_network(tmp_path, no_network):
    built = assemble("mathrock-tiny", tmp_path / "out", repo="ada/tiny")
    there = {path.relative_to(built.folder).as_posix() for path in built.folder.rglob("*") if path.is_file()}
    assert there == set(built.files)
    whole = {"model.safetensors", "config.json", "preprocessor_config.json", "LICENSE", "README.md", "results.json"}
    assert whole | CODE | {"recipe.json", "example.ogg", "example_output.json"} <= there
    assert built.files["example.ogg"] <= 300_000
    config = json.loads((built.folder / "config.json").read_text())
    assert config["auto_map"]["AutoModel"] == "modeling_mathrock.MathRockModel"
    assert list(config["custom_pipelines"]) == ["mathrock-affect"]
    assert (built.folder / "LICENSE").read_text() == (Path(__file__).parents[2] / "LICENSE").read_text()
    answer = json.loads((built.folder / "example_output.json").read_text())
    assert answer["file"] == "example.ogg" and answer["model"] == {"name": "ada/tiny", "fingerprint": built.fingerprint}
    assert ".eval_results/unseen_seeds.yaml" in there


def test_the_folder_answers_the_same_where_the_package_is_absent(measured, clip, tmp_path):
    built = assemble(measured, tmp_path / "out", repo=REPO, example=clip)
    environment = {
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "home"),
    }
    done = subprocess.run(
        [sys.executable, "-c", COLD, "example.wav"],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        cwd=built.folder,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cold, published = (json.loads(text) for text in (done.stdout, (built.folder / "example_output.json").read_text()))
    assert scores(cold) == pytest.approx(scores(published), abs=1e-6)
    assert {key: cold["model"][key] for key in ("fingerprint",)} == {"fingerprint": published["model"]["fingerprint"]}
    for answer in (cold, published):
        del answer["model"], answer["emotion"], answer["segments"], answer["vibe"], answer["intensity"], answer["tempo"]
    assert cold == published


def test_no_text_names_a_place_of_this_machine(measured, clip, tmp_path):
    built = assemble(measured, tmp_path / "out", repo=REPO, example=clip)
    texts = {path.name: path.read_text() for path in built.folder.rglob("*") if path.suffix in (".json", ".md", ".py")}
    for place in (measured, measured.parent, tmp_path, Path.home(), Path.cwd(), clip.parent):
        assert [name for name, text in texts.items() if str(place) in text] == [], place
    assert json.loads(texts["results.json"])["sets"]["my_songs"]["data"]["source"] == "songs"
    recipe = json.loads(texts["recipe.json"])
    assert (recipe["data"]["folder"], recipe["model"]["pretrained"]) == ("songs", "first")


def test_a_path_in_the_card_is_refused_by_name(measured, clip, tmp_path):
    facts = {"training_data": f"Songs from {Path.home()}/music."}
    with pytest.raises(ValueError, match=re.escape(f"README.md names {Path.home()}")):
        assemble(measured, tmp_path / "out", repo=REPO, example=clip, facts=facts)
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["my runs"]


@pytest.mark.parametrize(
    "value, published",
    [
        ("/home/ada/my songs/x.wav", "x.wav"),
        ("cannot read '/home/ada/songs/x.wav': empty", "cannot read 'x.wav': empty"),
        ("https://hf.co/a/b 7/8 org/name songs/x.wav", "https://hf.co/a/b 7/8 org/name songs/x.wav"),
        (r"C:\music\x.wav", "x.wav"),
        ({"/a/b/c": ["~/songs/x.wav", 3, None]}, {"c": ["x.wav", 3, None]}),
    ],
)
def test_absolute_paths_keep_their_last_part_only(value, published):
    assert without_paths(value) == published


def test_a_folder_that_begins_like_a_place_is_none(tmp_path):
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "a.py").write_text(f'"{tmp_path}-other"')
    check_no_paths(folder, places_of_this_machine(tmp_path)[:1])


def test_figures_of_other_weights_are_refused(measured, clip, tmp_path):
    stale = json.loads((measured / "results.json").read_text()) | {"fingerprint": "0123456789abcdef"}
    (tmp_path / "stale.json").write_text(json.dumps(stale))
    with pytest.raises(ValueError, match="results.json is of other weights.*hf-mathrock evaluate"):
        assemble(measured, tmp_path / "out", repo=REPO, example=clip, results=tmp_path / "stale.json")
    calibration = json.loads((measured / "calibration.json").read_text()) | {"fingerprint": "0123456789abcdef"}
    (measured / "calibration.json").write_text(json.dumps(calibration))
    with pytest.raises(ValueError, match="calibration.json is of other weights.*hf-mathrock calibrate"):
        assemble(measured, tmp_path / "out", repo=REPO, example=clip)


def test_a_calibration_that_the_config_does_not_use_is_refused(measured, clip, tmp_path):
    config = json.loads((measured / "config.json").read_text()) | {"temperatures": None}
    (measured / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="'tempo' the temperature 1.7, the config 1"):
        assemble(measured, tmp_path / "out", repo=REPO, example=clip)


@pytest.mark.parametrize("calibrated", [True, False])
def test_figures_from_before_the_calibration_are_said_to_be_such(calibrated, measured, clip, tmp_path):
    if not calibrated:
        (measured / "calibration.json").unlink()
    built = assemble(measured, tmp_path / "as it is", repo=REPO, example=clip)
    assert not [note for note in built.notes if "measured with other" in note]
    config = json.loads((measured / "config.json").read_text()) | {"thresholds": None}
    (measured / "config.json").write_text(json.dumps(config))
    built = assemble(measured, tmp_path / "out", repo=REPO, example=clip)
    assert [note for note in built.notes if "measured with other thresholds than the model has now" in note]
    assert "measured with other thresholds" in (tmp_path / "out" / "README.md").read_text()


def test_results_without_a_fingerprint_are_refused(measured, clip, tmp_path):
    (tmp_path / "mine.json").write_text('{"sets": {}}')
    with pytest.raises(ValueError, match="does not say which weights"):
        assemble(measured, tmp_path / "out", repo=REPO, example=clip, results=tmp_path / "mine.json")


def test_the_last_checkpoint_of_a_trainer_is_taken_with_the_recipe_of_its_run(measured, clip, tmp_path):
    run = tmp_path / "run"
    for number in (20, 100):
        shutil.copytree(measured, run / "trainer" / f"checkpoint-{number}")
        for name in ("recipe.json", "results.json", "calibration.json"):
            (run / "trainer" / f"checkpoint-{number}" / name).unlink()
    (run / "trainer" / "checkpoint-100" / "training_args.bin").write_bytes(b"pickle")
    (run / "trainer" / "checkpoint-300").mkdir()  # killed before its weights were there
    shutil.copy(measured / "recipe.json", run)
    built = assemble(run, tmp_path / "out", repo=REPO, example=clip)
    assert built.notes[0] == "took checkpoint-100, the last of 2"
    assert "recipe.json" in built.files and "training_args.bin" not in built.files
    assert [note for note in built.notes if note.startswith("nothing was measured")]


@pytest.mark.parametrize(
    "missing, said", [("config.json", "has no config.json"), ("model.safetensors", "has no model.safetensors")]
)
def test_what_is_no_checkpoint_is_refused_by_what_it_lacks(missing, said, checkpoint, tmp_path):
    shutil.copytree(checkpoint[0], tmp_path / "broken")
    (tmp_path / "broken" / missing).unlink()
    with pytest.raises(ValueError, match=said):
        assemble(tmp_path / "broken", tmp_path / "out", repo=REPO)


def test_other_models_adapters_and_places_in_use_are_refused(checkpoint, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(checkpoint[0], other)
    (other / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="'bert'; hf-mathrock publishes: mathrock"):
        assemble(other, tmp_path / "out", repo=REPO)
    (other / "model.safetensors").unlink()
    (other / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="adapter only"):
        assemble(other, tmp_path / "out", repo=REPO)
    with pytest.raises(ValueError, match="is not empty"):
        assemble(checkpoint[0], other, repo=REPO)
    with pytest.raises(ValueError, match="owner and name"):
        assemble(checkpoint[0], tmp_path / "out", repo="shelf")
    with pytest.raises(FileNotFoundError, match="no folder 'no/such/folder'"):
        assemble("no/such/folder", tmp_path / "out", repo=REPO)


def test_a_large_example_is_refused(checkpoint, tmp_path):
    (tmp_path / "song.wav").write_bytes(bytes(1_000_001))
    with pytest.raises(ValueError, match="song.wav has 1.0 MB"):
        assemble(checkpoint[0], tmp_path / "out", repo=REPO, example=tmp_path / "song.wav")


def licence_files(folder):
    return {path.name: path.read_text() for path in folder.glob("LICENSE*")}


def test_each_licence_has_its_text_or_its_link(checkpoint, clip, tmp_path):
    def built(name, facts):
        folder = assemble(checkpoint[0], tmp_path / name, repo=REPO, example=clip, facts=facts).folder
        return licence_files(folder), yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])

    files, front = built("none", None)
    assert front["license"] == "unknown" and "Apache License" in files["LICENSE"]
    files, front = built("mit", {"licence": "MIT", "authors": ["Ada L."]})
    assert front["license"] == "mit" and re.search(r"Copyright \(c\) 20\d\d Ada L\.", files["LICENSE"])
    assert "Apache License" in files["LICENSE.code"]
    files, front = built("cc", {"licence": "cc-by-4.0"})
    assert front["license"] == "cc-by-4.0" and "creativecommons.org/licenses/by/4.0" in files["LICENSE"]
    files, front = built("own", {"licence": "shelf-only", "licence_link": "https://example.org/terms"})
    assert (front["license"], front["license_name"]) == ("other", "shelf-only")
    assert front["license_link"] == "https://example.org/terms" and "https://example.org/terms" in files["LICENSE"]
    with pytest.raises(ValueError, match="'shelf-only'.*--licence-link"):
        built("wrong", {"licence": "shelf-only"})
