"""Whether callers are served, and if not, where it hurts."""

from __future__ import annotations

from typing import Any

from deploy.grafana.panels import (
    Section,
    chosen,
    figure,
    lines,
    mean,
    page,
    quantile,
    quantiles,
    query,
    rate,
    rows,
    stacked,
    states,
)

_HANDLING = "grpc_server_handling_seconds"
_OURS = 'grpc_service=~"trimtab.+"'
_GREEN, _ORANGE, _RED = "green", "orange", "red"


def _now() -> Section:
    ready = query(f"sum({chosen('trimtab_ready')}) or vector(0)", "ready")
    errors = query('max(job:trimtab_errors:ratio_5m{job="$job"} >= 0) or vector(0)', "failed")
    slow = query('max(job:trimtab_slow_packs:ratio_5m{job="$job"} >= 0) or vector(0)', "slow")
    full = query(f"max({chosen('trimtab_queue_fullness_ratio')})", "fullest")
    busy = query(f"max({chosen('instance:trimtab_device_utilisation:ratio_5m')})", "busiest")
    return "Now", [
        figure(
            "Ready servers",
            "Servers that say SERVING. Fewer than were deployed: look at Readiness below.",
            "none",
            [ready],
            {0: _RED, 1: _GREEN},
            alert="TrimtabNoneReady",
        ),
        figure(
            "Calls",
            "Calls in a second, of all kinds. A sudden fall to nothing is as bad as a peak.",
            "reqps",
            [query(rate("grpc_server_handled_total", labels=_OURS), "calls")],
            {0: _GREEN},
        ),
        figure(
            "Failed calls",
            "Share of the whole job's calls of five minutes that failed by the servers' doing; 0.1 % may.",
            "percentunit",
            [errors],
            {0: _GREEN, 0.001: _ORANGE, 0.0144: _RED},
            alert="TrimtabAvailabilityFastBurn",
        ),
        figure(
            "Slow Packs",
            "Share of the whole job's Packs of five minutes that took more than half a second; 1 % may.",
            "percentunit",
            [slow],
            {0: _GREEN, 0.01: _ORANGE, 0.144: _RED},
            alert="TrimtabLatencyFastBurn",
        ),
        figure(
            "Fullest queue",
            "The most that any server uses of one of its queue limits; at 100 % it refuses calls.",
            "percentunit",
            [full],
            {0: _GREEN, 0.5: _ORANGE, 0.8: _RED},
            alert="TrimtabQueueSaturated",
        ),
        figure(
            "Busiest device",
            "Share of five minutes in which the busiest device thread worked. Near 100 % calls begin to queue.",
            "percentunit",
            [busy],
            {0: _GREEN, 0.7: _ORANGE, 0.9: _RED},
        ),
    ]


def _traffic() -> Section:
    begun, ended = (f"sum({chosen(f'grpc_server_{what}_total', _OURS)})" for what in ("started", "handled"))
    bad = f'{_OURS}, grpc_code!="OK"'
    return "Traffic", [
        lines(
            "Calls by RPC",
            "Calls that ended, in a second. Controllers come in rounds: compare with the round before.",
            "reqps",
            [query(rate("grpc_server_handled_total", "grpc_method", _OURS), "{{grpc_method}}")],
        ),
        lines(
            "Calls in flight",
            "Begun and not ended. A line that only rises means that calls hang.",
            "short",
            [query(f"{begun} - {ended} or vector(0)", "calls")],
        ),
        stacked(
            "Calls that failed, by status",
            "UNAVAILABLE, INTERNAL and RESOURCE_EXHAUSTED are the servers' doing, the others mostly the callers'.",
            "reqps",
            [query(rate("grpc_server_handled_total", "grpc_code", bad), "{{grpc_code}}")],
            alert="TrimtabAvailabilityFastBurn",
        ),
    ]


def _latency() -> Section:
    def of(method: str) -> Any:
        return lines(
            f"{method}: time to answer",
            "Of the chosen servers. If p99 alone rises, some wait; if all rise, solves take longer. Dots are traces.",
            "s",
            quantiles(_HANDLING, f'grpc_method="{method}"', exemplars=True),
            alert="TrimtabLatencyFastBurn",
        )

    recorded = [
        query(f'job_method:{_HANDLING}:{part}_5m{{job="$job"}}', f"{{{{grpc_method}}}} {part}")
        for part in ("p50", "p95", "p99")
    ]
    whole = "Of the whole job, recorded over five minutes: light enough to look at weeks."
    return "Latency", [of("Pack"), of("Rebalance"), lines("Time to answer, whole job", whole, "s", recorded)]


def _work() -> Section:
    solve = quantile(0.95, "trimtab_solve_seconds", "operation")
    wait = quantiles("trimtab_queue_wait_seconds", exemplars=True)
    recorded = chosen("instance:trimtab_queue_wait_seconds:p95_2m")
    return "Queue and batches", [
        lines(
            "Wait in the queue",
            "From admission to a batch. Up to a quarter of a second is the batch before; more is work piled up.",
            "s",
            wait,
            alert="TrimtabQueueSaturated",
        ),
        lines(
            "Wait by server (p95)",
            "What an autoscaler goes by. One server far above the others: its clients do not spread.",
            "s",
            [query(recorded, "{{instance}}")],
        ),
        lines(
            "Queue fullness",
            "The largest share used of a limit in rows, bytes or seconds. At 100 % calls are refused.",
            "percentunit",
            [query(chosen("trimtab_queue_fullness_ratio"), "{{instance}}")],
            alert="TrimtabQueueSaturated",
        ).max(1),
        lines(
            "Solve time (p95)",
            "Of a batch. If it rises while batches do not, the device or its neighbours are the cause.",
            "s",
            [query(solve, "{{operation}}")],
        ),
        lines(
            "Batch size (mean)",
            "Larger batches are how a busy server keeps up; one request a batch means that it is idle.",
            "short",
            [query(mean("trimtab_batch_requests"), "requests"), query(mean("trimtab_batch_rows"), "layers")],
        ),
        lines(
            "Work that waits",
            "As forecast from solves so far. Near --max-queue-seconds calls are refused.",
            "s",
            [query(chosen("trimtab_queue_seconds"), "{{instance}}")],
        ),
        lines(
            "Layers that wait",
            "Near --max-queue-rows calls are refused.",
            "short",
            [query(chosen("trimtab_queue_rows"), "{{instance}}")],
            width=12,
        ),
        lines(
            "Bytes that wait",
            "Near --max-queue-bytes calls are refused.",
            "bytes",
            [query(chosen("trimtab_queue_bytes"), "{{instance}}")],
            width=12,
        ),
    ]


def _callers() -> Section:
    refused, failed = rate("trimtab_rejected_total", "reason"), 'code!="OK"'
    return "Refusals and callers", [
        stacked(
            "Refusals by reason",
            "overloaded: add servers, or find who floods. hopeless, expired: deadlines too short. invalid: the caller.",
            "reqps",
            [query(f"{refused} or on() vector(0)", "{{reason}}")],
            alert="TrimtabDeadlinesMissed",
        ),
        stacked(
            "Calls by caller",
            "Those that --metric-callers names; all others are other. Who floods stands out here.",
            "reqps",
            [query(rate("trimtab_caller_calls_total", "caller"), "{{caller}}")],
        ),
        stacked(
            "Failed calls by caller",
            "One caller alone: look at its requests. All of them: look at the servers.",
            "reqps",
            [
                query(
                    f"{rate('trimtab_caller_calls_total', 'caller, code', failed)} or on() vector(0)",
                    "{{caller}} {{code}}",
                )
            ],
        ),
    ]


def _fleet() -> Section:
    versions = f"count by (version, algorithm, solver, device) ({chosen('trimtab_build_info')})"
    expiry = f"{chosen('trimtab_certificate_expiry_timestamp_seconds')} - time()"
    reloads = f"sum by (what) (increase({chosen('trimtab_reload_failures_total')}[1h]))"
    lost = f"sum(increase({chosen('trimtab_log_lines_lost_total')}[1h]))"
    age = f"time() - {chosen('process_start_time_seconds')}"
    return "Fleet", [
        states(
            "Readiness",
            "Red: starting, draining, or without a device. More than a few minutes of red needs a look at the log.",
            [query(chosen("trimtab_ready"), "{{instance}}")],
            {0: _RED, 1: _GREEN},
            alert="TrimtabReplicaNotReady",
        ),
        rows(
            "Versions",
            "Two lines during a rollout are right, two algorithms afterwards are not: answers differ between them.",
            versions,
        ),
        lines(
            "Age of the processes",
            "A line that falls to 0 is a restart. Many together without a rollout: look at exit codes.",
            "s",
            [query(age, "{{instance}}")],
        ),
        lines(
            "Certificates expire in",
            "Should jump up long before it is near 0. Empty where servers have no TLS.",
            "s",
            [query(expiry, "{{instance}}")],
            alert="TrimtabCertificateExpiresSoon",
        ),
        lines(
            "Reloads that failed, in the last hour",
            "A changed file that can't be used; what was read before stays in force.",
            "short",
            [query(reloads, "{{what}}")],
            alert="TrimtabReloadFailed",
        ),
        lines(
            "Log lines lost, in the last hour",
            "The reader of the log is too slow, or its disk is full.",
            "short",
            [query(lost, "lines")],
            alert="TrimtabLogLinesLost",
        ),
    ]


def overview() -> Any:
    """The first dashboard to look at."""
    about = "Whether callers are served, how fast, and what stands in the way. Quality of the answers: see the links."
    sections = (_now(), _traffic(), _latency(), _work(), _callers(), _fleet())
    return page("trimtab-overview", "trimtab: overview", about, sections)
