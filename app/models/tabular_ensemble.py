"""Strong default for tables: numbers in bins, embeddings for categories, members of an ensemble trained side by side.

Beside its value, held within what nearly all training rows had, a number enters by how far it fills each of its bins
(piecewise linear encoding): a kink at any edge is a linear function of that, and beyond the rows learned from the
answer stays level, as a tree's does. The members share the encoding and the embeddings and nothing else; each learns
from every batch on its own loss, and their probabilities are averaged. Layers of all members are one batched product.

Source: Gorishniy, Rubachev, Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning" (2022), §3.1;
Gorishniy, Kotelnikov, Babenko, "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling" (2024),
whose "packed" variant this is.
Legend: B = rows, F = numeric inputs, N = those that are values (not flags), C = categories, T = bins, D = embedding,
K = members, W = width.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from app.models.signature import Signature
from app.spec.models import Task

NEVER = 1e6  # an edge no standardised value reaches: fills up numbers with fewer bins


class PiecewiseLinear(nn.Module):
    """How far values fill their bins, each 0 to 1, then a linear map per number: [B, N] to [B, N * D]."""

    start: Tensor  # [N, T]
    width: Tensor  # [N, T]

    def __init__(self, edges: tuple[tuple[float, ...], ...], size: int) -> None:
        super().__init__()
        num_bins = max(1, *(len(e) - 1 for e in edges))
        start = torch.full((len(edges), num_bins), NEVER)
        width = torch.ones(len(edges), num_bins)
        for i, column in enumerate(edges):
            found = torch.tensor(column, dtype=torch.float32)
            start[i, : len(column) - 1], width[i, : len(column) - 1] = found[:-1], found.diff()
        self.register_buffer("start", start, persistent=True)
        self.register_buffer("width", width, persistent=True)
        self.weight = nn.Parameter(torch.randn(len(edges), num_bins, size) * num_bins**-0.5)
        self.bias = nn.Parameter(torch.zeros(len(edges), 1, size))

    def forward(self, values: Tensor) -> Tensor:
        filled = ((values[:, :, None] - self.start) / self.width).clamp(0.0, 1.0)
        mapped = torch.baddbmm(self.bias, filled.transpose(0, 1), self.weight)  # [N, B, D]
        return mapped.transpose(0, 1).flatten(1)


class MemberLinear(nn.Module):
    """A linear layer per member: [K, B, in] to [K, B, out]."""

    def __init__(self, num_members: int, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        bound = num_inputs**-0.5
        self.weight = nn.Parameter(torch.empty(num_members, num_inputs, num_outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_members, 1, num_outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class TabularEnsemble(nn.Module):
    """From numbers [B, F] and codes [B, C]: each member's output [B, K] in training, their mean [B] else."""

    bounds: Tensor  # [N, 2]

    def __init__(
        self,
        signature: Signature,
        width: int,
        depth: int,
        dropout: float,
        num_members: int,
        number_size: int,
        max_embedding: int,
    ) -> None:
        super().__init__()
        self.num_values, self.num_members, self.task = len(signature.edges), num_members, signature.task
        sizes = [min(max_embedding, 1 + round(n**0.5)) for n in signature.cardinalities]
        embeddings = [nn.Embedding(n, size) for n, size in zip(signature.cardinalities, sizes, strict=True)]
        for embedding in embeddings:
            # torch's own start, a deviation of 1, drowns the numbers: on the flights' folds an AUC of .751, not .757
            nn.init.normal_(embedding.weight, std=0.1)
        self.embeddings = nn.ModuleList(embeddings)
        if self.num_values:
            self.register_buffer("bounds", torch.tensor(signature.bounds, dtype=torch.float32))
            self.numbers = PiecewiseLinear(signature.edges, number_size)
        widths = [signature.num_numeric + self.num_values * number_size + sum(sizes)] + [width] * depth
        self.layers = nn.ModuleList(MemberLinear(num_members, a, b) for a, b in pairwise(widths))
        self.head = MemberLinear(num_members, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, numeric: Tensor, codes: Tensor) -> Tensor:
        parts = [embedding(codes[:, i]) for i, embedding in enumerate(self.embeddings)]
        values, flags = numeric[:, : self.num_values], numeric[:, self.num_values :]
        if self.num_values:
            parts += [values.clamp(self.bounds[:, 0], self.bounds[:, 1]), self.numbers(values)]
        x = torch.cat([flags, *parts], dim=1)[None].expand(self.num_members, -1, -1)
        for layer in self.layers:
            x = self.dropout(torch.relu(layer(x)))
        members = self.head(x)[:, :, 0].T
        return members if self.training else _mean(members, self.task)


def _mean(members: Tensor, task: Task) -> Tensor:
    """Outputs [B, K] of the members as one [B]: the logit of their mean probability, or their mean."""
    if task == "regression":
        return members.mean(dim=1)
    log_one, log_zero = (nn.functional.logsigmoid(signed).logsumexp(dim=1) for signed in (members, -members))
    return log_one - log_zero


def tabular_ensemble(
    signature: Signature,
    width: int = 64,
    depth: int = 2,
    dropout: float = 0.2,
    num_members: int = 4,
    number_size: int = 4,
    max_embedding: int = 16,
) -> TabularEnsemble:
    """The factory for `TorchModel(factory="app.models.tabular_ensemble:tabular_ensemble")`.

    Args:
        signature: what the transform gives.
        width: units of a hidden layer, per member.
        depth: hidden layers, at least 1.
        dropout: share of the hidden units left out in each training step.
        num_members: independent networks; training time grows with it.
        number_size: outputs of the encoding of each number.
        max_embedding: longest embedding of a category.
    """
    return TabularEnsemble(signature, width, depth, dropout, num_members, number_size, max_embedding)
