# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hf_mathrock.publishing import Assembled, Pushed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def publishing(monkeypatch):
    """Stands in for the work, which has tests of its own; the fixture's value is what was asked for."""
    calls = []

    def assemble(model, out, **options):
        calls.append(("assemble", model, out, options))
        if options["results"] is not None and not options["results"].is_file():
            raise FileNotFoundError(f"There is no results file {str(options['results'])!r}.")
        return Assembled(
            out, options["repo"], "f" * 16, {"README.md": 1200, "model.safetensors": 6_000_000}, ["a note"], "x-task"
        )

    def push(folder, repo, **options):
        calls.append(("push", folder, repo, options))
        return Pushed("https://hub/ada/shelf/commit/abc", "abc", 2, ["results.json"])

    monkeypatch.setattr("hf_mathrock.publishing.assemble", assemble)
    monkeypatch.setattr("hf_mathrock.publishing.push", push)
    monkeypatch.setattr("hf_mathrock.publishing.check_login", lambda: calls.append(("check_login",)))
    return calls


def test_a_dry_run_builds_and_sends_nothing(command, publishing, tmp_path):
    code, out, err = command("push", "runs/x", "--repo", "ada/shelf", "--dry-run", tmp_path / "out")
    assert code == 0 and [call[0] for call in publishing] == ["assemble"]
    assert "README.md" in out and f"{tmp_path / 'out'}: 2 files, 6.0 MB; nothing was sent" in out
    assert err.splitlines() == ["note: a note"]


def test_a_push_asks_who_is_there_builds_and_sends(command, publishing, tmp_path):
    card = tmp_path / "card.yaml"
    card.write_text("summary: Hears my shelf.\nlicence: mit\n")
    code, out, err = command(
        *("push", "runs/x", "--repo", "ada/shelf", "--private", "--branch", "next", "--message", "Better"),
        *("--card", card, "--licence", "cc-by-4.0", "--example", "a.ogg"),
    )
    assert code == 0 and [call[0] for call in publishing] == ["check_login", "assemble", "push"]
    _, model, _, options = publishing[1]
    assert model == "runs/x" and options["facts"] == {"summary": "Hears my shelf.", "licence": "cc-by-4.0"}
    assert (options["example"], options["results"]) == (Path("a.ogg"), None)
    assert publishing[2][3] == {"private": True, "revision": "next", "message": "Better", "create_pr": False}
    assert "-> https://hub/ada/shelf/commit/abc" in out and 'revision="abc"' in out
    assert "removed results.json" in err


def test_a_push_without_a_repository_or_with_a_missing_file_is_a_usage_error(command, publishing):
    code, _, err = command("push", "runs/x")
    assert code == 2 and "--repo" in err
    code, _, err = command("push", "runs/x", "--repo", "ada/shelf", "--results", "none.json", "--dry-run", "out")
    assert code == 2 and "no results file 'none.json'" in err


def test_a_card_that_is_wrong_is_one_line(command, publishing, tmp_path):
    (tmp_path / "card.yaml").write_text("sumary: x\n")
    code, _, err = command(
        "push", "runs/x", "--repo", "ada/shelf", "--card", tmp_path / "card.yaml", "--dry-run", tmp_path / "out"
    )
    assert code == 1 and "did you mean 'summary'?" in err and publishing == []


def test_the_script_has_the_options_of_the_command():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "push_to_hub.py"), "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "--dry-run OUT" in done.stdout and "--repo OWNER/NAME" in done.stdout
