"""The dashboard for Grafana: that it can be imported, lies well, and asks for what a scrape has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.test_alerts import LABELS, OF_EVERY_SERIES, ROOT, asked, check, grouped, promtool

DASHBOARD = json.loads((ROOT / "packaging/grafana/p2pboot.json").read_text())
PANELS = DASHBOARD["panels"]
GRID = 24  # columns
UNITS = frozenset({"short", "s", "bytes", "Bps", "reqps", "percentunit", "dateTimeFromNow"})


def queries() -> Iterator[tuple[str, str, str]]:
    """Title of the panel, query, and how its series are called."""
    for panel in PANELS:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]


def plain(query: str) -> str:
    """A query as Grafana sends it to Prometheus."""
    return query.replace("$__rate_interval", "1m").replace("$instance", ".+")


QUERIES = [*queries()]


def test_it_can_be_imported() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["uid"] == "p2pboot"
    assert DASHBOARD.get("id") is None  # Grafana gives it one
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["instance"]["datasource"]["uid"] == "${datasource}"
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS))) - {"__rate_interval"}
    assert used == variables.keys()


def test_each_panel_asks_the_chosen_prometheus_and_says_what_it_shows() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    kinds = {panel["type"] for panel in PANELS}
    assert kinds == {"row", "stat", "table", "timeseries"}
    for panel in PANELS:
        if panel["type"] == "row":
            continue
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_panels_lie_in_the_grid_and_not_on_each_other() -> None:
    places = [panel["gridPos"] for panel in PANELS]
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= GRID
        assert place["h"] > 0
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


@pytest.mark.parametrize(("title", "query", "_legend"), QUERIES)
def test_a_query_asks_for_what_a_scrape_has(title: str, query: str, _legend: str) -> None:
    check(plain(query))
    for name, labels in asked(plain(query)):
        assert "instance" in labels, f"{title}: {name} of all nodes, whatever is chosen"


@pytest.mark.parametrize(("_title", "query", "legend"), QUERIES)
def test_series_are_called_by_labels_that_they_have(_title: str, query: str, legend: str) -> None:
    named = frozenset(re.findall(r"{{(\w+)}}", legend))
    if re.search(r"\b(?:sum|min|max)\b", query):
        has = grouped(query)
    else:
        has = OF_EVERY_SERIES.union(*(LABELS[name] for name, _ in asked(query)))
    assert named <= has, f"{legend} of {query}"


def test_promtool_takes_each_query(tmp_path: Path) -> None:
    rules: list[dict[str, Any]] = [
        {"record": f"panel:query{number}", "expr": plain(query)}
        for number, (_, query, _) in enumerate(QUERIES)
    ]
    path = tmp_path / "queries.json"  # which is YAML as well
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    checked = promtool("check", "rules", path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(QUERIES)} rules found" in checked.stdout
