"""Every filter and switch of the page, used in a real browser without a network, and what it changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import neuralmechanics as nm
from neuralmechanics.report import write_comparison, write_report

from .browser import Page, browser, needs_browser

pytestmark = needs_browser


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with browser(tmp_path / "profile") as opened:
        opened.offline()
        opened.size(1280, 900)
        yield opened
        assert opened.complaints == []


def choose(page: Page, menu: str, value: str) -> None:
    """Choose an entry of a menu by its text, as a reader does."""
    page.value(f"""(() => {{
      const menu = document.querySelector({menu!r});
      menu.value = [...menu.options].find((option) => option.textContent === {value!r}).value;
      menu.dispatchEvent(new Event("change", {{ bubbles: true }}));
    }})()""")


def click(page: Page, what: str) -> None:
    page.value(f"document.querySelector({what!r}).click()")
    page.value("new Promise((done) => setTimeout(done))")


def names(page: Page, chart: str) -> list[str]:
    """What a figure shows, by its legend."""
    page.value(f"document.querySelector('[data-plot={chart}]').scrollIntoView()")
    page.until(f"near.has('{chart}') && !stale.has('{chart}')")
    told = page.value(
        f"(document.getElementById('plot-{chart}').hidden ? [] : document.getElementById('plot-{chart}').data)"
        ".filter((trace) => trace.showlegend !== false).map((trace) => trace.name)"
    )
    assert isinstance(told, list)
    return told


def visible(page: Page, what: str) -> list[str]:
    """The texts of those that are not hidden."""
    found = page.value(
        f"[...document.querySelectorAll({what!r})].filter((e) => e.offsetParent).map((e) => e.innerText)"
    )
    assert isinstance(found, list)
    return found


def test_every_filter_and_switch_has_its_effect(explained_run: nm.Run, page: Page, tmp_path: Path) -> None:
    page.open(write_report(explained_run, tmp_path / "run.html"))
    families = page.value("page.families")
    first = families[page.value("page.first")]
    assert page.value("document.getElementById('family').selectedOptions[0].textContent") == first["name"]

    spoken = ~np.isnan(explained_run.data["predicted"].sel(law="gradient_flow").values[-1])
    choose(page, "#family", explained_run.data["family"].values[spoken][-1])
    # Laws that do not claim to hold are hidden until they are asked for.
    assert "gradient flow" not in names(page, "laws")
    assert "gradient flow" not in visible(page, ".laws th")
    assert "exact" in visible(page, ".laws th")
    click(page, "#every-law")
    assert "gradient flow" in names(page, "laws")
    assert "gradient flow" in names(page, "errors")
    assert "gradient flow" in visible(page, ".laws th")
    choose(page, "#filter-law", "gradient flow")
    assert names(page, "errors") == ["gradient flow", "change points"]
    assert visible(page, ".laws th") == ["family", "kind", "charges", "gradient flow"]
    click(page, "#no-filter")
    assert "gradient flow" not in names(page, "laws")
    assert page.value("document.getElementById('every-law').checked") is False

    choose(page, "#family", first["name"])
    # Bands, or single charges.
    filled = "document.getElementById('plot-laws').data.filter((trace) => trace.fill === 'tonexty').length"
    assert page.value(filled) == 2
    click(page, "#singles")
    assert page.value(filled) == 0
    single = "document.getElementById('plot-laws').data.filter((trace) => trace.name === 'measured').length"
    assert page.value(single) == 8
    click(page, "#singles")
    assert page.value(filled) == 2

    # Kinds and layers narrow menu, map and tables; charts follow to a family that is left.
    choose(page, "#filter-kind", "translation")
    offered = "[...document.getElementById('family').options].filter((o) => !o.disabled).map((o) => o.textContent)"
    assert page.value(offered) == [f["name"] for f in families if f["kind"] == "translation"]
    assert page.value("document.getElementById('family').selectedOptions[0].textContent").startswith("translation")
    assert names(page, "forecast") == []
    assert visible(page, "#nothing-forecast") == ["There is no forecast of this family."]
    assert all("translation" in text for text in visible(page, ".laws tbody tr"))
    assert all("translation" in text for text in visible(page, ".map li[data-kind]"))
    click(page, "#no-filter")
    choose(page, "#filter-layer", first["layer"])
    assert page.value(offered) == [f["name"] for f in families if f["layer"] == first["layer"]]
    assert visible(page, ".layer h3") == [first["layer"]]
    assert len(visible(page, "#symmetries tbody tr")) == len(page.value(offered))
    click(page, "#no-filter")
    assert len(page.value(offered)) == len(families)

    # The map, the arrows and the menu of a chart.
    before = page.value("document.getElementById('family').value")
    click(page, "#next")
    after = page.value("document.getElementById('family').value")
    assert int(after) == (int(before) + 1) % len(families)
    pressed = "[...document.querySelectorAll('.chip[aria-pressed=true]')].map((chip) => chip.dataset.family)"
    assert page.value(pressed) == [after]
    click(page, "#previous")
    assert page.value(pressed) == [before]
    click(page, ".chip[data-family='0']")
    assert page.value("document.getElementById('family').value") == "0"
    names(page, "training")
    choose(page, "select[data-chart=training]", "accuracy")
    assert names(page, "training") == ["accuracy", "change points"]

    # By keyboard: what is focused answers to its keys; a figure is there as numbers.
    page.value("document.getElementById('every-law').focus()")
    for kind in ("keyDown", "keyUp"):
        page.send("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", windowsVirtualKeyCode=32, text=" ")
    assert "gradient flow" in visible(page, ".laws th")
    page.value("document.querySelector('[data-numbers=budget]').open = true")
    page.until("document.querySelectorAll('[data-numbers=budget] td').length")
    drawn = [name for name in names(page, "budget") if name != "change points"]
    assert (
        page.value("[...document.querySelectorAll('[data-numbers=budget] td:first-child')].map((e) => e.textContent)")
        == drawn
    )


@pytest.mark.slow
def test_a_phone_and_a_printer_get_a_page_that_they_can_show(explained_run: nm.Run, page: Page, tmp_path: Path) -> None:
    path = write_report(explained_run, tmp_path / "run.html")
    page.size(390, 844, phone=True)
    page.open(path)
    names(page, "laws")
    assert page.value("document.documentElement.scrollWidth") <= 390
    below = page.value("""(() => {
      const plot = document.getElementById("plot-laws");
      const legend = plot.querySelector(".legend").getBoundingClientRect();
      const axis = plot.querySelector(".xtick").getBoundingClientRect();
      return [legend.top, axis.bottom, legend.right];
    })()""")
    assert below[0] > below[1]
    assert below[2] <= 390
    page.size(1280, 900)
    page.open(path)
    assert page.printed().startswith(b"%PDF")
    page.until("[...document.querySelectorAll('.plot')].every((plot) => plot.hidden || plot.data)")


@pytest.mark.slow
def test_figures_are_drawn_when_they_are_seen(explained_run: nm.Run, page: Page, tmp_path: Path) -> None:
    page.open(write_report(explained_run, tmp_path / "run.html"))
    last = "document.getElementById('plot-parameters') || document.getElementById('plot-settings')"
    assert page.value(f"Boolean(({last}).data)") is False
    page.value(f"({last}).scrollIntoView()")
    page.until(f"({last}).data")


@pytest.mark.slow
def test_runs_lie_over_one_another(explained_run: nm.Run, other_run: nm.Run, page: Page, tmp_path: Path) -> None:
    path = write_comparison({"fast": explained_run, "slow <b>": other_run}, tmp_path / "both.html")
    page.open(path)
    assert names(page, "laws") == ["fast", "slow &lt;b&gt;", "change points"]
    assert visible(page, "#settings-table th")[:3] == ["setting", "fast", "slow <b>"]
    assert "optimizer.groups.0.lr" in visible(page, "#settings-table tbody th")
    for chart in ("budget", "forecast", "errors", "rotation", "training", "settings"):
        shown = names(page, chart)
        assert any("fast" in name for name in shown), chart
        assert any("slow" in name for name in shown), chart
    layer = page.value("page.charts.rotation.choices[0].layer")
    choose(page, "#filter-layer", layer)
    assert page.value("document.querySelector('select[data-chart=rotation]').selectedOptions[0].textContent") == layer
    click(page, "#every-law")
    assert "gradient flow" in visible(page, ".laws th")
