# SPDX-License-Identifier: Apache-2.0
"""Importing the package is cheap, and enough."""

import subprocess
import sys

import pytest

import hf_mathrock


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_the_import_loads_nothing_heavy():
    heavy = ("torch", "transformers", "numpy", "matplotlib", "scipy")
    assert run(f"import sys, hf_mathrock; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_every_public_name_is_there():
    for name in hf_mathrock.__all__:
        assert getattr(hf_mathrock, name) is not None
    assert set(hf_mathrock.__all__) <= set(dir(hf_mathrock))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        hf_mathrock.nonsense  # noqa: B018


@pytest.mark.parametrize(
    "first",
    [
        "import hf_mathrock; from transformers import pipeline, AutoConfig",
        "from transformers import pipeline, AutoConfig; import hf_mathrock",
        "from hf_mathrock.models.modeling_mathrock import MathRockModel; from transformers import pipeline, AutoConfig",
        "from transformers import Trainer; import hf_mathrock; from transformers import pipeline, AutoConfig",
    ],
)
def test_any_order_of_imports_registers_the_family(first):
    code = f"""
{first}
try:
    AutoConfig.from_pretrained("nowhere-at-all", local_files_only=True)
except OSError:
    pass
from transformers import CONFIG_MAPPING
from transformers.pipelines import PIPELINE_REGISTRY
print(CONFIG_MAPPING["mathrock"].__module__, "mathrock-affect" in PIPELINE_REGISTRY.get_supported_tasks())
"""
    assert run(code).splitlines()[-1] == "hf_mathrock.models.configuration_mathrock True"


def test_a_pipeline_function_imported_before_knows_the_task():
    code = """
from transformers import pipeline
import hf_mathrock
try:
    pipeline("mathrock-affect", model="nowhere-at-all", local_files_only=True)
except OSError as error:
    print("looked for the model")
"""
    assert run(code).splitlines()[-1] == "looked for the model"


@pytest.mark.parametrize("error", ["OSError('libc10_cuda.so')", "ImportError('no')"])
def test_a_torchaudio_that_cannot_be_loaded_does_no_harm(error):
    code = f"""
import sys, importlib.abc, importlib.machinery
class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name == "torchaudio":
            return importlib.machinery.ModuleSpec(name, self)
    def exec_module(self, module):
        raise {error}
sys.meta_path.insert(0, Broken())
import hf_mathrock
from hf_mathrock import MathRockForAudioClassification
from transformers.utils import is_torchaudio_available
print(is_torchaudio_available(), "torchaudio" in sys.modules)
"""
    assert run(code).splitlines()[-1] == "False False"
