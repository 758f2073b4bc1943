"""Seventeen attacks in every text that the page shows, in a real browser, with the page's policy and without it."""

from __future__ import annotations

import base64
import hashlib
import http.server
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuralmechanics.report import write_report

from ..conftest import StandInFamily, StandInRun, make_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# Seconds, more than a browser needs on a machine that is busy with other things.
LONG = 280

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

# Draws every choice of every menu and hovers over the first point of every line.
TOUR = """
(async () => {
  for (let n = 0; n < 200 && !document.body.dataset.drawn; n++) await new Promise((done) => setTimeout(done, 50));
  let choices = 0, hovers = 0;
  for (const menu of document.querySelectorAll("select[data-chart]")) {
    for (const option of menu.options) {
      menu.value = option.value;
      menu.dispatchEvent(new Event("change"));
      await new Promise((done) => setTimeout(done, 5));
      const plot = document.getElementById("plot-" + menu.dataset.chart);
      try { Plotly.Fx.hover(plot, [{ curveNumber: 0, pointNumber: 1 }]); hovers += 1; } catch (error) {}
      choices += 1;
    }
  }
  document.body.setAttribute("data-toured", choices + "/" + hovers);
})();
"""


@dataclass(frozen=True)
class Symmetries:
    """Families, and the remarks that the page shows below them."""

    families: tuple[StandInFamily, ...]
    unknown: tuple[str, ...]
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[StandInFamily]:
        return iter(self.families)


@pytest.fixture
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
    families = tuple(StandInFamily(kinds[n % 3], attack, 3, 3, False, (attack,)) for n, attack in enumerate(attacks))
    run = make_run(families)
    data = run.data.assign_coords(label=("charge", list(np.repeat(attacks, 3))))
    data = data.assign(dict.fromkeys(attacks, ("step", data["loss"].values)))
    config: dict[str, Any] = {attack: {"inner": [attack, 1]} for attack in attacks} | {
        "model": attacks[1],
        "data": attacks[5],
    }
    return replace(run, data=data, symmetries=Symmetries(families, attacks, attacks), config=config), attacks  # type: ignore[arg-type]


def with_tour(page: str, *, policy: bool) -> str:
    """The page with a script of ours at its end: allowed by its hash, or with the policy taken away."""
    allowed = base64.b64encode(hashlib.sha256(TOUR.encode()).digest()).decode()
    if policy:
        page, count = re.subn(
            r"(Content-Security-Policy\" content=\"[^\"]*script-src )", rf"\1&#39;sha256-{allowed}&#39; ", page
        )
    else:
        page, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert count == 1
    return page.replace("</body>", f"<script>{TOUR}</script></body>")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: `bash .ci/install-browser` installs one")
@pytest.mark.parametrize("policy", [True, False])
def test_every_attack_is_inert_in_a_browser(asked: list[str], tmp_path: Path, policy: bool) -> None:
    run, attacks = hostile_run(asked[0])
    assert len(attacks) == 17
    path = write_report(run, tmp_path / "run.html", title="".join(attacks))
    path.write_text(with_tour(path.read_text(encoding="utf-8"), policy=policy), encoding="utf-8")
    document = rendered(path, tmp_path / "profile")
    body = re.search(r"<body[^>]*>", document)
    assert body is not None
    assert "data-owned" not in body.group()
    assert 'data-drawn="yes"' in body.group()
    toured = re.search(r'data-toured="(\d+)/(\d+)"', body.group())
    assert toured is not None
    choices, hovers = map(int, toured.groups())
    assert choices >= 3 * len(attacks)  # the menus of scalars, of families twice, and of errors
    assert hovers >= choices // 2
    assert document.count('class="main-svg"') >= 4 * 2
    assert asked[1:] == []


def test_the_server_would_have_been_asked(asked: list[str], tmp_path: Path) -> None:
    """The trap works: a page that does load the picture is seen, and marks itself."""
    if BROWSER is None:
        pytest.skip("no Chromium on this machine: `bash .ci/install-browser` installs one")
    attack = "".join(ATTACKS[:7]).replace("OWN", OWN).replace("URL", asked[0])
    (tmp_path / "bad.html").write_text(f"<!DOCTYPE html><html><body>{attack}</body></html>")
    document = rendered(tmp_path / "bad.html", tmp_path / "profile")
    assert "data-owned" in document
    assert "/image" in asked


def rendered(page: Path, profile: Path) -> str:
    """The document after the browser ran it."""
    assert BROWSER is not None
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    flags += [f"--user-data-dir={profile}", "--virtual-time-budget=60000", "--window-size=1200,2400"]
    command = [BROWSER, *flags, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=True).stdout
