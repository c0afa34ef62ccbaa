"""Host side: finding, reading and loading clips; the simulator is the one part that computes in JAX."""
