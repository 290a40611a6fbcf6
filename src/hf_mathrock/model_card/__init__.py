# SPDX-License-Identifier: Apache-2.0
"""The model card: a template, and what fills it from the files beside a checkpoint's weights.

Figures come from `results.json` only; what only a publisher knows comes from the `card` mapping of the recipe.
"""

from hf_mathrock.model_card.card import render_card, write_card
from hf_mathrock.model_card.facts import CARD_KEYS, checked_facts
from hf_mathrock.model_card.figures import calibration_note, figures, recordings

__all__ = ["CARD_KEYS", "checked_facts", "calibration_note", "figures", "recordings", "render_card", "write_card"]
