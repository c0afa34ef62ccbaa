"""Detectors: pure JAX functions of (n_vectors, n_features) arrays and weights; they never see audio."""
