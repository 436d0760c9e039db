"""What is said of a call, a line or a state."""
