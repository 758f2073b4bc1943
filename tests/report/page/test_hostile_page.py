"""Seventeen attacks in every text that the page shows, in a real browser, with the page's policy and without it."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuralmechanics.report import write_report

from ..conftest import StandInFamily, StandInRun, make_run
from .browser import browser, needs_browser

# OWN marks the page when it runs, URL is a server that nobody must ask.
ATTACKS = (
    "<script>OWN</script>",
    "</script><script>OWN</script>",
    "</title><script>OWN</script>",
    "</style><script>OWN</script>",
    "<!--<script>OWN</script>-->",
    "<img src=x onerror=OWN>",
    "<img src=URL/image>",
    '"><svg onload=OWN>',
    "<svg><script href=URL/script.js></script></svg>",
    "' onmouseover='OWN' autofocus onfocus='OWN' x='",
    "<a href=\"javascript:OWN\">link</a><a href='URL/link'>other</a>",
    "<iframe srcdoc='<script>parent.OWN</script>' src=URL/frame></iframe>",
    "<link rel=stylesheet href=URL/style.css><style>@import 'URL/import.css'; body{background:url(URL/back)}</style>",
    "<meta http-equiv=refresh content='0;url=URL/refresh'><base href=URL/>",
    "{{ 7*7 }}{% include 'x' %}${OWN}#{OWN}",
    "\\u003cscript>OWN\\u003c/script>\u2028\u2029</textarea></select></option><script>OWN</script>",
    "$\\href{URL/math}{x}$<sup><b onclick=OWN>b</b></sup>%{customdata}<extra><img src=URL/extra onerror=OWN></extra>",
)
OWN = 'document.body.setAttribute("data-owned","yes")'

# Draws every choice of every menu, opens every fold, and hovers over the first point of every figure.
TOUR = """
(async () => {
  const pause = () => new Promise((done) => setTimeout(done, 5));
  let choices = 0, hovers = 0;
  const plots = [...document.querySelectorAll(".plot")];
  for (const plot of plots) {
    plot.parentElement.scrollIntoView();
    while (!plot.data) await pause();
  }
  document.getElementById("family-charts").scrollIntoView();
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  for (const menu of document.querySelectorAll("select")) {
    for (const option of [...menu.options]) {
      menu.value = option.value;
      menu.dispatchEvent(new Event("change"));
      await pause();
      for (const plot of plots) {
        if (menu.dataset.chart && "plot-" + menu.dataset.chart !== plot.id) continue;
        try { Plotly.Fx.hover(plot, [{ curveNumber: 0, pointNumber: 1 }]); hovers += 1; } catch (error) {}
      }
      choices += 1;
    }
    document.getElementById("filters").reset();
    await pause();
  }
  return [choices, hovers];
})()
"""


@dataclass(frozen=True)
class Symmetries:
    """Families, and the remarks that the page shows below them."""

    families: tuple[StandInFamily, ...]
    unknown: tuple[str, ...]
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[StandInFamily]:
        return iter(self.families)


@pytest.fixture(scope="module")
def asked() -> Iterator[list[str]]:
    """The requests that reached a server on this machine; its address is the first entry."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    requests.append(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield requests
    server.shutdown()
    thread.join()
    server.server_close()


def hostile_run(url: str) -> tuple[StandInRun, tuple[str, ...]]:
    """A run in which an attack stands wherever a model, a configuration or a log could have put a text."""
    attacks = tuple(attack.replace("OWN", OWN).replace("URL", url) for attack in ATTACKS)
    kinds = ("scale", "rescale", "translation")
    families = tuple(
        StandInFamily(kinds[n % 3], attack, 3, 3, False, (attack,), (attack,)) for n, attack in enumerate(attacks)
    )
    run = make_run(families)
    data = run.data.assign_coords(label=("charge", list(np.repeat(attacks, 3))))
    data = data.assign(dict.fromkeys(attacks, ("step", data["loss"].values)))
    config: dict[str, Any] = {attack: {"inner": [attack, 1]} for attack in attacks} | {
        "model": attacks[1],
        "data": attacks[5],
    }
    return replace(run, data=data, symmetries=Symmetries(families, attacks, attacks), config=config), attacks  # type: ignore[arg-type]


def without_policy(page: str) -> str:
    """The page with its policy taken away: what is escaped has to be inert by itself."""
    page, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert count == 1
    return page


@needs_browser
@pytest.mark.parametrize("policy", [pytest.param(True, marks=pytest.mark.slow), False])
def test_every_attack_is_inert_in_a_browser(asked: list[str], tmp_path: Path, policy: bool) -> None:
    run, attacks = hostile_run(asked[0])
    assert len(attacks) == 17
    path = write_report(run, tmp_path / "run.html", title="".join(attacks))
    if not policy:
        path.write_text(without_policy(path.read_text(encoding="utf-8")), encoding="utf-8")
    with browser(tmp_path / "profile") as page:
        page.open(path)
        choices, hovers = page.value(TOUR)
        assert page.value("document.body.dataset.owned") is None
        assert page.value("document.querySelectorAll('.main-svg').length") >= 2 * 5
        assert page.complaints == []
    assert choices >= 3 * len(attacks)  # the menus of layers, of families, and of scalars
    assert hovers >= choices // 2
    assert asked[1:] == []


@pytest.mark.slow
@needs_browser
def test_the_server_would_have_been_asked(asked: list[str], tmp_path: Path) -> None:
    """The trap works: a page that does load the picture is seen, and marks itself."""
    attack = "".join(ATTACKS[:7]).replace("OWN", OWN).replace("URL", asked[0])
    (tmp_path / "bad.html").write_text(f"<!DOCTYPE html><html><body data-drawn='yes'>{attack}</body></html>")
    with browser(tmp_path / "profile") as page:
        page.open(tmp_path / "bad.html")
        page.until("document.body.dataset.owned")
    assert "/image" in asked
    del asked[1:]
