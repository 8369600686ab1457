"""The dashboards, as the files that Grafana reads.

Run: python -m deploy.grafana.dashboards
"""

from __future__ import annotations

import json
from pathlib import Path

from deploy.grafana.device import device
from deploy.grafana.overview import overview
from deploy.grafana.quality import quality
from grafana_foundation_sdk.cog.encoder import JSONEncoder

FOLDER = Path(__file__).parent


def made() -> dict[str, str]:
    """The text of each file, by its name."""
    pages = {"overview": overview(), "quality": quality(), "device": device()}
    return {
        f"{name}.json": json.dumps(page, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
        for name, page in pages.items()
    }


def main() -> None:
    """Write them beside this file."""
    for name, text in made().items():
        (FOLDER / name).write_text(text)
        print(f"wrote {FOLDER / name}")


if __name__ == "__main__":
    main()
