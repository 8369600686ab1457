"""What the HTTP port of a server says: answers, and of a page of metrics the numbers."""

from __future__ import annotations

import http.client

from prometheus_client.parser import text_string_to_metric_families


def ask(address: str, path: str, method: str = "GET", body: str | None = None, **headers: str) -> tuple[int, str]:
    """Status and text of an answer."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip()
    finally:
        connection.close()


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
