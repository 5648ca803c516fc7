"""What every part stands on: errors, files, shared work, processes, and figures with their intervals."""
