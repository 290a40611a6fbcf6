# SPDX-License-Identifier: Apache-2.0
"""Publishes a model on the Hub: `hf-mathrock push` under another name.

python scripts/push_to_hub.py MODEL --repo org/name [--dry-run OUT]
"""

from __future__ import annotations

import sys

from hf_mathrock.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["push", *sys.argv[1:]]))
