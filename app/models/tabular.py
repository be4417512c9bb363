"""Default torch model for tables: embeddings for categories, a residual MLP over everything.

Source: Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data" (2021), the ResNet baseline.
Legend: B = rows, F = numeric inputs, C = categories, W = width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.models.signature import Signature


class ResidualBlock(nn.Module):
    """`x + dropout(linear(relu(linear(norm(x)))))`, [B, W] to [B, W]."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)  # type: ignore[no-any-return]


class ResidualMLP(nn.Module):
    """Logits (binary) or values (regression) [B] from numbers [B, F] and codes [B, C]."""

    def __init__(self, signature: Signature, width: int, depth: int, dropout: float, max_embedding: int) -> None:
        super().__init__()
        sizes = [min(max_embedding, 1 + round(n**0.5)) for n in signature.cardinalities]
        self.embeddings = nn.ModuleList(
            nn.Embedding(n, size) for n, size in zip(signature.cardinalities, sizes, strict=True)
        )
        self.first = nn.Linear(signature.num_numeric + sum(sizes), width)
        self.blocks = nn.Sequential(*(ResidualBlock(width, dropout) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 1))

    def pipeline_layers(self) -> list[nn.Module]:
        """The layers in order, for training in stages."""
        return [FirstLayer(self.embeddings, self.first), *self.blocks, LastLayer(self.head)]

    def forward(self, numeric: Tensor, codes: Tensor) -> Tensor:
        x = FirstLayer.of(self.embeddings, self.first, numeric, codes)
        return LastLayer.of(self.head, self.blocks(x))


class FirstLayer(nn.Module):
    """Numbers [B, F] and codes [B, C] to [B, W], as the first stage of a pipeline."""

    def __init__(self, embeddings: nn.ModuleList, first: nn.Linear) -> None:
        super().__init__()
        self.embeddings, self.first = embeddings, first

    @staticmethod
    def of(embeddings: nn.ModuleList, first: nn.Linear, numeric: Tensor, codes: Tensor) -> Tensor:
        embedded = [embedding(codes[:, i]) for i, embedding in enumerate(embeddings)]
        return first(torch.cat([numeric, *embedded], dim=1))  # type: ignore[no-any-return]

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        return self.of(self.embeddings, self.first, *inputs)


class LastLayer(nn.Module):
    """[B, W] to logits or values [B], as the last stage of a pipeline."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    @staticmethod
    def of(head: nn.Module, x: Tensor) -> Tensor:
        return head(x)[:, 0]  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.of(self.head, x)


def residual_mlp(
    signature: Signature, width: int = 128, depth: int = 2, dropout: float = 0.1, max_embedding: int = 16
) -> ResidualMLP:
    """The default factory of `TorchModel`."""
    return ResidualMLP(signature, width, depth, dropout, max_embedding)
