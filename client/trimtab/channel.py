"""How a client reaches a server: channel options and the retry policy, the same for both clients."""

from __future__ import annotations

import json

DEFAULT_TARGET = "127.0.0.1:50051"
LOCAL = "local"
"""The target that is no server: this process."""
DEFAULT_TIMEOUT_SECONDS = 30.0
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The largest message either side takes, by default. gRPC's own default, 4 MiB, is less than a large load needs."""

_KEEPALIVE_MS = 5_000
"""A ping every 5 s of silence and 5 s to answer it: a dead server is noticed within 10 s."""

SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{"service": "trimtab.v1.PlacementService"}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
                },
            }
        ],
    }
)


def channel_options(max_message_bytes: int) -> list[tuple[str, str | int]]:
    """The options of every channel to a placement server."""
    return [
        ("grpc.service_config", SERVICE_CONFIG),
        ("grpc.enable_retries", 1),
        # gRPC commits a call, and never retries it, once its bytes outgrow this buffer (256 KiB by default).
        ("grpc.per_rpc_retry_buffer_size", max_message_bytes + 1024),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_MS),
        ("grpc.http2.ping_timeout_ms", _KEEPALIVE_MS),  # the one that counts from gRPC 1.65 or so on: 60 s by default
        ("grpc.http2.max_pings_without_data", 0),
        # A server that came back is found within a second or so, not after minutes of backing off.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 2_000),  # and how long a connection attempt may take: 20 s by default
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Servers that were replaced have other addresses: the name is looked up again as soon, not after half a minute.
        ("grpc.dns_min_time_between_resolutions_ms", 2_000),
    ]
