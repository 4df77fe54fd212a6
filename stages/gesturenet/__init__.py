"""The gesture classifier: a crop of a hand in, one of six gestures out (GestureNet's tensors)."""
