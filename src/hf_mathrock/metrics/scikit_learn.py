# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's metrics, which only those who measure need to have."""

from __future__ import annotations

from typing import Any


def sklearn_metrics() -> Any:
    """The module `sklearn.metrics`.

    Raises:
        ImportError: scikit-learn is absent; the message names the extra that brings it.
    """
    try:
        import sklearn.metrics
    except ImportError as error:
        raise ImportError('metrics need scikit-learn: pip install "hf-mathrock[train]"') from error
    return sklearn.metrics
