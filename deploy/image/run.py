"""Run a built image without an engine, as a careful cluster does: as its own user, on a read-only root.

Run: python -m deploy.image.run [--variant cpu|cuda] [--env NAME=VALUE]... [-- ARGUMENT...]

The arguments go to trimtab-server; the network is this machine's. /tmp is a tmpfs, and nothing else can be written.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence

from deploy.image.build import CACHE, VARIANTS, BuildError, Built, apart, buildah, container


def kept(variant: str) -> Built:
    """The last build.

    Raises:
        BuildError: there is none.
    """
    file = CACHE / f"{variant}.json"
    if not file.exists():
        raise BuildError(f"there is no image: python -m deploy.image.build --variant {variant}")
    return Built(**json.loads(file.read_text()))


def command(
    variant: str,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    user: str = "",
    program: Sequence[str] = (),
) -> list[str]:
    """A command line that becomes the image's program: one process, which gets the signals.

    All mounts are in a namespace of its own, and gone with it.

    Args:
        variant: of the image.
        arguments: of the program.
        environment: variables beside the image's own.
        user: UID:GID in place of the image's.
        program: what to run in place of the image's ENTRYPOINT.

    Raises:
        BuildError: there is no image, or no buildah.
    """
    config = kept(variant).config
    variables = [*config["Env"], *(f"{name}={value}" for name, value in (environment or {}).items())]
    chroot = [shutil.which("chroot", path=f"{os.defpath}:/usr/sbin:/sbin") or "chroot"]
    chroot += [f"--userspec={user or config['User']}"]
    run = [*(program or config["Entrypoint"]), *arguments]
    script = f"""
set -eu
root=$({shlex.join(buildah("mount", container(variant)))})
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
exec env -i {shlex.join(variables)} {shlex.join(chroot)} "$root" {shlex.join(run)}
"""
    return [*(apart() or buildah("unshare")), "sh", "-c", script]


def main() -> None:
    """Become the image's program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=VARIANTS, default="cpu")
    parser.add_argument("--env", metavar="NAME=VALUE", action="append", default=[])
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    try:
        line = command(options.variant, options.arguments, dict(each.split("=", 1) for each in options.env))
    except BuildError as error:
        sys.exit(f"image: {error}")
    os.execvp(line[0], line)  # noqa: S606  # no shell stands between


if __name__ == "__main__":
    main()
