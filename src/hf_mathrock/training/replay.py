# SPDX-License-Identifier: Apache-2.0
"""Training batches that come out the same however often a run was stopped.

The stock `Trainer` restores the random state that was saved after a step. But its loader is one batch ahead: at that
time the windows of the next batch had been drawn already, and a resumed run draws others; loader processes start with
other seeds altogether. Here whatever is drawn while a batch is read and collated comes from the run's seed, the epoch
and the batch's own rows, and leaves the model's random numbers alone.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object

STREAM_PLACE = "stream_place.json"


@contextmanager
def own_random_numbers(seed: int | None = None) -> Iterator[None]:
    """Within, Python's, numpy's and torch's (CPU) random numbers start from `seed`; afterwards they go on as before.

    Args:
        seed: 0 to 2^63; `None`: they go on from where they are, and are set back afterwards.
    """
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            # Not `torch.manual_seed`: that would seed the accelerators' generators too.
            torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])


def _seed_of(*numbers: int) -> int:
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class _Batch(list):
    """Rows on their way to the collator, with the seed of what it may draw."""

    seed: int


class SeededRows(Dataset):
    """Rows of a data set that has a length, read with random numbers of their own.

    Args:
        dataset: The rows.
        seed: Of the run.
        epoch: A tensor of one number, changed in place from epoch to epoch.
    """

    def __init__(self, dataset: Any, seed: int, epoch: torch.Tensor) -> None:
        self.dataset, self.seed, self.epoch = dataset, seed, epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[index]

    def __getitems__(self, indices: Sequence[Any]) -> _Batch:
        """What torch's loader asks for: the rows of a batch."""
        seed = _seed_of(self.seed, int(self.epoch), *map(int, indices))
        with own_random_numbers(seed):
            if hasattr(self.dataset, "__getitems__"):
                batch = _Batch(self.dataset.__getitems__(indices))
            else:
                batch = _Batch(self.dataset[index] for index in indices)
        batch.seed = _seed_of(seed)
        return batch

    def set_epoch(self, epoch: int) -> None:
        """Passed on, for data sets that want to know."""
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)


class SeededCollator:
    """A collator that draws random numbers of its own.

    Rows of `SeededRows` bring their seed. Those of a stream have no number to go by: their batches are counted in each
    loader process, from the start of the epoch; a resumed run reads the stream again from there and counts the same.
    """

    def __init__(self, collator: Any, seed: int, epoch: torch.Tensor, process_index: int) -> None:
        self.collator, self.seed, self.epoch, self.process_index = collator, seed, epoch, process_index
        self._counted_epoch, self._count = -1, 0

    def __call__(self, rows: Any) -> Any:
        with own_random_numbers(rows.seed if isinstance(rows, _Batch) else self._next_seed()):
            return self.collator(rows)

    def _next_seed(self) -> int:
        epoch, worker = int(self.epoch), get_worker_info()
        if epoch != self._counted_epoch:
            self._counted_epoch, self._count = epoch, 0
        self._count += 1
        return _seed_of(self.seed, epoch, self.process_index, -1 if worker is None else worker.id, self._count)


class ReplayableBatches(_Trainer):
    """What a `Trainer` needs so that a resumed run trains on the very batches an uninterrupted one does.

    Put it before `Trainer` among the bases. Evaluation in between does not touch the random numbers of training either.
    """

    data_collator: Any
    _epoch: torch.Tensor | None = None
    _reads_a_stream = False
    _first_step_of_pass = 0

    def _get_dataloader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Any = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> Any:
        if not is_training:
            return super()._get_dataloader(dataset, description, batch_size, sampler_fn, is_training, dataloader_key)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        if self._epoch is None:
            self._epoch = torch.zeros((), dtype=torch.int64)
            if self.args.dataloader_persistent_workers:  # they outlive the epoch they were started in
                self._epoch.share_memory_()
        rows, collator = dataset, self.data_collator
        self._reads_a_stream = isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__")
        if not self._reads_a_stream:
            if hasattr(dataset, "column_names") and hasattr(dataset, "remove_columns"):
                # The stock loader does this only to what it knows to be of `datasets`.
                dataset = self._remove_unused_columns(dataset, description=description)
            rows = SeededRows(dataset, seed, self._epoch)
        sampler = None if sampler_fn is None else lambda _: sampler_fn(dataset)
        self.data_collator = SeededCollator(collator, seed, self._epoch, self.args.process_index)
        try:
            return super()._get_dataloader(rows, description, batch_size, sampler, is_training, dataloader_key)
        finally:
            self.data_collator = collator

    def _place_in_stream(self) -> dict[str, int] | None:
        """How often a stream was read to its end, and how many batches of it since; `None`: it is no stream."""
        if not self._reads_a_stream or self._epoch is None:
            return None
        num_steps = self.state.global_step - self._first_step_of_pass
        return {"passes": int(self._epoch), "batches": num_steps * self.args.gradient_accumulation_steps}

    def _init_training_state(
        self, max_steps: int, steps_per_epoch: int, num_epochs: int, resume_from_checkpoint: Any, trial: Any
    ) -> tuple[int, int]:
        """The stock state; of a stream, whose length nobody knows, the place is that which the checkpoint names."""
        place = super()._init_training_state(max_steps, steps_per_epoch, num_epochs, resume_from_checkpoint, trial)
        if self._reads_a_stream and resume_from_checkpoint is not None and not self.args.ignore_data_skip:
            with suppress(FileNotFoundError):
                stored = json.loads(Path(resume_from_checkpoint, STREAM_PLACE).read_text())
                place = stored["passes"], stored["batches"]
        return place

    def _run_epoch(self, **kwargs: Any) -> Any:
        resumed = kwargs["resume_from_checkpoint"] is not None and kwargs["epoch"] == kwargs["epochs_trained"]
        skipped = kwargs["steps_trained_in_current_epoch"] if resumed else 0
        self._first_step_of_pass = self.state.global_step - skipped // self.args.gradient_accumulation_steps
        if self._epoch is not None:
            self._epoch.fill_(kwargs["epoch"])
        return super()._run_epoch(**kwargs)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The stock batches; torch's loader draws a number when it starts, which a lasting one does only once."""
        with own_random_numbers():
            return super().get_batch_samples(*args, **kwargs)

    def _evaluate(self, *args: Any, **kwargs: Any) -> Any:
        with own_random_numbers():
            return super()._evaluate(*args, **kwargs)
