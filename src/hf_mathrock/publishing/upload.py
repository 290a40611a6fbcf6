# SPDX-License-Identifier: Apache-2.0
"""Sends a folder to the Hub, in one commit, through `huggingface_hub`; the token is its business alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Files that an earlier push may have left and this one has not: they would speak of other weights.
REPLACED = (
    "*.py",
    "*.safetensors",
    "*.safetensors.index.json",
    "LICENSE*",
    ".eval_results/*",
    "calibration.json",
    "example*",
    "recipe.json",
    "results.json",
    "training_songs.json",
)
_NOTHING = "Nothing was published."


class UploadError(OSError):
    """The Hub did not take the folder; a message of one line says why and what to do."""


@dataclass(frozen=True)
class Pushed:
    """What is on the Hub now.

    Attributes:
        url: Of the commit, or of the pull request.
        commit: Its id, to pin as `revision`.
        num_files: Files of the folder; those that were there already, unchanged, were not sent again.
        removed: Files of an earlier push that are not in the folder any more.
    """

    url: str
    commit: str
    num_files: int
    removed: list[str]


def check_login() -> None:
    """Find out before any work is done whether anybody is logged in.

    Raises:
        UploadError: There is no token, or the Hub is switched off.
    """
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise UploadError(
            f"HF_HUB_OFFLINE is set, so the Hub cannot be reached; unset it, or use --dry-run. {_NOTHING}"
        )
    if get_token() is None:
        raise UploadError(
            f"You are not logged in: run `hf auth login` with a token that may write, or set HF_TOKEN. {_NOTHING}"
        )


def push(
    folder: str | Path,
    repo: str,
    *,
    private: bool = False,
    revision: str = "main",
    message: str = "Publish with hf-mathrock",
    create_pr: bool = False,
) -> Pushed:
    """Send a folder to a model repository, which is made if there is none.

    Args:
        folder: As `assemble` builds it.
        repo: `org/name`.
        private: Nobody else may see it. A public repository is not made private: that is an error.
        revision: Branch; made if there is none.
        message: Of the commit.
        create_pr: Open a pull request on the default branch, for who may not write to it.

    Raises:
        UploadError: The Hub cannot be reached, or refuses.
    """
    check_login()
    from huggingface_hub import get_token

    try:
        return _push(Path(folder), repo, private, revision, message, create_pr)
    except UploadError:
        raise
    except Exception as error:
        # The causes come from four libraries; whatever happened, the user gets a line, and --debug the rest.
        line = _explained(error, repo)
        if token := get_token():
            line = line.replace(token, "(token)")  # no library is known to tell it; a server could
        raise UploadError(f"{line} {_NOTHING}") from error


def _push(folder: Path, repo: str, private: bool, revision: str, message: str, create_pr: bool) -> Pushed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.utils import filter_repo_objects

    from hf_mathrock.version import __version__

    api = HfApi(library_name="hf-mathrock", library_version=__version__)
    api.create_repo(repo, private=private or None, exist_ok=True)
    if private and not api.model_info(repo).private:
        raise UploadError(
            f"{repo} exists already and is public, in spite of --private; make it private in its settings on the Hub, "
            f"or choose another name. {_NOTHING}"
        )
    if revision != "main" and not create_pr:
        api.create_branch(repo, branch=revision, exist_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    paths = {path.relative_to(folder).as_posix(): path for path in files}
    there = api.list_repo_files(repo, revision=None if create_pr else revision)
    removed = [name for name in filter_repo_objects(there, allow_patterns=list(REPLACED)) if name not in paths]
    operations: list[Any] = [CommitOperationDelete(name, is_folder=False) for name in removed]
    operations += [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in paths.items()]
    # One commit, so that nobody ever fetches new weights with the old card. `upload_folder` may make several.
    commit = api.create_commit(
        repo,
        operations,
        commit_message=message,
        revision=None if create_pr else revision,
        create_pr=create_pr,
    )
    return Pushed(commit.pr_url or commit.commit_url, commit.oid, len(files), removed)


def _explained(error: Exception, repo: str) -> str:
    """One line for the user, from whatever the libraries raise."""
    status = _status(error)
    said = _said(error)
    if status == 401:
        return (
            "The Hub does not know the token (401): log in again with `hf auth login`, and look whether HF_TOKEN holds "
            "an old one."
        )
    if status == 403:
        return (
            f"The token may not write to {repo} (403{said}): it needs write access (huggingface.co/settings/tokens) "
            "and you must belong to the owner. Who may only read can propose it: --create-pr."
        )
    if status == 402:
        return f"The Hub wants payment (402{said}); --private repositories have a limit of their own."
    if status == 404:
        return f"The Hub has no {repo} that this token may see (404): look at --repo and --revision."
    if status in (409, 412):
        return f"Somebody else changed {repo} at the same time ({status}{said}): run the command again."
    if status == 429:
        return "The Hub has had too many requests (429): wait some minutes, and run the command again."
    if status is not None and status >= 500:
        return f"The Hub has a fault of its own ({status}{said}): run the command again later."
    if status is not None:
        return f"The Hub refused {repo} ({status}{said})."
    text = " ".join(str(error).split()) or type(error).__name__
    if type(error).__module__.split(".")[0].startswith(("httpx", "httpcore")) or isinstance(error, ConnectionError):
        return f"The Hub cannot be reached ({text}): look at the network, and at HF_ENDPOINT if you have set it."
    return f"{repo} could not be sent: {text.rstrip('.')}."


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error; the upload of large files hides it in the cause, Xet storage in the text."""
    while error is not None:
        if (response := getattr(error, "response", None)) is not None:
            return response.status_code
        if match := re.search(r"HTTP status \w+ error \((\d{3})", str(error)):
            return int(match[1])
        error = error.__cause__
    return None


def _said(error: BaseException | None) -> str:
    while error is not None:
        if message := getattr(error, "server_message", None):
            return f", {' '.join(str(message).split()).rstrip('.')}"
        error = error.__cause__
    return ""
