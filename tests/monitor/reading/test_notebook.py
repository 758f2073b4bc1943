"""What a notebook shows of a run, a monitor, a family and a lint report: its facts, and every name as text."""

from __future__ import annotations

from html import escape
from html.parser import HTMLParser

import torch
from torch import nn

import neuralmechanics as nm

HOSTILE = "<script>own</script>&\"'"


class Shown(HTMLParser):
    """Tags, and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def test_views_hold_the_facts_and_no_tag_of_a_name() -> None:
    torch.manual_seed(0)
    model = nn.Sequential()
    for name, layer in (
        (HOSTILE, nn.Linear(4, 6)),
        ("norm", nn.BatchNorm1d(6)),
        ("act", nn.ReLU()),
        ("head", nn.Linear(6, 3)),
    ):
        model.add_module(name, layer)
    batch = torch.randn(8, 4), torch.randint(3, (8,))

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    symmetries = nm.find_symmetries(model, batch, loss)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with nm.Monitor(model, optimizer, symmetries) as monitor:
        loss(model, batch).backward()
        optimizer.step()
        view = Shown(monitor._repr_html_())
        assert "1" in view.text.split("steps")[1]
    family = next(f for f in symmetries if HOSTILE in f.name)
    views = {
        "family": family._repr_html_(),
        "run": monitor.run._repr_html_(),
        "lint": nm.lint(model, batch, loss, optimizer, symmetries=symmetries)._repr_html_(),
        "symmetries": symmetries._repr_html_(),
    }
    assert escape(family.name) in views["family"]
    for name, page in views.items():
        assert Shown(page).tags <= {"p", "b", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "code"}, name
    for kind, count in symmetries.count().items():
        assert f"{count} {kind}" in views["run"]
