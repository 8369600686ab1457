"""The placement service: solvers, batching, and the gRPC server around them."""
