"""What scores are worth: metrics, intervals, DCASE files."""
