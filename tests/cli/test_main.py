# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from hf_mathrock import __version__
from hf_mathrock.cli import train
from hf_mathrock.cli.main import COMMANDS

HEAVY = {"torch", "transformers", "numpy", "matplotlib", "rich", "datasets", "yaml", "soundfile"}


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS), ["tga"]])
def test_help_and_usage_errors_import_nothing_heavy(arguments):
    # Seconds depend on the machine; what they are spent on does not.
    code = f"""
import sys
from hf_mathrock.cli.main import main
try:
    main({arguments!r})
except SystemExit:
    pass
print("loaded:", *({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["loaded:"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_begins_with_its_usage(command, name):
    code, out, _ = command(name, "--help")
    assert code == 0 and out.startswith(f"usage: hf-mathrock {name}")


def test_choices_are_those_of_the_functions_behind_the_commands():
    # Written out in the commands, whose help must not wait for numpy.
    from hf_mathrock.explanation import BASELINES, METHODS
    from hf_mathrock.model_card.card import AGGREGATIONS as DESCRIBED
    from hf_mathrock.models.scoring import AGGREGATIONS

    def choices(name, option):
        parser = argparse.ArgumentParser()
        COMMANDS[name].add_arguments(parser)
        (action,) = (action for action in parser._actions if option in action.option_strings)
        return set(action.choices)

    assert choices("tag", "--aggregation") == choices("evaluate", "--aggregation") == set(AGGREGATIONS)
    assert set(DESCRIBED) == set(AGGREGATIONS)
    assert choices("explain", "--method") == set(METHODS) and choices("explain", "--baseline") == set(BASELINES)


def test_help_lists_every_command(command):
    code, out, _ = command("--help")
    assert code == 0 and all(f"    {name}" in out for name in COMMANDS)


def test_the_version_is_the_packages(command):
    assert command("--version")[:2] == (0, f"hf-mathrock {__version__}\n")


@pytest.mark.parametrize(("word", "meant"), [("tga", "tag"), ("synthesise", "synthesize"), ("trian", "train")])
def test_an_unknown_command_suggests_the_nearest(command, word, meant):
    code, out, err = command(word, "song.mp3")
    assert code == 2 and out == "" and f"did you mean {meant}?" in err


def test_a_word_like_no_command_suggests_none(command):
    code, _, err = command("xyzzy")
    assert code == 2 and "did you mean" not in err and ", ".join(COMMANDS) in err


def test_no_command_is_a_usage_error(command):
    assert command()[0] == 2


@pytest.fixture
def failing(monkeypatch):
    def fail_with(error):
        def run(args):
            raise error

        monkeypatch.setattr(train, "run", run)

    return fail_with


def test_an_unexpected_error_is_one_line_without_a_traceback(command, failing):
    failing(KeyError("weights"))
    code, out, err = command("train", "recipe.yaml")
    assert code == 1 and out == ""
    assert err.splitlines() == [
        "error: KeyError: 'weights'",
        "this looks like a defect; --debug shows where it happened",
    ]


def test_an_error_of_the_callers_data_is_its_message(command, failing):
    failing(ValueError("the recipe\nhas no data"))
    assert command("train", "recipe.yaml") == (1, "", "error: the recipe has no data\n")


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'datasets'", name="datasets"),
        ImportError('Training needs sklearn: pip install "hf-mathrock[train]"'),
    ],
)
def test_a_missing_package_is_one_line_that_says_how_to_install_it(command, failing, error):
    failing(error)
    code, out, err = command("train", "recipe.yaml")
    assert code == 1 and out == "" and len(err.splitlines()) == 1
    assert err.startswith(f"error: {error}") and err.count('pip install "hf-mathrock[train]"') == 1


def test_a_name_that_this_package_itself_lacks_is_a_defect(command, failing):
    failing(ImportError("cannot import name 'x' from 'hf_mathrock.zoo'", name="hf_mathrock.zoo"))
    assert "looks like a defect" in command("train", "recipe.yaml")[2]


@pytest.mark.parametrize("arguments", [["--debug", "train", "recipe.yaml"], ["train", "recipe.yaml", "--debug"]])
def test_debug_shows_where_it_happened(capsys, failing, arguments):
    from hf_mathrock.cli.main import main

    failing(KeyError("weights"))
    assert main(arguments) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_quiet(command, failing):
    failing(KeyboardInterrupt())
    assert command("train", "recipe.yaml") == (130, "", "")


def test_a_reader_that_stops_reading_is_no_error():
    code = (
        "import sys; from hf_mathrock.cli import info, main; info.OPTIONAL_PACKAGES = (); sys.exit(main.main(['info']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    _, err = process.communicate()
    assert process.returncode == 141 and err == b""


def test_overrides_of_a_recipe_are_read_as_yaml(command, monkeypatch):
    seen = {}
    module = type(sys)("hf_mathrock.training.recipe")
    module.run_recipe = lambda path, output_dir, overrides, **kwargs: (
        seen.update(overrides, resume=kwargs["resume"], device=kwargs["device"]) or {"accuracy": 0.5}
    )
    monkeypatch.setitem(sys.modules, "hf_mathrock.training.recipe", module)
    code, out, _ = command("train", "r.yaml", "--set", "seed=3", "training.bf16=true", "--set", "name=a=b", "x=[1, 2]")
    assert code == 0 and '"accuracy": 0.5' in out
    assert seen == {"seed": 3, "training.bf16": True, "name": "a=b", "x": [1, 2], "resume": False, "device": None}
    command("train", "r.yaml", "--data", "my songs", "--new-heads", "--resume", "--device", "cpu")
    assert (seen["data.source"], seen["model.new_heads"], seen["resume"], seen["device"]) == (
        "my songs",
        True,
        True,
        "cpu",
    )


@pytest.mark.parametrize("override", ["seed", "=3", "x=[1"])
def test_an_override_that_is_none_is_a_usage_error(command, override):
    code, _, err = command("train", "r.yaml", "--set", override)
    assert code == 2 and "--set" in err


def test_a_warning_is_shown_once_whatever_happens_to_the_filters():
    code = """
import sys, types, warnings
from hf_mathrock.cli.terminal import show_own_warnings
show_own_warnings()
module = types.ModuleType("hf_mathrock.some")
exec("import warnings\\ndef warn(): warnings.warn('left out')", module.__dict__)
for _ in range(3):
    module.warn()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "warning: left out\n"
