# SPDX-License-Identifier: Apache-2.0
"""What machines read of a card: the YAML at its top, and the Hub's `.eval_results`.

The Hub has two forms for figures. `model-index` in the card takes any data set. A file in `.eval_results` names a
dataset and a task; leaderboards take those whose dataset is a benchmark on the Hub
(huggingface.co/docs/hub/eval-results). A set that is none there gets a name in the publisher's own namespace, so that
nobody is sent to somebody else's data, and a note that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_mathrock.model_card.architecture import architecture_tags
from hf_mathrock.model_card.encoder import is_encoder
from hf_mathrock.model_card.facts import is_hub_name
from hf_mathrock.model_card.figures import METRICS, listed_metrics, set_name
from hf_mathrock.model_card.source import CardSource

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData

# How the Hub calls what we measure.
METRIC_TYPES = {
    "macro_f1": "f1",
    "micro_f1": "f1",
    "map": "mean_average_precision",
    "ece": "expected_calibration_error",
}
# What stands beside an embedding in its table, and is none of the model's figures.
BASELINES = ("mel statistics",)
# Licences that need no link of their own: identifier of the Hub → where its text is.
LICENCES = {
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "mit": "https://opensource.org/license/mit",
    "isc": "https://opensource.org/license/isc-license-txt",
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/legalcode",
    "cc-by-4.0": "https://creativecommons.org/licenses/by/4.0/legalcode",
    "cc-by-sa-4.0": "https://creativecommons.org/licenses/by-sa/4.0/legalcode",
    "cc-by-nc-4.0": "https://creativecommons.org/licenses/by-nc/4.0/legalcode",
    "cc-by-nc-sa-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode",
    "cc-by-nd-4.0": "https://creativecommons.org/licenses/by-nd/4.0/legalcode",
    "cc-by-nc-nd-4.0": "https://creativecommons.org/licenses/by-nc-nd/4.0/legalcode",
}


def card_data(source: CardSource) -> ModelCardData:
    """The YAML at the top of a card."""
    from huggingface_hub import ModelCardData

    results = eval_results(source)
    return ModelCardData(
        **licence_metadata(source.facts),
        library_name="transformers",
        pipeline_tag="feature-extraction" if is_encoder(source.config) else "audio-classification",
        tags=_tags(source),
        base_model=base_models(source) or None,
        datasets=source.facts.get("datasets"),
        model_name=source.name if results else None,
        eval_results=results or None,
    )


def _tags(source: CardSource) -> list[str]:
    tasks = [name for name in source.task_names if name != "tag"]  # the taggers' default, which tells nothing
    return ["music", "audio", "custom_code", "hf-mathrock", *architecture_tags(source.config), *tasks]


def licence_metadata(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The YAML's fields of the licence; "unknown" if none was named.

    Raises:
        ValueError: The Hub has no name for it, and no link was given.
    """
    licence = facts.get("licence")
    if licence is None:
        return {"license": "unknown"}
    if licence.lower() in LICENCES:
        return {"license": licence.lower()}
    link = facts.get("licence_link")
    if link is None:
        raise ValueError(
            f"The Hub has to be told where the licence {licence!r} can be read: give its address by --licence-link "
            f"(or `licence_link`). Without one go: {', '.join(LICENCES)}."
        )
    return {"license": "other", "license_name": licence, "license_link": link}


def base_models(source: CardSource) -> list[str]:
    """Hub names of what the weights come from; none of a model from scratch."""
    pretrained = ((source.recipe or {}).get("model") or {}).get("pretrained")
    names = [pretrained, *(source.config.get("backbones") or {}).values()]
    return [name for name in names if is_hub_name(name)]


def eval_results(source: CardSource) -> list[EvalResult]:
    """Every song-level figure of `results.json`, and every probe of the embedding, for the `model-index`."""
    from huggingface_hub import EvalResult

    if source.results is None:
        return []
    rows = listed_metrics(source.results, source.task_names)
    found = [
        EvalResult(
            task_type="feature-extraction",
            task_name="Music embedding",
            dataset_type="generated" if "generated" in str(entry.get("data")) else "local",
            dataset_name=str(entry.get("data") or "data that nobody described"),
            metric_type=str(entry["metric"]).replace(" ", "_"),
            metric_name=f"{entry['task']}: {entry['metric']}, {entry['how']}",
            metric_value=entry["mean"],
        )
        for entry in source.results.get("probes") or []
        if entry["how"] not in BASELINES and entry["mean"] is not None
    ]
    for name, entry in source.results["sets"].items():
        data, protocol = entry.get("data") or {}, entry.get("protocol") or {}
        generated, benchmark = "num" in protocol, source.facts.get("benchmarks", {}).get(name, {})
        for flat, task, metric in rows:
            value = entry["metrics"].get(flat)
            if value is None or metric == "prior":
                continue
            found.append(
                EvalResult(
                    task_type="audio-classification",
                    task_name="Music tagging",
                    # A name that is no dataset's on the Hub, where the set is none there.
                    dataset_type=benchmark.get("dataset") or ("generated" if generated else "local"),
                    dataset_name=entry.get("title") or set_name(name),
                    dataset_config=name,
                    dataset_split=data.get("split") or ("test" if generated else None),
                    metric_type=METRIC_TYPES.get(metric, metric),
                    metric_name=f"{task}: {METRICS[metric][0]}",
                    metric_value=value,
                )
            )
    return found


def eval_result_files(source: CardSource) -> dict[str, str]:
    """Files for the folder `.eval_results`: name → YAML, one for each set that was measured."""
    from huggingface_hub import eval_result_entries_to_yaml
    from huggingface_hub.utils import yaml_dump

    return {
        f"{name}.yaml": yaml_dump(eval_result_entries_to_yaml(_eval_results(source, name)), sort_keys=False)
        for name in (source.results or {}).get("sets", {})
    }


def _eval_results(source: CardSource, name: str) -> list[EvalResultEntry]:
    """The figures of one set: of a benchmark the one it asks for, of others the main one of every task."""
    from huggingface_hub import EvalResultEntry

    results = source.results
    assert results is not None  # there are no sets without
    metrics, benchmark = results["sets"][name]["metrics"], source.facts.get("benchmarks", {}).get(name)
    main = [
        flat
        for flat, _, kind in listed_metrics(results, source.task_names)
        if kind in ("macro_f1", "map", "accuracy") and metrics.get(flat) is not None
    ]
    if benchmark is not None:
        metric = benchmark.get("metric") or main[0]
        if metrics.get(metric) is None:
            raise ValueError(
                f"`benchmarks` of the card asks for {metric!r} of {name!r}, which was not measured; there is: "
                f"{', '.join(sorted(metrics))}."
            )
        figures = [(benchmark["dataset"], benchmark.get("task_id", "default"), metric, "of whole songs")]
    else:
        owner = source.repo.split("/")[0] if source.repo else "local"
        note = f"of whole songs; {owner}/{name} is no dataset on the Hub, the card describes it"
        figures = [(f"{owner}/{name}", metric, metric, note) for metric in main]
    return [
        EvalResultEntry(
            dataset_id=dataset,
            task_id=task,
            value=metrics[metric],
            date=results.get("date"),
            source_url=f"https://huggingface.co/{source.repo}" if source.repo else None,
            source_name="Model card" if source.repo else None,
            notes=f"{metric}, {note}",
        )
        for dataset, task, metric, note in figures
    ]
