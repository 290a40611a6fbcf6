# SPDX-License-Identifier: Apache-2.0
"""Which code travels to the Hub, and who may import whom."""

import ast
import re
import sys
from pathlib import Path

import pytest

import hf_mathrock
from hf_mathrock.registry import FAMILIES, TASKS

PACKAGE = Path(hf_mathrock.__file__).parent
TRAVELLING = sorted(file for file in (PACKAGE / "models").glob("*.py") if file.name != "__init__.py")
AT_IMPORT = {"torch", "numpy", "transformers", "huggingface_hub"} | set(sys.stdlib_module_names)

# From the layout of the project: the parts of this package that each part may import.
MAY_IMPORT = {
    "models": set(),
    "metrics": set(),
    "zoo": set(),
    "version": set(),
    "report": set(),
    "registry": {"models", "zoo"},
    "data": {"library", "models", "synthesis", "version"},
    "synthesis": {"models", "version"},
    "training": {"data", "metrics", "models", "registry", "zoo"},
    "explanation": {"models"},
    "evaluation": {"data", "metrics", "models", "registry", "synthesis", "training", "zoo", "version"},
    "library": {"models", "registry", "zoo", "version"},
    "conversion": {"models", "zoo"},
    "model_card": {"report"},
    "playlists": set(),
    "publishing": {"model_card", "registry", "synthesis", "version", "zoo"},
}

# The files that saving each published class takes along.
READING = {"audio_input.py", "audio_opening.py", "audio_reading.py", "audio_windows.py"}
LISTENING = {"pipeline_recordings.py", "scoring.py"} | READING
TASKS_AND_LABELS = {"configuration_tasks.py"}
TAGGER_CONFIG = {
    "configuration_tagging.py",
    "configuration_features.py",
    "configuration_values.py",
} | TASKS_AND_LABELS
TAGGER_EXTRACTOR = (
    {"feature_extraction_music_tagging.py", "feature_extraction_windows.py", "tagger_features.py"}
    | TAGGER_CONFIG
    | READING
)
TAGGER = (
    {"modeling_tagging.py", "objectives.py", "outputs.py", "pooling.py", "pipeline_music_tagging.py"}
    | TAGGER_EXTRACTOR
    | LISTENING
)
MYNA_CONFIG = {"configuration_myna.py"} | TAGGER_CONFIG
MYNA_EXTRACTOR = (
    {"feature_extraction_myna.py", "feature_extraction_windows.py", "tagger_features.py"} | MYNA_CONFIG | READING
)
MYNA = (
    {"modeling_myna.py", "myna_encoder.py", "myna_attention.py", "myna_positions.py", "contrastive.py"}
    | {"pipeline_music_embedding.py"}
    | MYNA_EXTRACTOR
    | TAGGER
)
STAGES = {"tagger_stages.py", "tagger_waveform_stages.py", "tagger_pooling.py"}
ENCODER = {"tagger_encoder.py", "tagger_contributions.py"}
CLOSURES = {
    "MathRockConfig": {"configuration_mathrock.py"} | TASKS_AND_LABELS,
    "MathRockFeatureExtractor": {"feature_extraction_mathrock.py", "feature_extraction_windows.py", "spectral.py"}
    | READING,
    "MathRockAffectPipeline": {"pipeline_mathrock_affect.py"} | LISTENING,
    "MathRockForAudioClassification": {
        "configuration_mathrock.py",
        "feature_extraction_mathrock.py",
        "feature_extraction_windows.py",
        "modeling_mathrock.py",
        "modeling_wavlm_sdpa.py",
        "objectives.py",
        "outputs.py",
        "pipeline_mathrock_affect.py",
        "pooling.py",
        "spectral.py",
    }
    | TASKS_AND_LABELS
    | LISTENING,
    "MynaConfig": MYNA_CONFIG,
    "MynaFeatureExtractor": MYNA_EXTRACTOR,
    "MynaModel": MYNA,
    "MynaForPreTraining": MYNA,
    "MynaForAudioClassification": MYNA,
    "MusicEmbeddingPipeline": {"pipeline_music_embedding.py"} | LISTENING,
    "MusicTaggingFeatureExtractor": TAGGER_EXTRACTOR,
    "MusicTaggingPipeline": {"pipeline_music_tagging.py"} | LISTENING,
    "MusicnnForAudioClassification": {"configuration_musicnn.py", "modeling_musicnn.py"} | TAGGER,
    "MusicTaggerForAudioClassification": {
        "configuration_music_tagger.py",
        "modeling_music_tagger.py",
        "tagger_presets.py",
    }
    | STAGES
    | ENCODER
    | TAGGER,
    "MusicTaggingTransformerForAudioClassification": {
        "configuration_music_tagging_transformer.py",
        "modeling_music_tagging_transformer.py",
    }
    | STAGES
    | ENCODER
    | TAGGER,
}


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node, node.module or "", node.level


@pytest.mark.parametrize("file", TRAVELLING, ids=lambda file: file.name)
def test_a_travelling_file_imports_siblings_and_the_stack_only(file):
    tree = ast.parse(file.read_text())
    guarded = {id(child) for node in ast.walk(tree) if isinstance(node, ast.Try) for child in ast.walk(node)}
    in_functions = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.walk(node)
    }
    for node, module, level in imports(tree):
        if level:
            assert level == 1 and module and "." not in module, f"{file.name}:{node.lineno}"
            assert (file.parent / f"{module}.py").exists(), f"{file.name}:{node.lineno}"
        elif module.split(".")[0] not in AT_IMPORT:
            assert module.split(".")[0] != "hf_mathrock", f"{file.name}:{node.lineno}"
            assert id(node) in guarded and id(node) in in_functions, f"{file.name}:{node.lineno} imports {module}"


@pytest.mark.parametrize("file", TRAVELLING, ids=lambda file: file.name)
def test_no_docstring_line_looks_like_an_import(file):
    tree = ast.parse(file.read_text())
    imported = {node.lineno for node, _, level in imports(tree) if level}
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        assert number in imported or not re.match(r"\s*(from\s+\.|import\s+\.)", line), f"{file.name}:{number}"


def test_models_holds_no_class_of_its_own():
    tree = ast.parse((PACKAGE / "models" / "__init__.py").read_text())
    assert [type(node).__name__ for node in tree.body] == ["Expr"]


def test_who_imports_whom():
    for file in sorted(PACKAGE.rglob("*.py")):
        part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part in ("__init__", "cli"):
            continue
        for node, module, level in imports(ast.parse(file.read_text())):
            if level or not module.startswith("hf_mathrock"):
                continue
            target = module.split(".")[1] if "." in module else "__init__"
            allowed = MAY_IMPORT[part] | {part}
            assert target in allowed, f"{file.relative_to(PACKAGE)}:{node.lineno}: {part} may not import {target}"


def closure(file):
    found, waiting = set(), [file]
    while waiting:
        current = waiting.pop()
        if current.name in found:
            continue
        found.add(current.name)
        for _, module, level in imports(ast.parse(current.read_text())):
            if level:
                waiting.append(current.parent / f"{module}.py")
    return found


def test_the_closures_are_those_written_down(tmp_path):
    from transformers.dynamic_module_utils import custom_object_save

    for name, expected in CLOSURES.items():
        published = getattr(hf_mathrock, name)
        file = Path(sys.modules[published.__module__].__file__)
        assert closure(file) == expected, name
        folder = tmp_path / name
        folder.mkdir()
        custom_object_save(published.__new__(published), folder)
        assert {saved.name for saved in folder.iterdir()} == expected, name


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_the_tables_of_the_registry_name_classes_that_exist(family):
    from hf_mathrock.registry import model_class

    config = model_class(family.config)
    assert config.model_type == family.model_type
    auto_map = {"AutoConfig": family.config, "AutoFeatureExtractor": family.extractor, **family.models}
    assert auto_map == config.code_files
    (task,) = (task for task in TASKS if task.name == family.task)
    assert {name: entry["impl"] for name, entry in config.pipeline_files.items()} == {task.name: task.pipeline}
    for reference in [*auto_map.values(), task.pipeline]:
        assert model_class(reference).__name__ == reference.split(".")[1]
    for reference in family.models.values():
        assert model_class(reference).config_class is config
