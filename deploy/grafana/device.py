"""What the machines of the servers do."""

from __future__ import annotations

from typing import Any

from deploy.grafana.panels import Section, chosen, heat, lines, page, query, rate, stacked


def _each(metric: str) -> list[Any]:
    return [query(chosen(metric), "{{instance}}")]


def _device() -> Section:
    seconds, layers = rate("trimtab_solve_seconds_sum"), rate("trimtab_batch_rows_sum")
    fallbacks = f"sum by (reason) (increase({chosen('trimtab_fallback_total')}[$__rate_interval]))"
    busy = f"rate({chosen('trimtab_device_busy_seconds_total')}[$__rate_interval])"
    return "Device", [
        lines(
            "Utilisation of the device thread",
            "Share of the time in which it worked. Above 70 % waits grow fast: add servers.",
            "percentunit",
            [query(busy, "{{instance}}")],
            alert="TrimtabQueueSaturated",
        ).max(1),
        lines(
            "Utilisation, recorded",
            "The same over five minutes: light enough to look at weeks.",
            "percentunit",
            [query(chosen("instance:trimtab_device_utilisation:ratio_5m"), "{{instance}}")],
        ).max(1),
        lines(
            "Solve time for a layer",
            "What a layer costs, whatever the batch. A step up without a rollout: a slower or shared device.",
            "s",
            [query(f"{seconds} / {layers}", "a layer")],
        ),
        lines(
            "Memory on the device",
            "Held for solves. 0 on a CPU, and where the device is lost.",
            "bytes",
            [query(chosen("trimtab_device_memory_bytes"), "{{instance}} {{device}}")],
        ),
        stacked(
            "Answers of the CPU for the device",
            "out_of_memory: batches too large for what others leave free. device_error: look at the machine.",
            "short",
            [query(fallbacks, "{{reason}}")],
            alert="TrimtabDeviceFallback",
        ),
        heat(
            "Solve times",
            "Of batches, rebalances and packs together. A second band far above the first: two kinds of requests.",
            "trimtab_solve_seconds",
            "",
            width=8,
        ),
    ]


def _process() -> Section:
    cpu = f"rate({chosen('process_cpu_seconds_total')}[$__rate_interval])"
    share = f"{chosen('process_open_fds')} / {chosen('process_max_fds')}"
    return "Process", [
        lines(
            "Processors busy",
            "Whole processors. Flat at the container's limit: it is throttled.",
            "short",
            [query(cpu, "{{instance}}")],
        ),
        lines(
            "Resident memory",
            "Rises to a plateau. A line that never bends is worth a report.",
            "bytes",
            _each("process_resident_memory_bytes"),
        ),
        lines(
            "Virtual memory",
            "Address space: with CUDA tens of gigabytes are usual, and cost nothing.",
            "bytes",
            _each("process_virtual_memory_bytes"),
        ),
        lines(
            "Open files",
            "Connections, mostly. A line that only rises: clients that never close theirs.",
            "short",
            _each("process_open_fds"),
            width=12,
        ),
        lines(
            "Open files of those allowed",
            "Near 100 % new connections are closed at once: raise ulimit -n.",
            "percentunit",
            [query(share, "{{instance}}")],
            width=12,
        ).max(1),
    ]


def device() -> Any:
    """How hard the machines work."""
    about = "How busy and how healthy the devices and processes of the servers are."
    return page("trimtab-device", "trimtab: device", about, (_device(), _process()))
