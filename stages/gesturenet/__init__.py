"""The gesture classifier: crops of hands in, one of six gestures out, with GestureNet's tensors."""
