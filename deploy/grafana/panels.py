"""What the dashboards are made of: queries, panels, variables and links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_uppercase
from typing import Any

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

TAG = "trimtab"
_SOURCE = model.DataSourceRef(type_val="prometheus", uid="$datasource")
_RUNBOOK = "/public/trimtab-runbook.md"
"""Where Grafana itself serves a file of its folder `public`."""

Steps = dict[float, str]
"""Colours, by the value from which they stand."""
Section = tuple[str, Sequence[Any]]
"""The title of a row, and its panels."""


def chosen(metric: str, labels: str = "") -> str:
    """The series of a metric of the chosen job and instances."""
    return f'{metric}{{job="$job", instance=~"$instance"{labels and ", " + labels}}}'


def rate(metric: str, by: str = "", labels: str = "") -> str:
    """The increase of a counter in a second, summed."""
    return f"sum by ({by}) (rate({chosen(metric, labels)}[$__rate_interval]))"


def mean(histogram: str, labels: str = "") -> str:
    """The mean of what a histogram saw lately."""
    return f"{rate(f'{histogram}_sum', labels=labels)} / {rate(f'{histogram}_count', labels=labels)}"


def quantile(part: float, histogram: str, by: str = "", labels: str = "") -> str:
    """A quantile of what a histogram saw lately."""
    return f"histogram_quantile({part:g}, {rate(f'{histogram}_bucket', f'{by}, le' if by else 'le', labels)})"


def query(expression: str, legend: str = "", *, exemplars: bool = False) -> prometheus.Dataquery:
    """A query over the time shown."""
    made = prometheus.Dataquery().expr(expression).legend_format(legend or "__auto").datasource(_SOURCE).range()
    return made.exemplar(True) if exemplars else made


def quantiles(histogram: str, labels: str = "", *, exemplars: bool = False) -> list[prometheus.Dataquery]:
    """The median and two high quantiles; exemplars come with the last, where the slow calls are."""
    parts = (0.5, 0.95, 0.99)
    return [
        query(quantile(part, histogram, labels=labels), f"p{part * 100:g}", exemplars=exemplars and part == parts[-1])
        for part in parts
    ]


def lines(title: str, about: str, unit: str, queries: Iterable[Any], *, alert: str = "", width: int = 8) -> Any:
    """Lines over time, from 0; `alert` is the one whose heading in the runbook it links to."""
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    panel = timeseries.Panel().min(0).line_width(1).fill_opacity(5).show_points(VisibilityMode.NEVER)
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
    panel = panel.legend(legend.show_legend(True)).tooltip(tooltip)
    return _told(panel, title, about, queries, alert=alert, width=width).unit(unit)


def stacked(title: str, about: str, unit: str, queries: Iterable[Any], *, alert: str = "", width: int = 8) -> Any:
    """Bars over time that add up."""
    panel = lines(title, about, unit, queries, alert=alert, width=width).draw_style(GraphDrawStyle.BARS)
    return panel.fill_opacity(60).stacking(common.StackingConfig().mode(StackingMode.NORMAL))


def figure(title: str, about: str, unit: str, queries: Iterable[Any], steps: Steps, *, alert: str = "") -> Any:
    """One number, coloured by where it stands."""
    panel = stat.Panel().graph_mode(BigValueGraphMode.AREA).thresholds(_thresholds(steps))
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return _told(panel, title, about, queries, alert=alert, width=4, height=4).unit(unit)


def heat(title: str, about: str, histogram: str, labels: str, *, width: int = 12) -> Any:
    """Where the values of a histogram lie, over time."""
    buckets = f"sum by (le) (increase({chosen(f'{histogram}_bucket', labels)}[$__rate_interval]))"
    panel = heatmap.Panel().cell_gap(1).show_legend().color(_scheme())
    return _told(panel, title, about, [query(buckets, "{{le}}").format(PromQueryFormat.HEATMAP)], width=width)


def states(title: str, about: str, queries: Iterable[Any], steps: Steps, *, alert: str = "", width: int = 8) -> Any:
    """How long each instance was in which state."""
    panel = statetimeline.Panel().thresholds(_thresholds(steps)).show_value(VisibilityMode.NEVER)
    panel = panel.merge_values(True).fill_opacity(70).line_width(0)
    panel = panel.color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    return _told(panel, title, about, queries, alert=alert, width=width)


def rows(title: str, about: str, expression: str, *, width: int = 8) -> Any:
    """What is so now, a line for each set of labels."""
    now = prometheus.Dataquery().expr(expression).datasource(_SOURCE).instant().format(PromQueryFormat.TABLE)
    hidden = model.DataTransformerConfig(id_val="organize", options={"excludeByName": {"Time": True}})
    return _told(table.Panel().with_transformation(hidden), title, about, [now], width=width)


def page(uid: str, title: str, about: str, sections: Iterable[Section]) -> model.Dashboard:
    """A dashboard of rows of panels, its numbers and places given in their order."""
    made = (
        build.Dashboard(title).uid(uid).description(about).tags([TAG]).readonly().refresh("30s").time("now-3h", "now")
    )
    made = made.timezone("browser").tooltip(model.DashboardCursorSync.CROSSHAIR)
    for variable in _variables():
        made = made.with_variable(variable)
    for link in _links():
        made = made.link(link)
    number = 0
    for name, panels in sections:
        number += 1
        made = made.with_row(build.Row(name).id(number))
        for panel in panels:
            number += 1
            made = made.with_panel(panel.id(number))
    return made.build()


def _told(
    panel: Any, title: str, about: str, queries: Iterable[Any], *, alert: str = "", width: int = 8, height: int = 8
) -> Any:
    panel = panel.title(title).description(about).datasource(_SOURCE).span(width).height(height)
    for name, each in zip(ascii_uppercase, queries, strict=False):
        panel = panel.with_target(each.ref_id(name))
    if alert:
        url = f"${{runbook}}#{alert.lower()}"
        panel = panel.links([build.DashboardLink(alert).type(model.DashboardLinkType.LINK).url(url)])
    return panel


def _thresholds(steps: Steps) -> build.ThresholdsConfig:
    first, *others = steps.items()
    made = [model.Threshold(value=None, color=first[1])]
    made += [model.Threshold(value=value, color=color) for value, color in others]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def _scheme() -> heatmap.HeatmapColorOptions:
    return heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues")


def _variables() -> list[Any]:
    source = build.DatasourceVariable("datasource").label("Data source").type("prometheus")
    return [
        source,
        _values("job", "Job", "label_values(trimtab_build_info, job)"),
        _values("instance", "Instance", 'label_values(trimtab_build_info{job="$job"}, instance)')
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(text="All", value="$__all")),
        build.TextBoxVariable("runbook").label("Runbook").default_value(_RUNBOOK),
    ]


def _values(name: str, label: str, expression: str) -> build.QueryVariable:
    made = build.QueryVariable(name).label(label).query(expression).datasource(_SOURCE)
    return made.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)


def _links() -> list[build.DashboardLink]:
    others = build.DashboardLink("trimtab").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    runbook = build.DashboardLink("Runbook").type(model.DashboardLinkType.LINK).icon("doc").url("${runbook}")
    return [others.include_vars(True).keep_time(True), runbook.target_blank(True)]
