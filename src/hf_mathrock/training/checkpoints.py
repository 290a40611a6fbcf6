# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that survive `kill -9` and a full disk, and a resume that trusts only what it has verified.

A checkpoint is written to `tmp-checkpoint-<step>`, brought to the disk, certified by a manifest and then renamed; older
ones go only after that. Whatever the moment a process dies at, the run folder holds the last checkpoint whole.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_mathrock.training.disk import DISK_REASONS, DiskFullError, disk_errno, free_bytes, megabytes, probe_disk
from hf_mathrock.training.manifest import (
    MANIFEST,
    UNFINISHED,
    by_age,
    newest_verified,
    next_save_number,
    put_in_place,
    rotate,
    tidy,
    verify_checkpoint,
    write_manifest,
)
from hf_mathrock.training.replay import STREAM_PLACE, ReplayableBatches

__all__ = ["DiskFullError", "VerifiedCheckpoints", "newest_verified", "verify_checkpoint", "write_manifest"]

logger = logging.getLogger(__name__)

_STATE = "trainer_state.json"
_WHAT_TO_DO = "free some space and run again with --resume (`train(resume_from_checkpoint=True)`)"


class VerifiedCheckpoints(ReplayableBatches):
    """Gives a `Trainer` checkpoints that are whole or not there, and a resume to the same bits (on the CPU).

    Put it before `Trainer` among the bases: `class MyTrainer(VerifiedCheckpoints, Trainer)`. One process at a time may
    train into a run folder.

    Extra state goes into checkpoints by `_save_extra_state` and comes back by `_load_extra_state`.
    """

    _staging: str | None = None  # where the save at work writes, seen from `_get_output_dir`
    _stopped_early = False
    _last_size = 0  # bytes of the checkpoint saved last

    def _save_extra_state(self, folder: str) -> None:
        """Write what else training needs to go on into a checkpoint; called in the process that writes."""

    def _load_extra_state(self, folder: str) -> None:
        """Read what `_save_extra_state` wrote; called in every process at a resume, before the optimizer is made."""

    # Resuming

    def train(self, resume_from_checkpoint: Any = None, trial: Any = None, ignore_keys_for_eval: Any = None) -> Any:
        """Train, from the start or from a checkpoint that verifies.

        Args:
            resume_from_checkpoint: A checkpoint; or True: the last one saved into the run folder that is whole, and
                from the start where there is none at all. What is passed over is said.
            trial: See `Trainer.train`.
            ignore_keys_for_eval: See `Trainer.train`.

        Raises:
            ValueError: The checkpoint is damaged, or all are.
            DiskFullError: There is no room for a checkpoint, before training or at a save. The last one is whole.
        """
        run_dir = self._get_output_dir(trial)
        self._stopped_early = False
        self._in_every_writer(lambda: self._prepare_run_folder(run_dir))
        chosen = self._in_main_process(lambda: self._choose_checkpoint(resume_from_checkpoint, run_dir))
        return super().train(chosen, trial, ignore_keys_for_eval)

    def _prepare_run_folder(self, run_dir: str) -> None:
        if self.args.save_strategy != "no":
            tidy(run_dir)
            self._check_room(run_dir, "training was not started")

    def _choose_checkpoint(self, wanted: Any, run_dir: str) -> str | None:
        """The path of the checkpoint to go on from, verified; `None`: from the start."""
        if wanted is None or wanted is False:
            if self.args.save_strategy != "no" and (others := by_age(run_dir)):
                logger.warning(
                    "Training starts from the beginning, beside %d checkpoints of an earlier run in %s; "
                    "`resume_from_checkpoint=True` would go on from the newest.",
                    len(others),
                    run_dir,
                )
            return None
        if wanted is not True:
            if problems := verify_checkpoint(wanted):
                raise ValueError(
                    f"The checkpoint {os.fspath(wanted)} cannot be resumed from: {'; '.join(problems)}. Give another, "
                    "or `resume_from_checkpoint=True` for the newest whole one (`newest_verified` of "
                    "hf_mathrock.training.checkpoints names it)."
                )
            return os.fspath(wanted)
        found, passed_over = newest_verified(run_dir)
        told = "; ".join(f"{name}: {', '.join(problems)}" for name, problems in passed_over.items())
        if found is None and passed_over:
            raise ValueError(
                f"No checkpoint in {run_dir} can be resumed from. {told}. Remove them to start from the beginning, or "
                "certify one that you trust by `write_manifest` of hf_mathrock.training.checkpoints."
            )
        if passed_over:
            logger.warning("Passed over damaged checkpoints in %s: %s.", run_dir, told)
        if found is None:
            logger.warning("There is no checkpoint in %s yet: training starts from the beginning.", run_dir)
            return None
        logger.info("Resuming from %s.", found)
        return str(found)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_extra_state(resume_from_checkpoint)

    def _load_callback_state(self) -> None:
        """Counters of callbacks, such as early stopping's patience, go on; their settings are this run's."""
        super()._load_callback_state()
        callbacks: dict[str, list[Any]] = {}
        for callback in [*self.callback_handler.callbacks, self.control]:
            if isinstance(callback, ExportableState):
                callbacks.setdefault(type(callback).__name__, []).append(callback)
        for name, alike in callbacks.items():
            # A callback that the saved run did not have would make the next save fail.
            stored = self.state.stateful_callbacks.setdefault(name, alike[0].state())
            if not self.args.restore_callback_states_from_checkpoint:
                for callback, state in zip(alike, stored if isinstance(stored, list) else [stored], strict=False):
                    for attribute, value in state.get("attributes", {}).items():
                        setattr(callback, attribute, value)
        # The process may have died between the save that followed the last evaluation and its own end.
        self._stopped_early = any(
            callback.early_stopping_patience_counter >= callback.early_stopping_patience
            for callback in self.callback_handler.callbacks
            if isinstance(callback, EarlyStoppingCallback)
        )

    def _run_epoch(self, **kwargs: Any) -> Any:
        if self._stopped_early:
            logger.warning(
                "Training had stopped early at step %d already; a larger `early_stopping_patience` lets it go on.",
                self.state.global_step,
            )
            self.control.should_training_stop = True
            return None
        return super()._run_epoch(**kwargs)

    def _load_best_model(self) -> None:
        best = Path(self.state.best_model_checkpoint)
        problems = verify_checkpoint(best, resumable=False)
        if best.is_dir() and not (best / MANIFEST).exists():  # of the stock trainer, before this run was resumed
            logger.warning("The best checkpoint %s cannot be verified: %s.", best, problems[0])
        elif problems:
            raise RuntimeError(
                f"The best checkpoint {best} is damaged: {'; '.join(problems)}. The model "
                "of the last step is in the newest checkpoint."
            )
        super()._load_best_model()

    # Saving

    def _get_output_dir(self, trial: Any) -> str:
        return self._staging or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint beside its place, certify it, put it there, and only then remove older ones."""
        run_dir = Path(super()._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        staging = run_dir / f"{UNFINISHED}{name}"
        best_before = self.state.best_model_checkpoint
        pushed: list[str] = []
        try:
            self._in_every_writer(lambda: self._make_room(run_dir, name))
            try:
                self._staging, self._push_later = str(staging), pushed.append
                super()._save_checkpoint(model, trial)  # rotates within the staging folder: nothing to do there
            finally:
                self._staging = self._push_later = None
            self._name_best(run_dir, best_before)
            self._wait()  # every process keeps its own random state
            if self.args.should_save:
                self._finish(staging / name, run_dir / name)
        except BaseException as error:
            self.state.best_model_checkpoint = best_before
            number = self._disk_trouble(error, run_dir)
            if self.args.should_save:
                with suppress(OSError):
                    tidy(run_dir)
            if number is None or isinstance(error, DiskFullError):
                raise
            raise DiskFullError(number, self._refusal(run_dir, f"{name} was not saved", number)) from error
        self._wait()
        if pushed:
            super()._push_from_checkpoint(str(run_dir / name))

    def _finish(self, folder: Path, target: Path) -> None:
        run_dir = target.parent
        self.state.save_to_json(folder / _STATE)  # anew: the path of the best one has its final form only now
        if (place := self._place_in_stream()) is not None:
            (folder / STREAM_PLACE).write_text(json.dumps(place))
        self._save_extra_state(str(folder))
        manifest = write_manifest(folder, num_processes=self.args.world_size, save_number=next_save_number(run_dir))
        self._last_size = sum(file["size"] for file in manifest["files"].values())
        put_in_place(folder, target)
        folder.parent.rmdir()
        rotate(run_dir, self.args.save_total_limit, (target, self.state.best_model_checkpoint))

    def _name_best(self, run_dir: Path, best_before: str | None) -> None:
        """Undo that the stock save looks for the best checkpoint in the staging folder."""
        step = self.state.best_global_step
        best = run_dir / f"{PREFIX_CHECKPOINT_DIR}-{step}"
        there = step and self.args.save_strategy != "no" and (step == self.state.global_step or best.is_dir())
        self.state.best_model_checkpoint = str(best) if there else best_before

    _push_later: Callable[[str], None] | None = None

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Uploads run in the background, so they must not begin before the folder has its name."""
        if self._push_later is not None:
            self._push_later(checkpoint_folder)
        else:
            super()._push_from_checkpoint(checkpoint_folder)

    # Room on the disk

    def _make_room(self, run_dir: Path, name: str) -> None:
        tidy(run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        self._check_room(run_dir, f"{name} was not saved")

    def _check_room(self, run_dir: str | Path, what: str) -> None:
        needed, free = max(self._bytes_to_save(), self._last_size), free_bytes(run_dir)
        needed += needed // 50 + (1 << 20)  # for what else is written, and whole blocks
        if free is not None and free < needed:
            number = next(iter(DISK_REASONS))
            raise DiskFullError(number, self._refusal(run_dir, what, number, needed))

    def _bytes_to_save(self) -> int:
        """A lower bound, from the tensors: weights, and what the optimizer keeps for each."""
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            return 0  # this process holds a part
        storages = {tensor.data_ptr(): tensor.nbytes for tensor in self._tensors_to_save()}
        return sum(storages.values())

    def _tensors_to_save(self) -> Iterator[torch.Tensor]:
        adapters_only = hasattr(self.model, "peft_config")
        for tensor in self.model.state_dict(keep_vars=True).values():
            if tensor.requires_grad or not adapters_only:
                yield tensor
        for state in getattr(self.optimizer, "state", {}).values():
            yield from (value for value in state.values() if isinstance(value, torch.Tensor))

    def _disk_trouble(self, error: BaseException, run_dir: Path) -> int | None:
        number = disk_errno(error)
        if number is None and isinstance(error, RuntimeError):
            number = probe_disk(run_dir)  # torch's writer keeps the reason to itself
        return number

    def _refusal(self, run_dir: str | Path, what: str, number: int, needed: int | None = None) -> str:
        found, _ = newest_verified(run_dir)
        reason = DISK_REASONS[number] if needed is None else f"about {megabytes(needed)} are needed"
        intact = f"{found.name} is intact" if found else "there is no earlier checkpoint"
        return f"{what}: {reason}, {megabytes(free_bytes(run_dir))} are free in {run_dir}; {intact}; {_WHAT_TO_DO}"

    # Several processes

    def _wait(self) -> None:
        if self.args.world_size > 1:
            self.accelerator.wait_for_everyone()

    def _in_main_process(self, action: Callable[[], Any]) -> Any:
        """What an action of the main process returns or raises, in all processes."""
        outcome: list[Any] = [None, None]
        if self.is_world_process_zero():
            try:
                outcome[0] = action()
            except Exception as error:
                outcome[1] = error
        if self.args.world_size > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(outcome)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def _in_every_writer(self, action: Callable[[], None]) -> None:
        """Act in the processes that write, while the others wait; what one raises, all raise."""
        failure = None
        if self.args.should_save:
            try:
                action()
            except Exception as error:
                failure = error
        failures = [failure]
        if self.args.world_size > 1:
            from accelerate.utils import gather_object

            failures = gather_object(failures)
        for found in failures:
            if found is not None:
                raise found
