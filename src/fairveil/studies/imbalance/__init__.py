"""Chapter 5: what imbalance of the train set and of the gallery does to the errors of groups."""
