"""The solvers: arrays in, arrays out. They know no gRPC, asyncio, logging or metrics, and are usable alone."""
