"""What imbalance does to a face identification system, and to the test of whether it is fair (chapter 5)."""
