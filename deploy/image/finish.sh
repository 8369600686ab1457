#!/bin/sh
# The last step of the image's builder, in /build: leave out what no run needs, compile the rest, list what is in it.
set -eu
python=/opt/trimtab/bin/python
packages=$($python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

# Headers, tests, and programs for building extensions; torch looks for its shm manager when it is imported
cd "$packages"
rm -rf torch/test torch/include numba/tests numba/cuda/tests
find torch/bin -type f ! -name torch_shm_manager -delete
find sympy -type d -name tests -prune -exec rm -rf {} +
find . -name '*.a' -delete
cd /build
tools/bin/pip --python $python uninstall --yes --quiet setuptools

# What is compiled is stale where the source's time differs, and an image's layers keep whole seconds alone
find /opt/trimtab -exec touch --no-dereference --date=@0 {} +
# Bytecode of all modules, but of the large packages only what a server imports: nobody asks for the rest of them
$python -m compileall -q -j 0 -x '/(torch|torchgen|sympy|networkx|numba|numpy|mpmath|llvmlite)/' "$packages"
$python -c '
import trimtab_server.server
from trimtab_server.engine import Engine
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.cpu_searcher import CpuSearcher

Engine(CpuPacker(), CpuSearcher()).warm_up()'

# Python's packages; Debian's are listed in /var/lib/dpkg/status, where scanners look
tools/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml --mc-type application \
  --output-file /opt/trimtab/sbom.json $python
find /opt/trimtab -exec touch --no-dereference --date=@0 {} +
