"""Multimodal retrieval with multi-modal large language models in JAX.

This file imports nothing, so that `import jaxret` costs nothing; import the
module that is needed, for instance `from jaxret import metrics`.
"""

__version__ = '0.1.0'
