"""How a policy learns: one short module per method.

A method declares its options, safe defaults, what it needs, which view it trains on and which trainer runs it
(`Method` in spec.py). Adding one is one new module here, or a plugin's. Nothing here imports torch.
"""

from negrl.methods.spec import Method, Options, SharedPrefixes, added, in_training
from negrl.registry import Registry

__all__ = ["METHODS", "Method", "Options", "SharedPrefixes", "added", "in_training"]

METHODS = Registry("method", Method, "negrl.methods")
