"""NVIDIA's TAO as a backend: the same stages through its own containers (docs/tao.md)."""
