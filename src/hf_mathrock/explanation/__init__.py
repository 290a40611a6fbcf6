# SPDX-License-Identifier: Apache-2.0
"""Why a model gives a recording its tags: where in time, and at which frequencies, the evidence lies.

    from hf_mathrock.explanation import explain

    explanation = explain(pipe, "song.mp3", labels=["guitar"])
    explanation.times, explanation.values

Two methods. *Occlusion* works with every model: a stretch of the audio (or a band of frequencies) is replaced, and
what the tag's probability loses is the evidence that lay there. *Contribution* reads the answer off a transformer in
one pass.
"""

from hf_mathrock.explanation.explaining import METHODS, explain
from hf_mathrock.explanation.replacement import BASELINES
from hf_mathrock.explanation.result import BandEvidence, Explanation

__all__ = ["BASELINES", "METHODS", "BandEvidence", "Explanation", "explain"]
