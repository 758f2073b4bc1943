"""Tables that embed words and score them: behind a centring norm all rows move along what it leaves empty."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import small

_WORDS, _TOKENS = 7, (10, 4)
_EPS = 1e-20


class Tied(nn.Module):
    """Words and positions, one map, a norm, and scores by the table of words; ``how`` each is written."""

    def __init__(self, how: str = "", *, biased: bool = True, shift: bool = True) -> None:
        super().__init__()
        self.words, self.how = nn.Embedding(_WORDS, 4), how
        self.positions = nn.Parameter(torch.zeros(4, 4))
        self.mix = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4, eps=_EPS, bias=shift)
        self.bias = nn.Parameter(torch.zeros(_WORDS)) if biased else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.normalised(torch.tanh(self.mix(self.words(x) + self.positions)))
        if self.how == "einsum":
            scores = torch.einsum("...d,vd->...v", h, self.words.weight)
            return scores if self.bias is None else scores + self.bias
        return functional.linear(h, self.words.weight, self.bias)

    def normalised(self, h: Tensor) -> Tensor:
        if self.how != "einsum":
            out: Tensor = self.norm(h)
            return out
        centred = h - h.mean(-1, keepdim=True)
        even = centred / (centred.square().mean(-1, keepdim=True) + _EPS).sqrt()
        return even * self.norm.weight + self.norm.bias


@small("tied-words-and-positions", _TOKENS, "mse", tokens=_WORDS)
def tied_words_and_positions() -> nn.Module:
    """The positions take back what the words gain, the bias of the scores what the norm's bias adds."""
    return Tied()


@small("tied-words-written-out", _TOKENS, "mse", tokens=_WORDS, slow=True)
def tied_words_written_out() -> nn.Module:
    return Tied("einsum")


@small("tied-words-without-a-bias-of-the-norm", _TOKENS, "mse", tokens=_WORDS, slow=True)
def tied_words_without_a_bias_of_the_norm() -> nn.Module:
    return Tied(biased=False, shift=False)


@small("tied-words-whose-scores-have-no-bias", _TOKENS, "mse", tokens=_WORDS, slow=True)
def tied_words_whose_scores_have_no_bias() -> nn.Module:
    """Nothing takes back what the norm's bias adds."""
    return Tied(biased=False)


@small("tied-words-under-softmax", _TOKENS, tokens=_WORDS, slow=True)
def tied_words_under_softmax() -> nn.Module:
    """Each column may shift as it is."""
    return Tied(biased=False)


class Embedded(nn.Module):
    """As BERT: a norm on words, positions and a segment; scores from a norm behind a map; ``twice`` by two norms."""

    def __init__(self, twice: bool = False) -> None:
        super().__init__()
        self.words, self.positions, self.segment = nn.Embedding(_WORDS, 4), nn.Embedding(4, 4), nn.Embedding(1, 4)
        self.first, self.mix, self.last = nn.LayerNorm(4, eps=_EPS), nn.Linear(4, 4), nn.LayerNorm(4, eps=_EPS)
        self.bias, self.twice = nn.Parameter(torch.zeros(_WORDS)), twice

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(4, device=x.device)
        h = self.first(self.words(x) + self.positions(places) + self.segment(torch.zeros_like(x)))
        out = self.last(functional.gelu(self.mix(h))) @ self.words.weight.T + self.bias
        if self.twice:
            out = out + torch.tanh(functional.linear(self.first(torch.sin(h)), self.words.weight))
        scores: Tensor = out
        return scores


@small("tied-words-behind-a-norm-of-their-own", _TOKENS, "mse", tokens=_WORDS, slow=True)
def tied_words_behind_a_norm_of_their_own() -> nn.Module:
    return Embedded()


@small("tied-words-that-read-two-norms", _TOKENS, "mse", tokens=_WORDS, slow=True)
def tied_words_that_read_two_norms() -> nn.Module:
    """What one leaves empty the other does not."""
    return Embedded(twice=True)


class Pair(nn.Module):
    """Two tables that embed words of two kinds, beside positions, and score both kinds from one norm."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.positions = nn.Embedding(_WORDS, 4), nn.Embedding(_WORDS, 4), nn.Embedding(4, 4)
        self.mix, self.norm = nn.Linear(4, 4), nn.LayerNorm(4, eps=_EPS)
        self.first, self.second = nn.Parameter(torch.zeros(_WORDS)), nn.Parameter(torch.zeros(_WORDS))

    def forward(self, x: Tensor) -> Tensor:
        places = self.positions(torch.arange(4, device=x.device))
        h = self.norm(torch.tanh(self.mix(self.one(x) + self.other(x.flip(-1)) + places)))
        return torch.stack([h @ self.one.weight.T + self.first, h @ self.other.weight.T + self.second], 2)


@small("two-tied-tables", _TOKENS, "mse", tokens=_WORDS, slow=True)
def two_tied_tables() -> nn.Module:
    return Pair()
