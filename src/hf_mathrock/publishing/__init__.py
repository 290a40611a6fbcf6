# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint to a repository on the Hub: build the folder, then send it."""

from hf_mathrock.publishing.folder import Assembled, assemble
from hf_mathrock.publishing.upload import Pushed, UploadError, check_login, push

__all__ = ["Assembled", "Pushed", "UploadError", "assemble", "check_login", "push"]
