"""What a page of metrics says."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


def total(page: str, name: str, **labels: str) -> float:
    """The sum of the samples of this name that have these labels, of which there must be one."""
    found = [
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert found, f"{name} {labels} is not there"
    return sum(found)
