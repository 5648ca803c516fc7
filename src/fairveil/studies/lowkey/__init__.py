"""Chapter 3: how well LowKey protects, whom, against whom, and at what price."""
