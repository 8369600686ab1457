"""What the Prometheus operator takes, of what we use: kubernetes-validate knows Kubernetes' own objects alone."""

from __future__ import annotations

from typing import Any

_LABELS = {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1}
_DURATION = {"type": "string", "pattern": "^(?:[0-9]+h)?(?:[0-9]+m)?(?:[0-9]+s)?$", "minLength": 2}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    """An object of these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _manifest(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    name = {"type": "string", "minLength": 1}
    return _object(
        "apiVersion kind metadata spec",
        apiVersion={"const": "monitoring.coreos.com/v1"},
        kind={"const": kind},
        metadata=_object("name namespace", name=name, namespace=name, labels=_LABELS),
        spec=spec,
    )


_ENDPOINT = _object(
    "port",
    port={"type": "string", "minLength": 1},
    path={"type": "string", "pattern": "^/"},
    interval=_DURATION,
    scrapeTimeout=_DURATION,
)
_RULE = {
    **_object(
        "expr",
        record={"type": "string"},
        alert={"type": "string"},
        expr={"type": "string", "minLength": 1},
        labels=_LABELS,
        annotations=_LABELS,
        **{"for": _DURATION, "keep_firing_for": _DURATION},
    ),
    "oneOf": [{"required": ["record"]}, {"required": ["alert"]}],
}
_GROUP = _object(
    "name rules",
    name={"type": "string", "minLength": 1},
    interval=_DURATION,
    rules={"type": "array", "items": _RULE, "minItems": 1},
)
SCHEMAS = {
    "ServiceMonitor": _manifest(
        "ServiceMonitor",
        _object(
            "selector endpoints",
            jobLabel={"type": "string"},
            selector=_object("matchLabels", matchLabels=_LABELS),
            endpoints={"type": "array", "items": _ENDPOINT, "minItems": 1},
        ),
    ),
    "PrometheusRule": _manifest(
        "PrometheusRule", _object("groups", groups={"type": "array", "items": _GROUP, "minItems": 1})
    ),
}
