# SPDX-License-Identifier: Apache-2.0
"""`MathRockTrainer` and the stock `Trainer` on a MathRock model."""

import copy

import numpy as np
import pytest
import soundfile as sf
import torch
from transformers import Trainer, TrainingArguments

from hf_mathrock import MathRockFeatureExtractor, MathRockForAudioClassification, MathRockTrainer
from hf_mathrock.data.collator import MathRockCollator
from hf_mathrock.models.objectives import multi_task_focal_loss
from hf_mathrock.training.arguments import MathRockTrainingArguments


def rows(num=8, seed=0):
    """Tones whose pitch gives the tempo class and whose tremor the vibe; some labels are unknown."""
    random = np.random.default_rng(seed)
    time = np.arange(16_000) / 16_000
    made = []
    for index in range(num):
        tempo, vibe = index % 3, index % 4
        audio = np.sin(2 * np.pi * (200 * 4**tempo) * time) * (1 + 0.8 * np.sin(2 * np.pi * 3 * vibe * time)) / 4
        audio += 0.01 * random.standard_normal(len(time))
        made.append(
            {
                "audio": {"array": audio.astype(np.float32), "sampling_rate": 16_000},
                "tempo": ("slow", "moderate", "fast")[tempo],
                "vibe": vibe,
                "emotion": ["joy", "love"] if index % 2 else None,
            }
        )
    return made


def arguments(folder, **settings):
    defaults = {"max_steps": 2, "per_device_train_batch_size": 4, "save_strategy": "no", "disable_tqdm": True}
    return MathRockTrainingArguments(str(folder), use_cpu=True, **{**defaults, **settings})


def trainer(model, folder, data=None, **settings):
    return MathRockTrainer(
        model=copy.deepcopy(model).train(),
        args=arguments(folder, **settings),
        train_dataset=data or rows(),
        eval_dataset=rows(seed=1),
        processing_class=MathRockFeatureExtractor(),
    )


def test_one_batch_is_learnt_by_heart(tiny_model, tmp_path):
    made = trainer(
        tiny_model, tmp_path, rows(4), max_steps=60, learning_rate=1e-2, backbone_learning_rate=3e-3, logging_steps=5
    )
    made.train()
    metrics = made.evaluate(rows(4))
    losses = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    assert losses[-1] < 0.35 * losses[0]
    assert metrics["eval_tempo_accuracy"] == 1.0


def test_the_log_holds_every_tasks_loss_and_evaluation_every_tasks_metrics(tiny_model, tmp_path):
    made = trainer(tiny_model, tmp_path, logging_steps=1)
    made.train()
    logged = next(entry for entry in made.state.log_history if "loss" in entry)
    assert {"loss_emotion", "loss_vibe", "loss_intensity", "loss_tempo"} <= set(logged)
    assert logged["loss"] == pytest.approx(sum(logged[f"loss_{t}"] for t in tiny_model.config.task_names), abs=2e-3)
    assert logged["loss_intensity"] == 0  # nobody gave that label
    with pytest.warns(UserWarning, match="no positive example of admiration"):
        metrics = made.evaluate()
    assert {"eval_tempo_macro_f1", "eval_vibe_accuracy", "eval_emotion_map", "eval_mean_score"} <= set(metrics)
    assert "eval_intensity_accuracy" not in metrics


def test_the_same_seed_gives_the_same_weights(tiny_model, tmp_path):
    states = []
    for run in range(2):
        torch.manual_seed(run)
        made = trainer(tiny_model, tmp_path / str(run))
        made.train()
        states.append(made.model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_resumed_run_ends_where_an_uninterrupted_one_ends(tiny_model, tmp_path):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "dataloader_num_workers": 0}
    data = MathRockCollator(MathRockFeatureExtractor(), tiny_model.config.tasks)  # no random windows
    ends = []
    for run, resume in (("whole", None), ("resumed", str(tmp_path / "whole" / "checkpoint-2"))):
        made = MathRockTrainer(
            model=copy.deepcopy(tiny_model).train(),
            args=arguments(tmp_path / run, **settings),
            data_collator=data,
            train_dataset=rows(),
            processing_class=MathRockFeatureExtractor(),
        )
        made.train(resume_from_checkpoint=resume)
        ends.append(made.model.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_every_parameter_is_in_one_group_with_the_rate_of_its_part(tiny_model, tmp_path):
    made = trainer(tiny_model, tmp_path, learning_rate=1e-4, backbone_learning_rate=3e-5, weight_decay=0.01)
    names = {id(parameter): name for name, parameter in made.model.named_parameters()}
    norms = (torch.nn.LayerNorm, torch.nn.GroupNorm, torch.nn.BatchNorm2d)
    of_norms = {id(p) for module in made.model.modules() if isinstance(module, norms) for p in module.parameters()}
    seen = []
    for group in made.create_optimizer().param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.append(name)
            in_backbone = name.startswith(("mathrock.wavlm.", "mathrock.clap_audio."))
            assert group["lr"] == (3e-5 if in_backbone else 1e-4), name
            plain = "bias" in name or id(parameter) in of_norms  # biases by any name, tables of them too
            assert group["weight_decay"] == (0.0 if plain else 0.01), name
    assert sorted(seen) == sorted(names.values())
    frozen = trainer(tiny_model, tmp_path)
    frozen.model.mathrock.wavlm.requires_grad_(False)
    count = sum(len(group["params"]) for group in frozen.create_optimizer().param_groups)
    assert count == sum(parameter.requires_grad for parameter in frozen.model.parameters())


def test_defaults_are_the_references():
    args = MathRockTrainingArguments("unused")
    assert (args.backbone_learning_rate, args.learning_rate, args.weight_decay) == (3e-5, 1e-4, 0.01)
    assert (args.num_train_epochs, args.max_grad_norm) == (20, 1.0)
    with pytest.raises(ValueError, match="'balanced', 'none'"):
        MathRockTrainingArguments("unused", class_weights="auto")


def test_the_loss_is_the_objective_with_this_runs_weights(tiny_model, tmp_path):
    made = trainer(tiny_model, tmp_path, rows(7), task_weights={"tempo": 3.0}, focal_gamma=1.0, label_smoothing=0.0)
    made.model.eval()
    # Seven rows: tempo 3, 2, 2; vibe 2, 2, 2, 1.
    np.testing.assert_allclose(made.class_weights["tempo"], [7 / 9, 7 / 6, 7 / 6], rtol=1e-6)
    batch = MathRockCollator(MathRockFeatureExtractor(), tiny_model.config.tasks)(rows(7))
    with torch.no_grad():
        loss = made.compute_loss(made.model, batch)
        labels = batch.pop("labels")
        expected, _ = multi_task_focal_loss(
            made.model(**batch).task_logits,
            labels,
            tiny_model.config.tasks,
            gamma=1.0,
            label_smoothing=0.0,
            class_weights=made.class_weights,
            task_weights={"tempo": 3.0},
        )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_accumulated_steps_equal_one_large_batch(tiny_model, tmp_path):
    changes, losses = [], []
    # Labels are partly known, unevenly; of twelve rows the last step has but four, in one or two batches.
    data = [row | {"tempo": row["tempo"] if index not in (0, 3, 5) else None} for index, row in enumerate(rows(12))]
    for size, steps in ((8, 1), (4, 2), (2, 4)):
        model = copy.deepcopy(tiny_model)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.config.wavlm_config.layerdrop, model.config.wavlm_config.apply_spec_augment = 0.0, False
        for layer in model.mathrock.wavlm.encoder.layers:
            layer.attention.dropout = 0.0
        made = MathRockTrainer(
            model=model,
            args=arguments(
                tmp_path / str(size),
                num_train_epochs=1,
                max_steps=-1,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=steps,
                learning_rate=1e-2,
                optim="sgd",
                max_grad_norm=0.0,
                logging_steps=1,
            ),
            data_collator=MathRockCollator(MathRockFeatureExtractor(), model.config.tasks),
            train_dataset=data,
        )
        # CLAP's batch norm sees the batch itself; its running statistics do not.
        made.model.mathrock.clap_audio.audio_encoder.batch_norm.train(False)
        made.model.mathrock.clap_audio.audio_encoder.batch_norm.train = lambda mode=True: None
        before = torch.nn.utils.parameters_to_vector(made.model.parameters()).detach().clone()
        made.train()
        assert made.state.global_step == 2 and made.class_weights["tempo"].unique().numel() > 1
        changes.append(torch.nn.utils.parameters_to_vector(made.model.parameters()).detach() - before)
        log = [entry for entry in made.state.log_history if "loss" in entry]
        losses.append([entry[name] for entry in log for name in ("loss", "loss_tempo", "loss_emotion")])
    for change, loss in zip(changes[1:], losses[1:], strict=True):
        assert (change - changes[0]).norm() < 1e-4 * changes[0].norm()
        assert loss == pytest.approx(losses[0], abs=2e-4)


def test_what_the_end_of_a_stream_cuts_short_goes_on_with_its_next_round(tiny_model, tmp_path):
    from datasets import IterableDataset

    named = [row | {"song": f"{index}.wav"} for index, row in enumerate(rows(7))]
    made = MathRockTrainer(
        model=copy.deepcopy(tiny_model).train(),
        args=arguments(tmp_path, max_steps=5, per_device_train_batch_size=1, gradient_accumulation_steps=2),
        train_dataset=IterableDataset.from_generator(lambda: iter(named)),
        processing_class=MathRockFeatureExtractor(),
    )
    heard, step = [], made.training_step
    made.training_step = lambda *args: (heard.extend(args[1]["files"]), step(*args))[1]
    made.train()
    assert heard == [f"{index % 7}.wav" for index in range(10)]
    assert made.state.global_step == 5


def test_predict_hears_the_windows_that_evaluate_hears(tiny_model, tmp_path):
    made = trainer(tiny_model, tmp_path)
    long = [{"audio": {"array": np.tile(row["audio"]["array"], 25), "sampling_rate": 16_000}} for row in rows(2)]
    one, other = (made.predict([row | {"tempo": "slow"} for row in long]).predictions[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_rows_with_ready_made_labels_are_counted_too(tiny_model, tmp_path):
    from hf_mathrock.data.labels import encode_labels

    ready = [{"audio": row["audio"], "labels": encode_labels(tiny_model.config.tasks, row)} for row in rows(7)]
    made = trainer(tiny_model, tmp_path, ready)
    np.testing.assert_allclose(made.class_weights["tempo"], [7 / 9, 7 / 6, 7 / 6], rtol=1e-6)


def test_the_stock_trainer_works_too(tiny_model, tmp_path):
    made = Trainer(
        model=copy.deepcopy(tiny_model).train(),
        args=TrainingArguments(
            str(tmp_path),
            max_steps=1,
            use_cpu=True,
            remove_unused_columns=False,
            label_names=["labels"],
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
        data_collator=MathRockCollator(MathRockFeatureExtractor(), tiny_model.config.tasks),
        train_dataset=rows(),
        eval_dataset=rows(seed=1),
    )
    made.train()
    assert np.isfinite(made.evaluate()["eval_loss"])


def test_an_audio_folder_is_trained_on_as_datasets_reads_it(tiny_model, tmp_path):
    from datasets import Audio, load_dataset

    folder = tmp_path / "songs"
    folder.mkdir()
    lines = ["file_name,tempo,vibe"]
    for index, row in enumerate(rows(6)):
        sf.write(folder / f"{index}.wav", row["audio"]["array"], 16_000)
        lines.append(f"{index}.wav,{row['tempo'] if index else ''},technical")
    (folder / "metadata.csv").write_text("\n".join(lines))
    data = load_dataset("audiofolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    made = trainer(tiny_model, tmp_path / "out", data.cast_column("audio", Audio(decode=False)))
    made.train()
    assert made.class_weights["vibe"].tolist() == [0, 0, 0, 1]
    assert made.state.global_step == 2
    made.save_model(tmp_path / "saved")
    assert MathRockForAudioClassification.from_pretrained(tmp_path / "saved").config.task_names[0] == "emotion"


def test_without_an_extractor_or_a_collator_nothing_can_be_read(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="processing_class"):
        MathRockTrainer(model=tiny_model, args=arguments(tmp_path), train_dataset=rows())


def test_training_stops_when_nothing_gets_better_and_keeps_the_best(tiny_model, tmp_path):
    made = trainer(
        tiny_model,
        tmp_path,
        max_steps=-1,
        num_train_epochs=9,
        learning_rate=0.0,
        backbone_learning_rate=0.0,
        early_stopping_patience=2,
    )
    assert made.args.metric_for_best_model == "mean_score" and made.args.load_best_model_at_end
    made.train()
    assert made.state.epoch == 3  # the first is the best, two more are waited for
    assert made.state.best_model_checkpoint.endswith("checkpoint-2")


def test_evaluation_is_of_whole_recordings(tiny_model, tmp_path):
    """A recording of three windows counts once, by the mean of their scores."""
    long = np.concatenate([row["audio"]["array"] for row in rows(8)] * 3)  # 24 s
    data = [{"audio": {"array": long, "sampling_rate": 16_000}, "tempo": "slow"}, rows(1)[0]]
    seen = []
    made = trainer(tiny_model, tmp_path)
    evaluate = made.compute_metrics

    def keep(prediction):
        seen.append(prediction)
        return evaluate(prediction)

    made.compute_metrics = keep
    metrics = made.evaluate(data)
    assert len(seen[0].label_ids["tempo"]) == 5  # windows at 0, 5, 10 and 15 s, and the short one
    assert metrics["eval_tempo_accuracy"] in (0.0, 0.5, 1.0)
    scores, labels = made.recording_scores(seen[0])
    of_windows = torch.from_numpy(seen[0].predictions[1]["tempo"]).double().softmax(dim=-1).numpy()
    np.testing.assert_allclose(scores["tempo"], [of_windows[:4].mean(axis=0), of_windows[4]], atol=1e-12)
    assert labels["tempo"].tolist() == [0, 0]


def test_recordings_come_from_a_stream_too(tiny_model, tmp_path):
    from datasets import IterableDataset

    def stream():
        for row in rows(6):
            yield {"array": row["audio"]["array"], "tempo": row["tempo"]}

    data = IterableDataset.from_generator(stream).map(
        lambda row: {"audio": {"array": np.asarray(row["array"], dtype=np.float32), "sampling_rate": 16_000}},
        remove_columns=["array"],
    )
    made = trainer(tiny_model, tmp_path, data, max_steps=3)
    made.train()
    assert made.state.global_step == 3
