"""What is paid for: the record of each generation, the decisions it leads to, and the two places it is in."""
