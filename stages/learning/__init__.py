"""What the training of both networks shares: optimiser, choice of precision, range checks."""
