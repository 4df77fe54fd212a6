"""The open DetectNet_v2 backend: model, training, compression and export in PyTorch."""
