# SPDX-License-Identifier: Apache-2.0
"""The published orders of the tags of two corpora, as the outputs of models trained on them stand."""

from __future__ import annotations

# MagnaTagATune's 50 most frequent tags, by falling count; synonyms stay apart. Source: Law et al., "Evaluation of
# Algorithms Using Games: The Case of Music Tagging", ISMIR 2009; this order: musicnn (Pons and Serra, 2019).
MAGNATAGATUNE_TAGS: tuple[str, ...] = (
    *("guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano"),
    *("ambient", "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing"),
    *("vocals", "no vocals", "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop"),
    *("soft", "sitar", "solo", "man", "classic", "choir", "voice", "new age", "dance", "male voice"),
    *("female vocal", "beats", "harp", "cello", "no voice", "weird", "country", "metal", "female voice", "choral"),
)
# The 50 most frequent Last.fm tags of the Million Song Dataset, by falling count, spelt as there. Source: Lee and Nam,
# 2017; this order: musicnn.
MSD_TAGS: tuple[str, ...] = (
    *("rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s"),
    *("alternative rock", "jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul"),
    *("indie rock", "Mellow", "electronica", "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies"),
    *("blues", "hard rock", "ambient", "acoustic", "experimental", "female vocalist", "guitar", "Hip-Hop", "70s"),
    *("party", "country", "easy listening", "sexy", "catchy", "funk", "electro", "heavy metal"),
    *("Progressive rock", "60s", "rnb", "indie pop", "sad", "House", "happy"),
)
