"""Speed and memory, against a plain implementation of the same thing in one run."""
