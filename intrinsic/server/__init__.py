"""The HTTP service: routing and mixtures behind the protocols that clients already speak."""
