# SPDX-License-Identifier: Apache-2.0
"""The README does what it says: every block of code in it is run, in order, in one folder, without a network."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hf_mathrock
from hf_mathrock.models.audio_windows import QUALITY_FLAGS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Slots that a script fills with what was measured.
SLOTS = ("table", "result", "figures", "speed", "whole-track")

# The blocks share files and names: one process runs them all, in order (`make test` hands out whole files).
needs_checkpoint = pytest.mark.skipif(
    not (hf_mathrock.embedded_checkpoint() / "config.json").is_file(),
    reason="the embedded checkpoint is not in the package yet; `hf-mathrock train recipes/mathrock-tiny.yaml` makes it",
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its code, and the line of the README it begins at."""

    language: str
    code: str
    line: int

    def __str__(self) -> str:
        return f"line {self.line}: {self.code.strip().splitlines()[0]}"


BLOCKS = [
    Block(found["language"], found["code"], README[: found.start()].count("\n") + 1)
    for found in re.finditer(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", README, re.MULTILINE | re.DOTALL)
]
RUN = [block for block in BLOCKS if block.language in ("python", "bash", "sh", "console")]


@dataclass
class Workshop:
    """Where the blocks are run: a folder with some music, and the names that the Python blocks have defined."""

    folder: Path
    names: dict[str, Any] = field(default_factory=dict)

    def shell(self, command: str) -> str:
        """Run a command of the README with this environment's programs and a home of its own; returns its output."""
        scripts = Path(sys.executable).parent
        environment = os.environ | {"HOME": str(self.folder), "OMP_NUM_THREADS": "1", "COLUMNS": "110"}
        environment |= {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            ["sh", "-euc", command], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def python(self, block: Block) -> None:
        """Run Python code with the names of the blocks before."""
        # As long as the lines above it, so that a traceback shows the README's own line numbers.
        exec(compile("\n" * block.line + block.code, ROOT / "README.md", "exec"), self.names)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    import datasets
    import soundfile

    from hf_mathrock.synthesis.composer import compose
    from hf_mathrock.synthesis.renderer import render

    folder = tmp_path_factory.mktemp("readme")
    (folder / "my songs").mkdir()
    for seed, name in enumerate(["song.mp3", "my songs/1 first.flac", "my songs/2 second.wav"]):
        soundfile.write(folder / name, render(compose(seed, seconds=12.0), sampling_rate=44_100, seed=seed).T, 44_100)
    for part in ("examples", "recipes"):
        (folder / part).symlink_to(ROOT / part)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
        patch.setenv("HOME", str(folder))  # where outputs of frozen backbones are kept
        yield Workshop(folder)


# --- blocks that need a network, minutes, or another machine: what is checked instead ---------------------------------


def make_targets_exist(block: Block, workshop: Workshop) -> None:
    done = subprocess.run(["make", "--dry-run", *re.findall(r"^make (\w+)$", block.code, re.M)], cwd=ROOT, check=True,
                          capture_output=True, text=True)  # fmt: skip
    assert "hf-mathrock tag" in done.stdout and "-m pytest" in done.stdout


def extra_exists(block: Block, workshop: Workshop) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (requirement,) = re.findall(r"\"(\S+)\[(\w+)\]\"", block.code)
    assert requirement[0] in (".", project["name"]) and requirement[1] in project["optional-dependencies"]


def backbones_from_folders(block: Block, workshop: Workshop) -> None:
    from transformers import ClapAudioModel, WavLMModel

    config = hf_mathrock.MathRockForAudioClassification.from_pretrained(hf_mathrock.embedded_checkpoint()).config
    WavLMModel(config.wavlm_config).save_pretrained("wavlm")
    ClapAudioModel(config.clap_audio_config).save_pretrained("clap")
    code = block.code.replace("microsoft/wavlm-base", "./wavlm").replace("laion/clap-htsat-unfused", "./clap")
    assert code.count("./") == 2
    kept = dict(workshop.names)
    workshop.python(Block(block.language, code, block.line))
    assert workshop.names["model"].config.task_names == ["mood", "meter"]
    workshop.names.update(kept)


def convert_a_small_checkpoint(block: Block, workshop: Workshop) -> None:
    import torch

    from hf_mathrock.conversion.mathrock import _reference_name

    model = hf_mathrock.MathRockForAudioClassification.from_pretrained(hf_mathrock.embedded_checkpoint())
    # The reference has the sizes of the base backbones: too large for a test.
    small = hf_mathrock.MathRockConfig(
        wavlm_config=model.config.wavlm_config.to_dict(), clap_audio_config=model.config.clap_audio_config.to_dict()
    )
    state_dict = hf_mathrock.MathRockForAudioClassification(small).state_dict()
    torch.save({"model_state_dict": {_reference_name(name): value for name, value in state_dict.items()}}, "model.pth")
    small.wavlm_config.to_json_file("wavlm.json")
    small.clap_audio_config.to_json_file("clap.json")
    workshop.shell(block.code.strip() + " --wavlm-config wavlm.json --clap-config clap.json")
    assert Path("converted/model.safetensors").is_file()


def load_without_the_package(block: Block, workshop: Workshop) -> None:
    refuse = """
        import sys
        class Refuse:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "hf_mathrock":
                    raise ImportError("hf_mathrock is not here")
        sys.meta_path.insert(0, Refuse())
    """
    Path("elsewhere.py").write_text(f"{textwrap.dedent(refuse)}\n{block.code}\nprint(result['model']['fingerprint'])\n")
    fingerprint = workshop.shell("HF_HOME=cold python elsewhere.py").split()[-1]
    assert fingerprint == json.loads(Path("to-publish/results.json").read_text())["fingerprint"]


def train_a_little(block: Block, workshop: Workshop) -> None:
    settings = "data.train.num=4 data.validation.num=4 data.train.seconds=10 data.validation.seconds=10"
    workshop.shell(block.code.strip() + f" --set {settings} training.num_train_epochs=1")
    assert Path("runs/mathrock-tiny/model.safetensors").is_file()


# What one block, found by these words, does instead of running. A block without an entry runs as it stands.
def convert_musicnn(block: Block, workshop: Workshop) -> None:
    weights = ROOT.parent / "shared" / "reference" / "musicnn" / "MTT_musicnn.safetensors"
    if not weights.is_file():  # they are not part of this repository: the blocks below run with random ones
        config = hf_mathrock.MusicnnConfig()
        extractor = hf_mathrock.MusicTaggingFeatureExtractor.for_config(config)
        hf_mathrock.MusicnnForAudioClassification(config).save_pretrained("musicnn")
        extractor.save_pretrained("musicnn")
        return
    Path("MTT_musicnn").mkdir()
    Path("MTT_musicnn", weights.name).symlink_to(weights)
    assert workshop.shell(block.code.replace(" MTT_musicnn ", f" MTT_musicnn/{weights.name} "))


def train_a_tagger_a_little(block: Block, workshop: Workshop) -> None:
    small = "training.num_train_epochs=1 training.max_steps=1 model.architecture=logmel_hybrid"
    workshop.shell(f"{block.code.strip()} --set {small}")


def pretrain_a_little(block: Block, workshop: Workshop) -> None:
    import soundfile

    for number in range(3, 9):  # tracks to tell from each other; two are too few
        noise = np.random.default_rng(number).normal(size=16_000 * 5) * np.sin(np.arange(16_000 * 5) / number / 40)
        soundfile.write(workshop.folder / "my songs" / f"{number} more.wav", 0.1 * noise, 16_000)
    train, embed = block.code.strip().splitlines()
    small = "training.max_steps=2 training.per_device_train_batch_size=2 pretraining.validation_seconds=2"
    workshop.shell(f"{train} --set {small} pretraining.min_seconds=1\n{embed}")


def convert_a_small_myna(block: Block, workshop: Workshop) -> None:
    from safetensors.torch import save_file

    sys.path.insert(0, str(ROOT / "tests" / "conversion"))
    from test_myna_conversion import state_dict

    save_file(state_dict((16, 16)), "model.safetensors")
    workshop.shell(block.code)


def the_command_is_understood(block: Block, workshop: Workshop) -> None:
    from hf_mathrock.cli.main import _parse

    args = _parse(shlex.split(block.code)[1:])
    assert args.task == "generated" and Path(args.model, "model.safetensors").is_file()


INSTEAD: dict[str, Callable[[Block, Workshop], None]] = {
    "make demo": make_targets_exist,
    "pip install -e": extra_exists,
    "pip install \"hf-mathrock": extra_exists,
    "microsoft/wavlm-base": backbones_from_folders,
    "hf-mathrock convert mathrock": convert_a_small_checkpoint,
    "hf-mathrock convert musicnn": convert_musicnn,
    "hf-mathrock train recipes/music-tagger.yaml": train_a_tagger_a_little,
    "trust_remote_code": load_without_the_package,
    "hf-mathrock train recipes/mathrock-tiny.yaml": train_a_little,
    "hf-mathrock train recipes/myna-folder.yaml": pretrain_a_little,
    "hf-mathrock convert myna": convert_a_small_myna,
    "hf-mathrock probe": the_command_is_understood,
}  # fmt: skip


@needs_checkpoint
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", RUN, ids=str)
def test_the_block_does_what_it_says(block, workshop):
    for words, check in INSTEAD.items():
        if words in block.code:
            return check(block, workshop)
    if block.language == "python":
        workshop.python(block)
    elif block.language == "console":
        commands = [line.removeprefix("$ ") for line in block.code.splitlines() if line.startswith("$ ")]
        shown = [line for line in block.code.splitlines() if not line.startswith("$ ")]
        # Scores may differ in their last place from one processor to another.
        assert _words("".join(map(workshop.shell, commands))) == _words("\n".join(shown))
    else:
        workshop.shell(block.code)


def _words(text: str) -> list[str]:
    return re.sub(r"\d+", "0", text).split()


def test_every_stand_in_is_for_exactly_one_block():
    assert {words: sum(words in block.code for block in RUN) for words in INSTEAD} == dict.fromkeys(INSTEAD, 1)


def test_every_block_states_its_language():
    assert {block.language for block in BLOCKS} <= {"python", "bash", "sh", "console", "json", "text"}
    assert README.count("```") == 2 * len(BLOCKS)


@needs_checkpoint
def test_the_tagged_folder_left_what_the_readme_says(workshop):
    if not Path("tags").exists():
        pytest.skip("the blocks were not run")
    assert {path.name for path in Path("tags").iterdir()} == {"tags.json", "1 first.png", "2 second.png"}


@needs_checkpoint
def test_the_table_of_the_result_lists_its_keys(workshop):
    rows = re.findall(r"^\| (`.*?) \|", _between("| key | holds |", "Several emotions"), re.M)
    listed = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
    pipe = hf_mathrock.pipeline("mathrock-affect")
    assert listed == list(pipe("song.mp3", return_segments=True, return_embedding=True))


def test_the_table_of_flags_is_that_of_the_reader():
    assert set(re.findall(r"^\| `(\w+)` \|", _between("| flag | meaning |", "## Speed"), re.M)) == set(QUALITY_FLAGS)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "json"], ids=str)
def test_json_is_json(block):
    json.loads(block.code)


def _between(begin: str, end: str) -> str:
    return README[README.index(begin) : README.index(end)]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_every_link_leads_to_a_file(target):
    assert (ROOT / target).is_file()


@needs_checkpoint
@pytest.mark.parametrize("slot", SLOTS)
def test_every_slot_is_filled_with_what_was_measured(slot):
    assert _between(f"<!-- {slot}:start -->", f"<!-- {slot}:end -->").count("\n") > 1
