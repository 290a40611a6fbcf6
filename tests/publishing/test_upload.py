# SPDX-License-Identifier: Apache-2.0
"""What is sent arrives, in one commit; what goes wrong is one line; the token is seen by nobody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_mathrock.publishing import UploadError, check_login, push

REPO = "ada/shelf"


@pytest.fixture
def folder(tmp_path):
    """Something to send: small and large, hidden, empty, with bytes of every value."""
    folder = tmp_path / "folder"
    (folder / ".eval_results").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\n# Shelf\n")
    (folder / ".eval_results" / "songs.yaml").write_text("- value: 1\n")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 5000)
    (folder / "example.ogg").write_bytes(os.urandom(3000))
    (folder / "empty.txt").write_bytes(b"")
    return folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_arrives_with_its_bytes_in_one_commit(online, folder):
    pushed = push(folder, REPO, message="Second try")
    arrived = online.files(REPO)
    assert arrived == contents(folder) | {".gitattributes": arrived[".gitattributes"]}
    ((header, operations),) = online.commits
    assert header["summary"] == "Second try"
    assert {path: key for key, path in operations}["model.safetensors"] == "lfsFile"
    assert pushed.num_files == 5 and pushed.url.endswith(pushed.commit) and pushed.removed == []
    assert online.repos[REPO]["private"] is False


def test_files_of_an_earlier_push_go_and_those_of_others_stay(online, folder):
    push(folder, REPO)
    online.files(REPO)["results.json"] = online.files(REPO)["cover.png"] = b"old"
    (folder / "example.ogg").unlink()
    pushed = push(folder, REPO)
    assert sorted(pushed.removed) == ["example.ogg", "results.json"]
    assert set(online.files(REPO)) == set(contents(folder)) | {".gitattributes", "cover.png"}


def test_a_private_repository_is_made_private_and_a_public_one_is_refused(online, folder):
    push(folder, REPO, private=True)
    assert online.repos[REPO]["private"] is True
    push(folder, REPO, private=True)
    push(folder, "ada/public")
    (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\nsecret\n")
    with pytest.raises(UploadError, match="exists already and is public"):
        push(folder, "ada/public", private=True)
    assert b"secret" not in online.files("ada/public")["README.md"]


def test_a_branch_is_made_and_used_again(online, folder):
    push(folder, REPO, revision="next/one")
    (folder / "empty.txt").write_text("not any more")
    push(folder, REPO, revision="next/one")
    assert online.files(REPO, "next/one")["empty.txt"] == b"not any more"
    assert set(online.files(REPO)) == {".gitattributes"}


def test_a_pull_request_is_opened_where_one_may_only_read(online, folder):
    push(folder, REPO)
    (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\nbetter\n")
    online.failures["/api/repos/create"] = (403, "You may not create here")
    pushed = push(folder, REPO, create_pr=True)
    assert pushed.url.endswith("/discussions/1")
    assert any(request.endswith("/commit/main?create_pr=1") for request in online.requests)


@pytest.mark.parametrize(
    "where, status, said",
    [
        ("/api/repos/create", 401, "hf auth login"),
        ("/api/repos/create", 403, "may not write to ada/shelf.*--create-pr"),
        ("/api/repos/create", 402, "wants payment"),
        ("/api/repos/create", 500, "fault of its own"),
        ("/preupload/", 403, "may not write"),
        ("/lfs/objects/batch", 403, "may not write"),
        ("/blobs/", 403, "may not write"),
        ("/blobs/", 500, "fault of its own"),
        ("/commit/", 409, "at the same time"),
        ("/commit/", 412, "at the same time"),
        ("/commit/", 429, "too many requests"),
        ("/commit/", 503, "fault of its own"),
        ("/api/validate-yaml", 502, "fault of its own"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(where, status, said, online, folder):
    online.failures[where] = (status, f"No, and your token is {online.token}\nand more")
    with pytest.raises(UploadError, match=said) as caught:
        push(folder, REPO)
    line = str(caught.value)
    assert "\n" not in line and line.endswith("Nothing was published.") and online.token not in line
    assert online.commits == []


def test_a_refusal_by_the_storage_of_large_files_is_told_apart_from_a_broken_line(online, folder, monkeypatch):
    from huggingface_hub import constants

    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    online.failures["/xet-write-token/"] = (403, "No")
    with pytest.raises(UploadError, match="may not write to ada/shelf"):
        push(folder, REPO)


def test_nobody_at_the_address_is_one_line(online, folder, monkeypatch):
    from huggingface_hub import constants

    online.server.shutdown()
    online.server.server_close()
    monkeypatch.setattr(constants, "ENDPOINT", online.url)
    with pytest.raises(UploadError, match="cannot be reached.*HF_ENDPOINT"):
        push(folder, REPO)


def test_who_is_not_logged_in_is_told_before_any_work(online, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UploadError, match="hf auth login"):
        check_login()
    assert online.requests == []


def test_offline_mode_is_named(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UploadError, match="HF_HUB_OFFLINE is set"):
        check_login()


def command(hub, tmp_path, *arguments, **environment):
    """A process of its own, as talkative as it can be made."""
    script = Path(__file__).parents[2] / "scripts" / "push_to_hub.py"
    talkative = {"HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug", "TRANSFORMERS_VERBOSITY": "debug"}
    online = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "hf")}
    return subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env=os.environ | talkative | online | {"HF_TOKEN": hub.token, "TMPDIR": str(tmp_path)} | environment,
    )


def test_the_script_publishes_and_no_token_is_printed_or_written(hub, measured, clip, tmp_path):
    arguments = (measured, "--repo", REPO, "--example", clip, "--private", "--debug")
    dry = command(hub, tmp_path, *arguments, "--dry-run", tmp_path / "dry")
    assert dry.returncode == 0 and hub.requests == [], dry.stderr[-3000:]
    done = command(hub, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    arrived = dict(hub.files(REPO))
    arrived.pop(".gitattributes")
    assert arrived == contents(tmp_path / "dry")
    assert "Request" in done.stderr and hub.token not in done.stdout + done.stderr + dry.stdout + dry.stderr
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert everything and all(hub.token.encode() not in path.read_bytes() for path in everything)
    assert all(hub.token.encode() not in content for content in arrived.values())
    assert f'revision="{1:040x}"' in done.stdout


def test_the_script_says_one_line_when_the_hub_refuses(hub, measured, clip, tmp_path):
    hub.failures["/api/repos/create"] = (403, f"You may not, {hub.token}")
    done = command(hub, tmp_path, measured, "--repo", REPO, "--example", clip, HF_DEBUG="")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 1 and len(errors) == 1 and "may not write" in errors[0]
    assert hub.token not in done.stdout + done.stderr and "Traceback" not in done.stderr
