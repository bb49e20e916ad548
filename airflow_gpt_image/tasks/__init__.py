"""What operators and sensors have in common: how arguments are checked, how errors and results are shown."""
