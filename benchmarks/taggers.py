# SPDX-License-Identifier: Apache-2.0
"""Trains every tagging architecture on the same small budget of generated music, and tables them in recipes/README.md.

    python benchmarks/taggers.py                 whatever is missing, then times and tables; stop and go on at will
    python benchmarks/taggers.py --only fcn      that one anew; the others keep their last results
    python benchmarks/taggers.py --write-only    the tables from benchmarks/taggers.json
    python benchmarks/taggers.py --quick         six pieces, one step, two architectures: does it run? Writes nothing

Pieces, models and unfinished results lie in a cache folder (--cache); remove its `results` when the code of the models
has changed. Each model is trained by the recipe `recipes/generated-tags.yaml`, as `hf-mathrock train` would, in a
process of its own with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tagger_tables
from run import environment
from timing import summary, take_turns

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "generated-tags.yaml"
README = ROOT / "recipes" / "README.md"
RESULTS = ROOT / "benchmarks" / "taggers.json"
CACHE = Path.home() / ".cache" / "hf-mathrock" / "taggers"
NUM_RESAMPLES = 1000
BASELINE = "logistic_regression"
# Longest first, so that neither of two workers is left alone with a long one.
MODELS: dict[str, dict[str, Any]] = {
    "music_tagging_transformer": {"model_type": "music_tagging_transformer"},
    **{
        name: {"model_type": "music_tagger", "architecture": name}
        for name in (
            *("cnnsa", "sample_se", "crnn", "fcn", "harmonic", "short_chunk", "short_chunk_res", "sample"),
            *("sincnet_hybrid", "tcn_hybrid", "conv1d_hybrid", "logmel_hybrid"),
        )
    },
    # Its own momentum of 0.01 would leave a fifth of the norms' first statistics after so few steps.
    "musicnn": {"model_type": "musicnn", "batch_norm_momentum": 0.1},
    "musicnn_vgg": {"model_type": "musicnn", "variant": "vgg", "batch_norm_momentum": 0.1},
}


@dataclass(frozen=True)
class Budget:
    """The pieces, and the changes to the recipe; all else is in the recipe.

    Pieces are longer than the longest input, 29 s, so that every model has a whole window of each. The seeds of the
    three splits are apart from one another and from those of the published sets of `mathrock-tiny`.
    """

    num_train: int = 1200
    num_validation: int = 32
    num_test: int = 160
    seconds: float = 32.0
    sampling_rate: int = 22_050
    train_seed: int = 6_000_000
    validation_seed: int = 6_500_000
    test_seed: int = 6_600_000
    max_steps: int | None = None
    clip_seconds: float = 30.0
    num_rounds: int = 5


QUICK = Budget(num_train=6, num_validation=2, num_test=3, max_steps=1, clip_seconds=6.0, num_rounds=1)


def write_pieces(folder: Path, budget: Budget) -> Path:
    """The corpus, with its three splits as folders; what is there already is kept."""
    from hf_mathrock.synthesis.corpus import write_corpus

    for split, num, seed in (
        ("train", budget.num_train, budget.train_seed),
        ("validation", budget.num_validation, budget.validation_seed),
        ("test", budget.num_test, budget.test_seed),
    ):
        write_corpus(folder / split, num, seed=seed, seconds=budget.seconds, sampling_rate=budget.sampling_rate)
    return folder


def overrides(name: str, budget: Budget, corpus: Path) -> dict[str, Any]:
    """What is changed in the recipe for one model."""
    steps = {} if budget.max_steps is None else {"training.max_steps": budget.max_steps}
    return {"model": MODELS[name], "data.source": str(corpus), **steps}


def settings_of(name: str, budget: Budget) -> dict[str, Any]:
    """All that decides a result besides the code."""
    from hf_mathrock.synthesis import RECIPE_VERSION
    from hf_mathrock.training.recipe import load_recipe

    pieces = {**asdict(replace(budget, clip_seconds=0.0, num_rounds=0)), "version": RECIPE_VERSION}
    if name == BASELINE:
        return {"pieces": pieces}
    recipe = asdict(load_recipe(RECIPE, overrides(name, budget, Path("corpus"))))
    return {"pieces": pieces, **{key: recipe[key] for key in ("model", "extractor", "training", "seed")}}


def measure_model(name: str, budget: Budget, cache: Path) -> dict[str, Any]:
    """Trains one model as its recipe says and lets it hear the test pieces."""
    import hf_mathrock
    from hf_mathrock.evaluation.labelled import evaluate_labelled
    from hf_mathrock.training.recipe import run_recipe

    out = cache / "models" / name
    if out.exists():
        shutil.rmtree(out)
    changes = overrides(name, budget, cache / "pieces")
    validation = run_recipe(RECIPE, out, changes, device="cpu")
    (trained,) = [e for e in json.loads((out / "training_log.json").read_text()) if "train_runtime" in e]
    pipe = hf_mathrock.pipeline("music-tagging", model=str(out), device="cpu")
    songs = hf_mathrock.load_labelled_audio(cache / "pieces", pipe.model.config.tasks)
    entry = evaluate_labelled(pipe, songs, ["test"], num_resamples=NUM_RESAMPLES).entry
    config = pipe.model.config
    return {
        **_figures(entry["metrics"], entry["intervals"]),
        "validation_map": validation["tag_map"],
        "left_out": entry["left_out"]["tag"],
        "num_labels": len(config.tasks[0]["labels"]),
        "num_parameters": sum(parameter.numel() for parameter in pipe.model.parameters()),
        "input_seconds": config.window_seconds,
        "sampling_rate": config.sampling_rate,
        "training_seconds": trained["train_runtime"],
        "num_steps": trained["step"],
        "num_windows": round(trained["epoch"] * len(songs["train"])),
        "train_loss": trained["train_loss"],
    }


def _figures(metrics: Mapping[str, float], intervals: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {
        "map": metrics["tag_map"],
        "map_interval": list(intervals["tag_map"]),
        "roc_auc": metrics["tag_roc_auc"],
        "roc_auc_interval": list(intervals["tag_roc_auc"]),
        "chance_map": metrics["tag_prior"],
    }


def measure_baseline(budget: Budget, cache: Path) -> dict[str, Any]:
    """A linear model of the mean and spread of every mel band of a piece, for scale."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from hf_mathrock import load_labelled_audio
    from hf_mathrock.metrics.bootstrap import evaluate_tasks_with_intervals
    from hf_mathrock.metrics.classification import evaluate_tasks

    songs = load_labelled_audio(cache / "pieces", columns={"tag": "tag"})
    begun = time.perf_counter()
    heard = {split: np.stack([_mel_statistics(row["audio"]) for row in rows]) for split, rows in songs.items()}
    labels = {split: np.stack([row["labels"]["tag"] for row in rows]) for split, rows in songs.items()}

    def scores(split: str, strength: float) -> np.ndarray:
        columns = []
        for column in labels["train"].T:
            if len(set(column)) == 1:
                columns.append(np.full(len(heard[split]), float(column[0])))
                continue
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
            columns.append(model.fit(heard["train"], column).predict_proba(heard[split])[:, 1])
        return np.stack(columns, axis=1)

    def of_validation(strength: float) -> float:
        return evaluate_tasks(songs.tasks, {"tag": scores("validation", strength)}, {"tag": labels["validation"]})[
            "tag_map"
        ]

    strength = max((1e-4, 1e-3, 1e-2, 1e-1), key=of_validation)
    found = scores("test", strength)
    metrics, intervals = evaluate_tasks_with_intervals(
        songs.tasks, {"tag": found}, {"tag": labels["test"]}, num_resamples=NUM_RESAMPLES
    )
    return {
        **_figures(metrics, intervals),
        "num_parameters": int(labels["train"].shape[1] * (heard["train"].shape[1] + 1)),
        "inverse_regularisation": strength,
        "training_seconds": time.perf_counter() - begun,
    }


def _mel_statistics(audio: Any) -> Any:
    import numpy as np
    import torch

    from hf_mathrock import MusicTaggerConfig, open_audio
    from hf_mathrock.models.tagger_features import mel_spectrogram

    config = MusicTaggerConfig(architecture="short_chunk")
    with open_audio(audio) as source:
        parts = [window.audio[config.sampling_rate] for window in source.windows(5.0, 5.0, (config.sampling_rate,))]
    mel = mel_spectrogram(torch.from_numpy(np.concatenate(parts))[None], config.feature, config.sampling_rate)[
        0
    ].numpy()
    change = np.abs(np.diff(mel, axis=1))
    return np.concatenate([mel.mean(1), mel.std(1), change.mean(1), change.std(1)])


def time_models(names: Sequence[str], budget: Budget, cache: Path) -> dict[str, Any]:
    """Seconds from a file of one clip to its tags, the trained models by turns."""
    import soundfile
    import torch

    import hf_mathrock

    piece = sorted((cache / "pieces" / "test" / "audio").iterdir())[0]
    audio, rate = soundfile.read(piece, frames=round(budget.clip_seconds * budget.sampling_rate))
    clip = cache / "clip.flac"
    soundfile.write(clip, audio, rate)

    def competitor(name: str) -> Any:
        pipe = hf_mathrock.pipeline("music-tagging", model=str(cache / "models" / name), device="cpu")

        def run() -> dict[str, float]:
            begun = time.perf_counter()
            pipe(str(clip))
            return {"whole": time.perf_counter() - begun}

        return run

    runs = take_turns({name: competitor(name) for name in names}, budget.num_rounds)
    return {
        "clip_seconds": budget.clip_seconds,
        "num_rounds": budget.num_rounds,
        "threads": torch.get_num_threads(),
        "models": {name: summary([sum(run.values()) for run in rounds]) for name, rounds in runs.items()},
    }


def train_all(names: Sequence[str], budget: Budget, cache: Path, num_workers: int, anew: bool) -> dict[str, Any]:
    """Results by name: those that were kept with the same settings, and the others from processes of their own."""

    # Beforehand, not in the threads: transformers does not bear being imported by two of them at once.
    all_settings = {name: json.loads(json.dumps(settings_of(name, budget))) for name in names}

    def result(name: str) -> dict[str, Any]:
        kept, settings = cache / "results" / f"{name}.json", all_settings[name]
        if kept.exists() and not anew and (former := json.loads(kept.read_text()))["settings"] == settings:
            return former
        begun = time.perf_counter()
        command = [
            sys.executable,
            __file__,
            "--one",
            name,
            "--cache",
            str(cache),
            "--budget",
            json.dumps(asdict(budget)),
        ]
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{done.stderr[-3000:]}")
        found = {"settings": settings, **json.loads(done.stdout.strip().splitlines()[-1])}
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        partial.write_text(json.dumps(found, indent=2) + "\n")
        partial.replace(kept)
        seconds = time.perf_counter() - begun
        print(f"{name}: mAP {found['map']:.3f}, {seconds:.0f} s", file=sys.stderr, flush=True)
        return found

    with ThreadPoolExecutor(num_workers) as workers:
        return dict(zip(names, workers.map(result, names), strict=True))


def run_all(args: argparse.Namespace, budget: Budget, cache: Path) -> dict[str, Any]:
    """Everything that `benchmarks/taggers.json` holds."""
    names = [args.only] if args.only else [BASELINE, *MODELS]
    if args.quick and not args.only:
        names = [BASELINE, "logmel_hybrid", "musicnn_vgg"]
    measured_on = environment()
    write_pieces(cache / "pieces", budget)
    found = train_all(names, budget, cache, args.workers, anew=args.only is not None)
    before = json.loads(RESULTS.read_text("utf-8")) if args.only and RESULTS.exists() and not args.quick else {}
    models = {**before.get("models", {}), **found}
    timed = [name for name in MODELS if name in models and (cache / "models" / name / "config.json").exists()]
    return {
        "budget": asdict(budget),
        "recipe": settings_of("short_chunk_res", budget)["training"],
        "num_resamples": NUM_RESAMPLES,
        "models": {name: models[name] for name in (BASELINE, *MODELS) if name in models},
        "timing": time_models(timed, budget, cache),
        "workers": args.workers,
        "environment": measured_on,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, measures, times and tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=(BASELINE, *MODELS), help="train this one anew, and keep the others' results")
    parser.add_argument("--write-only", action="store_true", help="only write the tables again")
    parser.add_argument("--quick", action="store_true", help="see that it runs: prints the table, writes nothing")
    parser.add_argument("--workers", type=int, default=2, help="models trained at once (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="pieces and models (%(default)s)")
    parser.add_argument("--one", choices=(BASELINE, *MODELS), help=argparse.SUPPRESS)
    parser.add_argument("--budget", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    if args.one:
        budget = Budget(**json.loads(args.budget))
        measured = measure_baseline(budget, args.cache) if args.one == BASELINE else None
        print(json.dumps(measured or measure_model(args.one, budget, args.cache), default=float))
        return
    if args.write_only:
        README.write_text(tagger_tables.filled(README.read_text("utf-8"), json.loads(RESULTS.read_text())), "utf-8")
        return
    if args.quick:
        with tempfile.TemporaryDirectory(prefix="mathrock-taggers-") as folder:
            print(tagger_tables.trained(run_all(args, QUICK, Path(folder))))
        return
    results = run_all(args, Budget(), args.cache)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    README.write_text(tagger_tables.filled(README.read_text("utf-8"), results), "utf-8")
    print(tagger_tables.trained(results))


if __name__ == "__main__":
    main()
