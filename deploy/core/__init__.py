"""Pure functions shared by training, evaluation and the device: arrays in, arrays out."""
