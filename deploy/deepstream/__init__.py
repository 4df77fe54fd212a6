"""DeepStream and Triton: configurations rendered from model.json, checked, and the region probe."""
