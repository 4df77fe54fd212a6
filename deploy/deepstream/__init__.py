"""DeepStream and Triton: configurations from model.json, checked, and the region probe."""
