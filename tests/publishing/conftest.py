# SPDX-License-Identifier: Apache-2.0
"""A Hub of our own, and models to publish there."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import soundfile
import yaml

TOKEN = "hf_ThisIsNoTokenAtAllButMustNeverBeSeen"


class StandIn:
    """Answers like the Hub where a model is published, and keeps what it was sent.

    Attributes:
        repos: Name → {"private", "branches": {branch: {path: bytes}}}.
        failures: Part of a request's path → (status, message) to answer with instead.
        requests: Method and path of all requests.
        commits: Header, and per operation its key and path, of each commit.
    """

    token = TOKEN

    def __init__(self):
        self.repos, self.failures, self.requests, self.commits, self.blobs = {}, {}, [], [], {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                body = self.body()
                path = unquote(urlsplit(self.path).path)
                hub.requests.append(f"{self.command} {self.path}")
                try:
                    status, content = hub.respond(self.command, path, body, self.headers)
                except Exception as error:  # a broken call must be seen, not hang
                    status, content = 400, {"error": f"{type(error).__name__}: {error}"}
                data = json.dumps(content).encode()
                self.send_response(status)
                if status >= 400 and "error" in content:
                    self.send_header("X-Error-Message", content["error"].splitlines()[0])
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = answer

            def body(self):
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parts = []
                while size := int(self.rfile.readline().strip() or b"0", 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def files(self, repo, branch="main"):
        return self.repos[repo]["branches"][branch]

    def respond(self, method, path, body, headers):
        for part, (status, message) in self.failures.items():
            if part in path:
                return status, {"error": message}
        if path.startswith("/blobs/"):
            oid = path.split("/")[2]
            assert method == "PUT" and hashlib.sha256(body).hexdigest() == oid
            self.blobs[oid] = body
            return 200, {}
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid username or password."}
        if path == "/api/validate-yaml":
            front = json.loads(body)["content"].split("---\n")[1]
            assert yaml.safe_load(front)["library_name"] == "transformers"
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            if name in self.repos:
                return 409, {"error": "You already created this model repo", "url": f"{self.url}/{name}"}
            private = wanted.get("visibility") == "private"
            self.repos[name] = {"private": private, "branches": {"main": {".gitattributes": b"*.ogg lfs\n"}}}
            return 200, {"url": f"{self.url}/{name}", "name": name}
        if path.endswith(".git/info/lfs/objects/batch"):
            wanted = json.loads(body)
            assert wanted["operation"] == "upload" and "basic" in wanted["transfers"]
            return 200, {"transfer": "basic", "objects": [self._batch(entry) for entry in wanted["objects"]]}
        if path == "/verify":
            wanted = json.loads(body)
            assert len(self.blobs[wanted["oid"]]) == wanted["size"]
            return 200, {}
        _, _, _, owner, name, *rest = path.split("/")
        repo = self.repos.get(f"{owner}/{name}")
        if repo is None:
            return 404, {"error": "Repository not found"}
        return self._about(method, f"{owner}/{name}", repo, rest, body, headers)

    def _batch(self, entry):
        verify = {"href": f"{self.url}/verify"}
        return entry | {"actions": {"upload": {"href": f"{self.url}/blobs/{entry['oid']}"}, "verify": verify}}

    def _about(self, method, name, repo, rest, body, headers):
        if not rest:
            return 200, {"id": name, "private": repo["private"], "sha": "0" * 40, "siblings": [], "tags": []}
        verb, branch = rest[0], "/".join(rest[1:])
        if verb == "branch":
            if branch in repo["branches"]:
                return 409, {"error": "Reference already exists"}
            repo["branches"][branch] = dict(repo["branches"]["main"])
            return 200, {}
        there = repo["branches"][branch]
        if verb == "tree":
            entries = [{"type": "file", "path": p, "size": len(c), "oid": git_oid(c)} for p, c in there.items()]
            return 200, entries
        if verb == "preupload":
            return 200, {"files": [self._mode(entry, there) for entry in json.loads(body)["files"]]}
        assert (method, verb, headers["Content-Type"]) == ("POST", "commit", "application/x-ndjson")
        header, *operations = map(json.loads, body.decode().splitlines())
        assert header["key"] == "header"
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                there[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                there[value["path"]] = self.blobs[value["oid"]]
            else:
                del there[value["path"]]
        self.commits.append((header["value"], [(o["key"], o["value"]["path"]) for o in operations]))
        oid = f"{len(self.commits):040x}"
        answer = {"commitUrl": f"{self.url}/{name}/commit/{oid}", "commitOid": oid, "success": True}
        return 200, answer | {"pullRequestUrl": f"{self.url}/{name}/discussions/1"}

    @staticmethod
    def _mode(entry, there):
        large = entry["path"].endswith((".safetensors", ".ogg"))
        assert len(base64.b64decode(entry["sample"])) == min(entry["size"], 512)
        oid = git_oid(there[entry["path"]]) if entry["path"] in there and not large else None
        mode = "lfs" if large else "regular"
        return {"path": entry["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}


def git_oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture
def hub():
    """A Hub of this process, empty."""
    stand_in = StandIn()
    yield stand_in
    stand_in.server.shutdown()
    stand_in.server.server_close()


@pytest.fixture
def online(hub, monkeypatch):
    """huggingface_hub in this process talks to the stand-in, with a token that is none."""
    from huggingface_hub import constants

    for name, value in {"HF_HUB_OFFLINE": False, "ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": True}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("time.sleep", lambda _: None)  # between two attempts
    return hub


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Three seconds of a plucked tone."""
    path = tmp_path_factory.mktemp("clip") / "plucked.wav"
    time = np.arange(8_000 * 3) / 8_000
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 220 * time) * np.exp(-4 * (time % 0.5)), 8_000)
    return path


@pytest.fixture(scope="session")
def checkpoint(tiny_model, tmp_path_factory):
    """A checkpoint with random weights and nothing beside it; and its fingerprint."""
    from transformers import pipeline

    import hf_mathrock

    folder = tmp_path_factory.mktemp("runs") / "first"
    tiny_model.save_pretrained(folder)
    hf_mathrock.MathRockFeatureExtractor().save_pretrained(folder)
    pipe = pipeline("mathrock-affect", model=str(folder), device="cpu")
    return folder, pipe.model_card["fingerprint"]


@pytest.fixture
def measured(checkpoint, tmp_path):
    """A copy of it, measured, calibrated, trained by a recipe, and careless about where."""
    import shutil

    folder = tmp_path / "my runs" / "second"
    shutil.copytree(checkpoint[0], folder)
    data = {
        "source": str(folder.parent / "songs"),
        "split": "test",
        "num_songs": 40,
        "num_groups": 12,
        "seconds": 7300.0,
    }
    data |= {
        "known": {"vibe": 40, "tempo": 31},
        "songs_digest": "d1",
        "leaks": [],
        "broken": [{"song": "x", "error": "e"}],
    }
    results = {
        "checkpoint": "second",
        "fingerprint": checkpoint[1],
        "num_parameters": 31_415,
        "versions": {"hf_mathrock": "0.2.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "date": "2026-11-20",
        "sets": {
            "my_songs": {
                "title": "Forty songs of my shelf",
                "data": data,
                "protocol": {"window_seconds": 10.0, "hop_seconds": 5.0, "aggregation": "mean", "num_resamples": 1000}
                | {"thresholds": {"emotion": [0.25] * 27 + [0.6]}, "temperatures": {"tempo": 1.7}},
                "metrics": {
                    "emotion_map": 0.3121,
                    "emotion_prior": 0.1,
                    "vibe_accuracy": 0.725,
                    "vibe_micro_f1": 0.725,
                    "tempo_macro_f1": 0.8123,
                    "mean_score": 0.5,
                },
                "intervals": {"emotion_map": [0.25, 0.41], "tempo_macro_f1": [0.7001, 0.9]},
                "window_metrics": {"tempo_macro_f1": 0.6},
                "left_out": {"emotion": ["grief", "pride"]},
            }
        },
    }
    calibration = {
        "date": "2026-11-19",
        "fingerprint": checkpoint[1],
        "fitted_on": {"num_songs": 25, "songs_digest": "d0", "songs": ["a"]},
        "reported_on": {"num_songs": 15, "songs_digest": "d2"},
        "rule": "f1",
        "tasks": {
            "tempo": {
                "temperature": 1.7,
                "ece_before": 0.21,
                "ece_after": 0.034,
                "brier_before": 0.4,
                "brier_after": 0.3,
            }
        },
    }
    recipe = {
        "name": "second",
        "data": {"folder": str(folder.parent / "songs")},
        "model": {"pretrained": str(checkpoint[0])},
        "training": {"num_train_epochs": 3, "learning_rate": 1e-4, "tuning": "heads"},
        "seed": 7,
        "card": {"summary": "Hears my shelf.", "limits": ["Only guitars."], "authors": ["Ada L.", "Max M."]},
    }
    config = json.loads((folder / "config.json").read_text())
    config["temperatures"] = {"tempo": 1.7}
    config["thresholds"] = {"emotion": [0.25] * 27 + [0.6]}
    config["backbones"] = {"wavlm": "microsoft/wavlm-base", "clap_audio": "clap-on-my-disk"}
    for name, content in {"results": results, "calibration": calibration, "recipe": recipe, "config": config}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder
