"""Generated from proto/trimtab/v1/placement.proto by `make stubs`; not written by hand."""
