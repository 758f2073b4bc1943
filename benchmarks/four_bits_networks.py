"""What ``four_bits.py`` rounds: a small MobileNet on handwritten digits, and a GPT on text that Python ships."""

from __future__ import annotations

import math
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = tuple[Tensor, Tensor]

HELD_OUT = 497
CHANNELS, EXPANSION = 16, 4
WIDTH, HEADS, BLOCKS, LENGTH, LETTERS = 64, 4, 4, 32, 128
MASSIVE, MASSIVE_CHANNELS = 20.0, (5, 40)


# --- a MobileNet --------------------------------------------------------------------------------------------------


def convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without a bias and its batch norm."""
    kernel = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(kernel, nn.BatchNorm2d(outputs))


class InvertedResidual(nn.Module):
    """1×1 to many channels, ReLU, 3×3 in each alone, ReLU, 1×1 to few; added to the input where the shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = EXPANSION * inputs
        self.wide, self.depthwise = convolution(inputs, inner, 1), convolution(inner, inner, 3, stride, inner)
        self.narrow, self.residual = convolution(inner, outputs, 1), stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.narrow(functional.relu(self.depthwise(functional.relu(self.wide(x)))))
        return x + y if self.residual else y


class MobileNet(nn.Module):
    """MobileNetV2 in small (Sandler et al. 2018), with ReLU in place of ReLU6, through which positive factors pass."""

    def __init__(self) -> None:
        super().__init__()
        c = CHANNELS
        shapes = ((c, c, 1), (c, 2 * c, 2), (2 * c, 2 * c, 1), (2 * c, 2 * c, 1))
        self.stem, self.blocks = convolution(1, c, 3), nn.Sequential(*(InvertedResidual(*shape) for shape in shapes))
        self.last, self.head = convolution(2 * c, 4 * c, 1), nn.Linear(4 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.last(self.blocks(functional.relu(self.stem(x)))))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def folded(model: nn.Module) -> nn.Module:
    """The same in evaluation mode with every batch norm in the convolution before it, as what is deployed has it."""
    model.eval()
    for name, pair in list(model.named_modules()):
        if isinstance(pair, nn.Sequential) and isinstance(pair[-1], nn.BatchNorm2d):
            one = nn.utils.fusion.fuse_conv_bn_eval(pair[0], pair[1])
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, one)
    return model.requires_grad_(True)


def digits() -> tuple[Batch, Batch]:
    """Handwritten digits: those to train on, those held out."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    x, y = (torch.tensor(images, dtype=torch.float64) / 16).reshape(-1, 1, 8, 8)[order], torch.tensor(labels)[order]
    return (x[HELD_OUT:], y[HELD_OUT:]), (x[:HELD_OUT], y[:HELD_OUT])


def trained_mobilenet(data: Batch, seed: int, steps: int = 300) -> nn.Module:
    """After AdamW whose rate falls to zero; in float64, its batch norms folded."""
    x, y = data[0].float(), data[1]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MobileNet()
        optimizer = torch.optim.AdamW(model.parameters(), 5e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            chosen = torch.randint(len(x), (64,))
            optimizer.zero_grad()
            functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
            schedule.step()
    return folded(model).double()


# --- a GPT --------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH, eps=1e-6), nn.RMSNorm(WIDTH, eps=1e-6)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        q, k, v = (m(h).unflatten(-1, (HEADS, -1)).transpose(1, 2) for m in (self.q, self.k, self.v))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(mixed.transpose(1, 2).flatten(2))
        out: Tensor = x + self.down(functional.gelu(self.up(self.norm2(x))))
        return out


class GPT(nn.Module):
    """Letters in, logits of the next one out; ``massive`` is added to two channels of every position at the start."""

    def __init__(self, massive: float = 0.0) -> None:
        super().__init__()
        self.embed, places = nn.Embedding(LETTERS, WIDTH), 0.02 * torch.randn(LENGTH, WIDTH)
        nn.init.normal_(self.embed.weight, std=0.5)
        places[:, MASSIVE_CHANNELS] += massive
        self.places, self.blocks = nn.Parameter(places), nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm, self.head = nn.RMSNorm(WIDTH, eps=1e-6), nn.Linear(WIDTH, LETTERS, bias=False)

    def forward(self, letters: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.blocks(self.embed(letters) + self.places)))
        return out


def text() -> tuple[Tensor, Tensor]:
    """Python's own language reference as letters: what is trained on, and the tenth at its end."""
    letters = torch.tensor(list("\n".join(topics.values()).encode("ascii", "replace")))
    end = len(letters) * 9 // 10
    return letters[:end], letters[end:]


def windows(letters: Tensor, count: int, draw: torch.Generator) -> Batch:
    """Windows at random, and the same one letter on."""
    starts = torch.randint(len(letters) - LENGTH - 1, (count, 1), generator=draw)
    window = letters[starts + torch.arange(LENGTH + 1)]
    return window[:, :-1], window[:, 1:]


def trained_gpt(letters: Tensor, seed: int, massive: float, steps: int = 300) -> nn.Module:
    """After AdamW with a warm-up and a cosine; in float64."""
    draw = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GPT(massive)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    for _ in range(steps):
        x, y = windows(letters, 32, draw)
        optimizer.zero_grad()
        functional.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
        optimizer.step()
        schedule.step()
    return model.double()
