"""What is timed: always as a ratio against a named alternative in the same process, so that the machine cancels out."""
