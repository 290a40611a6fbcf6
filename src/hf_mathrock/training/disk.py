# SPDX-License-Identifier: Apache-2.0
"""A disk that takes no more: the error that says so, and how to recognise it behind others.

Imports the standard library only, so that the command line can tell such an error from the rest at no cost.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from pathlib import Path

DISK_REASONS = {
    errno.ENOSPC: "the disk is full",
    getattr(errno, "EDQUOT", 122): "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
}
# How Rust ends the message of an I/O error; safetensors passes only the message on.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_PROBE_BYTES = 1 << 16


class DiskFullError(OSError):
    """Something was not written because the disk is full, the quota is used up, or the disk is read-only.

    Args:
        number: The `errno`.
        message: One line for the user.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(number, message)

    def __str__(self) -> str:
        return str(self.args[1])


def disk_errno(error: BaseException | None) -> int | None:
    """The `errno` of a disk that takes no more, if that is what an error or its cause tells of.

    Args:
        error: An `OSError`, or an error that holds one's message, as safetensors' do.

    Returns:
        A key of `DISK_REASONS`, or `None`.
    """
    while error is not None:
        if isinstance(error, OSError):
            if error.errno in DISK_REASONS:
                return error.errno
        elif (found := _OS_ERROR.search(str(error))) and int(found[1]) in DISK_REASONS:
            return int(found[1])
        error = error.__cause__
    return None


def probe_disk(folder: str | Path) -> int | None:
    """Try to write into a folder; the `errno` of `DISK_REASONS` that this meets, or `None`.

    For errors that hide their reason: torch's writer says only that it failed.
    """
    path = Path(folder) / "tmp-probe"
    try:
        with open(path, "wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return disk_errno(error)
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
    return None


def free_bytes(folder: str | Path) -> int | None:
    """Bytes that may still be written where a folder is; `None` where the file system does not say."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free if usage.total else None


def megabytes(num_bytes: int | None) -> str:
    """A size for a message."""
    return "an unknown size" if num_bytes is None else f"{num_bytes / 1e6:,.1f} MB"
