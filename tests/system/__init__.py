"""Tests with foreign tools: buf, Prometheus, Node; `make tools` gets those."""
