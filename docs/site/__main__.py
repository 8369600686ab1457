"""Build the site of the documentation into .cache/site; a link or an anchor that leads nowhere fails it.

Run: python -m docs.site
"""

from __future__ import annotations

import sys

from docs.site.build import SITE, BuildError, build

if __name__ == "__main__":
    try:
        build()
    except BuildError as error:
        sys.exit(f"make docs: {error}")
    print(f"built {SITE.parent.name}/{SITE.name}; to look: python3 -m http.server --bind 127.0.0.1 -d .cache/site")
