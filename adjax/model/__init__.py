"""A model of each machine: what was trained on, and what a clip must be like for its score to mean anything."""
