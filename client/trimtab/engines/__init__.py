"""Plug-ins for serving engines: trimtab in the place of their own expert placement; each is off unless switched on.

`vllm` and `sglang` know one engine each, what its algorithms are called with and which of its groups can be used; the
other modules know neither. All import torch and the engine only when the engine calls.
"""
