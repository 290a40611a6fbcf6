# SPDX-License-Identifier: Apache-2.0
"""Myna: a transformer over a whole track that knows how far apart two moments are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_myna import PIPELINE_FILES, MynaConfig
from .configuration_tagging import PIPELINE_FILES as TAGGING_FILES
from .contrastive import info_nce
from .modeling_tagging import (
    TaggerForAudioClassification,
    TaggerPreTrainedModel,
    joined_layers,
    joined_rows,
    rows_of_one_length,
)
from .myna_encoder import EncodedTrack, MynaEncoder, PatchEmbedding, patches_of
from .outputs import MusicTaggerModelOutput, MynaForPreTrainingOutput, MynaModelOutput
from .pooling import masked_mean

if TYPE_CHECKING:
    # Saving a model copies the files its module names, and those that they name.
    from .feature_extraction_myna import MynaFeatureExtractor  # noqa: F401
    from .pipeline_music_embedding import MusicEmbeddingPipeline  # noqa: F401


class MynaPreTrainedModel(TaggerPreTrainedModel):
    """What the encoder and the models on top of it share."""

    config: MynaConfig
    config_class = MynaConfig
    base_model_prefix = "myna"
    main_input_name = "input_features"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _no_split_modules = ["MynaLayer"]
    pipeline_files: ClassVar[dict[str, dict[str, Any]]] = PIPELINE_FILES

    def post_init(self) -> None:
        super().post_init()
        # Of one family, encoders embed and classifiers tag; a model comes last, after the encoder that it is made of.
        self.config.publish_by(self.pipeline_files)


class MynaModel(MynaPreTrainedModel):
    """A track of any length to one embedding.

    Attention is exact and computed in blocks; `attn_implementation="flex_attention"` or `"eager"` give the same
    numbers. In training a share of the tokens is left out (`config.patchout`), and those that are kept keep their
    places.
    """

    config: MynaConfig
    config_class = MynaConfig
    _auto_class = "AutoModel"
    # What it is trained with, or was fine-tuned for, is left behind.
    _keys_to_ignore_on_load_unexpected = [r"^projector\.", r"^norm\.", r"^classifier\."]

    def __init__(self, config: MynaConfig) -> None:
        super().__init__(config)
        self.patch_embeddings = nn.ModuleList(PatchEmbedding(config, tuple(size)) for size in config.patch_sizes)
        self.encoder = MynaEncoder(config)
        self.gradient_checkpointing = False
        self.post_init()

    def forward(
        self,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        patches: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        keep_ratio: float | None = None,
        long_input: str | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        return_dict: bool | None = None,
    ) -> MynaModelOutput | tuple[Any, ...]:
        """Embed tracks.

        Args:
            input_features: Spectrograms as the extractor makes them, `(batch_size, num_frames, num_mel_bins)`, of at
                least `config.min_frames`. Frames at the end that fill no patch are left out.
            attention_mask: `(batch_size, num_frames)`, 1 up to the end of each track and 0 after it; beside `patches`
                `(batch_size, num_tokens)`, 0 for padding anywhere.
            patches: Instead of `input_features`, any selection of patches, `(batch_size, num_tokens, bins * frames)`;
                not of a hybrid.
            position_ids: Column (time) and row (frequency) of each of `patches`, whole numbers `(batch_size or 1,
                num_tokens, 2)`.
            keep_ratio: Share of tokens that are heard, in (0, 1]; `None`: `1 - config.patchout` in training, all
                otherwise. In training every call draws anew from torch's generator; otherwise `config.patchout_seeds`
                fixed selections are averaged.
            long_input: Instead of the config's, for tracks of more than `config.max_tokens` tokens.
            output_hidden_states: Also return the states on the way, of what is heard at once.
            output_attentions: Also return the attention weights, for which they are computed all at once.
            return_dict: `False` for a plain tuple.

        Returns:
            See `MynaModelOutput`.

        Raises:
            ValueError: The input has the wrong shape, is shorter than a patch, or an argument is out of range.
        """
        share = self._share(keep_ratio)
        wants = (output_hidden_states, output_attentions)
        if patches is not None:
            output = self._of_patches(input_features, patches, position_ids, attention_mask, share, wants)
        else:
            long_input = self._checked_long_input(long_input)
            self._check_features(input_features)
            groups = rows_of_one_length(None, input_features, attention_mask)
            outputs = [self._of_tracks(features, share, long_input, wants) for _, _, features in groups]
            output = outputs[0] if len(groups) == 1 else _put_together([rows for rows, _, _ in groups], outputs)
        return output if self._wants_dict(return_dict) else output.to_tuple()

    def _share(self, keep_ratio: float | None) -> float:
        if keep_ratio is None:
            return 1.0 - self.config.patchout if self.training else 1.0
        if not 0 < keep_ratio <= 1:
            raise ValueError(f"`keep_ratio` is {keep_ratio!r}; it is the share of tokens that are heard, in (0, 1].")
        return float(keep_ratio)

    def _checked_long_input(self, long_input: str | None) -> str:
        if long_input not in (None, "patchout", "two_level"):
            raise ValueError(f"`long_input` is {long_input!r}; allowed: 'patchout', 'two_level'.")
        return long_input or self.config.long_input

    def _check_features(self, features: torch.Tensor | None) -> None:
        if features is None:
            raise ValueError("Pass `input_features`, as the extractor makes them, or `patches` and `position_ids`.")
        bins = self.config.num_mel_bins
        if features.dim() != 3 or features.shape[2] != bins:
            raise ValueError(
                f"`input_features` has shape {tuple(features.shape)}; expected (batch_size, num_frames, {bins})."
            )

    def _of_patches(
        self,
        features: torch.Tensor | None,
        patches: torch.Tensor,
        positions: torch.Tensor | None,
        mask: torch.Tensor | None,
        share: float,
        wants: tuple[bool, bool],
    ) -> MynaModelOutput:
        sizes = self.config.patch_sizes
        if features is not None or positions is None:
            raise ValueError("`patches` come with `position_ids`, and without `input_features`.")
        if len(sizes) > 1:
            raise ValueError(f"This model has patches of {len(sizes)} sizes; pass `input_features`.")
        width = math.prod(sizes[0])
        if patches.dim() != 3 or patches.shape[2] != width or not patches.shape[1]:
            raise ValueError(f"`patches` has shape {tuple(patches.shape)}; expected (batch_size, num_tokens, {width}).")
        if positions.dim() == 2:
            positions = positions.unsqueeze(0)
        if positions.shape[1:] != (patches.shape[1], 2) or len(positions) not in (1, len(patches)):
            raise ValueError(
                f"`position_ids` has shape {tuple(positions.shape)}; {tuple(patches.shape[:2])} patches ask for "
                f"{(len(patches), patches.shape[1], 2)}: column and row of each."
            )
        if mask is not None and mask.shape != patches.shape[:2]:
            raise ValueError(
                f"`attention_mask` has shape {tuple(mask.shape)}; the patches ask for {tuple(patches.shape[:2])}."
            )
        if share < 1 and mask is not None:
            raise ValueError("`keep_ratio` below 1 and a mask of patches do not go together: leave padding out first.")
        return self._heard([(patches, positions)], None if mask is None else mask != 0, share, None, wants)

    def _of_tracks(self, features: Any, share: float, long_input: str, wants: tuple[bool, bool]) -> MynaModelOutput:
        """Embed rows of equal length without padding."""
        least = self.config.min_frames
        if features.shape[1] < least:
            rate = self.config.frames_per_second
            raise ValueError(
                f"{features.shape[1]} frames ({features.shape[1] / rate:.2f} s) came; a patch is {least} frames wide. "
                "Pass short audio through the feature extractor, which fills it up."
            )
        sized = [patches_of(features, tuple(size)) for size in self.config.patch_sizes]
        most = self.config.max_tokens
        num_tokens = max(patches.shape[1] for patches, _ in sized)
        if num_kept(num_tokens, share) <= most:
            return self._heard(
                [(patches, positions.unsqueeze(0)) for patches, positions in sized], None, share, None, wants
            )
        if long_input == "two_level":
            return self._stretch_by_stretch(features, share)
        return self._heard(
            [(patches, positions.unsqueeze(0)) for patches, positions in sized], None, share, most, wants
        )

    def _stretch_by_stretch(self, features: torch.Tensor, share: float) -> MynaModelOutput:
        # As near to equal as whole patches of every size allow. Frames at the end that fill none are left out: of a
        # hybrid they could fill narrow patches, and the last stretch would be over the budget.
        unit = math.lcm(*(frames for _, frames in self.config.patch_sizes))
        num_columns = features.shape[1] // unit
        num_tokens = num_columns * self.config.most_tokens_in(unit)
        num_stretches = math.ceil(num_kept(num_tokens, share) / self.config.max_tokens)
        ends = [num_columns * (index + 1) // num_stretches * unit for index in range(num_stretches - 1)]
        stretches = features[:, : num_columns * unit].tensor_split(ends, dim=1)
        # In half precision the frames of half an hour would sum to infinity.
        lengths = torch.tensor([part.shape[1] for part in stretches], dtype=torch.float32, device=features.device)
        pooled = _stacked([self._of_tracks(part, share, "two_level", (False, False)) for part in stretches])
        weights = (lengths / lengths.sum()).to(pooled.dtype)
        return MynaModelOutput(pooler_output=torch.einsum("s,sbe->be", weights, pooled), mode="two_level")

    def _heard(
        self,
        sized: list[tuple[torch.Tensor, torch.Tensor]],
        mask: torch.Tensor | None,
        share: float,
        most: int | None,
        wants: tuple[bool, bool],
    ) -> MynaModelOutput:
        """Embed patches of every size, all of them or a selection."""
        if share == 1 and most is None:
            return self._at_once(sized, mask, "whole", wants)
        drawn = [
            [_drawn(patches, positions, share, most, seed) for patches, positions in sized] for seed in self._seeds()
        ]
        if len(drawn) == 1:
            return self._at_once(drawn[0], mask, "patchout", wants)
        pooled = _stacked([self._at_once(selection, mask, "patchout", (False, False)) for selection in drawn])
        return MynaModelOutput(pooler_output=pooled.mean(dim=0), mode="patchout")

    def _seeds(self) -> Iterator[int | None]:
        yield from [None] if self.training else range(self.config.patchout_seeds)

    def _at_once(
        self,
        sized: list[tuple[torch.Tensor, torch.Tensor]],
        mask: torch.Tensor | None,
        mode: str,
        wants: tuple[bool, bool],
    ) -> MynaModelOutput:
        encoded: list[EncodedTrack] = []
        for embedding, (patches, positions) in zip(self.patch_embeddings, sized, strict=True):
            encoded.append(self.encoder(embedding(patches, positions), positions, mask, *wants))
        states = torch.cat([track.states for track in encoded], dim=1)
        places = [positions.expand(len(patches), -1, -1) for patches, positions in sized]
        if self.config.use_cls_token:
            places = [F.pad(positions, (0, 0, 1, 0), value=-1) for positions in places]
        own = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        if mask is not None:
            own = F.pad(mask, (own.shape[1] - mask.shape[1], 0), value=True)
        return MynaModelOutput(
            last_hidden_state=states,
            pooler_output=torch.cat([self._pooled(track.states, mask) for track in encoded], dim=-1),
            token_mask=own,
            position_ids=torch.cat(places, dim=1).masked_fill(~own.unsqueeze(-1), -1),
            mode=mode,
            hidden_states=_beside([track.hidden_states for track in encoded]),
            attentions=None
            if encoded[0].attentions is None
            else tuple(layer for track in encoded for layer in track.attentions or ()),
        )

    def _pooled(self, states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        pooling, tokens = self.config.pooling, states[:, 1:] if self.config.use_cls_token else states
        parts = [states[:, 0]] if pooling in ("cls", "cls_mean") else []
        if pooling in ("mean", "cls_mean"):
            parts.append(masked_mean(tokens, mask))
        return torch.cat(parts, dim=-1)


class MynaForPreTraining(MynaPreTrainedModel):
    """Myna and the projector on which the contrastive loss looks; `MynaModel` loads its checkpoints without it."""

    config: MynaConfig
    config_class = MynaConfig
    _auto_class = "AutoModelForPreTraining"

    def __init__(self, config: MynaConfig) -> None:
        super().__init__(config)
        self.myna = MynaModel(config)
        widths = [config.embedding_size, *config.projector_sizes]
        layers: list[nn.Module] = []
        for index, (width, next_width) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            layers += [nn.GELU()] * (index > 0) + [nn.Linear(width, next_width)]
        self.projector = nn.Sequential(*layers)
        self.post_init()

    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        other_features: torch.Tensor | None = None,
        other_attention_mask: torch.Tensor | None = None,
        track_ids: torch.Tensor | None = None,
        keep_ratio: float | None = None,
        return_dict: bool | None = None,
    ) -> MynaForPreTrainingOutput | tuple[Any, ...]:
        """Project one crop of each track, or two, and compare them.

        Args:
            input_features: A crop of each track, `(batch_size, num_frames, num_mel_bins)`.
            attention_mask: `(batch_size, num_frames)`, 1 up to the end of each crop; `None`: nothing is padded.
            other_features: Another crop of each track, of any length.
            other_attention_mask: Likewise.
            track_ids: `(batch_size,)`: rows of one track are no negatives to each other; `None`: all differ.
            keep_ratio: See `MynaModel.forward`.
            return_dict: `False` for a plain tuple.

        Returns:
            See `MynaForPreTrainingOutput`; the loss is the symmetric InfoNCE within the batch.
        """
        embeddings, projections = self._projected(input_features, attention_mask, keep_ratio)
        other = loss = None
        if other_features is not None:
            _, other = self._projected(other_features, other_attention_mask, keep_ratio)
            loss = info_nce(projections, other, self.config.temperature, track_ids=track_ids)
        output = MynaForPreTrainingOutput(
            loss=loss, projections=projections, other_projections=other, embeddings=embeddings
        )
        return output if self._wants_dict(return_dict) else output.to_tuple()

    def _projected(
        self, features: torch.Tensor, mask: torch.Tensor | None, keep_ratio: float | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        embeddings = self.myna(features, mask, keep_ratio=keep_ratio, return_dict=True).pooler_output
        return embeddings, F.normalize(self.projector(embeddings), dim=-1)


class MynaForAudioClassification(TaggerForAudioClassification, MynaPreTrainedModel):
    """Myna and one linear layer to the labels of all tasks, for fine-tuning."""

    config: MynaConfig
    config_class = MynaConfig
    _auto_class = "AutoModelForAudioClassification"
    pipeline_files = TAGGING_FILES

    def __init__(self, config: MynaConfig) -> None:
        super().__init__(config)
        self.myna = MynaModel(config)
        self.norm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.classifier = nn.Linear(config.embedding_size, config.num_outputs)
        self.post_init()

    def encode(
        self,
        input_values: torch.Tensor | None,
        input_features: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        output_hidden_states: bool,
        output_attentions: bool,
    ) -> MusicTaggerModelOutput:
        """What the encoder computes of all tokens, in training too; see the base class."""
        if input_values is not None:
            raise ValueError("Myna hears `input_features`: pass the audio through its feature extractor.")
        output = self.myna(
            input_features,
            attention_mask,
            keep_ratio=1.0,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
        )
        return MusicTaggerModelOutput(
            embeddings=output.pooler_output, hidden_states=output.hidden_states, attentions=output.attentions
        )

    def classify(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Logits of all labels of all tasks; see the base class."""
        return self.classifier(self.norm(embeddings))


def num_kept(num_tokens: int, share: float) -> int:
    """How many of that many tokens are heard: all but `floor((1 - share) * num_tokens)`, and at least one."""
    return max(1, num_tokens - math.floor(round((1.0 - share) * num_tokens, 6)))


def _drawn(
    patches: torch.Tensor, positions: torch.Tensor, share: float, most: int | None, seed: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A random selection of each row's patches with their positions, in the order they had."""
    batch_size, num_tokens, width = patches.shape
    kept = num_kept(num_tokens, share)
    kept = kept if most is None else min(kept, most)
    if seed is None:
        chances = torch.rand(batch_size, num_tokens, device=patches.device)
    else:
        # The same for every row, so that a track alone is heard like the track in a batch.
        generator = torch.Generator().manual_seed(seed)
        chances = torch.rand(1, num_tokens, generator=generator).to(patches.device).expand(batch_size, -1)
    chosen = chances.argsort(dim=1)[:, :kept].sort(dim=1).values
    selection = patches.gather(1, chosen.unsqueeze(-1).expand(-1, -1, width))
    places = positions.expand(batch_size, -1, -1).gather(1, chosen.unsqueeze(-1).expand(-1, -1, 2))
    return selection, places if seed is None else places[:1]


def _stacked(outputs: list[MynaModelOutput]) -> torch.Tensor:
    """Embeddings of several hearings, `(num_hearings, batch_size, embedding_size)`."""
    return torch.stack([output.pooler_output for output in outputs if output.pooler_output is not None])


def _beside(layers: list[tuple[torch.Tensor, ...] | None]) -> tuple[torch.Tensor, ...] | None:
    """States of each patch size, layer by layer, one after the other."""
    if layers[0] is None:
        return None
    return tuple(torch.cat(parts, dim=1) for parts in zip(*(layer or () for layer in layers), strict=True))


def _put_together(rows: list[Any], outputs: list[MynaModelOutput]) -> MynaModelOutput:
    """One output in the order of the batch."""
    modes = {output.mode for output in outputs}
    at_once = all(output.last_hidden_state is not None for output in outputs)

    def joined(name: str, fill: float = 0) -> torch.Tensor | None:
        parts = [getattr(output, name) for output in outputs]
        return joined_rows(rows, parts, fill) if at_once else None

    return MynaModelOutput(
        last_hidden_state=joined("last_hidden_state"),
        pooler_output=joined_rows(rows, [output.pooler_output for output in outputs]),
        token_mask=joined("token_mask"),
        position_ids=joined("position_ids", fill=-1),
        mode=modes.pop() if len(modes) == 1 else "mixed",
        hidden_states=joined_layers(rows, [output.hidden_states for output in outputs]) if at_once else None,
        attentions=joined_layers(rows, [output.attentions for output in outputs]) if at_once else None,
    )
