# SPDX-License-Identifier: Apache-2.0
"""What spares all tests of training time."""

import gc

import pytest
from torch.utils.data import _utils


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_waited_for():
    """The Trainer collects garbage at every start, and need not go through all that is imported.

    Lasting loader processes that are collected with it do not end by themselves; five seconds later they are killed.
    """
    import hf_mathrock.training.trainer  # noqa: F401

    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
        yield
    gc.unfreeze()
