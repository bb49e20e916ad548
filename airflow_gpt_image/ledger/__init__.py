"""What is paid for: one record for each generation, the decisions it leads to, and the two places it is kept."""
