"""Dynamic labels: `[max: ${MAX}] ${PROP('Dim.FunctionName')}`; CloudWatch User Guide, "Use dynamic labels"."""

from __future__ import annotations

import math
import re
import statistics

from lambay.observe.metrics.evaluation import Series

_PLACE = re.compile(r"\$\{\s*(?P<name>[A-Z_]+)\s*(?:\(\s*['\"](?P<property>[^'\"]*)['\"]\s*\)\s*)?\}")


def labelled(text: str, own: str, series: Series) -> str:
    """`text` with what stands in `${…}` filled in; what is not known there stays as it is written."""
    return _PLACE.sub(lambda found: _word(found, own, series), text)


def _word(found: re.Match[str], own: str, series: Series) -> str:
    values = list(series.values.values())
    if found["property"] is not None:
        return found[0] if found["name"] != "PROP" else _property(found["property"], series, found[0])
    match found["name"]:
        case "LABEL":
            return own
        case "DATAPOINT_COUNT":
            return str(len(values))
        case "AVG" | "MIN" | "MAX" | "SUM" | "FIRST" | "LAST" if not values:
            return "--"
        case "AVG":
            return _plain(statistics.fmean(values))
        case "MIN":
            return _plain(min(values))
        case "MAX":
            return _plain(max(values))
        case "SUM":
            return _plain(math.fsum(values))
        case "FIRST":
            return _plain(values[0])
        case "LAST":
            return _plain(values[-1])
    return found[0]


def _plain(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


def _property(name: str, series: Series, written: str) -> str:
    metric = series.metric
    if name == "Period":
        return str(series.period)
    if name == "Stat":
        return series.statistic
    if metric is None:
        return ""
    known = {
        "MetricName": metric.name,
        "Namespace": metric.namespace,
        "AccountId": metric.account,
        "Region": metric.region,
    }
    if name.startswith("Dim."):
        return dict(metric.dimensions).get(name.removeprefix("Dim."), "")
    return known.get(name, written)
