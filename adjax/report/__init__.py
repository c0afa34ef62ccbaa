"""What a person reads: tables, figures, the folder of a run."""
