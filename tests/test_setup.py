# SPDX-License-Identifier: Apache-2.0
"""What `make` does before anything is installed: it finds a Python, and tells why when it cannot go on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path):
    """The files that `setup.sh` reads, somewhere else."""
    folder = tmp_path / "check out"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def set_up(checkout, python):
    """Run `setup.sh` with `PYTHON` set, which must fail and leave no environment."""
    done = subprocess.run(
        ["sh", "scripts/setup.sh"],
        cwd=checkout,
        env=os.environ | {"PYTHON": str(python)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and not (checkout / ".venv").exists()
    return done.stderr


def script(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_a_python_that_is_named_but_of_no_use_is_not_replaced_by_another(checkout, tmp_path):
    assert f"PYTHON={tmp_path / 'absent'}" in set_up(checkout, tmp_path / "absent")
    old = script(tmp_path / "old", 'case "$1" in --version) echo Python 3.9.1;; *) echo False;; esac')
    assert f"PYTHON={old} is none: Python 3.9.1" in set_up(checkout, old)


def test_a_python_that_can_make_no_environment_says_why(checkout, tmp_path):
    body = 'case "$1" in -c) echo True;; --version) echo Python 3.11.0;; *) echo "no ensurepip here" >&2; exit 1;; esac'
    assert "no ensurepip here" in set_up(checkout, script(tmp_path / "bare", body))


def mend(site, torchaudio):
    """Run `mend_torchaudio.py` beside a torchaudio of that source, and return the one line it prints."""
    (site / "torchaudio" / "lib").mkdir(parents=True)
    (site / "torchaudio" / "__init__.py").write_text(torchaudio)
    (site / "torchaudio" / "lib" / "_torchaudio.abi3.so").touch()
    command = [sys.executable, str(ROOT / "scripts" / "mend_torchaudio.py")]
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    return line


def test_torchaudios_extension_is_moved_away_when_cuda_is_missing(tmp_path):
    source = """
import pathlib
extension = pathlib.Path(__file__).parent / "lib" / "_torchaudio.abi3.so"
reason = OSError("libcudart.so.13: cannot open shared object file: No such file or directory")
raise OSError(f"Could not load this library: {extension}") from reason
"""
    assert "renamed" in mend(tmp_path, source)
    assert [file.name for file in (tmp_path / "torchaudio" / "lib").iterdir()] == ["_torchaudio.abi3.so.disabled"]


@pytest.mark.parametrize("error", ["RuntimeError('different\\nCUDA versions')", "ImportError('no torch')"])
def test_any_other_failure_of_torchaudio_is_one_line_and_fails_nothing(error, tmp_path):
    assert "cannot be imported" in mend(tmp_path, f"raise {error}")
    assert [file.name for file in (tmp_path / "torchaudio" / "lib").iterdir()] == ["_torchaudio.abi3.so"]
