"""A transformer encoder that scores sequences of codes; its factory is what `TorchModel` asks for.

Legend: B = rows, T = positions, one categorical column each, D = width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.models.signature import Signature


class Transformer(nn.Module):
    """Logits [B] from codes [B, T]; numbers are not looked at."""

    def __init__(self, vocabulary: int, positions: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.zeros(positions, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)

    def forward(self, numeric: Tensor, codes: Tensor) -> Tensor:
        x = self.tokens(codes) + self.places
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).mean(dim=1))[:, 0]
        return logits


def transformer(signature: Signature, width: int, depth: int, heads: int) -> Transformer:
    """The factory: one position for each categorical column, all of one vocabulary."""
    return Transformer(max(signature.cardinalities), len(signature.cardinalities), width, depth, heads)


def step_flops(parameters: int, width: int, depth: int, positions: int, rows: int) -> float:
    """Floating-point operations of a step, forward and backward.

    Source: Kaplan et al. (2020), 6 per parameter and token; attention adds 12 · depth · width · T per token.
    """
    return rows * positions * (6.0 * parameters + 12.0 * depth * width * positions)
